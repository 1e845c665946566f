"""A PostgreSQL that answers but refuses writes: reads go on, writes answer 503, and no session stays broken."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.auth.caller import Permission
from app.db import Database
from app.errors import DatabaseReadOnly, is_database_unavailable, response_for
from tests.auth.conftest import until
from tests.databases import Urls
from tests.outages import READS, WRITES, Service, running_service, set_read_only
from tests.pooler import running_pgbouncer, statement_cache_size
from tests.servers import environment
from tests.test_cli import UNUSABLE, run

WRITE = text(
    "INSERT INTO revoked_tokens (token_id, expires_at, revoked_at) VALUES (gen_random_uuid()::text, now(), now())"
)
RECOVERED_WITHIN_S = 5
PATIENT = {"database_timeout_s": 20, "request_timeout_s": 30}
"""On a busy machine a new connection takes its time; these tests are about what is answered."""


async def assert_refuses_writes_and_answers_reads(service: Service) -> None:
    for ask in WRITES:
        answer = await service.answer(ask)
        assert (answer.status_code, answer.json()["code"]) == (503, "busy"), (str(ask), answer.text)
        assert answer.headers["Retry-After"] == "1"
    for ask in READS:
        answer = await service.answer(ask)
        assert answer.status_code == ask.expects, (str(ask), answer.text)


async def answers_to_writes(service: Service) -> list[int]:
    """From several pooled sessions at once."""
    answers = await asyncio.gather(*(service.answer(ask) for ask in WRITES))
    return [answer.status_code for answer in answers]


SUCCESSES = [ask.expects for ask in WRITES]


async def becomes_ready(service: Service) -> None:
    while True:
        if (await service.client.get("/ready")).status_code == 200:
            return
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("cut", [False, True], ids=["open sessions keep writing", "sessions are cut"])
async def test_writes_are_refused_and_reads_answered_until_it_is_writable(own_database: Urls, cut: bool) -> None:
    async with running_service(own_database, **PATIENT) as service:
        await service.warm_up()
        await set_read_only(own_database, True, cut=cut)
        if not cut:
            service.relay.reset_all()
        await assert_refuses_writes_and_answers_reads(service)
        await until(lambda: service.db.is_read_only)
        ready = await service.client.get("/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "read_only")
        await assert_refuses_writes_and_answers_reads(service)
        await set_read_only(own_database, False)
        async with asyncio.timeout(RECOVERED_WITHIN_S):
            await becomes_ready(service)
        assert await answers_to_writes(service) == SUCCESSES


async def test_sessions_that_began_read_only_leave_their_pool(own_database: Urls) -> None:
    """Without a probe, as in the worker and in commands."""
    db = Database(SecretStr(own_database.service), pool_size=5)
    try:
        await set_read_only(own_database, True)

        async def write() -> None:
            async with db.transaction() as tx:
                await tx.execute(WRITE)

        refused = await asyncio.gather(write(), write(), return_exceptions=True)
        for error in refused:
            assert isinstance(error, DBAPIError)
            assert is_database_unavailable(error)
        await set_read_only(own_database, False)
        await asyncio.gather(write(), write())
    finally:
        await db.close()


async def test_known_to_be_read_only_nothing_is_tried_and_the_log_says_so(own_database: Urls) -> None:
    await set_read_only(own_database, True)
    db = Database(SecretStr(own_database.service), pool_size=5)
    db.watch()
    try:
        await until(lambda: db.is_read_only)
        with pytest.raises(DatabaseReadOnly):
            async with db.transaction():
                pytest.fail("it was tried")
        assert not db.is_down
        async with db.read() as session:
            await session.execute(text("SELECT 1"))
        await set_read_only(own_database, False)
        await until(lambda: not db.is_read_only)
    finally:
        await db.close()


async def test_behind_a_pooler_its_read_only_sessions_are_ended(own_database: Urls) -> None:
    """A pooler keeps sessions for minutes, and with them the mode that they began with."""
    with running_pgbouncer(own_database, pool_size=4) as pooler:
        options = {
            "database_direct_url": own_database.service,
            "database_statement_cache_size": statement_cache_size(),
        } | PATIENT
        async with running_service(replace(own_database, service=pooler), **options) as service:
            await service.warm_up()
            await set_read_only(own_database, True, cut=True)
            await until(lambda: service.db.is_read_only)
            await asyncio.gather(*(service.answer(ask) for ask in READS for _ in range(3)))
            await assert_refuses_writes_and_answers_reads(service)
            await set_read_only(own_database, False)
            async with asyncio.timeout(RECOVERED_WITHIN_S):
                await becomes_ready(service)
                while True:
                    if await answers_to_writes(service) == SUCCESSES:
                        break
                    await asyncio.sleep(0.1)  # a session that was in use when the probe looked is ended by its write


def test_a_command_says_that_the_database_is_read_only(own_database: Urls) -> None:
    env = environment(own_database)
    asyncio.run(set_read_only(own_database, True))
    refused = run(env, "keys", "create", "--name", "no", "--permission", Permission.READ.value)
    assert refused.status == UNUSABLE
    assert refused.err.strip() == "The database is read-only (a standby, or default_transaction_read_only)"
    asyncio.run(set_read_only(own_database, False))


@pytest.mark.parametrize(
    ("sqlstate", "status"),
    [
        ("25006", 503),  # read-only transaction
        ("25P04", 503),  # transaction timeout
        ("53100", 503),  # disk full
        ("53200", 503),  # out of memory
        ("53300", 503),  # too many connections
        ("55000", 503),  # no connections allowed
        ("55006", 503),  # object in use
        ("57014", 503),  # query canceled
        ("57P01", 503),  # admin shutdown
        ("57P02", 503),  # crash shutdown
        ("57P03", 503),  # cannot connect now
        ("57P04", 503),  # database dropped
        ("57P05", 503),  # idle session timeout
        ("58000", 503),  # system error
        ("58030", 503),  # I/O error
        ("58P01", 503),  # undefined file
        ("XX000", 500),  # internal error
        ("XX001", 500),  # data corrupted
        ("XX002", 500),  # index corrupted
        ("42P01", 500),  # undefined table
        ("23505", 500),  # unique violation
    ],
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["driver", "sqlalchemy"])
def test_the_servers_errors_are_an_outage_or_our_mistake(sqlstate: str, status: int, wrapped: bool) -> None:
    error: Exception = asyncpg.PostgresError.new({"C": sqlstate, "M": "no"})
    if wrapped:
        error = DBAPIError("SELECT 1", None, error)
    answer = response_for(error)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, "1" if status == 503 else None)
