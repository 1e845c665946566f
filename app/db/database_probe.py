"""Database probe: checks on a separate connection whether PostgreSQL answers and accepts writes."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import asyncpg
import structlog

from app.db.pool_guard import PoolGuard, end_session

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

# `transaction_read_only` is `on` for each session of a standby as well. Writes no row and takes no lock.
_STATE = """
    SELECT current_setting('transaction_read_only')::boolean AS is_read_only,
           backend_start > clock_timestamp() - interval '1 second' AS is_new
      FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
MAX_SESSIONS = 50  # sessions of a pooler that one beat may end
log = structlog.get_logger()


class DatabaseProbe:
    """Records whether PostgreSQL accepts writes, as of the last `beat`. `arguments` are for the driver's `connect`.

    A session keeps the `default_transaction_read_only` that it started with. So a read-only session proves nothing
    unless it is new: the probe then replaces its own connection, and ends those that a pooler kept.
    """

    def __init__(self, arguments: Mapping[str, Any], guard: PoolGuard, *, pooled: bool) -> None:
        self._arguments = arguments
        self._guard = guard
        self._pooled = pooled
        self._connection: Connection | None = None
        self._known_generation = guard.generation
        self.is_read_only = False

    async def beat(self) -> None:
        """Check once. Any answer counts, including an error. Raise the driver's error if there is no answer."""
        if self._known_generation != self._guard.generation:
            self.close()  # other connections were cut or discarded, so this one may no longer prove anything
        try:
            is_read_only = await self._ask()
        except asyncpg.PostgresError:
            self.close()  # requests report the cause: too many connections, recovery, a full disk
        except BaseException:
            self.close()
            raise
        else:
            self._note(is_read_only)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        self._known_generation = self._guard.generation
        if connection is not None:
            connection.terminate()

    async def _ask(self) -> bool:
        """Return whether a new session, or the present one, is read-only."""
        for _ in range(MAX_SESSIONS):
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(**self._arguments)
            state = await self._connection.fetchrow(_STATE)
            assert state is not None
            if not state["is_read_only"]:
                return False
            if self._pooled:
                await end_session(self._connection)
            self.close()
            if state["is_new"]:
                return True
        return True

    def _note(self, is_read_only: bool) -> None:
        if self.is_read_only is is_read_only:
            return
        self.is_read_only = is_read_only
        self._guard.discard_idle()
        if is_read_only:
            log.error("database_read_only")
        else:
            log.warning("database_writable")
