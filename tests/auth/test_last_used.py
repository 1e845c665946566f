"""last_used_at and requests_total: at most once a minute, behind the requests' backs, and never their problem."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.auth.api_keys.last_used import MIN_INTERVAL, LastUsed
from app.db import Database, Session, write_behind
from tests.auth.conftest import MakeKey, Process, StartProcess, running
from tests.databases import Urls

MINUTE = timedelta(minutes=1)


async def last_used_at(db: Database, key_id: str) -> datetime | None:
    row = await db.fetch_row("SELECT last_used_at FROM api_keys WHERE key_id = $1", key_id)
    assert row is not None
    used_at: datetime | None = row["last_used_at"]
    return used_at


async def requests_total(db: Database, key_id: str) -> int:
    row = await db.fetch_row("SELECT requests_total FROM api_keys WHERE key_id = $1", key_id)
    assert row is not None
    total: int = row["requests_total"]
    return total


async def version(db: Database, key_id: str) -> object:
    """Changes whenever the row is written."""
    row = await db.fetch_row("SELECT xmin::text FROM api_keys WHERE key_id = $1", key_id)
    assert row is not None
    return row["xmin"]


async def test_uses_are_written_a_minute_apart(make_key: MakeKey, db: Database, now: datetime) -> None:
    key = await make_key()
    uses = LastUsed(db)
    versions = []
    for seconds in range(0, 301, 5):
        uses.note(key.key_id, now + timedelta(seconds=seconds))
        await uses.flush()
        versions.append(await version(db, key.key_id))
    assert len(set(versions)) == 6  # at 0, 60, 120, 180, 240 and 300 s
    assert await last_used_at(db, key.key_id) == now + 5 * MINUTE


async def test_two_processes_together_move_it_a_minute_apart_and_count_everything(
    make_key: MakeKey, db: Database, now: datetime
) -> None:
    key = await make_key()
    processes = [LastUsed(db), LastUsed(db)]
    versions, times = [], []
    for seconds in range(0, 121, 10):
        for uses in processes:
            uses.note(key.key_id, now + timedelta(seconds=seconds))
            await uses.flush()
            versions.append(await version(db, key.key_id))
            times.append(await last_used_at(db, key.key_id))
    assert len(set(times)) == 3
    assert len(set(versions)) == 3 * len(processes)
    assert MIN_INTERVAL == MINUTE
    assert await requests_total(db, key.key_id) == len(times)


async def test_every_request_is_counted_once_whatever_goes_wrong(
    make_key: MakeKey, db: Database, now: datetime
) -> None:
    held, free = await make_key(), await make_key()
    uses = LastUsed(db)
    for _ in range(3):
        for key in (held, free):
            uses.note(key.key_id, now)
    async with db.transaction() as tx:
        await tx.execute(text("SELECT FROM api_keys WHERE key_id = :id FOR UPDATE"), {"id": held.key_id})
        flushing = asyncio.create_task(uses.flush())
        await asyncio.sleep(0)
        uses.note(free.key_id, now)  # while the others are being written
        await flushing
    assert [await requests_total(db, key.key_id) for key in (held, free)] == [0, 3]
    await uses.flush()
    assert [await requests_total(db, key.key_id) for key in (held, free)] == [3, 3]
    uses.note(held.key_id, now + timedelta(seconds=1))
    await uses.flush_rest()  # as a process does that stops
    assert [await requests_total(db, key.key_id) for key in (held, free)] == [4, 4]
    await uses.flush_rest()
    assert [await requests_total(db, key.key_id) for key in (held, free)] == [4, 4]


class SlowToSay(Database):
    """A database whose commits take effect some time before they return."""

    committed: asyncio.Event

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        async with super().transaction() as tx:
            yield tx
        self.committed.set()
        await asyncio.sleep(0.1)


async def test_stopping_in_the_middle_of_a_writing_counts_nothing_twice_and_forgets_nothing(
    make_key: MakeKey, db: Database, database: Urls, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "FLUSH_EVERY_S", 0.01)
    key = await make_key()
    slow = SlowToSay(SecretStr(database.service))
    slow.committed = asyncio.Event()
    uses = LastUsed(slow)
    try:
        for _ in range(3):
            uses.note(key.key_id, now)
        uses.start()
        await asyncio.wait_for(slow.committed.wait(), 60)
        uses.note(key.key_id, now)
        await uses.stop()
    finally:
        await slow.close()
    assert await requests_total(db, key.key_id) == 4


async def test_a_key_held_by_somebody_else_delays_nothing_and_is_written_next_time(
    make_key: MakeKey, db: Database, now: datetime
) -> None:
    held, free = await make_key(), await make_key()
    uses = LastUsed(db)
    async with db.transaction() as tx:
        await tx.execute(text("SELECT FROM api_keys WHERE key_id = :id FOR UPDATE"), {"id": held.key_id})
        for key in (held, free):
            uses.note(key.key_id, now)
        await asyncio.wait_for(uses.flush(), 1)
        assert await last_used_at(db, free.key_id) == now
    uses.note(held.key_id, now + MINUTE)
    await uses.flush()
    assert await last_used_at(db, held.key_id) == now + MINUTE


async def test_a_failed_write_is_made_up_for(make_key: MakeKey, db: Database, database: Urls, now: datetime) -> None:
    key = await make_key()
    uses = LastUsed(db)
    uses.note(key.key_id, now)
    owner = await asyncpg.connect(database.superuser)
    await owner.execute("REVOKE UPDATE ON api_keys FROM billing_service")
    try:
        await uses.flush()
    finally:
        await owner.execute("GRANT UPDATE ON api_keys TO billing_service")
        await owner.close()
    assert await last_used_at(db, key.key_id) is None
    await uses.flush()
    assert await last_used_at(db, key.key_id) == now


async def test_a_request_leaves_the_writing_to_later_and_stopping_writes_it(
    process: Process, make_key: MakeKey, db: Database
) -> None:
    key = await make_key()
    started = datetime.now(UTC)
    async with running(process.app.state.settings) as stopping:
        assert await stopping.status(key.secret_text) == 200
        assert await last_used_at(db, key.key_id) is None
    written = await last_used_at(db, key.key_id)
    assert written is not None
    assert started <= written <= datetime.now(UTC)


async def test_refused_requests_are_no_use(start_process: StartProcess, make_key: MakeKey, db: Database) -> None:
    process = await start_process()
    key = await make_key(ip_allow_list=["192.0.2.0/24"])
    assert await process.status(key.secret_text) == 403
    assert await process.status(key.secret_text[:-43] + "0" * 43) == 401
    await process.auth._last_used.flush()
    assert await last_used_at(db, key.key_id) is None


async def test_marking_a_use_does_not_invalidate_the_key(process: Process, make_key: MakeKey) -> None:
    key = await make_key()
    assert await process.status(key.secret_text) == 200
    await process.auth._last_used.flush()
    await asyncio.sleep(0.3)
    before = process.db.uses
    assert await process.status(key.secret_text) == 200
    assert process.db.uses == before
