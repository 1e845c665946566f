"""Read replica for the back office's lists and reports, used while its lag is proven small. Never for money (ADR 12).

Lag is measured by WAL positions. This process notes the primary's position with the local time. A replica
that has replayed a noted position shows everything that was committed before it was noted. No other evidence counts:
not the replica's clock, nor its silence, which may mean an idle primary or a cut cable.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
from sqlalchemy.exc import DBAPIError

from app.db import Database, Session
from app.ending import end
from app.errors import is_database_unavailable
from app.observability.metrics import REPLICA_LAG
from app.settings import Settings

LOOK_EVERY_S = 0.5
LOOK_TIMEOUT_S = 1.0
CHANGE_SLACK_S = 10.0
"""An audited change carries the time at which its request started, by the clock of the server that handled it."""
_NOTED = 1024
_PRIMARY = """
    SELECT CAST(pg_current_wal_flush_lsn() - '0/0' AS bigint) AS position, system_identifier FROM pg_control_system()
    """
_REPLICA = """
    SELECT CAST(pg_last_wal_replay_lsn() - '0/0' AS bigint) AS position, system_identifier,
           pg_is_in_recovery() AS standby
      FROM pg_control_system()
    """
_CHANGED_LATELY = """
    SELECT created_at > now() - make_interval(secs => $1) AS lately
      FROM admin_audit_log ORDER BY audit_id DESC LIMIT 1
    """
Opening: TypeAlias = AbstractAsyncContextManager[Session]
log = structlog.get_logger()


class NotAReplica(Exception):
    """DATABASE_READ_URL does not name a standby of DATABASE_URL's cluster."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """Whether reports use the replica, and its lag in seconds at most (None: unknown)."""

    in_use: bool
    lag_s: float | None


@dataclass(frozen=True, slots=True)
class Source:
    """The database for one request's reports, with the methods of `Database` for that."""

    database: Database
    guard: Callable[[Opening], Opening] | None
    """Wraps reads of a replica; None for the primary."""

    def read(self) -> Opening:
        return self._guarded(self.database.read())

    def consistent_read(self) -> Opening:
        return self._guarded(self.database.consistent_read())

    def _guarded(self, opening: Opening) -> Opening:
        return opening if self.guard is None else self.guard(opening)

    def blames(self, error: Exception) -> bool:
        """Return whether a report that failed with `error` should be retried on the primary."""
        return self.guard is not None and (isinstance(error, DBAPIError) or is_database_unavailable(error))


class ReadReplica:
    """Chooses the database for reports. One per process; without DATABASE_READ_URL always the primary.

    Between `start` and `stop` it probes the replica twice a second.
    """

    def __init__(self, primary: Database, settings: Settings) -> None:
        self._primary = primary
        self._max_lag_s = settings.database_read_max_lag_s
        self._replica: Database | None = None
        if settings.database_read_url is not None:
            size, timeout_s = settings.database_pool_size, settings.database_timeout_s
            self._replica = Database(settings.database_read_url, pool_size=size, timeout_s=timeout_s)
        self._noted: deque[tuple[float, int]] = deque(maxlen=_NOTED)
        self._shown_until_s = -math.inf
        self._answers = False
        self._last_replayed: int | None = None
        self._was_in_use: bool | None = None
        self._reading: set[Any] = set()
        self._task: asyncio.Task[None] | None = None
        self.primary_source = Source(primary, None)
        REPLICA_LAG.set(math.nan if self._replica is None else math.inf)

    def start(self) -> None:
        if self._replica is not None:
            self._task = asyncio.create_task(self._watch(self._replica))

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)
        if self._replica is not None:
            await self._replica.close()

    @property
    def state(self) -> ReplicaState | None:
        """The replica's state; None without a replica."""
        if self._replica is None:
            return None
        lag_s = self._lag_s()
        return ReplicaState(self._is_usable(), lag_s if math.isfinite(lag_s) else None)

    async def source(self) -> "Source":
        """Return the database for a report: the replica if its lag is small enough, else the primary.

        For a while after an admin's change it is the primary, so that admins see their own changes.
        """
        if self._replica is None or not self._is_usable():
            return self.primary_source
        row = await self._primary.fetch_row(_CHANGED_LATELY, self._max_lag_s + CHANGE_SLACK_S)
        if row is not None and row["lately"]:
            return self.primary_source
        return Source(self._replica, self._end_if_down)

    @asynccontextmanager
    async def _end_if_down(self, opening: Opening) -> AsyncIterator[Session]:
        """Open a read on the replica that fails soon after the replica stops answering."""
        async with asyncio.timeout(LOOK_TIMEOUT_S) as to_connect, opening as session:
            to_connect.reschedule(None)
            connection = (await session.get_raw_connection()).driver_connection
            self._reading.add(connection)
            try:
                yield session
            finally:
                self._reading.discard(connection)

    def _is_usable(self) -> bool:
        return self._answers and self._lag_s() <= self._max_lag_s

    def _lag_s(self) -> float:
        return asyncio.get_running_loop().time() - self._shown_until_s

    async def _watch(self, replica: Database) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            started_s = clock()
            why = ""
            try:
                await self._probe(replica, started_s)
            except Exception as error:  # any error: if this task ended, the replica would never be used again
                why = f"{type(error).__name__}: {error}".splitlines()[0]
            REPLICA_LAG.set(self._lag_s())
            self._log_change(why)
            await asyncio.sleep(max(0.0, started_s + LOOK_EVERY_S - clock()))

    async def _probe(self, replica: Database, now_s: float) -> None:
        """Advance `_shown_until_s` to the time that the replica proves. Raise if it proves nothing."""
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            primary = await self._primary.fetch_row(_PRIMARY)
        assert primary is not None
        self._noted.append((now_s, primary["position"]))
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                standby = await replica.fetch_row(_REPLICA)
        except Exception:
            self._answers = False
            for connection in self._reading:
                connection.terminate()
            raise
        assert standby is not None
        if not standby["standby"] or standby["system_identifier"] != primary["system_identifier"]:
            self._forget(None)
            raise NotAReplica("it is not a standby of the primary")
        before = self._last_replayed
        if before is not None and before > primary["position"]:  # the primary itself has not reached it
            self._forget(standby["position"])
            raise NotAReplica("its history is not the primary's")
        self._last_replayed = standby["position"]
        shown = [noted_s for noted_s, position in self._noted if position <= standby["position"]]
        if shown and before is not None:  # the first probe cannot tell whether the histories are the same
            self._shown_until_s = max(self._shown_until_s, shown[-1])
            self._answers = True

    def _forget(self, replayed: int | None) -> None:
        self._noted.clear()
        self._shown_until_s, self._last_replayed = -math.inf, replayed

    def _log_change(self, why: str) -> None:
        in_use = self._is_usable()
        known = why or math.isfinite(self._shown_until_s)
        if known and in_use is not self._was_in_use:
            self._was_in_use = in_use
            if in_use:
                log.info("replica_in_use", lag_s=round(self._lag_s(), 3))
            else:
                log.warning("replica_not_used", reason=why or f"more than {self._max_lag_s:g} s behind")
