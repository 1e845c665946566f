"""Request middleware (outermost): request id, one access-log line, one metric and one span per request."""

import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.observability import tracing
from app.observability.metrics import HTTP_SECONDS

# Request ids are logged, so they must not look like an e-mail address or an API key.
REQUEST_ID = re.compile(r"(?!.*[^@]@[^@]+\.)(?!.*cbk_)[A-Za-z0-9._:/+=@-]{1,128}")
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
ANSWERED_S = "ciris_billing.answered_s"
"""Member of a request's scope: when an answer without an end began, by `time.perf_counter`.

The request's duration in logs, metrics and traces ends there.
"""
access_log = structlog.get_logger("access")
_seconds: dict[tuple[str, str, int], Any] = {}


def route_template(scope: Scope) -> str:
    """Return the route as declared (`/charges/{charge_id}`): few values, without ids."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"


def _observe(method: str, route: str, status: int, seconds: float) -> None:
    known = _seconds.get((method, route, status))
    if known is None:  # a lookup by labels takes several times as long as observing
        known = HTTP_SECONDS.labels(method, route, str(status))
        _seconds[method, route, status] = known
    known.observe(seconds)


class RequestContext:
    """Outermost middleware: request id in and out, one access-log line, one metric. No exception passes it."""

    def __init__(self, app: ASGIApp, *, response_for: Callable[[Exception], ASGIApp]) -> None:
        self.app = app
        self.response_for = response_for

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"").decode("latin-1")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        method = scope["method"] if scope["method"] in METHODS else "other"
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        span = tracing.begin_request(method, scope["headers"])
        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            if status:  # the answer has started: it cannot become an error
                raise
            await self.response_for(error)(scope, receive, send_with_id)
        finally:
            seconds = scope.get(ANSWERED_S, time.perf_counter()) - started
            route = route_template(scope)
            _observe(method, route, status, seconds)
            access_log.info("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))
            if span is not None:
                span.end(method, route, status, seconds)
