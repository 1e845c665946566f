"""Bounds on every request: its size and its time, and how many there may be at once."""

import asyncio
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Busy, error_body, error_response
from app.http.admission import AGENTS_PATHS, SLOT, ConcurrencyLimiter, Slot

MAX_LENGTH_DIGITS = 19


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
        # Python refuses to convert more than 4,300 digits, leading zeros included.
        digits = declared.lstrip(b"0")
        if not declared.isdigit() or len(digits) > MAX_LENGTH_DIGITS or int(digits or b"0") > self.max_bytes:
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

    The request is cancelled then, but not waited for: to give a connection back that answers nothing may take longer
    than its caller has left. An answer that has begun may take as long as its caller reads (an export): nothing else
    could be told any more.
    """

    def __init__(self, app: ASGIApp, *, timeout_s: float) -> None:
        self.app = app
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None
        answering: asyncio.Task[None] | None = None

        def too_late() -> None:
            nonlocal answering
            busy = Busy("Request took too long, retry with the same idempotency key")
            answering = asyncio.create_task(error_response(busy)(scope, receive, send))
            task.cancel()

        timer = asyncio.get_running_loop().call_later(self.timeout_s, too_late)

        async def send_in_time(message: Message) -> None:
            timer.cancel()
            if answering is None:
                await send(message)

        try:
            await self.app(scope, receive, send_in_time)
        except BaseException as error:
            if answering is None:
                raise
            if task.uncancel() > 0 and isinstance(error, asyncio.CancelledError):
                raise  # somebody else wants it to end, too
        finally:
            timer.cancel()
        if answering is not None:
            await answering


class HeadAsGet:
    """Answer HEAD as GET without the body (RFC 9110, section 9.3.2): monitors and load balancers send it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        # A copy: the server looks into its own for what it must not send.
        as_get = {**scope, "method": "GET"}

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start" and "route" in as_get:
                scope["route"] = as_get["route"]  # for the log line and the metric
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self.app(as_get, receive, send_head)


class _Route(NamedTuple):
    """Stands for the route of a request that does not get there, in its log line and metric."""

    path: str


class Admission:
    """Answer 503 at once to an agent's request when the `limiter` is full.

    A request takes a slot only after its body has arrived, so slow senders block no one.
    """

    def __init__(self, app: ASGIApp, *, limiter: ConcurrencyLimiter) -> None:
        self.app = app
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in AGENTS_PATHS:
            await self.app(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        if self.limiter.is_full:
            self.limiter.reject(clock())
            scope["route"] = _Route(scope["path"])  # which is one of the few declared ones
            await error_response(Busy())(scope, receive, send)
            return
        slot: Slot | None = None

        async def receive_and_acquire() -> Message:
            nonlocal slot
            message = await receive()
            if slot is None and not message.get("more_body"):
                if self.limiter.is_full:
                    self.limiter.reject(clock())
                    busy = Busy()  # as FastAPI's own exception, as above
                    raise HTTPException(busy.status, busy.detail, busy.headers)
                slot = self.limiter.acquire(clock())
                SLOT.set(slot)  # a request has a task, and so a context, of its own
            return message

        try:
            await self.app(scope, receive_and_acquire, send)
        finally:
            if slot is not None:
                slot.complete(clock())
