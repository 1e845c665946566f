"""Tells this process within a second what others changed, and knows when it cannot."""

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

HEARTBEAT_S = 0.2
CURRENT_FOR_S = 0.9  # the promise is 1 s
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
    """LISTENs on a connection of its own for ids of changed rows.

    Every HEARTBEAT_S it notifies itself. PostgreSQL delivers notifications in the order of commits, so a heartbeat that
    comes back proves that every change committed before it was sent has been handled: that is what `is_current` asks
    about. An open socket would prove nothing (a black hole looks like silence), nor would a query (a pooler in
    between answers those and drops notifications). With each comes the database's time, which the ids are given by.
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
        """Call `on_change(payload)` for each notification of a channel, `on_gap()` whenever some may have been missed.

        Comes before `start`.
        """
        self._subscribers[channel] = _Subscriber(on_change, on_gap)

    def start(self) -> None:
        """Begin to listen. Does not wait for the database: until it answers, nothing that is remembered counts."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def is_current(self, now_s: float) -> bool:
        """Whether everything committed until CURRENT_FOR_S ago is known here. `now_s`: the event loop's clock."""
        return now_s < self._current_until_s

    async def _run(self) -> None:
        """Until cancelled, reconnecting with growing pauses for as long as it takes."""
        retry_s = FIRST_RETRY_S
        while True:
            connection = None
            try:
                connection = await self._connect()
                retry_s = FIRST_RETRY_S
                await self._beat_until_lost(connection)
            except Exception as error:  # of whatever kind: a listener that ended would never come back
                log.warning("change_listener_lost", error=type(error).__name__, retry_s=retry_s)
            finally:
                self._lose()
                if connection is not None:
                    connection.terminate()  # whatever state it is in, this does not wait
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
                await connection.add_listener(self._heartbeats, self._heartbeat_came)
            except BaseException:
                connection.terminate()
                raise
        for subscriber in self._subscribers.values():
            subscriber.on_gap()  # after LISTEN: rows read from here on are followed by their notifications
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

    def _heartbeat_came(self, _: object, __: int, ___: str, payload: str) -> None:
        if self._answered is not None and not self._answered.done() and payload == str(self._beat):
            self._answered.set_result(None)
