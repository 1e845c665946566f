"""The database: declarative base, connection pools, and the only code that commits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

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
"""A separate connection of the driver, in a read-only transaction (`Database.snapshot`)."""

log = structlog.get_logger()

OnFirstLock: TypeAlias = Callable[[AsyncConnection, Mapping[UUID, Any], datetime], Awaitable[None]]
"""Called with accounts that a transaction has locked for the first time, and the present time."""
_FIRST_LOCKS = "first_locks"
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

# SQLAlchemy prepares every statement. Unnamed ones last until another client gets the server's connection.
UNPREPARED: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}
SHARE_OF_LISTS = 5
"""One connection in so many is reserved for statements that may be slow."""
REPORT_PLANNING = {"plan_cache_mode": "force_custom_plan", "jit": "off"}
LOOKUP_PLANNING = {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan", "jit": "off"}
"""Planner settings for point reads: always use an index, even while the planner believes that a table is empty, and
plan once per connection (ADR 20)."""


def session_bounds(timeout_s: float) -> dict[str, str]:
    """Return PostgreSQL settings that bound locks, statements and idle transactions to `timeout_s`; 0: no bound."""
    timeout_ms = str(int(timeout_s * 1000))
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    return dict.fromkeys(names, timeout_ms)


class Base(DeclarativeBase):
    """Models describe the schema and the types of columns. The statements in queries.py read and write rows."""

    metadata = MetaData(naming_convention=NAMING)


ASYNCPG = "postgresql+asyncpg://"
"""SQLAlchemy's driver. The server's address is in `connect_args` (app/connection_urls.py)."""


def _read_every_timestamp(connection: Any, _: object) -> None:
    connection.run_async(read_every_timestamp)


class Database:
    """The process's connections, `pool_size` of them, in four pools that cannot starve each other.

    A fifth is for statements that may be slow (lists, reports). Of the rest, a quarter is for point reads. Batches of
    hot requests and other transactions get half of the remainder each.

    Waiting for a connection, a lock or a statement is bounded by `timeout_s`, so that no caller waits for a stuck one.
    The errors that follow are answered with 503 (see errors.py).

    `planning` contains planner settings of PostgreSQL for transactions and point reads.

    Behind a pooler in transaction mode (`pooled`), another client would get the session with its settings. There the
    bounds are set on the role (app/db/schema_check.py sets and checks them). Only prepared statements outlive a
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
        # Each report is planned for its values: one plan for every search would read the whole table for most of them.
        # Reports are so short that JIT compilation would take longer than running them.
        # Behind a pooler none of their statements is prepared, so each is planned separately; jit is set on the role.
        self._slow = engine(slow, {}, prepared=False) if pooled else engine(slow, REPORT_PLANNING)
        self._autocommit = self._slow.execution_options(isolation_level="AUTOCOMMIT")
        self._consistent = self._slow.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self.lock_waiters = asyncio.Semaphore((batches + 1) // 2)
        """Limits how many batches may block on account locks at once, so that some connections remain for others."""
        self.on_first_lock: OnFirstLock | None = None
        """The ledger's function that settles what is due of locked accounts (app/ledger/due.py)."""
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
        """Check continuously, on one more connection, whether PostgreSQL answers and takes writes, until `close`."""
        self._health.start()

    @property
    def is_down(self) -> bool:
        """Whether the health probe has found that PostgreSQL does not answer."""
        return self._health.is_down

    @property
    def is_read_only(self) -> bool:
        """Whether PostgreSQL is known to reject every write. Only while `watch` runs."""
        return self._probe.is_read_only

    def _raise_if_down(self) -> None:
        if self._health.is_down:
            raise DatabaseDown

    @asynccontextmanager
    async def _in(self, connecting: AbstractAsyncContextManager[AsyncConnection], pool: str) -> AsyncIterator[Session]:
        self._raise_if_down()
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
        """Open a transaction: committed when the block ends, rolled back when it raises. Only this and `batch` commit.

        For blocks that write. Raise DatabaseReadOnly at once while PostgreSQL is known to reject every write.
        """
        if self._probe.is_read_only:
            raise DatabaseReadOnly
        with tracing.span("transaction"):
            async with self._in(self.engine.begin(), "transactions") as connection:
                if self._local_planning:
                    await fetch(connection, _SET_LOCAL, *self._local_planning)
                connection.info[_FIRST_LOCKS] = None if self.on_first_lock is None else (self.on_first_lock, set())
                yield connection
        self._health.answers += 1

    @staticmethod
    def first_locks(tx: Session) -> tuple[OnFirstLock, set[UUID]] | None:
        """Return `on_first_lock` and the ids of the accounts that a `transaction` has locked. None: nothing to call."""
        found: tuple[OnFirstLock, set[UUID]] | None = tx.info.get(_FIRST_LOCKS)
        return found

    @asynccontextmanager
    async def batch(self, *, lock_timeout_ms: int | None = None) -> AsyncIterator[BatchTransaction]:
        """Open a `transaction` for a batch of hot requests, straight on the driver, at a third of the cost (ADR 2).

        `lock_timeout_ms` replaces the bound of waiting for locks.
        """
        if self._probe.is_read_only:
            raise DatabaseReadOnly
        with tracing.span("transaction"):
            async with self._batches.begin(lock_timeout_ms) as tx:
                yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Session]:
        """Open a connection for lists and reports without locks or a common snapshot. Saves BEGIN and COMMIT."""
        async with self._in(self._autocommit.connect(), "reports") as connection:
            yield connection

    @asynccontextmanager
    async def consistent_read(self) -> AsyncIterator[Session]:
        """Open a snapshot for reports of several statements. Read-only; locks nothing."""
        async with self._in(self._consistent.connect(), "reports") as connection:
            yield connection

    async def find(self, read: PointRead, *key: object) -> Row | None:
        """Return the row of a key, by a point read of the hot path, which shares executions with others."""
        return await self._point_reads.find(read, *key)

    async def fetch_row(self, sql: str, *values: object) -> Row | None:
        """Return the first row of a SELECT, straight from the driver: a quarter of the cost of `read` (ADR 3)."""
        rows = await self._point_reads.fetch_rows(sql, *values)
        return rows[0] if rows else None

    async def fetch_rows(self, sql: str, *values: object) -> Sequence[Row]:
        """Return the rows of a SELECT, as `fetch_row` does. For statements that find rows by their keys."""
        return await self._point_reads.fetch_rows(sql, *values)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Open a consistent, read-only view of the whole database, for reports that may take long. Not for requests.

        Not through a pooler, whose connection it would occupy the whole time.
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
        """Return how many of this role's statements wait for a lock, and the start of the oldest, at most `now`."""
        row = await self.fetch_row(_FIND_LOCK_WAITS, now)
        assert row is not None
        return row

    def usage(self) -> dict[str, tuple[int, int]]:
        """Return pool -> (connections in use, size)."""
        engines = {"transactions": self.engine, "reports": self._slow}
        pools = {name: engine.sync_engine.pool for name, engine in engines.items()}
        used = {name: (pool.checkedout(), pool.size()) for name, pool in pools.items() if isinstance(pool, QueuePool)}
        drivers = {"reads": self._point_reads.pool, "batches": self._batches.pool}
        return {**used, **{name: (pool.busy, pool.size) for name, pool in drivers.items()}}

    async def ping(self) -> None:
        """Raise if PostgreSQL does not answer."""
        await self.fetch_row("SELECT 1")

    async def close(self) -> None:
        await self._health.stop()
        self._probe.close()
        await self._point_reads.stop()
        self._batches.pool.close()
        await self.engine.dispose()
        await self._slow.dispose()


def requests_database(settings: Settings, pool_size: int) -> Database:
    """Return the database for requests: through the pooler, if there is one."""
    return Database(
        settings.database_url,
        pool_size=pool_size,
        timeout_s=settings.database_timeout_s,
        pooled=settings.is_pooled,
        statement_cache_size=settings.database_statement_cache_size,
        planning=LOOKUP_PLANNING,
    )


LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Errors of the driver and the network that may have cut the connection off during a COMMIT."""
COMPLETION_UNKNOWN = "40003"


def was_rolled_back(error: BaseException) -> bool:
    """Return whether a transaction that ended with `error` has certainly left nothing.

    That is certain if the server itself rejected a statement, or if no COMMIT was sent. If the connection is lost
    during COMMIT, the outcome is unknown.
    """
    refusal = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError) or isinstance(refusal, asyncpg.PostgresError):
        state = getattr(refusal, "sqlstate", None)
        refused = isinstance(state, str) and not state.startswith(("08", "57")) and state != COMPLETION_UNKNOWN
        return refused and not (isinstance(error, DBAPIError) and error.connection_invalidated)
    return isinstance(error, PoolExhausted) or not isinstance(error, LOST)
