"""Traces by OpenTelemetry: HTTP, SQL, calls to Stripe and jobs. While off, each costs one check of a variable.

Spans contain statements without their values, route templates and our own ids, but no text of a caller. Of a caller's
headers only `traceparent` is kept: `tracestate` and `baggage` can contain anything, and would be sent on to Stripe.
"""

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import structlog

from app.errors import describe

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, SpanContext, SpanKind, Tracer
    from sqlalchemy import Engine

FLUSH_TIMEOUT_S = 3
EXPORT_TIMEOUT_S = 5
MAX_STATEMENT_CHARS = 2000
TRACEPARENT = "traceparent"
_NOTHING: AbstractContextManager[None] = nullcontext()
_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


class TracingNotInstalled(Exception):
    """OTEL_EXPORTER_OTLP_ENDPOINT is set, but the extra is not installed: pip install 'ciris-billing[otel]'."""

    def __init__(self) -> None:
        super().__init__("OTEL_EXPORTER_OTLP_ENDPOINT needs the extra [otel]: pip install 'ciris-billing[otel]'")


def is_on() -> bool:
    return _tracer is not None


def start_tracing(endpoint: str, *, service: str, version: str) -> None:
    """Send spans to `endpoint`/v1/traces from now on. A second call has no effect. Raise TracingNotInstalled.

    The SDK's own variables apply too: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME and so on.
    """
    global _provider, _tracer
    if _provider is not None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingNotInstalled from None
    named = Resource.create({"service.version": version})  # reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
    if str(named.attributes.get("service.name", "")).startswith("unknown_service"):
        named = named.merge(Resource({"service.name": service}))
    exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
    _provider = TracerProvider(resource=named, shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("ciris-billing", version)


async def stop_tracing() -> None:
    """Send the remaining spans, for at most FLUSH_TIMEOUT_S, and stop."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        # A collector that does not answer must not delay the exit: the SDK's own limit is half a minute.
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, FLUSH_TIMEOUT_S)


# --- HTTP ----------------------------------------------------------------------------------------------------------


class Request:
    """The span of a request under way. The outermost middleware starts and ends it, in one task."""

    def __init__(self, tracer: "Tracer", method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        from opentelemetry import context, trace

        given = next((value for name, value in headers if name == b"traceparent"), b"").decode("latin-1")
        self._started_ns = time.time_ns()
        self._span = tracer.start_span(method, _context_of(given), trace.SpanKind.SERVER, start_time=self._started_ns)
        self._token = context.attach(trace.set_span_in_context(self._span))
        structlog.contextvars.bind_contextvars(trace_id=f"{self._span.get_span_context().trace_id:032x}")

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        from opentelemetry import context

        known = structlog.contextvars.get_contextvars()
        ours = {f"billing.{name}": known[name] for name in ("request_id", "account_id", "key_id") if name in known}
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status, **ours}
        )
        if status >= 500:
            _fail(self._span, str(status))
        self._span.end(self._started_ns + int(seconds * 1e9))
        context.detach(self._token)


def begin_request(method: str, headers: Iterable[tuple[bytes, bytes]]) -> Request | None:
    return Request(_tracer, method, headers) if _tracer is not None else None


# --- everything else -----------------------------------------------------------------------------------------------


def span(name: str, attributes: Mapping[str, Any] | None = None) -> AbstractContextManager[object]:
    """Open a span around the block, as a child of the current one."""
    return _NOTHING if _tracer is None else _span(_tracer, name, attributes)


def outgoing(name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[object]:
    """Open a span around a call to another service. `headers()` within it propagates the trace."""
    if _tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind

    return _span(_tracer, name, attributes, kind=SpanKind.CLIENT)


def statement(sql: str) -> AbstractContextManager[object]:
    """Open a span around a statement that goes directly to the driver."""
    if _tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind

    return _span(_tracer, _name_of(sql), _attributes_of(sql), kind=SpanKind.CLIENT)


def job(task: str, traceparent: str | None, attributes: Mapping[str, Any]) -> AbstractContextManager[object]:
    """Open a span around a job's run, in the trace of the job's cause."""
    if _tracer is None:
        return _NOTHING
    from opentelemetry.trace import SpanKind

    return _span(_tracer, f"job {task}", attributes, kind=SpanKind.CONSUMER, parent=_context_of(traceparent or ""))


def batch(name: str, causes: "Sequence[SpanContext | None]") -> AbstractContextManager[object]:
    """Open a span around the work for several requests: a child of the first request's span, linked to all others."""
    if _tracer is None:
        return _NOTHING
    from opentelemetry import trace

    known = [cause for cause in causes if cause is not None]
    parent = trace.set_span_in_context(trace.NonRecordingSpan(known[0])) if known else None
    links = [trace.Link(cause) for cause in known[1:]]
    return _span(_tracer, name, {"billing.batch.size": len(causes)}, parent=parent, links=links)


def current() -> "SpanContext | None":
    """Return the current span's context, for a later `batch` in another task."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    return trace.get_current_span().get_span_context()


def headers() -> dict[str, str]:
    """Return the headers that propagate the current trace: a `traceparent`, or none."""
    carrier: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(carrier)
    return {TRACEPARENT: carrier[TRACEPARENT]} if TRACEPARENT in carrier else {}


def watch(engine: "Engine") -> None:
    """Open a span for each of the engine's statements while tracing is on."""
    from sqlalchemy import event

    def before(_: Any, __: Any, sql: str, ___: Any, execution: Any, ____: Any) -> None:
        if _tracer is not None:
            from opentelemetry.trace import SpanKind

            execution.span = _tracer.start_span(_name_of(sql), kind=SpanKind.CLIENT, attributes=_attributes_of(sql))

    def after(_: Any, __: Any, ___: Any, ____: Any, execution: Any, _____: Any) -> None:
        started = getattr(execution, "span", None)
        if started is not None:
            started.end()

    def failed(failure: Any) -> None:
        started = getattr(failure.execution_context, "span", None)
        if started is not None:
            _fail(started, describe(failure.original_exception))
            started.end()

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    event.listen(engine, "handle_error", failed)


@contextmanager
def _span(
    tracer: "Tracer",
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: "SpanKind | None" = None,
    parent: "Context | None" = None,
    links: "Sequence[Any]" = (),
) -> "Iterator[Span]":
    from opentelemetry.trace import SpanKind

    # An exception's message is not recorded, because it may quote a caller's values.
    with tracer.start_as_current_span(
        name,
        parent,
        kind or SpanKind.INTERNAL,
        attributes,
        links,
        record_exception=False,
        set_status_on_exception=False,
    ) as started:
        try:
            yield started
        except BaseException as error:
            _fail(started, describe(error))
            raise


def _fail(failed: "Span", reason: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    failed.set_attribute("error.type", reason.partition(":")[0])
    failed.set_status(Status(StatusCode.ERROR, reason))


def _context_of(traceparent: str) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent}, Context())


def _name_of(sql: str) -> str:
    return sql.split(None, 1)[0].upper() if sql.strip() else "SQL"


def _attributes_of(sql: str) -> dict[str, str]:
    return {"db.system.name": "postgresql", "db.query.text": " ".join(sql.split())[:MAX_STATEMENT_CHARS]}
