"""docker/backup on a real cluster: restored books add up and equal the originals; damaged backups are not restored."""

import asyncio
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.db.role_check import excess_privileges
from app.ledger.outcomes import New
from app.verification import verify_books
from tests.clusters.servers import DATABASE, Primary, Server
from tests.conftest import ACTOR, settings_for
from tests.databases import ROOT, Urls
from tests.servers import environment
from tests.test_verify import write_history

EVERY_ENTRY = "SELECT coalesce(string_agg(e::text, E'\\n' ORDER BY account_id, entry_no), '') FROM ledger_entries e"
EVERY_CHARGE = "SELECT array_agg(idempotency_key ORDER BY charge_id) FROM charges WHERE idempotency_key IS NOT NULL"
PATIENCE_S = 40


async def ask(url: str, sql: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def charge(urls: Urls, account_id: uuid.UUID, key: str) -> None:
    db = Database(SecretStr(urls.service), timeout_s=20)
    billing = BillingService(db, Configuration(db, settings_for(urls)))
    now = datetime.now(UTC)
    charged = await billing.charge(ChargeRequest(account_id, 100, "USD", ACTOR, now, idempotency_key=key))
    assert isinstance(charged, New)
    await db.close()


async def archived(primary: Primary) -> None:
    """Until all WAL written so far is in the archive."""
    url = primary.urls().superuser
    file = await ask(url, "SELECT pg_walfile_name(pg_switch_wal())")
    deadline = time.monotonic() + PATIENCE_S
    while not (primary.machine.archive / f"{file}.gz").exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def ledger_verify(urls: Urls) -> None:
    """As the operator does it after a restore. Fails the test when something does not add up."""
    command = [sys.executable, "-m", "app.cli", "ledger", "verify"]
    env = environment(urls)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def backed_up(primary: Primary, kind: str, database: str = DATABASE, **env: str) -> Path:
    name = f"2026{uuid.uuid4().hex}"
    done = primary.machine.run(
        primary.port, "backup/backup.sh", kind, PGDATABASE=database, BACKUP_NAME=name, **{"BACKUP_KEEP": "99", **env}
    )
    assert done.returncode == 0, done.stderr
    made = primary.machine.backups / kind / name
    assert done.stderr.strip().splitlines()[-1] == f"backup: {made}"
    return made


def owner_of(primary: Primary, database: str) -> dict[str, str]:
    password_file = str(primary.machine.password_file("owner"))
    return {"PGUSER": "billing_owner", "PGPASSWORD_FILE": password_file, "PGDATABASE": database}


@pytest.fixture
def copy(primary: Primary) -> Iterator[Callable[[Path], Path]]:
    """Copies of backups and archives, to be spoilt."""
    made: list[Path] = []

    def of(folder: Path) -> Path:
        made.append(primary.machine.folder / f"copy-{uuid.uuid4().hex}")
        subprocess.run(["cp", "-a", str(folder), str(made[-1])], check=True)
        return made[-1]

    yield of
    for folder in made:
        shutil.rmtree(folder)


@pytest.fixture
def restored(primary: Primary) -> Iterator[Callable[..., Server]]:
    """Servers on restored data folders, not started yet."""
    made: list[Server] = []

    def of(backup: Path, to: str, **env: str) -> Server:
        data = primary.machine.new_folder(f"restored-{uuid.uuid4().hex}")
        done = primary.machine.run(primary.port, "backup/restore.sh", "base", str(backup), str(data), to, **env)
        assert done.returncode == 0, done.stderr
        made.append(Server(primary.machine, data))
        return made[-1]

    yield of
    for server in made:
        server.stop()
        shutil.rmtree(server.data)


async def test_a_dump_restores_the_same_books(primary: Primary, books: Urls) -> None:
    await write_history(books)
    name = books.service.rpartition("/")[2]
    backup = backed_up(primary, "dump", name)
    again = primary.machine.run(primary.port, "backup/backup.sh", "dump", BACKUP_NAME=backup.name)
    assert (again.returncode, "exists already" in again.stderr) == (1, True)

    target = f"{name}_restored"
    admin = await asyncpg.connect(primary.urls("postgres").superuser)
    await admin.execute(f"CREATE DATABASE {target} OWNER billing_owner")
    try:
        restore = ("backup/restore.sh", "dump", str(backup))
        done = primary.machine.run(primary.port, *restore, **owner_of(primary, target))
        assert done.returncode == 0, done.stderr
        copied = primary.urls(target)
        assert await ask(copied.owner, EVERY_ENTRY) == await ask(books.owner, EVERY_ENTRY) != ""
        db = Database(SecretStr(copied.service), timeout_s=20)
        verification = await verify_books(db, datetime.now(UTC))
        assert verification.ok, verification.problem
        assert await excess_privileges(db) == []
        await db.close()
        twice = primary.machine.run(primary.port, *restore, **owner_of(primary, target))
        assert (twice.returncode, "is not empty" in twice.stderr) == (1, True)
    finally:
        await admin.execute(f"DROP DATABASE {target} WITH (FORCE)")
        await admin.close()


async def test_a_moment_between_two_charges_is_restored(
    primary: Primary, books: Urls, restored: Callable[..., Server], copy: Callable[[Path], Path]
) -> None:
    account_id = await write_history(books)
    name = books.service.rpartition("/")[2]
    backup = backed_up(primary, "base")
    await charge(books, account_id, "before")
    moment = (await ask(books.owner, "SELECT clock_timestamp()")).isoformat()
    await asyncio.sleep(0.01)
    await charge(books, account_id, "after")
    await archived(primary)

    server = restored(backup, moment)
    server.start()
    await recovered(server)
    there = Urls(*(server.url(role, name) for role in ("owner", "service", "owner")))
    assert await ask(there.owner, EVERY_CHARGE) == ["before"]
    assert await ask(books.owner, EVERY_CHARGE) == ["before", "after"]
    ledger_verify(there)
    server.stop()

    # Without a time: everything that was archived.
    server = restored(backup, "")
    server.start()
    await recovered(server)
    assert await ask(server.url("owner", name), EVERY_CHARGE) == ["before", "after"]
    server.stop()

    # A time that the archive does not reach, and an archive with a damaged file, stop the recovery.
    server = restored(backup, "2099-01-01T00:00:00Z")
    server.launch()
    assert not server.answers() or not await stays_up(server)
    assert "recovery ended before configured recovery target was reached" in server.log
    spoilt = copy(primary.machine.archive)
    spoil(max(spoilt.glob("*[0-9A-F].gz")))
    server = restored(backup, moment, WAL_ARCHIVE_DIR=str(spoilt))
    server.launch()
    assert not server.answers() or not await stays_up(server)
    assert "is damaged" in server.log


async def recovered(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while await ask(server.url("owner", DATABASE), "SELECT pg_is_in_recovery()"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def stays_up(server: Server) -> bool:
    """False once it has ended; a standby takes connections before its recovery fails."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if not server.answers():
            return False
        await asyncio.sleep(0.05)
    return True


def spoil(file: Path) -> None:
    """Turn a bit over in the middle of it."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


async def test_a_damaged_backup_is_refused_and_leaves_nothing(
    primary: Primary, books: Urls, copy: Callable[[Path], Path]
) -> None:
    whole = backed_up(primary, "base")
    done = primary.machine.run(primary.port, "backup/restore.sh", "check", str(whole))
    assert (done.returncode, done.stderr) == (0, f"restore: {whole} is whole\n")
    target = primary.machine.new_folder(f"target-{uuid.uuid4().hex}")
    spoils: dict[str, Callable[[Path], object]] = {
        "a bit": lambda backup: spoil(backup / "base.tar.gz"),
        "a torn end": lambda backup: truncate(backup / "pg_wal.tar.gz"),
        "a missing file": lambda backup: (backup / "backup_manifest").unlink(),
        "no sums": lambda backup: (backup / "SHA256SUMS").unlink(),
        "torn sums": lambda backup: truncate(backup / "SHA256SUMS"),
    }
    for what, spoiled in spoils.items():
        backup = copy(whole)
        spoiled(backup)
        done = primary.machine.run(primary.port, "backup/restore.sh", "base", str(backup), str(target))
        assert done.returncode == 1, what
        assert not any(target.iterdir()), what
    for moment in ("yesterday", "2026-11-21 10:00:00", "2026-11-21T10:00:00Z'; x = '"):  # no zone, no time, no thanks
        done = primary.machine.run(primary.port, "backup/restore.sh", "base", str(whole), str(target), moment)
        assert done.returncode == 1, moment
        assert "write it as 2026-11-21T10:00:00Z" in done.stderr
        assert not any(target.iterdir())
    (target / "something").touch()
    done = primary.machine.run(primary.port, "backup/restore.sh", "base", str(whole), str(target))
    assert (done.returncode, done.stderr) == (1, f"restore: {target} is not empty\n")
    shutil.rmtree(target)


async def test_old_backups_go_with_the_wal_that_only_they_needed(primary: Primary, books: Urls) -> None:
    """Delete only the backups of this test: it has a separate folder and a copy of the archive."""
    folder, archive = primary.machine.new_folder("few"), primary.machine.folder / "few-wal"
    env = {"BACKUP_DIR": str(folder), "BACKUP_KEEP": "1", "WAL_ARCHIVE_DIR": str(archive)}
    await archived(primary)
    shutil.copytree(primary.machine.archive, archive)
    if primary.machine.account is not None:
        shutil.chown(archive, primary.machine.account.uid, primary.machine.account.gid)
    for name in ("20260101T000000Z", "20260102T000000Z"):
        done = primary.machine.run(primary.port, "backup/backup.sh", "base", BACKUP_NAME=name, **env)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (folder / "base").iterdir()) == ["20260102T000000Z"]
    oldest = (folder / "base/20260102T000000Z/START_WAL").read_text().strip()
    kept = sorted(path.name.removesuffix(".gz") for path in archive.glob("*[0-9A-F].gz"))
    assert all(name >= oldest for name in kept)
    assert len(kept) < len(list(primary.machine.archive.glob("*[0-9A-F].gz")))


def test_the_archive_overwrites_nothing(primary: Primary) -> None:
    machine = primary.machine
    archive = machine.new_folder(f"archive-{uuid.uuid4().hex}")
    name = "000000010000000000000001"
    one, other = machine.folder / "one", machine.folder / "other"
    one.write_bytes(b"one" * 1000)
    other.write_bytes(b"other" * 1000)
    for file, status in ((one, 0), (one, 0), (other, 1), (machine.folder / "missing", 1)):
        target = name if file in (one, other) else "000000010000000000000002"
        assert machine.run(0, "backup/archive-wal.sh", str(file), target, str(archive)).returncode == status
    assert [path.name for path in archive.iterdir()] == [f"{name}.gz"]
    back = machine.new_folder(f"back-{uuid.uuid4().hex}") / "file"
    assert machine.run(0, "backup/restore-wal.sh", name, str(back), str(archive)).returncode == 0
    assert back.read_bytes() == one.read_bytes()
    missing = "000000010000000000000002"
    assert machine.run(0, "backup/restore-wal.sh", missing, str(back), str(archive)).returncode == 1
    assert machine.run(0, "backup/restore-wal.sh", name, str(back), "/nowhere").returncode == 200
