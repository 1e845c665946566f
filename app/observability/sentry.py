"""Error reports to Sentry: each event that is logged as an error, with its fields and frames, but no caller's data.

Only the SDK's transport is used. Its integrations, which collect requests, variables and queries, stay off.
"""

import asyncio
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from app.errors import describe
from app.observability.logs import Reporter

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

FLUSH_TIMEOUT_S = 2
TAGS = ("request_id", "trace_id", "account_id", "key_id", "admin_id", "job_id", "task", "problem", "reason", "code")
"""Fields of a log line that are sent: our own ids and words."""
SENT = frozenset(
    [
        "event_id",
        "timestamp",
        "platform",
        "level",
        "logger",
        "message",
        "exception",
        "tags",
        "release",
        "environment",
        "sdk",
        "contexts",
    ]
)
_started = False


class ReportingNotInstalled(Exception):
    """SENTRY_DSN is set, but the extra is not installed: pip install 'ciris-billing[sentry]'."""

    def __init__(self) -> None:
        super().__init__("SENTRY_DSN needs the extra [sentry]: pip install 'ciris-billing[sentry]'")


def start_reporting(dsn: str, *, environment: str, release: str) -> Reporter:
    """Start Sentry. Return a Reporter for `configure_logging`. Raise ReportingNotInstalled, or ValueError (bad DSN)."""
    global _started
    try:
        import sentry_sdk
        from sentry_sdk.utils import BadDsn
    except ImportError:
        raise ReportingNotInstalled from None
    try:
        sentry_sdk.init(
            dsn,
            environment=environment,
            release=release,
            default_integrations=False,
            auto_enabling_integrations=False,
            spotlight=False,  # its environment variable would enable personal data, which is off by default
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            auto_session_tracking=False,
            send_client_reports=False,
            before_send=_only_what_may_be_sent,
        )
    except BadDsn:
        raise ValueError("SENTRY_DSN is not the address that Sentry gave") from None
    _started = True

    def report(line: MutableMapping[str, Any], error: BaseException | None) -> None:
        sentry_sdk.capture_event(_event(line, error))

    return report


async def flush_sentry() -> None:
    """Send pending reports, for at most FLUSH_TIMEOUT_S."""
    if _started:
        import sentry_sdk

        await asyncio.to_thread(sentry_sdk.flush, FLUSH_TIMEOUT_S)


def _event(line: MutableMapping[str, Any], error: BaseException | None) -> "Event":
    event: Event = {
        "level": "error",
        "message": str(line["event"]),
        "tags": {name: str(line[name])[:200] for name in TAGS if line.get(name) is not None},
    }
    if error is not None:
        event["exception"] = {"values": [_exception(each) for each in _chain(error)]}
    return event


def _chain(error: BaseException) -> list[BaseException]:
    """Return the error and its causes, the error last."""
    chain = [error]
    while (before := chain[0].__cause__ or chain[0].__context__) is not None and before not in chain:
        chain.insert(0, before)
    return chain


def _exception(error: BaseException) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "module": type(error).__module__,
        "value": describe(error),
        "stacktrace": {"frames": _frames(error.__traceback__)},
    }


def _frames(trace: TracebackType | None) -> list[dict[str, Any]]:
    return [
        {
            "filename": frame.filename,
            "function": frame.name,
            "lineno": frame.lineno,
            "context_line": frame.line,
            "in_app": "/app/" in frame.filename and "site-packages" not in frame.filename,
        }
        for frame in traceback.extract_tb(trace)
    ]


def _only_what_may_be_sent(event: "Event", _: "Hint") -> "Event | None":
    """Remove all other fields, which a later SDK may add on its own."""
    for name in set(event) - SENT:
        event.pop(name, None)  # type: ignore[misc]  # a key of any name
    return event
