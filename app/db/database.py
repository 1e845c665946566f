"""PostgreSQL: declarative base, connections, and the only place that commits."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias

import asyncpg
import structlog
from pydantic import SecretStr
from sqlalchemy import MetaData, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.pool import QueuePool

from app.connection_urls import PostgresUrl
from app.db.database_probe import DatabaseProbe
from app.db.driver_pool import BatchTransaction, BatchTransactions, DriverPool, PoolExhausted, Row
from app.db.health_probe import HealthProbe
from app.db.point_reads import PointRead, PointReads
from app.db.pool_guard import PoolGuard
from app.db.statements import fetch
from app.errors import DatabaseDown, DatabaseReadOnly
from app.observability import tracing
from app.observability.metrics import CONNECTION_TIMEOUTS
from app.settings import Settings
from app.timestamps import read_every_timestamp

Session: TypeAlias = AsyncConnection
"""One connection to PostgreSQL, inside a transaction (`Database.transaction`) or outside one (`Database.read`)."""

Snapshot: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
"""A connection of the driver's own, in a read-only transaction (`Database.snapshot`)."""

log = structlog.get_logger()

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_FIND_LOCK_WAITS = """
    SELECT count(*) AS waiters, least(min(query_start), $1) AS since FROM pg_stat_activity
     WHERE datname = current_database() AND usename = current_user AND wait_event_type = 'Lock'
"""
_SET_LOCAL = "SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) AS setting (name, value)"

# SQLAlchemy prepares every statement; nameless ones last as long as nobody else gets the server's connection.
UNPREPARED: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}
SHARE_OF_LISTS = 5
"""One connection in so many is for what may be slow."""
REPORT_PLANNING = {"plan_cache_mode": "force_custom_plan", "jit": "off"}
LOOKUP_PLANNING = {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan", "jit": "off"}
"""For statements that find rows by their keys: always through an index, also while the planner believes a table to be
empty, and planned once for each connection (ADR 20)."""


def session_bounds(timeout_s: float) -> dict[str, str]:
    """PostgreSQL's settings that end whatever lasts longer; 0 for none."""
    timeout_ms = str(int(timeout_s * 1000))
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    return dict.fromkeys(names, timeout_ms)


class Base(DeclarativeBase):
    """Models describe the schema and type the columns. Rows are read and written by the statements in queries.py."""

    metadata = MetaData(naming_convention=NAMING)


ASYNCPG = "postgresql+asyncpg://"
"""For SQLAlchemy: its driver. Where PostgreSQL is, `connect_args` say (app/connection_urls.py)."""


def _read_every_timestamp(connection: Any, _: object) -> None:
    connection.run_async(read_every_timestamp)


class Database:
    """The process's connections, `pool_size` of them, in four pools that cannot starve each other.

    A fifth is for what may be slow (lists, reports). Of the rest, a quarter is for point reads; batches of hot requests
    and other transactions share the others half and half.

    Waiting for a connection, a lock or a statement is bounded by `timeout_s`, so that no caller waits on a stuck
    neighbour; the errors that follow are answered with 503 (see errors.py).

    `planning` holds settings of PostgreSQL's planner for transactions and point reads.

    Behind a pooler in transaction mode (`pooled`) a session's settings would be another client's next: there the
    bounds are the role's own (app/db/schema_check.py sets and checks them). Only prepared statements outlive a
    transaction, if the pooler keeps them (ADR 10).
    """

    def __init__(
        self,
        url: SecretStr,
        *,
        pool_size: int = 10,
        timeout_s: float = 3.0,
        pooled: bool = False,
        statement_cache_size: int = 100,
        planning: Mapping[str, str] | None = None,
    ) -> None:
        slow = max(1, pool_size // SHARE_OF_LISTS)
        readers = max(1, (pool_size - slow) // 4)
        writers = pool_size - slow - readers
        transactions = max(1, min(2, writers), writers // 2)
        batches = max(1, writers - transactions)
        self._url = PostgresUrl.parse(url.get_secret_value())
        bounds = {} if pooled else session_bounds(timeout_s)
        connect_args = {
            **self._url.asyncpg(timeout_s=timeout_s, settings={"TimeZone": "UTC", **bounds}),
            "command_timeout": timeout_s + 0.5,  # a black-holed server never sends its own time-out
            "statement_cache_size": statement_cache_size,
        }
        planning = planning or {}
        lookups: Mapping[str, str] = {} if pooled else planning
        self._local_planning = [list(planning), list(planning.values())] if pooled and planning else []

        def engine(connections: int, options: Mapping[str, str], *, prepared: bool = True) -> AsyncEngine:
            settings = {**connect_args["server_settings"], **options}
            statements = {} if prepared and statement_cache_size else UNPREPARED
            made = create_async_engine(
                ASYNCPG,
                pool_size=connections,
                max_overflow=0,
                pool_timeout=timeout_s,
                pool_use_lifo=True,
                hide_parameters=True,
                connect_args={**connect_args, "server_settings": settings, **statements},
            )
            event.listen(made.sync_engine, "connect", _read_every_timestamp)
            self._guard.watch(made)
            if tracing.is_on():
                tracing.watch(made.sync_engine)
            return made

        self._guard = PoolGuard(pooled=pooled)
        self.engine = engine(transactions, lookups)
        # Reports are planned for what is asked: one plan for every search would read the whole table for most. They
        # are short enough that compiling them would take longer than running them.
        # Behind a pooler: no statement of theirs is prepared, so each is planned for itself, and jit is the role's.
        self._slow = engine(slow, {}, prepared=False) if pooled else engine(slow, REPORT_PLANNING)
        self._autocommit = self._slow.execution_options(isolation_level="AUTOCOMMIT")
        self._consistent = self._slow.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.lock_waiters = asyncio.Semaphore((batches + 1) // 2)
        """Limits how many batches may block on account locks at once, so that some connections remain for others."""
        self._timeout_s = timeout_s
        self._probe = DatabaseProbe(connect_args, self._guard, pooled=pooled)
        self._health = HealthProbe(self._probe.beat, of="postgresql")
        arguments = {**connect_args, "server_settings": {**connect_args["server_settings"], **lookups}}

        def pool(name: str, size: int) -> DriverPool:
            return DriverPool(arguments, self._guard, size=size, timeout_s=timeout_s, name=name)

        self._point_reads = PointReads(pool("reads", readers), self._health)
        self._batches = BatchTransactions(
            pool("batches", batches), self._health, pooled=pooled, planning=planning if pooled else {}
        )

    def watch(self) -> None:
        """Probe all the time whether PostgreSQL answers and takes writes, by one more connection, until `close`."""
        self._health.start()

    @property
    def is_down(self) -> bool:
        """Whether PostgreSQL is known to answer nobody."""
        return self._health.is_down

    @property
    def is_read_only(self) -> bool:
        """Whether PostgreSQL is known to refuse every write. Only while `watch` is in force."""
        return self._probe.is_read_only

    def _require_presence(self) -> None:
        if self._health.is_down:
            raise DatabaseDown

    @asynccontextmanager
    async def _in(self, connecting: AbstractAsyncContextManager[AsyncConnection], pool: str) -> AsyncIterator[Session]:
        self._require_presence()
        try:
            async with connecting as connection:
                yield connection
        except PoolTimeout:
            CONNECTION_TIMEOUTS.labels(pool).inc()
            raise
        except Exception as error:
            self._guard.note(error)
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises. The only commit there is.

        For blocks that write. Raises DatabaseReadOnly at once while PostgreSQL is known to refuse every write.
        """
        if self._probe.is_read_only:
            raise DatabaseReadOnly
        with tracing.span("transaction"):
            async with self._in(self.engine.begin(), "transactions") as connection:
                if self._local_planning:
                    await fetch(connection, _SET_LOCAL, *self._local_planning)
                yield connection
        self._health.answers += 1

    @asynccontextmanager
    async def batch(self, *, lock_timeout_ms: int | None = None) -> AsyncIterator[BatchTransaction]:
        """`transaction` for the batches of hot requests: straight from the driver, at a third of the cost (ADR 2).

        `lock_timeout_ms` replaces the bound on waiting for locks.
        """
        if self._probe.is_read_only:
            raise DatabaseReadOnly
        with tracing.span("transaction"):
            async with self._batches.begin(lock_timeout_ms) as tx:
                yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Session]:
        """Lists and reports: statements that lock nothing and need no common snapshot; saves BEGIN and COMMIT."""
        async with self._in(self._autocommit.connect(), "reports") as connection:
            yield connection

    @asynccontextmanager
    async def consistent_read(self) -> AsyncIterator[Session]:
        """Reports of several statements that must see one moment. Read-only; locks nothing."""
        async with self._in(self._consistent.connect(), "reports") as connection:
            yield connection

    async def find(self, read: PointRead, *key: object) -> Row | None:
        """The row of a key: the hot path's point reads, which share executions."""
        return await self._point_reads.find(read, *key)

    async def fetch_row(self, sql: str, *values: object) -> Row | None:
        """The first row of a SELECT, straight from the driver: a quarter of the cost of `read` (ADR 3)."""
        rows = await self._point_reads.fetch_rows(sql, *values)
        return rows[0] if rows else None

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """One consistent view of the whole database, read-only, for reports that may take long. Not for requests.

        Not behind a pooler, whose connection it would hold all the while.
        """
        connection = await asyncpg.connect(
            **self._url.asyncpg(timeout_s=self._timeout_s, suffix=" report", settings=session_bounds(0))
        )
        try:
            await read_every_timestamp(connection)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                yield connection
        finally:
            await connection.close()

    async def find_lock_waits(self, now: datetime) -> Mapping[str, Any]:
        """How many statements of our own role wait for a lock at `now`, and since when the longest waiting one runs."""
        row = await self.fetch_row(_FIND_LOCK_WAITS, now)
        assert row is not None
        return row

    def usage(self) -> dict[str, tuple[int, int]]:
        """Pool -> (connections that somebody uses, connections that it may have)."""
        engines = {"transactions": self.engine, "reports": self._slow}
        pools = {name: engine.sync_engine.pool for name, engine in engines.items()}
        used = {name: (pool.checkedout(), pool.size()) for name, pool in pools.items() if isinstance(pool, QueuePool)}
        drivers = {"reads": self._point_reads.pool, "batches": self._batches.pool}
        return {**used, **{name: (pool.busy, pool.size) for name, pool in drivers.items()}}

    async def ping(self) -> None:
        """Raises when PostgreSQL does not answer."""
        await self.fetch_row("SELECT 1")

    async def close(self) -> None:
        await self._health.stop()
        self._probe.close()
        await self._point_reads.stop()
        self._batches.pool.close()
        await self.engine.dispose()
        await self._slow.dispose()


def requests_database(settings: Settings, pool_size: int) -> Database:
    """PostgreSQL the way requests go: through the pooler, where there is one."""
    return Database(
        settings.database_url,
        pool_size=pool_size,
        timeout_s=settings.database_timeout_s,
        pooled=settings.is_pooled,
        statement_cache_size=settings.database_statement_cache_size,
        planning=LOOKUP_PLANNING,
    )


LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Errors of the driver and of the network, by which the server may have been cut off in the middle of a COMMIT."""
COMPLETION_UNKNOWN = "40003"


def was_rolled_back(error: BaseException) -> bool:
    """Whether a transaction that ended with `error` has certainly left nothing.

    That is certain when the server itself refused a statement, or when no COMMIT was sent. A connection that is lost at
    COMMIT leaves it open whether the commit happened.
    """
    refusal = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError) or isinstance(refusal, asyncpg.PostgresError):
        state = getattr(refusal, "sqlstate", None)
        refused = isinstance(state, str) and not state.startswith(("08", "57")) and state != COMPLETION_UNKNOWN
        return refused and not (isinstance(error, DBAPIError) and error.connection_invalidated)
    return isinstance(error, PoolExhausted) or not isinstance(error, LOST)
