"""What operators see: structured logs, a request id on everything, and metrics."""

import logging
import logging.config
import re
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REGISTRY = CollectorRegistry()
HTTP_SECONDS = Histogram(
    "billing_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer.",
    ["method", "route", "status"],
    registry=REGISTRY,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
CHARGES = Counter(
    "billing_charges_total", "Charges by operation and outcome.", ["operation", "outcome"], registry=REGISTRY
)
LEDGER_VERIFIED = Gauge(
    "billing_ledger_verified_timestamp_seconds",
    "When the last ledger verification passed.",
    registry=REGISTRY,
)
ALERTS_OPEN = Gauge(
    "billing_alerts_open", "Findings of unusual activity that wait for a person, by rule.", ["rule"], registry=REGISTRY
)
RATE_LIMITS_SHARED = Gauge(
    "billing_rate_limits_shared",
    "Whether this process shares its rate limits with others: 0 while REDIS_URL is unset or does not answer.",
    registry=REGISTRY,
)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
access_log = structlog.get_logger("access")


def configure_logging(*, level: str, json: bool) -> None:
    """Send structlog and the standard library's loggers to stderr in one format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(
            colors=False,
            exception_formatter=structlog.dev.plain_traceback,  # the default renders every local variable: seconds
        )
    )
    tail: list[Any] = [structlog.processors.format_exc_info, renderer] if json else [renderer]
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [*shared, structlog.stdlib.ExtraAdder()],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
    }
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"shared": formatter},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "shared"}},
            "root": {"handlers": ["stderr"], "level": level},
            # uvicorn's own access line would say everything a second time
            "loggers": {name: {"level": "WARNING"} for name in ("uvicorn.access", "httpx", "stripe", "procrastinate")},
        }
    )


def route_template(scope: Scope) -> str:
    """The route as declared (`/charges/{charge_id}`): bounded in number, free of ids."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"


class RequestContext:
    """Outermost middleware: request id in and out, one access-log line, one metric, and no exception past it."""

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
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            if status:  # the answer has begun: nothing can be said any more
                raise
            await self.response_for(error)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            route = route_template(scope)
            HTTP_SECONDS.labels(scope["method"], route, str(status)).observe(seconds)
            access_log.info("request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1))
