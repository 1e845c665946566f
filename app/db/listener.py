"""Notification listener (LISTEN/NOTIFY): delivers other processes' changes within a second, and detects gaps."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from pydantic import SecretStr

from app.connection_urls import PostgresUrl
from app.db import ID_CLOCK
from app.ending import end

HEARTBEAT_S = 0.2
CURRENT_FOR_S = 0.9  # 1 s is guaranteed
HEARTBEAT_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 3.0
FIRST_RETRY_S = 0.05
MAX_RETRY_S = 2.0

_BEAT = """
    SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint) FROM (SELECT pg_notify($1, $2)) AS beat
"""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Subscriber:
    on_change: Callable[[str], None]
    on_gap: Callable[[], None]


class NotificationListener:
    """LISTENs on a separate connection for the ids of changed rows.

    Every HEARTBEAT_S it notifies itself. PostgreSQL delivers notifications in the order of commits. So a heartbeat that
    returns proves that every change committed before it was sent has been handled; `is_current` reports that. An open
    socket would prove nothing (a black hole looks like silence), nor would a query (a pooler answers queries, but drops
    notifications). Each heartbeat also returns the database's time, which corrects the clock of ids.
    """

    def __init__(self, url: SecretStr) -> None:
        self._url = PostgresUrl.parse(url.get_secret_value())
        self._subscribers: dict[str, _Subscriber] = {}
        self._heartbeats = f"heartbeat_{secrets.token_hex(8)}"
        self._beat = 0
        self._answered: asyncio.Future[None] | None = None
        self._current_until_s = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, channel: str, on_change: Callable[[str], None], on_gap: Callable[[], None]) -> None:
        """Call `on_change(payload)` for each notification of a channel, and `on_gap()` when some may have been missed.

        Call it before `start`.
        """
        self._subscribers[channel] = _Subscriber(on_change, on_gap)

    def start(self) -> None:
        """Start listening without waiting for the database. Until it answers, no cached value counts."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)

    def is_current(self, now_s: float) -> bool:
        """Return whether all commits until CURRENT_FOR_S ago have been handled. `now_s`: the event loop's clock."""
        return now_s < self._current_until_s

    async def _run(self) -> None:
        """Run until cancelled. Reconnect with growing pauses."""
        retry_s = FIRST_RETRY_S
        while True:
            connection = None
            try:
                connection = await self._connect()
                retry_s = FIRST_RETRY_S
                await self._beat_until_lost(connection)
            except Exception as error:  # any error: if this task ended, it would never reconnect
                log.warning("notification_listener_lost", error=type(error).__name__, retry_s=retry_s)
            finally:
                self._lose()
                if connection is not None:
                    connection.terminate()  # does not wait, in any state
            await asyncio.sleep(retry_s)
            retry_s = min(MAX_RETRY_S, retry_s * 2)

    async def _connect(self) -> Any:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await asyncpg.connect(
                # A heartbeat writes nothing worth a disk flush, though NOTIFY makes it a writing transaction.
                **self._url.asyncpg(suffix="-listener", settings={"synchronous_commit": "off"})
            )
            try:
                connection.add_termination_listener(lambda _: self._lose())
                for channel in self._subscribers:
                    await connection.add_listener(channel, self._notified)
                await connection.add_listener(self._heartbeats, self._on_heartbeat)
            except BaseException:
                connection.terminate()
                raise
        for subscriber in self._subscribers.values():
            subscriber.on_gap()  # after LISTEN: changes of rows that are read from now on will be notified
        return connection

    async def _beat_until_lost(self, connection: Any) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            sent_s, sent_ms = clock(), ID_CLOCK.now_ms()
            self._beat += 1
            self._answered = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(HEARTBEAT_TIMEOUT_S):
                database_ms = await connection.fetchval(_BEAT, self._heartbeats, str(self._beat))
                await self._answered
            ID_CLOCK.compare(sent_ms, database_ms)
            self._current_until_s = sent_s + CURRENT_FOR_S
            await asyncio.sleep(max(0.0, sent_s + HEARTBEAT_S - clock()))

    def _lose(self) -> None:
        self._current_until_s = float("-inf")

    def _notified(self, _: object, __: int, channel: str, payload: str) -> None:
        self._subscribers[channel].on_change(payload)

    def _on_heartbeat(self, _: object, __: int, ___: str, payload: str) -> None:
        if self._answered is not None and not self._answered.done() and payload == str(self._beat):
            self._answered.set_result(None)
