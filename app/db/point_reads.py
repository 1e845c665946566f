"""Point reads: a row by its key, straight from the driver, on connections that nothing else uses (ADR 3).

An execution costs PostgreSQL and the driver about the same for one key as for twenty. So reads of the same statement
that are asked for while one is under way go together into the next (ADR 19). Nobody waits for company: a lone read
starts at once. Each sees what was committed when it was asked for, or later.
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
from app.errors import DatabaseDown
from app.observability import tracing

EXECUTIONS = 2  # of a statement at once: one is prepared while another is under way
MAX_BATCH = 128
IDLE_LONG_S = 5.0
"""A firewall may drop a connection that is idle for long, without a reset. Its next read gets PING_TIMEOUT_S instead of
most of the request's time. Under load no connection is idle for so long, so a slow server gets no reads twice."""


class IdleTimeout(TimeoutError):
    """A connection that was idle for long does not answer. Its server may be well."""


class PointRead:
    """A statement that finds a row by its key, made so that one execution finds the rows of many keys.

    `select` is for one key, whose parts it calls `k.<name>`; `types` are their names and PostgreSQL types.
    """

    def __init__(self, select: str, **types: str) -> None:
        arrays = ", ".join(f"${number}::{name}[]" for number, name in enumerate(types.values(), 1))
        # LIMIT keeps the planner to one look into the index for each key, however small it believes the table to be
        self.sql = (
            f"SELECT k.asked, r.* FROM unnest({arrays}) WITH ORDINALITY AS k ({', '.join(types)}, asked),"  # noqa: S608  (our own words; what callers say is bound)
            f" LATERAL ({select} LIMIT 1) AS r"
        )


@dataclass(slots=True)
class _Asked:
    key: tuple[object, ...]
    row: "asyncio.Future[Row | None]"
    cause: Any
    """The span of whoever asks, where there are any."""


@dataclass(slots=True)
class _Line:
    """Who waits for a statement's next execution, and who executes it now."""

    asked: deque[_Asked] = field(default_factory=deque)
    executions: set[asyncio.Task[None]] = field(default_factory=set)


class PointReads:
    """The reads of one process, over the connections of `pool`."""

    def __init__(self, pool: DriverPool, health: HealthProbe) -> None:
        self.pool = pool
        self._health = health
        self._lines: defaultdict[PointRead, _Line] = defaultdict(_Line)

    async def find(self, read: PointRead, *key: object) -> Row | None:
        """The row of the key; it has one column more, `asked`."""
        self._require_presence()
        asked = _Asked(key, asyncio.get_running_loop().create_future(), tracing.current())
        line = self._lines[read]
        line.asked.append(asked)
        if len(line.executions) < EXECUTIONS:  # else one of them takes it along
            # An empty context: what is read is not the doing of the request that happens to be the first.
            line.executions.add(asyncio.create_task(self._drain(read, line), context=Context()))
        return await asked.row

    async def fetch_rows(self, sql: str, *values: object) -> Sequence[Row]:
        """The rows of a SELECT, repeated once on a new connection if the idle one was dead. Waits for its turn.

        Raises DatabaseDown, TimeoutError.
        """
        self._require_presence()
        await self.pool.acquire_turn()
        try:
            try:
                return await self._fetch(sql, values)
            except CONNECTION_LOST:  # cut while it was idle, and the other idle ones with it
                self.pool.guard.discard_idle()
            except IdleTimeout:  # this one alone: the server may be slow
                pass
            return await self._fetch(sql, values, reuse=False)
        finally:
            self.pool.release_turn()

    async def stop(self) -> None:
        """End what nobody waits for any more, and close."""
        tasks = [task for line in self._lines.values() for task in line.executions]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.pool.close()

    async def _drain(self, read: PointRead, line: _Line) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            while line.asked:
                taken = (line.asked.popleft() for _ in range(min(len(line.asked), MAX_BATCH)))
                if batch := [asked for asked in taken if not asked.row.done()]:  # their callers still wait
                    await self._execute(read, batch)
        finally:
            # Nothing is awaited between the last look at the line and this, so no read is left behind.
            line.executions.remove(task)

    async def _execute(self, read: PointRead, batch: list[_Asked]) -> None:
        try:
            with tracing.batch("read batch", [asked.cause for asked in batch]):
                rows = await self.fetch_rows(read.sql, *map(list, zip(*(asked.key for asked in batch), strict=True)))
        except asyncpg.DataError as error:  # a value that PostgreSQL, or the driver, cannot take
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for asked in batch:  # one's bad key is not its neighbours' failure
                    await self._execute(read, [asked])
        except Exception as error:
            _fail(batch, error)
        except BaseException:  # the process stops
            _fail(batch, DatabaseDown())
            raise
        else:
            found = {row["asked"]: row for row in rows}
            for number, asked in enumerate(batch, 1):
                if not asked.row.done():
                    asked.row.set_result(found.get(number))

    def _require_presence(self) -> None:
        if self._health.is_down:
            raise DatabaseDown

    async def _fetch(self, sql: str, values: tuple[object, ...], *, reuse: bool = True) -> Sequence[Row]:
        """Raise IdleTimeout if a connection that was idle for long does not answer."""
        self._require_presence()  # which may have been noticed while this waited for its turn
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
                pool.put_back(connection, generation)  # it was answered, and a SELECT leaves nothing behind
            else:
                connection.terminate()  # who knows where it has stopped
            raise
        finally:
            pool.busy -= 1
        pool.put_back(connection, generation)
        self._health.answers += 1
        return rows


def _fail(batch: Sequence[_Asked], error: Exception) -> None:
    for asked in batch:
        if not asked.row.done():
            asked.row.set_exception(error)
