"""Point reads: one row by its key, straight from the driver, on a separate pool (ADR 3).

An execution costs PostgreSQL and the driver about the same for one key as for twenty. So reads of a statement that
arrive while it is being executed share its next execution (ADR 19). No read waits to be joined: a lone read starts at
once. Each sees everything that was committed when it was requested, or later.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from app.db.driver_pool import CONNECTION_LOST, DriverPool, Row
from app.db.health_probe import HealthProbe
from app.db.pool_guard import PING_TIMEOUT_S
from app.db.sql import sql
from app.errors import DatabaseDown
from app.observability import tracing

EXECUTIONS = 2  # concurrent executions of a statement: one is prepared while another runs
MAX_BATCH = 128
IDLE_LONG_S = 5.0
"""A firewall may drop a connection that is idle for long, without a reset. Its next read gets PING_TIMEOUT_S instead of
most of the request's time. Under load no connection is idle for so long, so a slow server gets no reads twice."""


class IdleTimeout(TimeoutError):
    """A connection that was idle for long does not answer. Its server may be well."""


class PointRead:
    """A statement that finds a row by its key, built so that one execution finds the rows of many keys.

    `select` is for one key, whose parts it calls `k.<name>`; `types` are their names and PostgreSQL types. Each row has
    one more column, `ordinal`: the number of its key, from 1.
    """

    def __init__(self, select: str, **types: str) -> None:
        arrays = ", ".join(f"${number}::{name}[]" for number, name in enumerate(types.values(), 1))
        # LIMIT makes the planner use one index lookup per key, even if it believes that the table is small.
        self.sql = sql(
            "SELECT k.ordinal, r.* FROM unnest({arrays}) WITH ORDINALITY AS k ({names}, ordinal),"
            " LATERAL ({select} LIMIT 1) AS r",
            arrays=arrays,
            names=", ".join(types),
            select=select,
        )


@dataclass(slots=True)
class _Pending:
    key: tuple[object, ...]
    row: "asyncio.Future[Row | None]"
    cause: Any
    """The tracing span of the request, or None."""


@dataclass(slots=True)
class _Queue:
    """A statement's reads that wait for its next execution, and its running executions."""

    pending: deque[_Pending] = field(default_factory=deque)
    executions: set[asyncio.Task[None]] = field(default_factory=set)


class PointReads:
    """The point reads of one process, over the connections of `pool`."""

    def __init__(self, pool: DriverPool, health: HealthProbe) -> None:
        self.pool = pool
        self._health = health
        self._queues: defaultdict[PointRead, _Queue] = defaultdict(_Queue)

    async def find(self, read: PointRead, *key: object) -> Row | None:
        """Return the row of the key, or None. The row has the additional column `ordinal`."""
        self._raise_if_down()
        pending = _Pending(key, asyncio.get_running_loop().create_future(), tracing.current())
        queue = self._queues[read]
        queue.pending.append(pending)
        if len(queue.executions) < EXECUTIONS:  # otherwise a running task takes the new read along
            # An empty context: log lines of a batch do not belong to the request that started it.
            queue.executions.add(asyncio.create_task(self._drain(read, queue), context=Context()))
        return await pending.row

    async def fetch_rows(self, sql: str, *values: object) -> Sequence[Row]:
        """Return the rows of a SELECT. Retry once on a new connection if the idle one was dead. Waits for a connection.

        Raise DatabaseDown or TimeoutError.
        """
        self._raise_if_down()
        await self.pool.acquire_turn()
        try:
            try:
                return await self._fetch(sql, values)
            except CONNECTION_LOST:  # cut while idle, probably with all other idle ones
                self.pool.guard.discard_idle()
            except IdleTimeout:  # this one alone: the server may be slow
                pass
            return await self._fetch(sql, values, reuse=False)
        finally:
            self.pool.release_turn()

    async def stop(self) -> None:
        """Cancel the remaining executions, whose callers are gone, and close the pool."""
        tasks = [task for queue in self._queues.values() for task in queue.executions]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.pool.close()

    async def _drain(self, read: PointRead, queue: _Queue) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while queue.pending:
                taken = (queue.pending.popleft() for _ in range(min(len(queue.pending), MAX_BATCH)))
                if batch := [pending for pending in taken if not pending.row.done()]:  # their callers still wait
                    await self._execute(read, batch)
        finally:
            # No await between the last check of the queue and this line, so no read is left behind.
            queue.executions.remove(task)

    async def _execute(self, read: PointRead, batch: list[_Pending]) -> None:
        try:
            with tracing.batch("read batch", [pending.cause for pending in batch]):
                columns = map(list, zip(*(pending.key for pending in batch), strict=True))
                rows = await self.fetch_rows(read.sql, *columns)
        except asyncpg.DataError as error:  # a value that PostgreSQL or the driver rejects
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for pending in batch:  # one bad key must not fail the other reads
                    await self._execute(read, [pending])
        except Exception as error:
            _fail(batch, error)
        except BaseException:  # the process stops
            _fail(batch, DatabaseDown())
            raise
        else:
            found = {row["ordinal"]: row for row in rows}
            for number, pending in enumerate(batch, 1):
                if not pending.row.done():
                    pending.row.set_result(found.get(number))

    def _raise_if_down(self) -> None:
        if self._health.is_down:
            raise DatabaseDown

    async def _fetch(self, sql: str, values: tuple[object, ...], *, reuse: bool = True) -> Sequence[Row]:
        """Raise IdleTimeout if a connection that was idle for long does not answer."""
        self._raise_if_down()  # the outage may have been noticed while this read waited for a connection
        pool, generation = self.pool, self.pool.guard.generation
        taken = pool.take_idle() if reuse else None
        connection, idle_s = taken or (await pool.connect(), 0.0)
        timeout_s = PING_TIMEOUT_S if idle_s > IDLE_LONG_S else None  # None: the connection's own
        pool.busy += 1
        try:
            if tracing.is_on():
                with tracing.statement(sql):
                    rows: Sequence[Row] = await connection.fetch(sql, *values, timeout=timeout_s)
            else:
                rows = await connection.fetch(sql, *values, timeout=timeout_s)
        except TimeoutError as error:
            connection.terminate()
            raise (error if timeout_s is None else IdleTimeout) from None
        except BaseException as error:
            if isinstance(error, asyncpg.PostgresError):
                pool.put_back(connection, generation)  # PostgreSQL answered, and a SELECT leaves no state
            else:
                connection.terminate()  # its protocol state is unknown
            raise
        finally:
            pool.busy -= 1
        pool.put_back(connection, generation)
        self._health.answers += 1
        return rows


def _fail(batch: Sequence[_Pending], error: Exception) -> None:
    for pending in batch:
        if not pending.row.done():
            pending.row.set_exception(error)
