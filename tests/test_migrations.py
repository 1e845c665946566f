"""The migrations: forth, back and forth again; equal to the models; safe to run while traffic flows."""

import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from app.demo.postgres import find_binaries
from tests.databases import ROOT, Urls, alembic, create_database, drop_database

SQUAWK = Path(sys.executable).parent / "squawk"


@pytest.fixture
async def empty_database() -> AsyncIterator[Urls]:
    name = f"migrations_{uuid.uuid4().hex}"
    yield await create_database(name, template=None)
    await drop_database(name)


def schema(urls: Urls) -> str:
    """The schema as pg_dump prints it, less the lines that differ from dump to dump."""
    command = [find_binaries().program("pg_dump"), "--schema-only", urls.superuser]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


async def test_up_down_up_ends_in_the_same_schema(empty_database: Urls) -> None:
    alembic(empty_database, "upgrade", "head")
    first = schema(empty_database)
    alembic(empty_database, "downgrade", "base")
    below = schema(empty_database)
    alembic(empty_database, "upgrade", "head")
    assert "CREATE TABLE public.ledger_entries" in first
    assert "CREATE TABLE public.ledger_entries" not in below
    assert "CREATE FUNCTION" not in below
    assert "CREATE TYPE" not in below
    assert schema(empty_database) == first


async def test_each_revision_can_be_undone_and_redone(empty_database: Urls) -> None:
    """Catches a downgrade that forgets something its own upgrade then trips over."""
    revisions = alembic(empty_database, "history").count("->")
    alembic(empty_database, "upgrade", "+1")
    for number in range(1, revisions + 1):
        alembic(empty_database, "downgrade", "-1")
        alembic(empty_database, "upgrade", "+2" if number < revisions else "+1")  # once more, and the next one
    assert "(head)" in alembic(empty_database, "current")


async def test_models_equal_the_migrated_schema(own_database: Urls) -> None:
    assert "No new upgrade operations detected" in alembic(own_database, "check")


async def test_migrating_twice_changes_nothing(own_database: Urls) -> None:
    before = schema(own_database)
    alembic(own_database, "upgrade", "head")
    assert schema(own_database) == before


async def test_an_index_whose_build_was_interrupted_is_built_again(own_database: Urls) -> None:
    alembic(own_database, "downgrade", "0046")
    connection = await asyncpg.connect(own_database.superuser)
    await connection.execute("CREATE INDEX ix_subscriptions_started_at ON subscriptions (account_id)")
    index = "'ix_subscriptions_started_at'::regclass"
    await connection.execute(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = {index}")
    alembic(own_database, "upgrade", "head")
    [row] = await connection.fetch(
        f"SELECT indisvalid, pg_get_indexdef(indexrelid) AS definition FROM pg_index WHERE indexrelid = {index}"
    )
    await connection.close()
    assert row["indisvalid"]
    assert "(started_at, subscription_id)" in row["definition"]


def lint(sql: str) -> subprocess.CompletedProcess[str]:
    command = [str(SQUAWK), "--config", str(ROOT / ".squawk.toml"), "--stdin-filepath", "migrations.sql"]
    return subprocess.run(command, input=sql, capture_output=True, text=True, check=False)


async def test_migrations_take_no_lock_that_stops_traffic(own_database: Urls) -> None:
    output = alembic(own_database, "upgrade", "head", "--sql")
    sql = "\n".join(line for line in output.splitlines() if not line.startswith("INFO"))
    done = lint(sql)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("ALTER TABLE accounts DROP COLUMN paid", "ban-drop-column"),
        ("ALTER TABLE accounts RENAME COLUMN paid TO credits", "renaming-column"),
        ("ALTER TABLE accounts ADD COLUMN limits bigint NOT NULL", "adding-required-field"),
        ("ALTER TABLE accounts ALTER COLUMN paid SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE accounts ALTER COLUMN paid DROP DEFAULT", "ban-drop-default"),
        ("ALTER TABLE accounts RENAME TO customers", "renaming-table"),
        ("DROP TABLE accounts", "ban-drop-table"),
    ],
)
def test_the_lint_catches_what_the_version_before_cannot_live_with(statement: str, rule: str) -> None:
    """Both versions serve from one schema during a deployment. A migration that contracts waives the rule by name."""
    sql = f"SET lock_timeout = '1s'; {statement};"
    assert rule in lint(sql).stdout
    assert rule not in lint(sql.replace(statement, f"\n-- squawk-ignore {rule}\n{statement}")).stdout


def test_the_lint_catches_a_rewrite() -> None:
    done = lint("ALTER TABLE accounts ALTER COLUMN paid TYPE numeric; CREATE INDEX i ON accounts (paid);")
    assert done.returncode == 1
    assert "changing-column-type" in done.stdout
    assert "require-concurrent-index-creation" in done.stdout
