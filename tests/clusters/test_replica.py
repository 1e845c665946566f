"""Reports on a real streaming replica: used while it is young, left when it is not, and never asked about money."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from app.auth.admins.admins import add_admin
from app.auth.caller import Permission
from app.db import Database
from app.db.replica import ReadReplica
from tests.admin.conftest import DOMAIN, SECRET, Office
from tests.chaos.proxy import PostgresProxy
from tests.clusters.servers import Primary, Server
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls
from tests.test_status import samples

MAX_LAG_S = 5.0
PATIENCE_S = 40
"""The machine may be busy; nothing here takes that long on one that is not."""
AGENT = {"oauth_provider": "oauth:google", "external_id": "paula@example.com"}


@pytest.fixture(scope="session")
def standby(primary: Primary) -> Iterator[Server]:
    """A replica that docker/postgres/start-replica.sh made and runs."""
    command = [str(primary.machine.script("postgres/start-replica.sh"))]
    # The folder above belongs to another user where root runs the tests.
    place = primary.machine.new_folder("replica")
    data = place / "data"
    server = Server(primary.machine, data, command, PGPORT=str(primary.port), PGDATA=str(data))
    server.start()
    yield server
    server.stop()
    shutil.rmtree(place)


@dataclass
class Service:
    """The application with a replica, an admin, and an agent's client."""

    office: Office
    agent: httpx.AsyncClient
    viewer: httpx.AsyncClient
    admin: httpx.AsyncClient

    @property
    def replica(self) -> ReadReplica:
        replica: ReadReplica = self.office.app.state.replica
        return replica

    async def check(self) -> None:
        """Make the agent's user known, or see that it is."""
        answer = await self.agent.post("/v1/billing/credits/check", json=AGENT)
        assert answer.status_code == 200, answer.text

    async def listed(self) -> int:
        """How many users the back office's list shows."""
        answer = await self.viewer.get("/admin/users")
        assert answer.status_code == 200, answer.text
        return len(answer.json()["users"])

    async def replica_status(self) -> tuple[bool, float | None]:
        replica = (await self.agent.get("/v1/status")).json()["replica"]
        return replica["in_use"], replica["lag_s"]

    async def measures_too_old(self) -> bool:
        """The gauge is set at each look at the replica; between two looks it shows the younger age."""
        return samples((await self.agent.get("/metrics")).text)["billing_replica_lag_seconds[]"] > MAX_LAG_S

    async def becomes(self, in_use: bool) -> None:
        async def done() -> bool:
            return (await self.replica_status())[0] is in_use

        await until(done)


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not await done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


@asynccontextmanager
async def serving(urls: Urls, replica_url: str, **changes: object) -> AsyncIterator[Service]:
    settings = settings_for(
        urls,
        admin_session_secret=SECRET,
        database_read_url=replica_url,
        database_read_max_lag_s=MAX_LAG_S,
        request_timeout_s=60,
        **changes,
    )
    async with running_app(settings) as app:
        office = Office(app, urls)
        async with office.db.transaction() as tx:
            now = datetime.now(UTC)
            for role in ("viewer", "admin"):
                await add_admin(tx, f"{role}@{DOMAIN}", role, now=now)
                office.tokens[role] = await office.sessions.open_for_script(tx, f"{role}@{DOMAIN}", now=now)
        key = await make_key(office.db, "live", Permission.READ, Permission.WRITE)
        transport = httpx.ASGITransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://billing", headers={"X-API-Key": key}) as agent,
            office.client("viewer") as viewer,
            office.client("admin") as admin,
        ):
            yield Service(office, agent, viewer, admin)


@pytest.fixture
async def service(books: Urls, standby: Server) -> AsyncIterator[Service]:
    async with serving(books, standby_url(books, standby)) as service:
        await service.becomes(in_use=True)
        yield service


def standby_url(books: Urls, standby: Server) -> str:
    return standby.url("service", books.service.rpartition("/")[2])


@asynccontextmanager
async def replay_paused(primary: Primary, standby: Server) -> AsyncIterator[None]:
    url = primary.urls("postgres").superuser.replace(f":{primary.port}/", f":{standby.port}/")
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT pg_wal_replay_pause()")

        async def paused() -> bool:
            return bool(await connection.fetchval("SELECT pg_get_wal_replay_pause_state() = 'paused'"))

        await until(paused)
        yield
    finally:
        await connection.execute("SELECT pg_wal_replay_resume()")
        await connection.close()


async def test_a_paused_replica_is_left_once_it_is_too_old_and_used_again_after(
    service: Service, primary: Primary, standby: Server
) -> None:
    assert await service.listed() == 0
    async with replay_paused(primary, standby):
        await service.check()
        assert await service.listed() == 0, "not yet too old: this came from the replica"
        bought = await service.agent.post("/v1/billing/charges", json={**AGENT, "amount_minor": 100, "currency": "USD"})
        assert bought.status_code == 201
        listed = await service.agent.get("/v1/billing/transactions", params=AGENT)
        assert listed.json()["total_count"] == 1, "the caller sees its charge, however old the replica's data are"
        await service.becomes(in_use=False)
        assert await service.listed() == 1
        await until(service.measures_too_old)
        system = (await service.viewer.get("/admin/system")).json()["replica"]
        assert system["in_use"] is False
        assert system["lag_s"] > MAX_LAG_S
    await service.becomes(in_use=True)
    assert await service.listed() == 1


async def test_an_admin_sees_what_was_just_put_right(service: Service, primary: Primary, standby: Server) -> None:
    await service.check()

    async def replayed() -> bool:
        return await service.listed() == 1

    await until(replayed)
    async with replay_paused(primary, standby):
        [user] = (await service.viewer.get("/admin/users")).json()["users"]
        body = {"credits": 7, "reason": "ticket 1", "idempotency_key": "ticket 1"}
        given = await service.admin.post(f"/admin/users/{user['account_id']}/credits", json=body)
        assert given.status_code == 201, given.text
        assert (await service.replica_status())[0], "young enough for all others"
        for reader in (service.viewer, service.admin):
            [seen] = (await reader.get("/admin/users")).json()["users"]
            assert seen["paid"] == 7
            assert (await reader.get("/admin/audit-logs")).json()["entries"][0]["action"] == "account.adjust"


async def test_a_killed_replica_fails_no_report_and_is_used_again_when_it_is_back(
    service: Service, standby: Server
) -> None:
    await service.check()
    stopped = asyncio.Event()

    async def read_reports() -> int:
        read = 0
        while not stopped.is_set():
            for path in ("/admin/users", "/admin/analytics/overview", "/admin/purchases", "/admin/audit-logs"):
                answer = await service.viewer.get(path)
                assert answer.status_code == 200, answer.text
                read += 1
        return read

    readers = [asyncio.create_task(read_reports()) for _ in range(3)]
    await asyncio.sleep(0.3)
    standby.stop()
    try:
        assert await service.listed() == 1
        await service.becomes(in_use=False)
    finally:
        await asyncio.to_thread(standby.start)
    await service.becomes(in_use=True)
    stopped.set()
    assert sum(await asyncio.gather(*readers)) > 0


async def test_a_replica_that_falls_silent_costs_a_report_little_time(books: Urls, standby: Server) -> None:
    """No refusal, no closed socket: its queries under way are canceled, and the primary answers them."""
    relay = PostgresProxy(SecretStr(standby_url(books, standby)))
    await relay.start()
    try:
        async with serving(books, relay.url.get_secret_value(), database_timeout_s=50) as service:
            await service.becomes(in_use=True)
            assert await service.listed() == 0
            relay.black_hole()
            started = time.monotonic()
            answer = await service.viewer.get("/admin/users", params={"search": "paula"})
            assert answer.status_code == 200
            assert time.monotonic() - started < 20, "not by the statement's own time-out"
            await service.becomes(in_use=False)
    finally:
        await relay.stop()


async def test_a_primary_at_rest_is_no_lag(books: Urls, standby: Server) -> None:
    """No change listener here, whose heartbeats would write."""
    settings = settings_for(books, database_read_url=standby_url(books, standby), database_read_max_lag_s=1.5)
    db = Database(settings.database_url)
    reports = ReadReplica(db, settings)
    reports.start()

    async def in_use() -> bool:
        return reports.state is not None and reports.state.in_use

    try:
        await until(in_use)
        await asyncio.sleep(2)
        await until(in_use)
    finally:
        await reports.stop()
        await db.close()


@pytest.mark.parametrize("what", ["the primary itself", "another cluster", "nothing"])
async def test_what_is_no_replica_is_never_used(books: Urls, database: Urls, what: str) -> None:
    wrong = {"the primary itself": books.service, "another cluster": database.service}
    async with serving(books, wrong.get(what, "postgresql://nobody@127.0.0.1:1/nothing")) as service:
        await asyncio.sleep(1.2)  # two looks
        assert await service.replica_status() == (False, None)
        await service.check()
        assert await service.listed() == 1


async def test_without_a_replica_nobody_speaks_of_one(client_for: Callable[[None], httpx.AsyncClient]) -> None:
    assert (await client_for(None).get("/v1/status")).json()["replica"] is None
