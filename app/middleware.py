"""Bounds on every request: its size and its time."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import Busy, error_body, error_response


class HeadDeadline(HttpToolsProtocol):
    """uvicorn's HTTP, with an end to a request's head that does not come: `timeout_s` after it could have begun.

    By itself uvicorn waits for ever for the rest of a head, and for the first byte of a connection. What comes after
    the head, and the pause between two requests, have time-outs of their own (Deadline, `timeout_keep_alive`).
    """

    timeout_s = 10.0  # uvicorn makes the instances: what counts in this process
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        under_way = self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # None at first
        if self._head_timer is None and not under_way:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        # abort: what was answered before may wait for a client that does not read
        self._head_timer = self.loop.call_later(self.timeout_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class BodyLimit:
    """Answer 413 to a body over `max_bytes`, by its declared length or, without one, as it arrives."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > self.max_bytes:
            body = error_body(f"Request body over {self.max_bytes} bytes", "body_too_large")
            await JSONResponse(body, 413, {"Connection": "close"})(scope, receive, send)
            return
        received = 0

        async def receive_bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                # FastAPI lets its own exception through while it reads a body, and hides others
                raise HTTPException(413, f"Request body over {self.max_bytes} bytes")
            return message

        await self.app(scope, receive_bounded, send)


class Deadline:
    """Answer 503 once a request has taken `timeout_s`, before its caller gives up without knowing why.

    An answer that has begun may take as long as its caller reads (an export): nothing else could be told any more.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float) -> None:
        self.app = app
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False
        deadline = asyncio.timeout(self.timeout_s)

        async def send_noting_start(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                deadline.reschedule(None)
            await send(message)

        try:
            async with deadline:
                await self.app(scope, receive, send_noting_start)
        except TimeoutError:
            if begun or not deadline.expired():
                raise
            await error_response(Busy("Request took too long, retry with the same idempotency key"))(
                scope, receive, send
            )
