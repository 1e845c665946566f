"""Middleware that bounds every request: body size, deadline and admission; and answers HEAD."""

import asyncio
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.clock import steady_s
from app.errors import Busy, error_body, error_response
from app.http.admission import AGENTS_PATHS, SLOT, ConcurrencyLimiter, Slot
from app.http.external_waits import unanswered_since
from app.http.streaming import IS_HEAD

MAX_LENGTH_DIGITS = 19


class BodyLimit:
    """Answer 413 to a body over `max_bytes`, by its declared length or else as it arrives."""

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
                # FastAPI re-raises only its own exception while it reads a body
                raise HTTPException(413, f"Request body over {self.max_bytes} bytes")
            return message

        await self.app(scope, receive_bounded, send)


class Deadline:
    """Answer 503 once a request has taken `timeout_s`, before its caller gives up without an answer.

    The answer is the error of the external server that the request waits for (`external_waits`), otherwise Busy.
    The request is cancelled but not awaited: returning a connection that does not respond may take longer than the
    caller has left. A response that has started has no deadline (an export): its status can no longer change, so it
    takes as long as its caller reads.
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
            unavailable = unanswered_since(task, timer.when() - self.timeout_s)
            error = unavailable or Busy("Request took too long, retry with the same idempotency key")
            answering = asyncio.create_task(error_response(error)(scope, receive, send))
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
                raise  # cancelled by another source, too
        finally:
            timer.cancel()
        if answering is not None:
            await answering


class HeadAsGet:
    """Answer HEAD as GET without the body (RFC 9110, section 9.3.2), for monitors and load balancers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        # A copy: the server reads the method in its own scope to decide that no body is sent.
        as_get = {**scope, "method": "GET", IS_HEAD: True}

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start" and "route" in as_get:
                scope["route"] = as_get["route"]  # for the log line and the metric
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self.app(as_get, receive, send_head)


class _Route(NamedTuple):
    """Represents the route of a request that is rejected before routing, in its log line and metric."""

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
        if self.limiter.is_full:
            self.limiter.reject(steady_s())
            scope["route"] = _Route(scope["path"])  # one of the few declared paths
            await error_response(Busy())(scope, receive, send)
            return
        slot: Slot | None = None

        async def receive_and_acquire() -> Message:
            nonlocal slot
            message = await receive()
            if slot is None and not message.get("more_body"):
                if self.limiter.is_full:
                    self.limiter.reject(steady_s())
                    busy = Busy()  # FastAPI re-raises only its own exception, as above
                    raise HTTPException(busy.status, busy.detail, busy.headers)
                slot = self.limiter.acquire(steady_s())
                SLOT.set(slot)  # each request has its own task, and so its own context
            return message

        try:
            await self.app(scope, receive_and_acquire, send)
        finally:
            if slot is not None:
                slot.complete(steady_s())
