"""One trace from a caller's request over SQL and the job that it causes to the call to Stripe, as collectors get it."""

import asyncio
import contextlib
import http.server
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.demo import stripe as demo_stripe
from app.observability import tracing
from tests.books import connected
from tests.conftest import make_key
from tests.databases import Urls
from tests.servers import LocalStripe, running_server, serving
from tests.worker.test_worker import running_worker

MARK = f"zq{secrets.token_hex(6)}"
USER = {"oauth_provider": "oauth:google", "external_id": MARK, "customer_email": f"{MARK}@example.com"}
TRACE_ID, PARENT_ID = secrets.token_hex(16), secrets.token_hex(8)
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP, and keeps what came."""

    bodies: ClassVar[list[bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            assert self.headers["Content-Type"] == "application/x-protobuf"
            self.bodies.append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def collecting() -> Iterator[tuple[str, list[bytes]]]:
    class Kept(Collector):
        bodies: ClassVar[list[bytes]] = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kept)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", Kept.bodies
    finally:
        server.shutdown()
        server.server_close()


def spans_of(bodies: list[bytes]) -> dict[str, list[Span]]:
    """Service -> its spans."""
    found: dict[str, list[Span]] = {}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                found.setdefault(names["service.name"], []).extend(scope.spans)
    return found


def attributes(span: Span) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@contextlib.contextmanager
def listening_stripe() -> Iterator[tuple[dict[str, str], list[str]]]:
    """The local Stripe, and the `traceparent` of each request that it got."""
    account = demo_stripe.AccountConfig("pk_test_tests", "whsec_of_the_tests", None)
    app = demo_stripe.create_app(accounts={"sk_test_tests": account})
    heard: list[str] = []

    @app.middleware("http")
    async def listen(request: Any, call_next: Any) -> Any:
        if request.url.path.startswith("/v1/"):
            heard.append(request.headers.get("traceparent", ""))
        return await call_next(request)

    with serving(app) as url:
        yield LocalStripe(url, "sk_test_tests", "pk_test_tests", "whsec_of_the_tests").environment, heard


async def buy_and_charge(url: str, key: str) -> None:
    headers = {"X-API-Key": key, "traceparent": TRACEPARENT, "tracestate": f"v={MARK}", "baggage": f"user={MARK}"}
    async with httpx.AsyncClient(base_url=url, headers={**headers, "User-Agent": MARK}, timeout=30) as client:
        bought = await client.post("/v1/billing/purchases", json=USER)
        assert bought.status_code == 201, bought.text
        charge = {**USER, "amount_minor": 100, "currency": "USD", "description": MARK}
        assert (await client.post("/v1/billing/charges", json=charge)).status_code == 201
        assert (await client.get(f"/v1/billing/accounts/oauth:google/{MARK}")).status_code == 200
        refused = await client.get(f"/v1/billing/accounts/oauth:google/{MARK}-2", headers={"X-API-Key": MARK})
        assert refused.status_code == 401


async def job_is_done(urls: Urls) -> bool:
    async with connected(urls) as connection:
        sql = "SELECT status::text FROM procrastinate_jobs WHERE task_name = 'reconcile_purchase'"
        return bool(await connection.fetchval(sql) == "succeeded")


async def test_one_trace_from_the_request_over_the_job_to_stripe(own_database: Urls) -> None:
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    with collecting() as (endpoint, bodies), listening_stripe() as (stripe, heard):
        env = {**stripe, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        with running_server(own_database, env=env) as server:
            await buy_and_charge(server.url, key)
        by_the_api = len(heard)
        async with connected(own_database) as connection:
            args = await connection.fetchval("SELECT args FROM procrastinate_jobs WHERE task_name LIKE 'reconcile%'")
            assert TRACE_ID in args
            past = datetime.now(UTC) - timedelta(minutes=1)
            await connection.execute("UPDATE procrastinate_jobs SET scheduled_at = $1 WHERE status = 'todo'", past)
        with running_worker(own_database, **env) as worker:
            for _ in range(250):
                if await job_is_done(own_database):
                    break
                await asyncio.sleep(0.1)
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 20) == 0
        found = spans_of(bodies)
    assert not any(MARK.encode() in body for body in bodies)
    assert len(heard) > by_the_api >= 1
    assert {header.split("-")[1] for header in heard[:by_the_api]} == {TRACE_ID}
    assert TRACE_ID in {header.split("-")[1] for header in heard[by_the_api:] if header}
    one_tree(*([span for span in found[f"ciris-billing-{name}"] if is_ours(span)] for name in ("api", "worker")))


def is_ours(span: Span) -> bool:
    return bool(span.trace_id.hex() == TRACE_ID)


def one_tree(api: list[Span], jobs: list[Span]) -> None:
    spans = {span.span_id: span for span in (*api, *jobs)}
    roots = [span for span in spans.values() if span.parent_span_id not in spans]
    assert {span.parent_span_id.hex() for span in roots} == {PARENT_ID}  # the caller's own span
    names = {span.name for span in roots}
    assert "POST /v1/billing/purchases" in names
    assert "GET /v1/billing/accounts/{oauth_provider}/{external_id:path}" in names
    (bought,) = [span for span in roots if span.name == "POST /v1/billing/purchases"]
    assert attributes(bought)["http.response.status_code"] == 201
    assert {"billing.request_id", "billing.account_id", "billing.key_id"} <= set(attributes(bought))

    def path(span: Span) -> list[str]:
        above = spans.get(span.parent_span_id)
        return [*(path(above) if above is not None else []), span.name]

    paths = [path(span) for span in spans.values()]
    request = "POST /v1/billing/purchases"
    assert [request, "transaction", "INSERT"] in paths
    assert [request, "stripe POST /v1/payment_intents"] in paths
    assert any(steps[:1] == [request] and steps[-2:] == ["job reconcile_purchase", "SELECT"] for steps in paths)
    assert any(steps[-2:] == ["job reconcile_purchase", "stripe GET /v1/payment_intents/{id}"] for steps in paths)
    assert ["POST /v1/billing/charges", "charge batch", "transaction", "WITH"] in paths
    (job,) = [span for span in jobs if span.name == "job reconcile_purchase"]
    assert attributes(job)["billing.account_id"] == attributes(bought)["billing.account_id"]
    statements = {attributes(span).get("db.query.text", "") for span in api}
    assert any("INSERT INTO purchases" in sql for sql in statements)


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert not tracing.is_on()
    assert tracing.headers() == {}
    assert tracing.current() is None
    assert tracing.span("a") is tracing.statement("b") is tracing.outgoing("c", {}) is tracing.batch("d", [])


async def test_a_collector_that_does_not_answer_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FLUSH_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracing.start_tracing(f"http://127.0.0.1:{silent.getsockname()[1]}", service="s", version="1")
        with tracing.span("something"):
            assert tracing.headers()
        began = time.monotonic()
        await tracing.stop_tracing()
    assert time.monotonic() - began < 2
    assert not tracing.is_on()


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(tracing.TracingNotInstalled, match=r"\[otel\]"):
        tracing.start_tracing("http://127.0.0.1:1", service="s", version="1")
    assert not tracing.is_on()
