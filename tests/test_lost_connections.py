"""Connections that die while they are idle: the next request is served by a new one."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db import Database
from app.db.driver_pool import Connection
from app.errors import response_for
from tests.books import connected
from tests.chaos.proxy import PostgresProxy
from tests.databases import Urls, create_database, drop_database
from tests.outages import READS, WRITES, Ask, Service, running_service

NAME = "billing_lost_connections"
PID = text("SELECT pg_backend_pid()")
SLOW = text("SELECT pg_backend_pid(), pg_sleep(0.1)")


@pytest.fixture(scope="module")
async def service(worker_id: str) -> AsyncIterator[Service]:
    urls = await create_database(f"{NAME}_{worker_id}")
    async with running_service(urls) as service:
        await service.warm_up()
        yield service
    await drop_database(f"{NAME}_{worker_id}")


async def terminate(urls: Urls, *pids: int) -> None:
    """End these sessions of the service, or all; return when they are gone."""
    chosen = "datname = current_database() AND pid <> pg_backend_pid() AND ($1::int[] = '{}' OR pid = ANY($1))"
    async with connected(urls) as connection:
        await connection.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {chosen}", pids)


@pytest.mark.parametrize("ask", [*READS, *WRITES], ids=str)
@pytest.mark.parametrize("cut", ["terminated", "reset"])
async def test_the_first_request_after_idle_connections_were_cut_is_answered(
    service: Service, ask: Ask, cut: str
) -> None:
    """`terminated`: the process could have noticed. `reset`: the request is faster than the news."""
    if cut == "terminated":
        await terminate(service.urls)
    else:
        service.relay.reset_all()
    answer = await service.answer(ask)
    assert answer.status_code == ask.expects, answer.text


async def transaction_pid(db: Database) -> int:
    async with db.transaction() as tx:
        return int((await tx.execute(PID)).scalar_one())


async def batch_pid(db: Database) -> int:
    async with db.batch() as tx:
        [row] = await tx.fetch(PID.text)
    return int(row["pg_backend_pid"])


async def point_read_pid(db: Database) -> int:
    row = await db.fetch_row(PID.text)
    assert row is not None
    return int(row["pg_backend_pid"])


async def pids_of(db: Database, number: int) -> set[int]:
    """Server processes behind so many connections of each pool at once."""

    async def transaction() -> int:
        async with db.transaction() as tx:
            return int((await tx.execute(SLOW)).scalar_one())

    async def read() -> int:
        async with db.read() as session:
            return int((await session.execute(SLOW)).scalar_one())

    async def point_read() -> int:
        row = await db.fetch_row("SELECT pg_backend_pid() AS pid, pg_sleep(0.1)")
        assert row is not None
        return int(row["pid"])

    async def batch() -> int:
        async with db.batch() as tx:
            [row] = await tx.fetch("SELECT pg_backend_pid() AS pid, pg_sleep(0.1)")
        return int(row["pid"])

    pools = (transaction, read, point_read, batch)
    return set(await asyncio.gather(*(each() for _ in range(number) for each in pools)))


async def test_one_dead_connection_takes_the_idle_ones_of_every_pool_with_it(database: Urls) -> None:
    db = Database(SecretStr(database.service), pool_size=20)
    try:
        before = await pids_of(db, 4)
        assert len(before) == 16
        async with db.transaction() as tx:
            last_used = (await tx.execute(PID)).scalar_one()
        await terminate(database, last_used)
        async with db.transaction() as tx:
            assert (await tx.execute(PID)).scalar_one() not in before
        assert not before & await pids_of(db, 4)
    finally:
        await db.close()


@pytest.mark.parametrize("session", [transaction_pid, batch_pid, point_read_pid])
async def test_a_connection_that_went_silent_while_idle_is_replaced_in_time(
    database: Urls, monkeypatch: pytest.MonkeyPatch, session: Callable[[Database], Awaitable[int]]
) -> None:
    """As after a firewall has forgotten it: no reset ever comes."""
    for module in ("pool_guard", "driver_pool", "point_reads"):
        monkeypatch.setattr(f"app.db.{module}.PING_TIMEOUT_S", 0.1)
    monkeypatch.setattr("app.db.point_reads.IDLE_LONG_S", 0)
    db = Database(SecretStr(database.service), timeout_s=30)
    silent = None
    try:
        silent = await session(db)
        os.kill(silent, signal.SIGSTOP)
        async with asyncio.timeout(20):
            assert await session(db) != silent
    finally:
        if silent is not None:
            os.kill(silent, signal.SIGCONT)
        await db.close()


def write_to_a_closed_transport() -> Exception:
    """Return what uvloop raises for it."""

    async def write() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        transport.abort()
        await asyncio.sleep(0.01)
        server.close()
        transport.write(b"x")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.raises(RuntimeError) as raised:
        runner.run(write())
    return raised.value


class ClosedConnection:
    """A connection of the driver that was closed, which the pool has not noticed yet: the next write raises `error`."""

    def __init__(self, connection: Any, error: Exception) -> None:
        self._connection = connection
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, *_: object, **__: object) -> None:
        raise self._error

    fetch = execute


@pytest.mark.parametrize("session", [batch_pid, point_read_pid])
async def test_a_transport_that_closed_before_the_driver_noticed_is_replaced(
    database: Urls, session: Callable[[Database], Awaitable[int]]
) -> None:
    error = await asyncio.to_thread(write_to_a_closed_transport)
    assert response_for(error).status_code == 503
    assert response_for(RuntimeError("a bug")).status_code == 500
    db = Database(SecretStr(database.service))
    try:
        first = await session(db)
        for pool in (db._batches.pool, db._point_reads.pool):
            pool._idle[:] = [(cast(Connection, ClosedConnection(idle, error)), since) for idle, since in pool._idle]
        assert await session(db) != first
    finally:
        await db.close()


@pytest.mark.parametrize("answered", [False, True])
async def test_what_was_begun_is_not_repeated(database: Urls, answered: bool) -> None:
    """The result of a statement that was sent is unknown: the caller gets an error, and the block ran once."""
    relay = PostgresProxy(SecretStr(database.service))
    await relay.start()
    db = Database(relay.url, pool_size=5)
    ran = 0

    async def work() -> None:
        nonlocal ran
        async with db.transaction() as tx:
            ran += 1
            if answered:
                await tx.execute(PID)
            relay.reset_all()
            await tx.execute(PID)

    try:
        with pytest.raises(DBAPIError):
            await work()
        assert ran == 1
        async with db.transaction() as tx:
            await tx.execute(PID)
    finally:
        await db.close()
        await relay.stop()
