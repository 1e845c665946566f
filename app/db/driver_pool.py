"""Connections of the driver, without SQLAlchemy: a pool, and the transactions of batches (ADR 2, ADR 3)."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, TypeAlias

import asyncpg

from app.clock import steady_s
from app.db.health_probe import HealthProbe
from app.db.pool_guard import PING_TIMEOUT_S, PoolGuard, end_session, is_read_only
from app.errors import DatabaseDown
from app.observability import tracing
from app.observability.metrics import CONNECTION_TIMEOUTS
from app.timestamps import read_every_timestamp

Row: TypeAlias = Mapping[str, Any]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_PLACEHOLDER = re.compile(r"\$(\d+)")
CONNECTION_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server's last message was unread
    ConnectionError,
    RuntimeError,  # uvloop's, for a write to a transport that was closed before the driver noticed
)


class PoolExhausted(TimeoutError):
    """No connection became free in time. Nothing was sent."""


class DriverPool:
    """A pool of at most `size` connections, handed out in FIFO order. `arguments` are for the driver's `connect`.

    The driver's own pool takes as long to hand out a connection as a statement takes. `name` is the pool's name in
    metrics. JSON values are sent as text, as SQLAlchemy sends them.
    """

    def __init__(
        self, arguments: Mapping[str, Any], guard: PoolGuard, *, size: int, timeout_s: float, name: str
    ) -> None:
        self._arguments = arguments
        self._timeout_s = timeout_s
        self._name = name
        self._turns = asyncio.Semaphore(size)
        self._idle: list[tuple[Connection, float]] = []
        self.guard = guard
        guard.subscribe(self.close)
        self.size = size
        self.busy = 0

    async def acquire_turn(self) -> None:
        """Wait for the right to use a connection; `release_turn` returns it. Raise PoolExhausted."""
        if not self._turns.locked():
            await self._turns.acquire()  # does not wait
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
        except TimeoutError:
            CONNECTION_TIMEOUTS.labels(self._name).inc()
            raise PoolExhausted from None

    def release_turn(self) -> None:
        self._turns.release()

    def take_idle(self) -> "tuple[Connection, float] | None":
        """Return an open connection that is idle, and its idle time in seconds, or None."""
        while self._idle:
            connection, since_s = self._idle.pop()
            if not connection.is_closed():
                return connection, steady_s() - since_s
        return None

    async def connect(self) -> Connection:
        """Open a new connection."""
        connection: Connection = await asyncpg.connect(**self._arguments)
        try:
            await connection.set_type_codec("jsonb", encoder=str, decoder=json.loads, schema="pg_catalog")
            await read_every_timestamp(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def put_back(self, connection: Connection, generation: int) -> None:
        """Keep the connection for the next caller, unless the guard has discarded its `generation`."""
        if generation == self.guard.generation and not connection.is_closed():
            self._idle.append((connection, steady_s()))
        else:
            connection.terminate()

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            connection, _ = self._idle.pop()
            connection.terminate()


class BatchTransaction:
    """A transaction straight on the driver. Its statements are prepared once per connection."""

    __slots__ = ("_connection", "_writes")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._writes: list[tuple[str, tuple[object, ...]]] = []

    async def fetch(self, sql: str, *values: object) -> Sequence[Row]:
        with tracing.statement(sql):
            rows: Sequence[Row] = await self._connection.fetch(sql, *values)
        return rows

    def write(self, sql: str, *values: object) -> None:
        """Execute an INSERT or UPDATE before COMMIT, in one statement with the others: a round trip for all of them.

        They see one snapshot, so no two of them may change the same row, and a later `fetch` sees them only after a
        `flush`.
        Foreign keys are checked once all of them are done.
        """
        self._writes.append((sql, values))

    async def flush(self) -> None:
        """Execute the writes. Raise what the driver raises for any of them."""
        if self._writes:
            sql = _in_one_statement(tuple(sql for sql, _ in self._writes))
            await self.fetch(sql, *(value for _, values in self._writes for value in values))
            self._writes.clear()


@cache
def _in_one_statement(statements: tuple[str, ...]) -> str:
    """Data-modifying statements as one, with consecutive numbers for their placeholders."""
    count = 0
    numbered: list[str] = []
    for statement in statements:
        numbered.append(_renumbered(statement, count))
        count += max((int(number) for number in _PLACEHOLDER.findall(statement)), default=0)
    *others, last = numbered
    return f"WITH {', '.join(f'w{n} AS ({other})' for n, other in enumerate(others))} {last}" if others else last


def _renumbered(statement: str, first: int) -> str:
    return _PLACEHOLDER.sub(lambda found: f"${int(found[1]) + first}", statement)


class BatchTransactions:
    """Opens the transactions of batches. Each of them applies the settings in `planning`."""

    def __init__(self, pool: DriverPool, health: HealthProbe, *, pooled: bool, planning: Mapping[str, str]) -> None:
        self.pool = pool
        self._health = health
        self._pooled = pooled
        # The settings are constants of this code base. One message:
        # another round trip would cost as much as a statement.
        self._begin = "; ".join(["BEGIN", *(f"SET LOCAL {name} = {value}" for name, value in planning.items())])

    @asynccontextmanager
    async def begin(self, lock_timeout_ms: int | None = None) -> AsyncIterator[BatchTransaction]:
        """Open a transaction: committed when the block ends, rolled back when it raises."""
        begin = self._begin if lock_timeout_ms is None else f"{self._begin}; SET LOCAL lock_timeout = {lock_timeout_ms}"
        await self.pool.acquire_turn()
        self.pool.busy += 1
        try:
            generation = self.pool.guard.generation
            connection = await self._begun(begin)
            try:
                tx = BatchTransaction(connection)
                yield tx
                await tx.flush()
                await _commit(connection)
            except BaseException as error:
                await self._abandon(connection, generation, error)
                raise
            self.pool.put_back(connection, generation)
            self._health.answers += 1
        finally:
            self.pool.busy -= 1
            self.pool.release_turn()

    async def _begun(self, begin: str) -> Connection:
        """Return a connection with an open transaction.

        BEGIN is also the ping of an idle connection. One that was cut is replaced: nothing has happened on it.
        """
        if self._health.is_down:
            raise DatabaseDown
        if (taken := self.pool.take_idle()) is not None:
            idle, _ = taken
            try:
                await idle.execute(begin, timeout=PING_TIMEOUT_S)
                return idle
            except (*CONNECTION_LOST, TimeoutError) as error:
                idle.terminate()
                if not isinstance(error, TimeoutError):  # cut while idle, probably with all other idle ones
                    self.pool.guard.discard_idle()
            except BaseException:
                idle.terminate()
                raise
        connection = await self.pool.connect()
        try:
            await connection.execute(begin)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _abandon(self, connection: Connection, generation: int, error: BaseException) -> None:
        """Roll back and keep the connection, or close it if its state is unknown."""
        self.pool.guard.note(error)
        if self._pooled and is_read_only(error):
            await end_session(connection)
        elif isinstance(error, Exception) and not isinstance(error, (*CONNECTION_LOST, OSError)):
            try:
                if connection.is_in_transaction():
                    await connection.execute("ROLLBACK", timeout=PING_TIMEOUT_S)
                self.pool.put_back(connection, generation)
            except BaseException as failure:  # of the two errors, the one being handled matters more
                connection.terminate()  # which releases the locks
                if not isinstance(failure, Exception):
                    raise
        else:
            connection.terminate()


async def _commit(connection: Connection) -> None:
    """Commit. Raise InFailedSQLTransactionError if PostgreSQL answers with a rollback: a statement had failed."""
    if await connection.execute("COMMIT") != "COMMIT":
        raise asyncpg.InFailedSQLTransactionError("COMMIT rolled back")
