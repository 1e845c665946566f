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
from tests.books import connected
from tests.databases import ROOT, Urls, create_database, drop_database
from tests.servers import environment

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
