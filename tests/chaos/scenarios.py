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
import httpx
from pydantic import SecretStr

from app.db import Database
from app.demo.postgres import LaunchError
from app.outbox import defer
from tests import pooler
from tests.books import connected
from tests.chaos.proxy import Proxy
from tests.chaos.stack import Stack
from tests.outages import set_read_only
from tests.servers import START_TIMEOUT_S
from tests.support.pooler_and_replica import MAX_LAG_S, PoolerAndReplica

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Fault = Callable[[Stack, float], Awaitable[None]]
Reason = Callable[[Stack], str | None]
JOB_DONE_WITHIN_S = 5.0
JUMP_S = 7200
REPLICA_LEFT_WITHIN_S = 5.0
"""After it has become too old."""
REPLICA_USED_AGAIN_WITHIN_S = 5.0


class BrokenPromise(Exception):
    """A check of a single scenario failed."""


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
    between: bool = False
    """Whether the API speaks to PgBouncer and a replica, from this scenario on."""
    costs_nothing: bool = False
    """Whether every request must be answered by something else than 503."""


# --- what can happen on the way to anything ---

Way = Callable[[Stack], Proxy]


def _slow(way: Way, latency_s: float) -> Fault:
    async def fault(stack: Stack, seconds: float) -> None:
        way(stack).latency_s = latency_s
        await asyncio.sleep(seconds)
        way(stack).heal()

    return fault


def _black_hole(way: Way) -> Fault:
    async def fault(stack: Stack, seconds: float) -> None:
        way(stack).black_hole()
        await asyncio.sleep(seconds)
        way(stack).heal()

    return fault


def _refuses(way: Way) -> Fault:
    async def fault(stack: Stack, seconds: float) -> None:
        way(stack).refuses = True
        way(stack).reset_all()
        await asyncio.sleep(seconds)
        way(stack).heal()

    return fault


def _cuts(way: Way, most_bytes: int) -> Fault:
    """Cut each time at another byte: in a sign-in, in rows, in the answer to COMMIT, in an answer about a payment."""

    async def fault(stack: Stack, seconds: float) -> None:
        for i in range(round(seconds / 0.2)):
            way(stack).cut_after(1 + (i * 397) % most_bytes)
            await asyncio.sleep(0.2)
        way(stack).heal()

    return fault


def _postgres(stack: Stack) -> Proxy:
    return stack.postgres


def _stripe(stack: Stack) -> Proxy:
    return stack.stripe_way


def _oidc(stack: Stack) -> Proxy:
    return stack.oidc_way


def _pooler(stack: Stack) -> Proxy:
    return _pooler_and_replica(stack).pooler_way


def _replica(stack: Stack) -> Proxy:
    return _pooler_and_replica(stack).replica_way


def _replication(stack: Stack) -> Proxy:
    return _pooler_and_replica(stack).replication_way


def _pooler_and_replica(stack: Stack) -> PoolerAndReplica:
    assert stack.pooler_and_replica is not None
    return stack.pooler_and_replica


# --- PostgreSQL ---


async def _postgres_resets(stack: Stack, seconds: float) -> None:
    for _ in range(round(seconds / 0.4)):
        stack.postgres.reset_all()
        await asyncio.sleep(0.4)


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


async def _read_only(stack: Stack, seconds: float) -> None:
    """As after a failover to a standby, and back: sessions are cut at the beginning, and none at the end."""
    await set_read_only(stack.urls, True, cut=True)
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        await asyncio.sleep(seconds)
        ready = [(await http.get(f"{api.url}/ready")).json()["status"] for api in stack.apis]
    await set_read_only(stack.urls, False)
    if set(ready) != {"read_only"}:
        raise BrokenPromise(f"the processes were {ready} while PostgreSQL was read-only")


async def _cut_while_idle(stack: Stack, seconds: float) -> None:
    """All connections, while the callers pause: each kind of request is then the first on a dead connection."""
    for _ in range(round(seconds / 0.5)):
        async with stack.traffic.held_back():
            stack.postgres.reset_all()
        await asyncio.sleep(0.5)


def _no_volume(stack: Stack) -> str | None:
    return None if stack.volume is not None else "needs root, to mount a small volume"


# --- PgBouncer, and a replica ---


async def _pooler_killed(stack: Stack, seconds: float) -> None:
    pooler = _pooler_and_replica(stack).pooler
    await asyncio.to_thread(pooler.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(pooler.start)


def _replica_cut_off(way: Way) -> Fault:
    """Reports come from the replica before and after, and from the primary in between; callers see no error."""

    async def fault(stack: Stack, seconds: float) -> None:
        await _reports_come_from_the_replica(stack, True, START_TIMEOUT_S)
        way(stack).black_hole()
        try:
            await _reports_come_from_the_replica(stack, False, MAX_LAG_S + REPLICA_LEFT_WITHIN_S)
            await asyncio.sleep(seconds)
        finally:
            way(stack).heal()
        await _reports_come_from_the_replica(stack, True, REPLICA_USED_AGAIN_WITHIN_S)

    return fault


async def _reports_come_from_the_replica(stack: Stack, in_use: bool, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while await stack.read_the_replica() != {in_use}:
        if time.monotonic() > deadline:
            raise BrokenPromise(f"the replica is {'not used again' if in_use else 'still used'} after {within_s:g} s")
        await asyncio.sleep(0.1)


def _no_pooler(stack: Stack) -> str | None:
    return None if pooler.installed() else "needs PgBouncer"


# --- the OpenID provider ---


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


def _clock_jumps(by_s: float) -> Fault:
    async def fault(stack: Stack, seconds: float) -> None:
        stack.clock.jump(by_s)
        await asyncio.sleep(seconds)
        off_s = await stack.clocks_off_by_s()
        stack.clock.jump(0)
        if any(abs(each - by_s) > JUMP_S / 2 for each in off_s):
            raise BrokenPromise(f"the clocks were off by {off_s} s, not by {by_s:g} s")
        await asyncio.sleep(1.1)  # until it is noticed

    return fault


def _no_clock(stack: Stack) -> str | None:
    return None if stack.clock.can_jump else "needs libfaketime"


UNAUTHORIZED = frozenset({401})
SCENARIOS: tuple[Scenario, ...] = (
    Scenario("postgres-slow", "PostgreSQL: each packet 0.1 s late", _slow(_postgres, 0.1)),
    Scenario("postgres-black-hole", "PostgreSQL: packets are dropped silently", _black_hole(_postgres), 8.0),
    Scenario("postgres-reset", "PostgreSQL: all connections reset, again and again", _postgres_resets),
    Scenario("postgres-refused", "PostgreSQL: connections refused", _refuses(_postgres)),
    Scenario("postgres-cut", "PostgreSQL: every connection cut after 1 to 3,000 bytes", _cuts(_postgres, 3001)),
    Scenario("postgres-killed", "PostgreSQL: SIGKILL, started again later", _postgres_killed, 2.0),
    Scenario("postgres-immediate", "PostgreSQL: immediate shutdown, started again later", _postgres_immediate, 2.0),
    Scenario("backend-killed", "PostgreSQL: SIGKILL of one server process", _backend_killed),
    Scenario("postgres-read-only", "PostgreSQL: takes no writes, then takes them again", _read_only),
    Scenario("postgres-idle-cut", "PostgreSQL: connections cut while idle", _cut_while_idle, costs_nothing=True),
    Scenario("disk-full", "PostgreSQL: its volume is full, its log too", _disk_full, 6.0, impossible=_no_volume),
    Scenario("stripe-slow", "Stripe: answers later than we wait", _slow(_stripe, 2.0), 6.0),
    Scenario("stripe-black-hole", "Stripe: packets are dropped silently", _black_hole(_stripe), 8.0),
    Scenario("stripe-refused", "Stripe: connections reset and refused", _refuses(_stripe)),
    Scenario("stripe-cut", "Stripe: every connection cut after 1 to 1,500 bytes", _cuts(_stripe, 1501)),
    Scenario("oidc-away", "OpenID provider: away, its keys known", _black_hole(_oidc), 6.0),
    Scenario("oidc-away-at-start", "OpenID provider: away while a process starts", _oidc_away_at_start, 2.0),
    Scenario("api-killed", "API: SIGKILL of one of two processes", _api_killed, 1.0),
    Scenario("worker-killed", "Worker: SIGKILL, a job waiting", _worker_killed, 1.0),
    Scenario("clock-forward", "Clock: 2 h ahead, then right again", _clock_jumps(JUMP_S), 5.0, UNAUTHORIZED, _no_clock),
    Scenario("clock-back", "Clock: 2 h behind, then right again", _clock_jumps(-JUMP_S), 5.0, UNAUTHORIZED, _no_clock),
)
BEHIND_A_POOLER = (
    ("pooler-slow", "PgBouncer: each packet 0.1 s late", _slow(_pooler, 0.1), 4.0),
    ("pooler-black-hole", "PgBouncer: packets are dropped silently", _black_hole(_pooler), 8.0),
    ("pooler-killed", "PgBouncer: SIGKILL, started again later", _pooler_killed, 2.0),
    ("replica-alone", "Replica: cut off from its primary", _replica_cut_off(_replication), 3.0),
    ("replica-away", "Replica: cut off from the API", _replica_cut_off(_replica), 3.0),
)
"""With a replica beside it. These come last: the API processes stay behind the pooler once they are."""
SCENARIOS += tuple(Scenario(*each, impossible=_no_pooler, between=True) for each in BEHIND_A_POOLER)
SHORT = ("postgres-black-hole", "postgres-killed", "postgres-read-only", "postgres-idle-cut", "api-killed")
"""Those of every test run, half as long."""
