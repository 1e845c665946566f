"""An event stream: the answer that follows one account until it ends (Server-Sent Events)."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from fastapi import Response
from starlette.types import Message, Receive, Scope, Send

from app.auth.caller import Environment
from app.auth.continuing import Credential
from app.errors import is_database_unavailable
from app.http.streaming import ABORT, IS_HEAD
from app.ledger.errors import AccountNotFound
from app.live import events
from app.live.approvals import Sent
from app.live.feeds import PAGE, Feed, Feeds, Reading
from app.live.registry import Registry
from app.live.schemas import EndReason
from app.observability.requests import ANSWERED_S

HEARTBEAT_S = 15.0
"""Proxies close a connection that is silent for a minute or two."""
WRITE_TIMEOUT_S = 10.0
"""A client that reads nothing for so long is disconnected."""
CLOSING_S = 1.0
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


@dataclass(frozen=True, slots=True)
class Watching:
    """The subject of a stream: an account of an environment, after an entry (None: from now on), by a credential."""

    environment: Environment
    account_id: UUID
    credential: Credential
    after: int | None


class EventStream(Response):
    """The answer to a request for events. All errors before the first event are ordinary answers."""

    def __init__(self, feeds: Feeds, registry: Registry, watching: Watching) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["Content-Length"]
        self._feeds, self._registry, self._watching = feeds, registry, watching
        self.account_id, self.credential = watching.account_id, watching.credential
        self._ended: EndReason | None = None
        self._woken = asyncio.Event()
        self._is_writing = self._is_aborted = self._is_over = False
        self._abort: Callable[[], None] = lambda: None
        self._feed: Feed
        self._sent = 0
        """The last entry that the client has."""
        self._known = 0
        """The last entry that this stream has seen in the account's row."""
        self._balance = ""
        self._approvals: Sent = {}
        self._restarts = 0

    @property
    def ended(self) -> EndReason | None:
        return self._ended

    def end(self, reason: EndReason) -> None:
        if self._ended is None:
            self._ended = reason
            self._woken.set()
            if self._is_writing:  # the client does not read, so it would not see the end
                self._drop()

    def _drop(self) -> None:
        """Close the connection at once. Closing it in order would wait for a client that does not read."""
        self._is_aborted = True
        self._abort()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope.get(IS_HEAD):
            await self._read()
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        self._abort = scope.get(ABORT, self._abort)
        with (
            self._registry.admitted(self),
            self._feeds.watch(self.account_id, self._woken.set) as self._feed,
        ):
            first = await self._begin()
            scope[ANSWERED_S] = time.perf_counter()
            if first is None:
                await Response(status_code=204, headers={"Cache-Control": "no-store"})(scope, receive, send)
                return
            listening = asyncio.create_task(self._until_disconnected(receive))
            try:
                await send(start)
                await self._follow(send, first)
                if self._is_aborted:  # until the server knows, it would report an answer that is not complete
                    await asyncio.wait([listening], timeout=CLOSING_S)
            finally:
                listening.cancel()

    async def _read(self) -> Reading:
        reading = await self._feeds.read(self.account_id)
        if reading is None or reading.row["environment"] != self._watching.environment:
            raise AccountNotFound
        return reading

    async def _begin(self) -> bytes | None:
        """Return the first event. None: the account is closed, and the client has all of it. Raise AccountNotFound."""
        reading = await self._read()
        self._feed.start(reading)
        self._restarts = self._feed.restarts
        after = self._watching.after
        if reading.is_closed and after == reading.entry_no:
            return None
        is_complete = after is None or after <= reading.entry_no
        return events.RETRY + self._snapshot(reading, after if is_complete else None, is_complete=is_complete)

    def _snapshot(self, reading: Reading, after: int | None, *, is_complete: bool) -> bytes:
        """Return a snapshot. The changes after `after` follow it, so then it must not move the client's position."""
        self._balance = reading.balance
        self._known = reading.entry_no
        self._sent = reading.entry_no if after is None else after
        number = reading.entry_no if after is None else None
        return events.snapshot(reading.balance, number, is_complete=is_complete)

    async def _follow(self, send: Send, first: bytes) -> None:
        """Send events until the stream ends or its client is gone."""
        content = first
        while await self._write(send, content) and not self._is_over:
            try:
                content = await self._next()
            except Exception as error:
                if not is_database_unavailable(error):
                    raise
                self.end("unavailable")
                content = self._last()

    async def _write(self, send: Send, content: bytes) -> bool:
        """Write to the connection, which waits for the client once its buffer is full. Return False if it is gone."""
        self._is_writing = True
        try:
            async with asyncio.timeout(CLOSING_S / 4 if self._is_over else WRITE_TIMEOUT_S):
                await send({"type": "http.response.body", "body": content, "more_body": not self._is_over})
        except TimeoutError:
            self.end("slow_reader")
            if not self._is_aborted:
                self._drop()
        finally:
            self._is_writing = False
        return not self._is_aborted and self._ended != "client"

    async def _next(self) -> bytes:
        """Wait for the next events. Return a heartbeat when there is none for HEARTBEAT_S."""
        while True:
            self._woken.clear()
            if self._ended is not None:
                return self._last()
            # Approvals first: a client that has missed thousands of changes must not wait for them.
            if content := self._feed.approvals.news(self._approvals) or await self._changes():
                return content
            reading = self._feed.reading
            if reading is not None and reading.entry_no == self._sent:
                if reading.balance != self._balance:
                    self._balance = reading.balance
                    return events.balance(reading.balance)
                if reading.is_closed:
                    self.end("account_closed")
                    continue
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._woken.wait()
            except TimeoutError:
                return events.HEARTBEAT

    def _last(self) -> bytes:
        """Return the last event: why the stream ends."""
        assert self._ended is not None
        self._is_over = True
        return events.end(self._ended)

    async def _changes(self) -> bytes:
        """Return the changes after the last one that was sent; nothing if there are none."""
        if self._feed.restarts != self._restarts:
            return await self._restart()
        if max(self._known, self._feed.through) <= self._sent:
            return b""
        changes = self._feed.changes_after(self._sent)
        reading = self._feed.reading
        if changes is None:
            reading = await self._feeds.read(self.account_id, self._sent)
            if reading is None or reading.entry_no < self._sent:
                return await self._restart()
            changes = reading.changes
        if not changes or reading is None:
            return b""
        changes = changes[:PAGE]
        self._sent, self._balance = changes[-1].entry_no, reading.balance
        return b"".join(change.event for change in changes)

    async def _restart(self) -> bytes:
        """Return a new snapshot: the account has fewer entries than the client was sent."""
        self._restarts = self._feed.restarts
        reading = await self._feeds.read(self.account_id)
        if reading is None:
            self.end("account_closed")
            return self._last()
        return self._snapshot(reading, None, is_complete=False)

    async def _until_disconnected(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.end("client")
