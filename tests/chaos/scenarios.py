"""Every fault there is, each from its beginning to its end."""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import asyncpg
from pydantic import SecretStr

from app.db import Database
from app.demo.postgres import LaunchError
from app.jobs import defer
from tests.books import connected
from tests.chaos.stack import Stack
from tests.servers import START_TIMEOUT_S

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Fault = Callable[[Stack, float], Awaitable[None]]
Reason = Callable[[Stack], str | None]
JOB_DONE_WITHIN_S = 5.0
JUMP_S = 7200


class BrokenPromise(Exception):
    """What a scenario looks at by itself was not so."""


@dataclass(frozen=True)
class Scenario:
    """`fault(stack, seconds)` returns when the fault is over. `tolerated`: answers that are right while it lasts."""

    name: str
    what: str
    fault: Fault
    seconds: float = 4.0
    tolerated: frozenset[int] = frozenset()
    impossible: Reason = lambda _: None
    """Why it cannot be tried here; None where it can."""


# --- PostgreSQL, and the way to it ---


async def _postgres_slow(stack: Stack, seconds: float) -> None:
    stack.postgres.latency_s = 0.1
    await asyncio.sleep(seconds)
    stack.postgres.heal()


async def _postgres_black_hole(stack: Stack, seconds: float) -> None:
    stack.postgres.black_hole()
    await asyncio.sleep(seconds)
    stack.postgres.heal()


async def _postgres_resets(stack: Stack, seconds: float) -> None:
    for _ in range(round(seconds / 0.4)):
        stack.postgres.reset_all()
        await asyncio.sleep(0.4)


async def _postgres_refuses(stack: Stack, seconds: float) -> None:
    stack.postgres.refuses = True
    stack.postgres.reset_all()
    await asyncio.sleep(seconds)
    stack.postgres.heal()


async def _postgres_cut(stack: Stack, seconds: float) -> None:
    """At another place each time: in a sign-in, in rows, in the answer to COMMIT."""
    for i in range(round(seconds / 0.2)):
        stack.postgres.cut_after(1 + (i * 397) % 3001)
        await asyncio.sleep(0.2)
    stack.postgres.heal()


async def _postgres_killed(stack: Stack, seconds: float) -> None:
    await asyncio.to_thread(stack.cluster.kill)
    await asyncio.sleep(seconds)
    await stack.start_postgres()


async def _postgres_immediate(stack: Stack, seconds: float) -> None:
    await asyncio.to_thread(stack.cluster.stop, "immediate")
    await asyncio.sleep(seconds)
    await stack.start_postgres()


async def _backend_killed(stack: Stack, seconds: float) -> None:
    """Upon which PostgreSQL ends all the others, and recovers."""
    async with connected(stack.urls) as connection:
        sql = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ciris-billing'"
        )
        pid = await connection.fetchval(sql + " ORDER BY backend_start LIMIT 1")
    os.kill(pid, signal.SIGKILL)
    await _answers(stack, seconds)


async def _answers(stack: Stack, within_s: float) -> None:
    """Wait until PostgreSQL takes connections again; one that ended altogether is started again, as in production."""
    deadline = time.monotonic() + within_s + 20
    while True:
        try:
            if stack.cluster.pid is None:
                await stack.start_postgres()
            async with asyncio.timeout(1), connected(stack.urls) as connection:
                await connection.execute("SELECT 1")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, LaunchError, TimeoutError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return


async def _disk_full(stack: Stack, seconds: float) -> None:
    """First tables cannot grow; then the log cannot either, which PostgreSQL does not survive."""
    assert stack.volume is not None
    ballast = stack.volume / "ballast"
    with ballast.open("wb") as file:
        free = os.statvfs(stack.volume)
        try:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
        except OSError:
            for _ in range(free.f_bavail):
                if os.write(file.fileno(), bytes(free.f_frsize)) < free.f_frsize:
                    break
    try:
        await asyncio.sleep(seconds / 2)
        for _ in range(4):
            try:
                async with asyncio.timeout(2), connected(stack.urls) as connection:
                    await connection.execute("SELECT pg_logical_emit_message(false, 'chaos', repeat('x', 9000000))")
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                break
        await asyncio.sleep(seconds / 2)
    finally:
        ballast.unlink()
    await _answers(stack, 0)


def _no_volume(stack: Stack) -> str | None:
    return None if stack.volume is not None else "needs root, to mount a small volume"


# --- Stripe, and the way to it ---


async def _stripe_slow(stack: Stack, seconds: float) -> None:
    stack.stripe_way.latency_s = 2.0  # there and back: longer than we wait
    await asyncio.sleep(seconds)
    stack.stripe_way.heal()


async def _stripe_black_hole(stack: Stack, seconds: float) -> None:
    stack.stripe_way.black_hole()
    await asyncio.sleep(seconds)
    stack.stripe_way.heal()


async def _stripe_refuses(stack: Stack, seconds: float) -> None:
    stack.stripe_way.refuses = True
    stack.stripe_way.reset_all()
    await asyncio.sleep(seconds)
    stack.stripe_way.heal()


async def _stripe_cut(stack: Stack, seconds: float) -> None:
    """The payment exists at Stripe, and we hear of it by halves."""
    for i in range(round(seconds / 0.2)):
        stack.stripe_way.cut_after(1 + (i * 397) % 1501)
        await asyncio.sleep(0.2)
    stack.stripe_way.heal()


# --- the OpenID provider ---


async def _oidc_away(stack: Stack, seconds: float) -> None:
    """Known keys go on counting: nobody is to notice."""
    stack.oidc_way.black_hole()
    await asyncio.sleep(seconds)
    stack.oidc_way.heal()


async def _oidc_away_at_start(stack: Stack, seconds: float) -> None:
    """A process that has never seen the keys: end users wait for them, agents do not."""
    stack.oidc_way.black_hole()
    await _api_killed(stack, seconds)
    await asyncio.sleep(seconds)
    stack.oidc_way.heal()


# --- our own processes ---


async def _api_killed(stack: Stack, seconds: float) -> None:
    api = stack.apis[-1]
    await stack.kill_api(api)
    await asyncio.sleep(seconds)
    await stack.start_api(api)


async def _worker_killed(stack: Stack, seconds: float) -> None:
    """A job that was waiting is done soon after another worker has started."""
    await stack.kill_worker()
    db = Database(SecretStr(stack.urls.service), pool_size=3)
    async with db.transaction() as tx:
        ids = {"account_id": str(uuid.uuid4()), "purchase_id": str(uuid.uuid4())}
        await defer(tx, "reconcile_purchase", ids, datetime.now(UTC))
    await db.close()
    await asyncio.sleep(seconds)
    async with connected(stack.urls) as connection:
        restarted_at = await connection.fetchval("SELECT clock_timestamp()")
        stack.start_worker()
        started = "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > $1"
        await _until(connection, started, restarted_at, START_TIMEOUT_S, "no worker has started")
        done = "SELECT count(*) FROM procrastinate_jobs WHERE args->>'purchase_id' = $1 AND status = 'succeeded'"
        await _until(connection, done, ids["purchase_id"], JOB_DONE_WITHIN_S, "the job was not done")


async def _until(connection: Connection, count: str, value: object, within_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + within_s
    while not await connection.fetchval(count, value):
        if time.monotonic() > deadline:
            raise BrokenPromise(otherwise)
        await asyncio.sleep(0.1)


# --- the clock ---


async def _clock_forward(stack: Stack, seconds: float) -> None:
    stack.clock.jump(JUMP_S)
    await asyncio.sleep(seconds)
    stack.clock.jump(0)
    await asyncio.sleep(1.1)  # until it is noticed


async def _clock_back(stack: Stack, seconds: float) -> None:
    stack.clock.jump(-JUMP_S)
    await asyncio.sleep(seconds)
    stack.clock.jump(0)
    await asyncio.sleep(1.1)


def _no_clock(stack: Stack) -> str | None:
    return None if stack.clock.can_jump else "needs libfaketime"


UNAUTHORIZED = frozenset({401})
SCENARIOS = (
    Scenario("postgres-slow", "PostgreSQL: each packet 0.1 s late", _postgres_slow),
    Scenario("postgres-black-hole", "PostgreSQL: nothing passes, nobody is told", _postgres_black_hole, 8.0),
    Scenario("postgres-reset", "PostgreSQL: all connections reset, again and again", _postgres_resets),
    Scenario("postgres-refused", "PostgreSQL: connections refused", _postgres_refuses),
    Scenario("postgres-cut", "PostgreSQL: every connection cut after 1 to 3,000 bytes", _postgres_cut),
    Scenario("postgres-killed", "PostgreSQL: SIGKILL, started again later", _postgres_killed, 2.0),
    Scenario("postgres-immediate", "PostgreSQL: immediate shutdown, started again later", _postgres_immediate, 2.0),
    Scenario("backend-killed", "PostgreSQL: SIGKILL of one server process", _backend_killed),
    Scenario("disk-full", "PostgreSQL: its volume is full, its log too", _disk_full, 6.0, impossible=_no_volume),
    Scenario("stripe-slow", "Stripe: answers later than we wait", _stripe_slow, 6.0),
    Scenario("stripe-black-hole", "Stripe: nothing passes, nobody is told", _stripe_black_hole, 8.0),
    Scenario("stripe-refused", "Stripe: connections reset and refused", _stripe_refuses),
    Scenario("stripe-cut", "Stripe: every connection cut after 1 to 1,500 bytes", _stripe_cut),
    Scenario("oidc-away", "OpenID provider: away, its keys known", _oidc_away, 6.0),
    Scenario("oidc-away-at-start", "OpenID provider: away while a process starts", _oidc_away_at_start, 2.0),
    Scenario("api-killed", "API: SIGKILL of one of two processes", _api_killed, 1.0),
    Scenario("worker-killed", "Worker: SIGKILL, a job waiting", _worker_killed, 1.0),
    Scenario("clock-forward", "Clock: 2 h ahead, then right again", _clock_forward, 5.0, UNAUTHORIZED, _no_clock),
    Scenario("clock-back", "Clock: 2 h behind, then right again", _clock_back, 5.0, UNAUTHORIZED, _no_clock),
)
SHORT = ("postgres-black-hole", "postgres-killed", "api-killed")
"""Those of every test run, half as long."""
