"""Admission control under overload: which requests are admitted, and the answers of the others."""

import asyncio
import contextlib
import http.client
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Scope

from app.accounts.directory import Identity, Profile
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.http.admission import (
    AGENTS_PATHS,
    INITIAL_LIMIT,
    MAX_IN_FLIGHT,
    MIN_LIMIT,
    SLOT,
    TARGET_S,
    ConcurrencyLimiter,
    Slot,
)
from app.ledger.outcomes import New
from app.main import create_app
from app.observability.metrics import REGISTRY
from app.settings import Settings
from tests.books import account_locked
from tests.conftest import ACTOR, ClientFor, Keys
from tests.databases import Urls
from tests.servers import free_port

FULL = -1.0
"""A limit that admits no request."""


def test_a_door_lets_in_as_many_as_it_may_and_one_more_when_one_leaves() -> None:
    limiter = ConcurrencyLimiter()
    slots = []
    while not limiter.is_full:
        slots.append(limiter.acquire(0.0))
    assert len(slots) == limiter.in_flight == INITIAL_LIMIT
    slots[7].complete(0.1)
    slots[7].complete(0.2)  # again: it no longer has a slot
    assert (limiter.is_full, limiter.in_flight) == (False, INITIAL_LIMIT - 1)


def test_much_slow_work_narrows_the_door_and_much_quick_work_widens_it_again() -> None:
    limiter = ConcurrencyLimiter()
    held = limiter.acquire(0.0)
    for i in range(0, 1000, 100):
        for slot in [limiter.acquire(i) for _ in range(int(limiter.limit))]:
            slot.complete(i + 50 * TARGET_S)
    assert limiter.limit == MIN_LIMIT
    for i in range(1000, 11_000):
        limiter.acquire(i).complete(i + TARGET_S / 2)
    assert limiter.limit == MIN_LIMIT  # one at a time proves nothing
    for i in range(100):
        now_s = 11_000 + i * TARGET_S / 2
        for slot in [limiter.acquire(now_s) for _ in range(int(limiter.limit))]:
            slot.complete(now_s + TARGET_S / 2)
    assert limiter.limit == MAX_IN_FLIGHT
    held.complete(12_000)


def test_a_few_slow_ones_keep_nobody_out() -> None:
    limiter = ConcurrencyLimiter()
    held = limiter.acquire(0.0)
    for i in range(1000):
        for slot in [limiter.acquire(i) for _ in range(50)]:
            slot.complete(i + 4 * TARGET_S)
    assert limiter.limit == INITIAL_LIMIT
    held.complete(1000)


def test_the_limit_starts_again_once_nothing_is_in_flight() -> None:
    limiter = ConcurrencyLimiter()
    limiter.limit = MIN_LIMIT
    slot = limiter.acquire(0.0)
    assert limiter.limit == INITIAL_LIMIT
    limiter.limit = MAX_IN_FLIGHT
    slot.complete(0.1)
    limiter.acquire(1.0)
    assert limiter.limit == MAX_IN_FLIGHT


def test_many_slow_answers_at_once_narrow_the_door_by_one_step() -> None:
    """To half the way to what leaves in TARGET_S."""
    limiter = ConcurrencyLimiter()
    limiter.acquire(0.0)
    for slot in [limiter.acquire(0.0) for _ in range(200)]:
        slot.complete(2 * TARGET_S)
    limiter.acquire(3 * TARGET_S)
    assert limiter.limit == pytest.approx((INITIAL_LIMIT + 100) / 2)


@dataclass
class Model:
    """A process that finishes `per_tick` of those in flight each 10 ms, the oldest first."""

    per_tick: int
    limiter: ConcurrencyLimiter = field(default_factory=ConcurrencyLimiter)
    in_flight: deque[tuple[float, Slot]] = field(default_factory=deque)
    took_s: list[float] = field(default_factory=list)
    now_s: float = 0.0

    def run(self, seconds: float, *, load: float, per_tick: int | None = None) -> int:
        """So long, with `load` times what it can do: how many were finished."""
        done, due = len(self.took_s), 0.0
        for _ in range(round(seconds * 100)):
            self.now_s += 0.01
            due += load * self.per_tick
            for _ in range(int(due)):
                due -= 1
                if not self.limiter.is_full:
                    self.in_flight.append((self.now_s, self.limiter.acquire(self.now_s)))
            for _ in range(min(self.per_tick if per_tick is None else per_tick, len(self.in_flight))):
                began_s, slot = self.in_flight.popleft()
                slot.complete(self.now_s)
                self.took_s.append(self.now_s - began_s)
        return len(self.took_s) - done


@pytest.mark.parametrize("per_tick", [1, 3, 30])
def test_three_times_too_much_leaves_as_much_done_and_in_time_however_fast_the_machine(per_tick: int) -> None:
    model = Model(per_tick)
    assert model.run(30, load=3) > 0.99 * 3_000 * per_tick
    assert max(model.took_s) < 4.5
    assert max(model.took_s[len(model.took_s) // 2 :]) < 1.2 * TARGET_S


@pytest.mark.parametrize("per_tick", [3, 12])
def test_after_a_standstill_a_second_is_enough_to_take_a_second_of_work_in_again(per_tick: int) -> None:
    model, capacity = Model(per_tick), 100 * per_tick
    model.run(10, load=3)
    model.run(2, load=3, per_tick=0)
    model.run(2, load=3)
    assert model.limiter.limit > 0.8 * capacity
    assert model.run(5, load=0.95) > 0.94 * 5 * capacity


async def test_who_waits_for_an_account_leaves_the_place_to_others(
    billing: BillingService, database: Urls, identity: Identity, now: datetime
) -> None:
    account_id = await billing.accounts.directory.resolve(identity, Profile(), ACTOR, now)
    limiter = ConcurrencyLimiter()

    slot = limiter.acquire(0.0)

    async def charge() -> object:
        SLOT.set(slot)
        outcome = await billing.charge(ChargeRequest(account_id, 100, None, ACTOR, now, idempotency_key="k"))
        slot.complete(100.0)
        return outcome

    async with account_locked(database, account_id):
        task = asyncio.create_task(charge())
        for _ in range(6000):
            if limiter.in_flight == 0:
                break
            await asyncio.sleep(0.01)
        assert (limiter.in_flight, task.done()) == (0, False)
    assert isinstance(await task, New)
    assert (limiter.in_flight, limiter.limit) == (0, INITIAL_LIMIT)  # and its long wait says nothing about the process


@pytest.fixture
async def full(app: FastAPI) -> AsyncIterator[ConcurrencyLimiter]:
    limiter: ConcurrencyLimiter = app.state.limiter
    limiter.limit = FULL
    yield limiter
    limiter.limit = MAX_IN_FLIGHT


@dataclass
class Sender:
    """A request whose last piece of the body arrives on demand."""

    app: FastAPI
    key: str
    rest: asyncio.Event = field(default_factory=asyncio.Event)
    said: list[Message] = field(default_factory=list)

    async def post(self, path: str) -> None:
        pieces = iter([{"type": "http.request", "body": b"{", "more_body": True}])

        async def receive() -> Message:
            for piece in pieces:
                return piece
            await self.rest.wait()
            return {"type": "http.request", "body": b"}", "more_body": False}

        async def send(message: Message) -> None:
            self.said.append(message)

        headers = [(b"content-type", b"application/json"), (b"x-api-key", self.key.encode())]
        scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
        await self.app(scope, receive, send)


async def test_who_does_not_send_the_rest_of_a_body_keeps_nobody_out(app: FastAPI, keys: Keys) -> None:
    limiter: ConcurrencyLimiter = app.state.limiter
    narrow = limiter.limit = float(INITIAL_LIMIT)
    slow = Sender(app, keys.agent)
    task = asyncio.create_task(slow.post("/v1/billing/charges"))
    await asyncio.sleep(TARGET_S + 0.1)
    assert limiter.in_flight == 0
    slow.rest.set()
    await task
    assert (slow.said[0]["status"], limiter.in_flight, limiter.limit) == (422, 0, narrow)


async def test_a_full_process_waits_for_nobodys_body(app: FastAPI, keys: Keys, full: ConcurrencyLimiter) -> None:
    slow = Sender(app, keys.agent)
    async with asyncio.timeout(1):
        await slow.post("/v1/billing/charges")
    assert (slow.said[0]["status"], full.in_flight) == (503, 0)


async def test_a_body_that_ends_when_there_is_no_place_any_more_is_turned_away(app: FastAPI, keys: Keys) -> None:
    limiter: ConcurrencyLimiter = app.state.limiter
    slow = Sender(app, keys.agent)
    task = asyncio.create_task(slow.post("/v1/billing/charges"))
    await asyncio.sleep(0.01)
    limiter.limit = FULL
    slow.rest.set()
    await task
    limiter.limit = MAX_IN_FLIGHT
    start, body = slow.said
    assert (start["status"], dict(start["headers"])[b"retry-after"], limiter.in_flight) == (503, b"1", 0)
    assert json.loads(body["body"]) | {"request_id": ""} == {
        "detail": "Service busy, retry shortly",
        "code": "busy",
        "request_id": "",
    }


async def test_a_full_process_turns_agents_away_and_nobody_else(
    client_for: ClientFor, keys: Keys, user: dict[str, str], full: ConcurrencyLimiter
) -> None:
    def counted(path: str) -> float:
        labels = {"method": "POST", "route": path, "status": "503"}
        return REGISTRY.get_sample_value("billing_http_request_duration_seconds_count", labels) or 0

    agent, before = client_for(keys.agent), {path: counted(path) for path in AGENTS_PATHS}
    for path in AGENTS_PATHS:
        answer = await agent.post(path, json=user)
        assert (answer.status_code, answer.json()["code"], answer.headers["Retry-After"]) == (503, "busy", "1")
        assert counted(path) == 1 + before[path]
    assert (await agent.get("/health")).status_code == 200
    assert (await agent.post("/v1/billing/webhooks/stripe", content=b"{}")).status_code == 400
    assert (await agent.get("/v1/billing/transactions", params=user)).status_code == 200
    assert (await agent.post("/v1/billing/purchases", json=user)).json()["code"] == "payments_not_configured"


@contextlib.contextmanager
def served(app: FastAPI, **options: Any) -> Iterator[http.client.HTTPConnection]:
    """A connection to the application as `ciris-billing serve` speaks HTTP; in a thread, without its lifespan."""
    port = free_port()
    config = uvicorn.Config(
        app,
        port=port,
        http="app.http.protocol:LoadSheddingProtocol",
        lifespan="off",
        proxy_headers=False,
        log_level="warning",
        **options,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(2000):
        if server.started:
            break
        time.sleep(0.01)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        yield connection
    finally:
        connection.close()
        server.should_exit = True
        thread.join(20)


def test_a_rejected_head_request_has_no_body(settings: Settings) -> None:
    app = create_app(settings)
    with served(app) as connection:
        app.state.limiter.limit = FULL
        connection.connect()
        for _ in range(2):
            connection.sock.sendall(b"HEAD /v1/billing/charges HTTP/1.1\r\nHost: billing\r\n\r\n")
            answer = connection.sock.recv(4096)
            assert (answer[:12], answer[-4:]) == (b"HTTP/1.1 503", b"\r\n\r\n")
        app.state.limiter.limit = MAX_IN_FLIGHT


def test_a_connection_that_was_rejected_before_its_body_arrived_times_out(settings: Settings) -> None:
    app = create_app(settings)
    with served(app, timeout_keep_alive=1) as connection:
        app.state.limiter.limit = FULL
        connection.putrequest("POST", "/v1/billing/charges")
        connection.putheader("Content-Length", "2")
        connection.endheaders()
        assert connection.sock.recv(4096).startswith(b"HTTP/1.1 503")
        connection.sock.sendall(b"{}")
        assert connection.sock.recv(4096) == b""  # the server has closed it
        app.state.limiter.limit = MAX_IN_FLIGHT


def test_a_refusal_before_the_body_is_read_leaves_the_connection_in_order(settings: Settings) -> None:
    app = create_app(settings)
    with served(app) as connection:
        app.state.limiter.limit = FULL
        for body in (b"{}", b"x" * 200_000, iter([b"in", b" pieces"])):
            request_id = uuid.uuid4().hex
            connection.request("POST", "/v1/billing/charges", body, {"X-Request-ID": request_id})
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert answer.headers["X-Request-ID"] == request_id
            assert httpx.Response(503, content=answer.read()).json() == {
                "detail": "Service busy, retry shortly",
                "code": "busy",
                "request_id": request_id,
            }
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert (answer.status, b"running" in answer.read()) == (200, True)
        connection.request("POST", "/v1/billing/charges", b"{}", {"Connection": "close", "X-Request-ID": "bad id"})
        answer = connection.getresponse()
        assert (answer.status, len(answer.headers["X-Request-ID"])) == (503, 32)
        answer.read()
        app.state.limiter.limit = MAX_IN_FLIGHT
        connection.request("POST", "/v1/tools/nothing", b"{}")
        assert connection.getresponse().status == 404
        assert app.state.limiter.in_flight == 0
