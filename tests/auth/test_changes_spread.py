"""Changes of a key reach every other process within a second, through every fault of the connection."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.auth.api_keys.keys import NewKey
from app.auth.api_keys.service import revoke_key, rotate_key, update_key
from app.auth.cache import InvalidatedCache
from app.auth.caller import Permission
from app.clock import request_time
from app.db import Database, Session
from app.db.listener import CURRENT_FOR_S, HEARTBEAT_S
from app.settings import Settings
from tests.auth.conftest import MakeKey, Process, StartProcess, running, until
from tests.chaos.proxy import PostgresProxy
from tests.databases import Urls
from tests.support.key_changes import CHANGES, Change, revoke

PROMISE_S = 1.0


async def seconds_until_refused(process: Process, key: NewKey, path: str = "/read") -> float:
    """When the last request began that was still accepted. How long answers take is not the promise."""
    client = await process.client(key.secret_text)
    started = last_accepted = begun = time.perf_counter()
    while (await client.get(path)).status_code == 200:
        last_accepted = begun
        assert begun - started < 5, "the key still works"
        await asyncio.sleep(0.005)
        begun = time.perf_counter()
    assert {(await client.get(path)).status_code for _ in range(5)} <= {401, 403}
    return last_accepted - started


async def commit(db: Database, change: Change, key: NewKey) -> None:
    async with db.transaction() as tx:
        await change(tx, key.key_id, datetime.now(UTC))


async def _delete_by_hand(tx: Session, key_id: str, now: datetime) -> object:
    return await tx.execute(text("DELETE FROM api_keys WHERE key_id = :key_id"), {"key_id": key_id})


async def _revoke_by_hand(tx: Session, key_id: str, now: datetime) -> object:
    return await tx.execute(text("UPDATE api_keys SET revoked_at = now() WHERE key_id = :key_id"), {"key_id": key_id})


@pytest.mark.parametrize("change", [*CHANGES, _delete_by_hand, _revoke_by_hand])
async def test_a_change_reaches_every_process_within_a_second(
    change: Change, start_process: StartProcess, make_key: MakeKey, database: Urls
) -> None:
    processes = [await start_process() for _ in range(2)]
    key = await make_key()
    for process in processes:
        assert await process.status(key.secret_text, "/write") == 200
    by_hand = Database(SecretStr(database.owner))  # the service may not delete a key
    await commit(by_hand, change, key)
    await by_hand.close()
    took_s = await asyncio.gather(*(seconds_until_refused(process, key, "/write") for process in processes))
    assert max(took_s) < PROMISE_S


async def test_an_uncommitted_change_is_no_change(process: Process, make_key: MakeKey, db: Database) -> None:
    key = await make_key()
    assert await process.status(key.secret_text) == 200
    async with db.transaction() as tx:
        await revoke_key(tx, key.key_id, now=datetime.now(UTC))
        await asyncio.sleep(0.1)
        assert await process.status(key.secret_text) == 200
    assert await seconds_until_refused(process, key) < PROMISE_S


async def test_widening_spreads_as_well(process: Process, make_key: MakeKey, db: Database) -> None:
    key = await make_key({Permission.READ})
    assert await process.status(key.secret_text, "/write") == 403
    async with db.transaction() as tx:
        await update_key(tx, key.key_id, permissions={Permission.READ, Permission.WRITE}, now=datetime.now(UTC))
    await asyncio.sleep(PROMISE_S)
    assert await process.status(key.secret_text, "/write") == 200
    assert process.argon2.verifications == 1


async def test_the_rotated_key_lives_exactly_through_its_grace_period(
    process: Process, make_key: MakeKey, db: Database, settings: Settings
) -> None:
    now = datetime.now(UTC)
    old = await make_key({Permission.READ}, environment="test", ip_allow_list=["198.51.100.0/24"])
    assert await process.status(old.secret_text) == 200
    async with db.transaction() as tx:
        new = await rotate_key(tx, old.key_id, grace_s=settings.key_rotation_grace_s, now=now)
    await asyncio.sleep(PROMISE_S)
    clock = now
    process.app.dependency_overrides[request_time] = lambda: clock
    end = now + timedelta(hours=24)
    for moment, status in (
        (now, 200),
        (end - timedelta(microseconds=1), 200),
        (end, 401),
        (end + timedelta(days=9), 401),
    ):
        clock = moment
        assert await process.status(old.secret_text) == status
        assert await process.status(new.secret_text) == 200
    assert await process.status(new.secret_text, "/write") == 403
    elsewhere = await process.client(new.secret_text, address="203.0.113.1")
    assert (await elsewhere.get("/read")).json()["code"] == "address_not_allowed"


# --- when the connection that brings the news is not there ------------------------------------------------------


async def kill_listeners(superuser: str) -> int:
    connection = await asyncpg.connect(superuser)
    killed = await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'ciris-billing-listener' AND datname = current_database()"
    )
    await connection.close()
    return len(killed)


async def test_a_killed_listener_gives_no_stale_answer_and_comes_back(
    process: Process, make_key: MakeKey, db: Database, database: Urls
) -> None:
    key, other = await make_key(), await make_key()
    for each in (key, other):
        assert await process.status(each.secret_text) == 200
    assert await kill_listeners(database.superuser) >= 1
    await commit(db, revoke, key)
    assert await seconds_until_refused(process, key) < PROMISE_S
    assert await process.status(other.secret_text) == 200
    await until(process.auth.is_current)
    before = process.db.uses
    assert await process.status(other.secret_text) == 200
    assert await process.status(other.secret_text) == 200
    assert process.db.uses <= before + 1  # read once after the gap, then remembered again
    assert process.argon2.verifications == 2  # neither the kill nor the gap costs Argon2


async def test_a_change_made_while_nobody_listened_is_seen(
    process: Process, make_key: MakeKey, db: Database, database: Urls
) -> None:
    """Several rounds, so that some changes fall between the loss of the connection and the next LISTEN."""
    for _ in range(5):
        key = await make_key()
        assert await process.status(key.secret_text) == 200
        await asyncio.gather(kill_listeners(database.superuser), commit(db, revoke, key))
        assert await seconds_until_refused(process, key) < PROMISE_S
        await until(process.auth.is_current)


async def test_a_connection_that_only_seems_alive_is_not_believed(
    relay: PostgresProxy, start_process: StartProcess, make_key: MakeKey, db: Database
) -> None:
    """The listener's packets vanish, its socket stays open, and no error is ever raised there."""
    process = await start_process(database_url=relay.url)
    key, other = await make_key(), await make_key()
    for each in (key, other):
        assert await process.status(each.secret_text) == 200
    relay.swallows_listeners = True
    await commit(db, revoke, key)
    assert await seconds_until_refused(process, key) < PROMISE_S
    assert not process.auth.is_current()
    for _ in range(3):
        assert await process.status(other.secret_text) == 200
    assert process.argon2.verifications == 2
    relay.swallows_listeners = False
    await until(process.auth.is_current)


async def test_a_connection_that_drops_notifications_is_not_believed(
    relay: PostgresProxy, start_process: StartProcess, make_key: MakeKey, db: Database
) -> None:
    """As a transaction pooler in between does: queries are answered, and no notification ever comes."""
    process = await start_process(database_url=relay.url)
    key = await make_key()
    assert await process.status(key.secret_text) == 200
    relay.drops_notifications = True
    await commit(db, revoke, key)
    assert await seconds_until_refused(process, key) < PROMISE_S
    assert relay.notifications_dropped > 0
    assert not process.auth.is_current()


async def test_what_was_remembered_before_a_gap_is_forgotten(
    relay: PostgresProxy, start_process: StartProcess, make_key: MakeKey, db: Database
) -> None:
    """No request comes during the gap, so only the reconnection itself can correct the cache."""
    process = await start_process(database_url=relay.url)
    key = await make_key()
    assert await process.status(key.secret_text) == 200
    relay.swallows_listeners = True
    await commit(db, revoke, key)
    await asyncio.sleep(HEARTBEAT_S)
    relay.swallows_listeners = False
    await until(lambda: not process.auth.is_current())
    await until(process.auth.is_current)
    assert await process.status(key.secret_text) == 401


async def test_a_key_revoked_while_argon2_runs_is_refused(process: Process, make_key: MakeKey, db: Database) -> None:
    key = await make_key()
    process.argon2.may_go_on.clear()
    request = asyncio.create_task(process.status(key.secret_text))
    await until(lambda: process.argon2.verifications > 0)
    await commit(db, revoke, key)
    await asyncio.sleep(CURRENT_FOR_S)
    process.argon2.may_go_on.set()
    assert await request == 401


async def test_a_replaced_hash_ends_the_old_secret(process: Process, make_key: MakeKey, db: Database) -> None:
    key, other = await make_key(), await make_key()
    assert await process.status(key.secret_text) == 200
    async with db.transaction() as tx:
        await tx.execute(
            text(
                "UPDATE api_keys SET secret_hash = (SELECT secret_hash FROM api_keys WHERE key_id = :other)"
                " WHERE key_id = :key"
            ),
            {"key": key.key_id, "other": other.key_id},
        )
    await asyncio.sleep(PROMISE_S)
    assert await process.status(key.secret_text) == 401
    assert process.argon2.verifications == 2


async def test_heartbeats_prove_the_present_not_the_past(process: Process) -> None:
    now_s = asyncio.get_running_loop().time()
    assert process.auth.is_current()
    assert not process.auth._listener.is_current(now_s + CURRENT_FOR_S)
    await asyncio.sleep(3 * HEARTBEAT_S)
    assert process.auth.is_current()


async def test_a_process_that_never_reached_the_database_says_503_and_stops(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/none")})
    async with running(nowhere) as process:
        assert await process.status("cbk_live_" + "a" * 16 + "_" + "b" * 43) == 503
        assert not process.auth.is_current()


async def test_stopping_leaves_no_task_and_no_connection(
    settings: Settings, make_key: MakeKey, own_database: Urls
) -> None:
    tasks = asyncio.all_tasks()
    async with running(settings.model_copy(update={"database_url": SecretStr(own_database.service)})) as process:
        await until(process.auth.is_current)
    assert asyncio.all_tasks() <= tasks
    connection = await asyncpg.connect(own_database.superuser)
    for _ in range(100):
        left = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'ciris-billing-listener'"
        )
        if not left:
            break
        await asyncio.sleep(0.02)
    await connection.close()
    assert left == 0


async def test_a_row_read_before_an_invalidation_is_not_kept() -> None:
    """The read began, the row changed and the notification came, and only then did the old row arrive."""
    cache: InvalidatedCache[str, str] = InvalidatedCache(10)
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def slow_read(_: str) -> str:
        reading.set()
        await go_on.wait()
        return "old"

    load = asyncio.create_task(cache.load("key", slow_read))
    await reading.wait()
    cache.forget("key")
    go_on.set()
    assert await load == "old"
    assert cache.get("key") is None


async def test_the_cache_keeps_what_was_used_last() -> None:
    async def read(name: str) -> str:
        return name

    cache: InvalidatedCache[str, str] = InvalidatedCache(3)
    for name in ("a", "b", "c"):
        await cache.load(name, read)
    cache.get("a")
    await cache.load("d", read)
    assert [cache.get(name) for name in ("a", "b", "c", "d")] == ["a", None, "c", "d"]
    cache.forget_all()
    assert cache.get("a") is None
