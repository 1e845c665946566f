"""Lists and reports of the back office, from a streaming replica while that proves young enough. Money never (ADR 12).

How old the replica is: this process notes the primary's WAL position, and when it did so by its own clock. A replica
that has replayed a noted position shows all that was committed before it was noted. Nothing else is believed: neither
the replica's clock, nor its silence, which a primary at rest and a cut cable have in common.
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
from app.errors import is_database_unavailable
from app.observability.metrics import REPLICA_LAG
from app.settings import Settings

LOOK_EVERY_S = 0.5
LOOK_TIMEOUT_S = 1.0
CHANGE_SLACK_S = 10.0
"""An audited change is stamped when its request begins, by the clock of whichever server took it."""
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
    """What DATABASE_READ_URL names is not a standby of DATABASE_URL's cluster."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """Whether reports are read from the replica, and how many seconds old it is at most (None: nobody knows)."""

    in_use: bool
    lag_s: float | None


@dataclass(frozen=True, slots=True)
class Source:
    """A database that one request's reports are read from, with what `Database` offers for that."""

    database: Database
    guard: Callable[[Opening], Opening] | None
    """Around reads of a replica; None: this is the primary."""

    def read(self) -> Opening:
        return self._guarded(self.database.read())

    def consistent_read(self) -> Opening:
        return self._guarded(self.database.consistent_read())

    def _guarded(self, opening: Opening) -> Opening:
        return opening if self.guard is None else self.guard(opening)

    def blames(self, error: Exception) -> bool:
        """Whether a report that ended with `error` deserves another try, on the primary."""
        return self.guard is not None and (isinstance(error, DBAPIError) or is_database_unavailable(error))


class ReadReplica:
    """Where reports are read. One per process; without DATABASE_READ_URL that is the primary, always.

    Between `start` and `stop` it looks at the replica twice a second.
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
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._replica is not None:
            await self._replica.close()

    @property
    def state(self) -> ReplicaState | None:
        """None without a replica."""
        if self._replica is None:
            return None
        lag_s = self._lag_s()
        return ReplicaState(self._is_usable(), lag_s if math.isfinite(lag_s) else None)

    async def source(self) -> "Source":
        """Where a report may be read now: the replica, if what it shows is young enough.

        For a while after an admin's change it is the primary, so that whoever corrected something sees it.
        """
        if self._replica is None or not self._is_usable():
            return self.primary_source
        row = await self._primary.fetch_row(_CHANGED_LATELY, self._max_lag_s + CHANGE_SLACK_S)
        if row is not None and row["lately"]:
            return self.primary_source
        return Source(self._replica, self._cut_off_in_time)

    @asynccontextmanager
    async def _cut_off_in_time(self, opening: Opening) -> AsyncIterator[Session]:
        """A read on the replica that ends, by an error, soon after the replica has stopped answering."""
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
                await self._look(replica, started_s)
            except Exception as error:  # of whatever kind: a watch that ended would never use the replica again
                why = f"{type(error).__name__}: {error}".splitlines()[0]
            REPLICA_LAG.set(self._lag_s())
            self._tell(why)
            await asyncio.sleep(max(0.0, started_s + LOOK_EVERY_S - clock()))

    async def _look(self, replica: Database, now_s: float) -> None:
        """Move `_shown_until_s` to what the replica has proved. Raises when it proves nothing."""
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
        if before is not None and before > primary["position"]:  # the primary has not got there even now
            self._forget(standby["position"])
            raise NotAReplica("its history is not the primary's")
        self._last_replayed = standby["position"]
        shown = [noted_s for noted_s, position in self._noted if position <= standby["position"]]
        if shown and before is not None:  # the first look cannot tell whose history it is
            self._shown_until_s = max(self._shown_until_s, shown[-1])
            self._answers = True

    def _forget(self, replayed: int | None) -> None:
        self._noted.clear()
        self._shown_until_s, self._last_replayed = -math.inf, replayed

    def _tell(self, why: str) -> None:
        in_use = self._is_usable()
        known = why or math.isfinite(self._shown_until_s)
        if known and in_use is not self._was_in_use:
            self._was_in_use = in_use
            if in_use:
                log.info("replica_in_use", lag_s=round(self._lag_s(), 3))
            else:
                log.warning("replica_not_used", reason=why or f"more than {self._max_lag_s:g} s behind")
