"""Hostile input to the usage routes: never a 5xx, never a mint, and one refused event spoils no batch."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from app.ledger.money import MAX_NANOS
from tests.metering.conftest import Desk, llm, usage
from tests.support.invalid_requests import CONTENT_TYPES, NASTY_QUERIES, NASTY_VALUES, WHOLE_BODIES
from tests.support.wallets import DOLLAR
from tests.test_nasty_input import judge, leaves, with_value

NOW = datetime.now(UTC).isoformat()
EVENT: dict[str, Any] = {
    "event_id": "e",
    "user_id": "nasty",
    "metric": {
        **llm(1, 1),
        "usage": {"input_tokens": 1, "output_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 1}},
        "basis": "disjoint",
        "mode": "standard",
    },
    "time": NOW,
    "cost_cents": 0,
    "agent_id": "a",
    "tool": "t",
    "run_id": "r",
    "traceparent": "t",
    "metadata": {"a": 1},
    "customer_email": "a@example.com",
}
FLAT = {"event_id": "c", "user_id": "nasty", "cpu_hours": 1, "memory_gb_hours": 1, "sku": "s", "hourly_price_cents": 1}
CLOUD_EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "i",
    "source": "s",
    "type": "sms",
    "subject": "nasty",
    "time": NOW,
    "datacontenttype": "application/json",
    "extension": "x",
    "data": {"quantity": 1, "run_id": "r"},
}
EVERY_MEMBER = {"quantity": 1, "metric": None, "tokens": None, "usage": None, "type": None, "model": "m"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/usage": EVENT,
    "/v1/usage/compute": FLAT,
    "/v1/usage/quote": {"metric": llm(1, 1), "plan": "p", "tool": "t", "time": NOW},
    "/v1/usage/check": {"user_id": "nasty", "required_cents": 1, "provider": "p", "model": "m"},
    "/v1/events": CLOUD_EVENT,
}
VARIANTS = [*BODIES.items(), ("/v1/events", {**CLOUD_EVENT, "data": EVERY_MEMBER})]
IDS = {"/v1/usage": "event_id", "/v1/usage/compute": "event_id", "/v1/events": "id"}


def fresh(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with an id of its own: a repeat would be answered before anything is written."""
    return {**body, IDS[path]: uuid.uuid4().hex} if path in IDS else body


@pytest.mark.parametrize("path", BODIES)
async def test_the_table_begins_with_good_requests(desk: Desk, path: str) -> None:
    answer = await desk.router.post(path, json=fresh(path, BODIES[path]))
    assert answer.status_code in (200, 204, 402), answer.text  # 402 is recorded as well


@pytest.mark.parametrize(("path", "body"), VARIANTS)
async def test_every_field_takes_or_refuses_every_value(desk: Desk, path: str, body: dict[str, Any]) -> None:
    cases = [(field, text) for field in leaves(body) for text in NASTY_VALUES]
    headers = {"Content-Type": "application/json"}
    for begin in range(0, len(cases), 20):
        some = cases[begin : begin + 20]
        contents = [with_value(fresh(path, body), field, text) for field, text in some]
        answers = await asyncio.gather(*(desk.router.post(path, content=each, headers=headers) for each in contents))
        for case, answer in zip(some, answers, strict=True):
            judge(answer, (path, *case))
        if path == "/v1/usage":
            new = [with_value(fresh(path, body), field, text) for field, text in some]
            items = b'{"events": [' + b",".join(body for body in new if _is_json(body)) + b"]}"
            batch = await desk.router.post("/v1/usage/batch", content=items, headers=headers)
            judge(batch, some)
            assert "internal_error" not in batch.text, some


def _is_json(body: bytes) -> bool:
    """Whether Python reads the body: numbers of too many digits make a whole batch unreadable."""
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("path", [*BODIES, "/v1/usage/batch"])
@pytest.mark.parametrize("name", WHOLE_BODIES)
async def test_every_body_is_taken_or_refused(desk: Desk, path: str, name: str) -> None:
    answer = await desk.router.post(path, content=WHOLE_BODIES[name], headers={"Content-Type": "application/json"})
    judge(answer, (path, name))
    assert answer.status_code in (400, 422) or (path, name) == ("/v1/events", "a list")


@pytest.mark.parametrize("path", [*BODIES, "/v1/usage/batch"])
async def test_every_content_type_is_taken_or_refused(desk: Desk, path: str) -> None:
    content = json.dumps(BODIES.get(path, {"events": []})).encode()
    for content_type in CONTENT_TYPES:
        answer = await desk.router.post(path, content=content, headers={"Content-Type": content_type})
        judge(answer, (path, content_type))


@pytest.mark.parametrize(
    "name",
    [*("ce-id", "ce-time", "ce-subject", "ce-specversion", "ce-extension"), *("X-Service-Name", "traceparent")],
)
async def test_every_header_is_taken_or_refused(desk: Desk, name: str) -> None:
    binary = {
        f"ce-{key}".encode(): str(CLOUD_EVENT[key]).encode()
        for key in ("specversion", "id", "source", "type", "subject")
    }
    for value in (b"", b"%", b"\xff\xfe", b"%00", b"x" * 5000, b'"\\', b"%ED%A0%80", "€".encode()):
        own = {b"ce-id": uuid.uuid4().hex.encode(), b"Content-Type": b"application/json"}
        headers = {**binary, **own, name.encode(): value}
        judge(await desk.router.post("/v1/events", content=b"{}", headers=headers), (name, value))


QUERY = {
    **dict.fromkeys(("meter", "provider", "model", "agent", "tool", "key", "run", "source", "cursor"), "x"),
    "from": NOW,
    "to": NOW,
    "status": "charged",
    "group_by": "model",
    "interval": "day",
    "limit": "5",
    "user_id": "nasty",
    "external_id": "x",
}


@pytest.mark.parametrize("name", QUERY)
async def test_every_query_takes_or_refuses_every_value(desk: Desk, name: str) -> None:
    for value in NASTY_QUERIES:
        for params in ({name: value}, {**QUERY, name: value}, {"group_by": ["model", "run"], "cursor": value}):
            judge(await desk.reader.get("/v1/usage", params=params), (name, value))


async def test_hostile_values_give_no_money(desk: Desk, user: str) -> None:
    for value in (-1, -(2**63), -1e308, "-1", "-0.000000001", "-Infinity", -0.5):
        for name in ("cost_cents", "cost"):
            body = {**EVENT, "event_id": f"{name}{value}", "user_id": user, "cost_cents": None, name: value}
            answer = await desk.router.post("/v1/usage", json=body) if value != -1e308 else None
            assert answer is None or answer.status_code in (400, 422), (name, value)
    assert await desk.wallet(user) == (10 * DOLLAR, 0)


async def test_used_money_that_would_exceed_64_bits_is_named_as_the_cost(desk: Desk) -> None:
    """Of an event, and of one in a batch."""
    user = await desk.user()
    await desk.give(user, MAX_NANOS)
    much = {"type": "custom", "meter": "sms", "quantity": 10**11}
    assert (await desk.router.post("/v1/usage", json=usage(user, metric=much))).status_code == 200
    refused = await desk.router.post("/v1/usage", json=usage(user, metric=much))
    problem = "cost is too large: the account's used or owed money would exceed 64 bits"
    assert (refused.status_code, refused.json()["code"]) == (422, "balance_limit_exceeded")
    assert refused.json()["detail"] == problem
    batch = await desk.router.post("/v1/usage/batch", json={"events": [usage(user, metric=much), usage(user)]})
    assert [item["message"] for item in batch.json()["results"]] == [problem, None]
