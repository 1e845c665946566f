"""Pool guard: replaces pooled connections that were cut or turned read-only, before a caller gets them."""

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger()
READ_ONLY = "25006"
"""SQLSTATE of a write that the server rejects: a standby, or `default_transaction_read_only`."""
PING = "SELECT"
END_SESSION = """
    ROLLBACK; SELECT pg_terminate_backend(pg_backend_pid()) WHERE NOT pg_is_in_recovery()
"""
PING_TIMEOUT_S = 1.0
"""Shorter than a request's time-out, so that a new connection can still serve the request."""


def is_read_only(error: BaseException | None) -> bool:
    """Return whether PostgreSQL rejected the statement because the session is read-only. Nothing was changed."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) == READ_ONLY


class PoolGuard:
    """Watches the pools of one `Database`.

    A pooled connection is pinged before a caller gets it, for one round trip. If it does not answer, a new connection
    replaces it: none of the caller's statements was sent yet, so nothing can happen twice. A fault that cuts one
    connection usually cuts all, so the idle ones of every pool are discarded as well.

    A connection belongs to the generation in which it began to connect. `discard_idle` starts the next generation, and
    connections of an older one leave their pool instead of being used again.
    """

    def __init__(self, *, pooled: bool) -> None:
        self._pooled = pooled
        self._close_idle: list[Callable[[], None]] = []
        self.generation = 0

    def watch(self, engine: AsyncEngine) -> None:
        """Guard an engine's pool."""
        event.listen(engine.sync_engine, "do_connect", self._connecting)
        event.listen(engine.sync_engine, "checkout", self._checked_out)
        event.listen(engine.sync_engine, "handle_error", self._failed)

    def subscribe(self, close_idle: Callable[[], None]) -> None:
        """Have `close_idle()` close the idle connections of a pool that is not an engine's."""
        self._close_idle.append(close_idle)

    def discard_idle(self) -> None:
        """Prevent any open connection from serving another caller. Do not wait, and cut off no statement."""
        self.generation += 1
        for close_idle in self._close_idle:
            close_idle()

    def _connecting(self, _: Any, record: Any, __: Any, ___: Any) -> None:
        record.info.update(generation=self.generation, is_new=True)

    def _checked_out(self, connection: Any, record: Any, _: Any) -> None:
        if record.info.pop("is_new", False):
            return
        if record.info["generation"] != self.generation or not self._answers(connection):
            connection.driver_connection.terminate()  # at once: a graceful close could take seconds
            raise DisconnectionError("the connection was cut or discarded while idle")

    def _answers(self, connection: Any) -> bool:
        try:
            connection.run_async(lambda driver: driver.execute(PING, timeout=PING_TIMEOUT_S))
        except TimeoutError:
            return False  # only this one: if the server is slow, many new connections would make it worse
        except Exception:  # any error: none of the caller's statements was sent
            self.discard_idle()
            return False
        return True

    def note(self, error: BaseException) -> None:
        """Discard the idle connections if `error` says that sessions are read-only."""
        if is_read_only(error):
            self.discard_idle()

    def _failed(self, context: Any) -> None:
        self.note(context.original_exception)
        if self._pooled and is_read_only(context.original_exception) and context.connection is not None:
            context.connection.connection.dbapi_connection.run_async(end_session)
            context.is_disconnect = True


async def end_session(connection: Any) -> None:
    """Roll back, and end the server's session if its own settings make it read-only. `connection`: the driver's.

    A pooler would keep such a session and hand it out long after PostgreSQL accepts writes again. The session of a
    standby stays: it accepts writes once the standby is promoted.
    """
    try:
        await connection.execute(END_SESSION, timeout=PING_TIMEOUT_S)
    except Exception as error:  # any error: the server ends a session with an error
        log.warning("read_only_session_ended", error=type(error).__name__)
    finally:
        connection.terminate()
