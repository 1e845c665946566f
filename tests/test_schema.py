"""Versions of the service meet versions of the schema: which start, which wait, which refuse."""

import asyncio
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import SecretStr

from app.db import Database
from app.db.schema_check import OLDEST, Unfit, find_misfit, misfit, newest_revision, wait_until_fit
from app.db.version_mark import UpgradeInProgress, VersionMark, oldest_running
from tests.books import connected
from tests.databases import ROOT, Urls, alembic, create_database, drop_database
from tests.processes import Printed, run_command
from tests.servers import environment

BEFORE, AFTER = "0024", "0025"

NEWER = """
revision = "9001"
down_revision = "{}"
branch_labels = depends_on = None
oldest_app = "9001"

def upgrade() -> None: ...
def downgrade() -> None: ...
"""


@pytest.fixture
async def db(own_database: Urls) -> AsyncIterator[Database]:
    db = Database(SecretStr(own_database.service), pool_size=3)
    yield db
    await db.close()


async def set_revision(urls: Urls, revision: str) -> None:
    async with connected(urls) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = $1", revision)


def test_the_newest_revision_is_alembics_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "alembic"))
    assert newest_revision() == ScriptDirectory.from_config(config).get_current_head()


@pytest.mark.parametrize(
    ("revision", "comment", "fits"),
    [
        ("0012", None, True),
        (None, None, False),
        ("0011", None, False),
        ("0013", None, True),
        ("9001", "something else", True),
        ("9001", OLDEST.format("0012"), True),
        ("9001", OLDEST.format("0013"), False),
    ],
)
def test_a_version_works_with_its_schema_and_those_that_only_add(
    revision: str | None, comment: str | None, fits: bool
) -> None:
    assert (misfit(revision, comment, "0012") is None) == fits


async def test_an_older_schema_is_waited_for_and_in_the_end_refused(own_database: Urls, db: Database) -> None:
    known = newest_revision()
    await wait_until_fit(db, wait_s=0)
    await set_revision(own_database, f"{int(known) - 1:04}")
    with pytest.raises(Unfit, match=f"needs {known}.*ciris-billing migrate"):
        await wait_until_fit(db, wait_s=0)
    waiting = asyncio.create_task(wait_until_fit(db, wait_s=20))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await set_revision(own_database, known)
    await waiting


async def test_a_database_without_a_schema_or_grants_is_unfit(own_database: Urls, db: Database) -> None:
    async with connected(own_database) as connection:
        await connection.execute("REVOKE SELECT ON alembic_version FROM PUBLIC, billing_service")
        assert "none" in str(await find_misfit(db, None))
        await connection.execute("DROP TABLE alembic_version")
    assert "none" in str(await find_misfit(db, None))


def upgrade_by_newer_version(urls: Urls, folder: Path) -> None:
    """Migrate with a copy of our migrations that has one more."""
    shutil.copytree(ROOT / "alembic", folder / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "alembic" / "versions" / "9001_newer.py").write_text(NEWER.format(newest_revision()))
    shutil.copy(ROOT / "alembic.ini", folder)
    env = {**os.environ, **environment(urls), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_a_newer_schema_that_leaves_this_version_behind_is_refused(
    own_database: Urls, db: Database, tmp_path: Path
) -> None:
    """Migrated by a newer version, whose last revision declares whom it leaves behind."""
    await asyncio.to_thread(upgrade_by_newer_version, own_database, tmp_path)
    assert "needs a version that knows 9001" in str(await find_misfit(db, None))


def start_migration(urls: Urls) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "app.cli", "migrate"]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment(urls)}, stderr=subprocess.PIPE)


# --- the oldest version that may still run ----------------------------------------------------------------------


@pytest.fixture
async def older_database() -> AsyncIterator[Urls]:
    """A database of the version before, which wrote no mark."""
    name = f"older_{uuid.uuid4().hex}"
    urls = await create_database(name, template=None)
    alembic(urls, "upgrade", BEFORE)
    async with connected(urls) as connection:
        await connection.execute("COMMENT ON TABLE alembic_version IS NULL")
    yield urls
    await drop_database(name)


def migrate(urls: Urls, *options: str) -> Printed:
    return run_command(environment(urls), "migrate", *options)


async def mark_of(urls: Urls) -> str | None:
    db = Database(SecretStr(urls.service), pool_size=3)
    try:
        return await oldest_running(db)
    finally:
        await db.close()


async def test_a_new_database_has_no_older_version_beside_it(own_database: Urls, db: Database) -> None:
    assert await mark_of(own_database) == newest_revision()
    await VersionMark(db).require(newest_revision())
    with pytest.raises(UpgradeInProgress) as refused:
        await VersionMark(db).require("9001")
    assert (refused.value.status, refused.value.code) == (503, "upgrade_in_progress")
    assert int(refused.value.headers["Retry-After"]) > 0


async def test_an_upgraded_database_is_finished_by_the_operator(older_database: Urls) -> None:
    """Until then the version before may start, may run, and must be able to read all that is written."""
    db = Database(SecretStr(older_database.service), pool_size=3)
    mark = VersionMark(db)
    for _ in range(2):
        assert migrate(older_database).status == 0
        assert await mark_of(older_database) is None
        assert await find_misfit(db, None) is None
        with pytest.raises(UpgradeInProgress):
            await mark.require(AFTER)
    assert migrate(older_database, "--finish", "--revision", BEFORE).status == 2
    assert migrate(older_database, "--finish").status == 0
    assert await mark_of(older_database) == newest_revision()
    await mark.require(AFTER)  # at once, in the running process
    assert migrate(older_database).status == 0  # of no further effect
    assert await mark_of(older_database) == newest_revision()
    async with connected(older_database) as connection:
        comment = await connection.fetchval("SELECT obj_description('alembic_version'::regclass, 'pg_class')")
    assert "needs a version that knows" in str(misfit(newest_revision(), comment, BEFORE))
    await db.close()


async def test_a_mark_that_was_read_is_not_read_again(own_database: Urls, db: Database) -> None:
    mark = VersionMark(db)
    await mark.require(AFTER)
    async with connected(own_database) as connection:
        await connection.execute("COMMENT ON TABLE alembic_version IS NULL")
    await mark.require(AFTER)
    with pytest.raises(UpgradeInProgress):
        await VersionMark(db).require(AFTER)


async def test_a_downgrade_lowers_the_mark(own_database: Urls) -> None:
    """So that the older version starts."""
    alembic(own_database, "downgrade", BEFORE)
    assert await mark_of(own_database) == BEFORE
    alembic(own_database, "upgrade", "head")
    assert await mark_of(own_database) == BEFORE


async def test_two_migrations_at_once_both_succeed() -> None:
    """Both find an empty database; the second waits for the first and has nothing left to do."""
    name = f"twice_{uuid.uuid4().hex}"
    urls = await create_database(name, template=None)
    both = [start_migration(urls) for _ in range(2)]
    printed = [await asyncio.to_thread(process.communicate, timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    async with connected(urls) as connection:
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == newest_revision()
    await drop_database(name)
