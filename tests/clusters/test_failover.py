"""A failover to a real standby: read-only until it is promoted, and writable within seconds after that."""

import asyncio
import shutil
from collections.abc import Iterator

import asyncpg
import pytest

from app.demo.postgres import HOST
from tests.auth.conftest import until
from tests.clusters.servers import Primary, Server
from tests.databases import Urls
from tests.outages import READS, WRITES, running_service

RECOVERED_WITHIN_S = 5


@pytest.fixture
def standby(primary: Primary) -> Iterator[Server]:
    """A separate replica, not running yet, that the test may promote."""
    place = primary.machine.new_folder("promoted")
    command = [str(primary.machine.script("postgres/start-replica.sh"))]
    server = Server(primary.machine, place / "data", command, PGPORT=str(primary.port), PGDATA=str(place / "data"))
    yield server
    server.stop()
    shutil.rmtree(place)


async def test_writes_wait_for_the_promotion_and_reads_do_not(books: Urls, primary: Primary, standby: Server) -> None:
    async with running_service(books) as service:
        await service.warm_up()
        await asyncio.to_thread(standby.start)
        service.relay.target = (HOST, standby.port)  # as a virtual address that moves
        service.relay.reset_all()
        for ask in WRITES:
            answer = await service.answer(ask)
            assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "1"), (str(ask), answer.text)
        for ask in READS:
            answer = await service.answer(ask)
            assert answer.status_code == ask.expects, (str(ask), answer.text)
        await until(lambda: service.db.is_read_only)
        assert (await service.client.get("/ready")).json()["status"] == "read_only"
        superuser = primary.urls("postgres").superuser.replace(f":{primary.port}/", f":{standby.port}/")
        connection = await asyncpg.connect(superuser)
        assert await connection.fetchval("SELECT pg_promote()")
        await connection.close()
        await until(lambda: not service.db.is_read_only, RECOVERED_WITHIN_S)
        for ask in WRITES:
            answer = await service.answer(ask)
            assert answer.status_code == ask.expects, (str(ask), answer.text)
