"""Pool guard: replaces pooled connections that died or turned read-only before a caller gets them."""

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger()
READ_ONLY = "25006"
"""SQLSTATE of a write that the server refuses: a standby, or `default_transaction_read_only`."""
PING = "SELECT"
END_SESSION = """
    ROLLBACK; SELECT pg_terminate_backend(pg_backend_pid()) WHERE NOT pg_is_in_recovery()
"""
PING_TIMEOUT_S = 1.0
"""Shorter than the time that a request has, so that a new connection can still serve it."""


def is_read_only(error: BaseException | None) -> bool:
    """Whether PostgreSQL refused `error`'s statement because the session cannot write. Nothing was changed."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) == READ_ONLY


class PoolGuard:
    """Watches the pools of one `Database`.

    A pooled connection is pinged before a caller gets it, for one round trip. One that does not answer is replaced by a
    new one: no statement of the caller's was sent yet, so nothing can happen twice. A fault that cuts one connection
    usually cuts all of them, so the idle ones of every pool are discarded with it.

    Connections belong to the generation in which they began to connect. `discard_idle` begins the next generation, and
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
        """Have `close_idle()` close the idle connections of a pool that is no engine's."""
        self._close_idle.append(close_idle)

    def discard_idle(self) -> None:
        """Let no connection that is open now serve another caller. Does not wait, and cuts off no statement."""
        self.generation += 1
        for close_idle in self._close_idle:
            close_idle()

    def _connecting(self, _: Any, record: Any, __: Any, ___: Any) -> None:
        record.info.update(generation=self.generation, is_new=True)

    def _checked_out(self, connection: Any, record: Any, _: Any) -> None:
        if record.info.pop("is_new", False):
            return
        if record.info["generation"] != self.generation or not self._answers(connection):
            connection.driver_connection.terminate()  # at once: to part in good order could take seconds
            raise DisconnectionError("the connection was cut or discarded while idle")

    def _answers(self, connection: Any) -> bool:
        try:
            connection.run_async(lambda driver: driver.execute(PING, timeout=PING_TIMEOUT_S))
        except TimeoutError:
            return False  # this one alone: the server may be slow, and then so many new connections would not help it
        except Exception:  # of whatever kind: no statement of the caller's was sent
            self.discard_idle()
            return False
        return True

    def note(self, error: BaseException) -> None:
        """Discard the connections if `error` says that sessions are read-only."""
        if is_read_only(error):
            self.discard_idle()

    def _failed(self, context: Any) -> None:
        self.note(context.original_exception)
        if self._pooled and is_read_only(context.original_exception) and context.connection is not None:
            context.connection.connection.dbapi_connection.run_async(end_session)
            context.is_disconnect = True


async def end_session(connection: Any) -> None:
    """Roll back, and end the server's session if it is read-only by its own settings. `connection`: the driver's.

    A pooler keeps such a session and would hand it out again long after PostgreSQL takes writes. The session of a
    standby stays: it takes writes once the standby is promoted.
    """
    try:
        await connection.execute(END_SESSION, timeout=PING_TIMEOUT_S)
    except Exception as error:  # of whatever kind: the server says farewell by an error
        log.warning("read_only_session_ended", error=type(error).__name__)
    finally:
        connection.terminate()
