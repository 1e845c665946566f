"""CloudEvents over HTTP: accepted and repeated events answer 204, and what money does not cover is owed."""

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.metering.conftest import SOURCE, Desk, llm, usage
from tests.support.wallets import DOLLAR

ONE, MANY, JSON = "application/cloudevents+json", "application/cloudevents-batch+json", "application/json"
SONNET = {"provider": "anthropic", "model": "claude-3-5-sonnet"}
OTEL = {
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "claude-3-5-sonnet",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 100,
    "gen_ai.conversation.id": "c-1",
    "gen_ai.agent.id": "agent-7",
}


def event(subject: str, data: Any = None, type: str = "llm_tokens", **attributes: Any) -> dict[str, Any]:
    given = {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "/tests", "type": type, "subject": subject}
    return {**given, "data": OTEL if data is None else data, **attributes}


async def send(desk: Desk, body: Any, content_type: str = ONE, path: str = "/v1/events", **headers: str) -> Any:
    return await desk.router.post(
        path, content=json.dumps(body).encode(), headers={"Content-Type": content_type, **headers}
    )


@pytest.mark.parametrize("path", ["/v1/events", "/api/v1/events"])
@pytest.mark.parametrize("content_type", [ONE, JSON])
async def test_a_structured_event_is_charged_once(desk: Desk, user: str, path: str, content_type: str) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    sent = event(user, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", time=at.isoformat())
    for _ in range(2):
        answer = await send(desk, sent, content_type, path)
        assert (answer.status_code, answer.content) == (204, b"")
    assert await desk.wallet(user) == (10 * DOLLAR - 4_500_000, 0)
    [row] = await desk.events(user)
    assert (row["event_id"], row["source"], row["agent_id"]) == (sent["id"], "/tests", "agent-7")
    assert row["occurred_at"] == at
    assert json.loads(row["attribution"])["conversation"] == "c-1"
    assert json.loads(row["attribution"])["traceparent"] == sent["traceparent"]
    assert json.loads(row["raw"]) == OTEL


async def test_a_binary_event_is_the_same_as_a_structured_one(desk: Desk, user: str) -> None:
    sent = event(user, id="100% sure")
    headers = {f"ce-{name}": value for name, value in sent.items() if name not in ("data", "id")}
    for _ in range(2):
        answer = await send(desk, OTEL, JSON, **headers, **{"ce-id": "100%25%20sure"})
        assert answer.status_code == 204, answer.text
    assert (await send(desk, sent)).status_code == 204
    assert [row["event_id"] for row in await desk.events(user)] == ["100% sure"]


@pytest.mark.parametrize("content_type", [MANY, JSON])
async def test_a_batch_records_its_good_events_and_names_the_others(desk: Desk, user: str, content_type: str) -> None:
    good = [event(user) for _ in range(3)]
    assert (await send(desk, good[:2], content_type)).status_code == 204
    bad = [event(user, {"model": "m"}), {**event(user), "id": ""}, event(user, {**OTEL, "gen_ai.request.model": "x"})]
    answer = await send(desk, [good[0], bad[0], good[2], *bad[1:]], content_type)
    assert (answer.status_code, answer.json()["code"]) == (422, "events_rejected")
    refused = answer.json()["error"]["details"]["events"]
    assert [each["index"] for each in refused] == [1, 3, 4]
    assert [each["code"] for each in refused] == ["invalid_request", "invalid_request", "unknown_model"]
    assert len(await desk.events(user)) == 3
    assert (await send(desk, [], content_type)).status_code == 204


async def test_the_policy_is_debt_up_to_the_limit(desk: Desk) -> None:
    user = await desk.user(1)
    mega = {**SONNET, "input_tokens": 33_000_000, "output_tokens": 0}
    assert (await send(desk, event(user, mega))).status_code == 204
    assert await desk.wallet(user) == (0, 98_990_000_000)
    answer = await send(desk, event(user, mega))
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_money")


DATA: dict[str, tuple[str, Any, str, dict[str, Any]]] = {
    "OpenTelemetry": ("chat", OTEL, "llm_tokens", {"input_uncached": 1000, "output_text": 100}),
    "a metric": ("x", {"metric": llm(5, 6)}, "llm_tokens", {"input_uncached": 5, "output_text": 6}),
    "a metric alone": ("x", llm(5, 6), "llm_tokens", {"input_uncached": 5, "output_text": 6}),
    "a usage object": (
        "llm_tokens",
        {**SONNET, "usage": {"prompt_tokens": 5, "completion_tokens": 6}},
        "llm_tokens",
        {"input_uncached": 5, "output_text": 6},
    ),
    "OpenMeter's tokens": (
        "prompt",
        {"tokens": "123", "model": "claude-3-5-sonnet", "provider": "anthropic", "type": "output"},
        "llm_tokens",
        {"output_text": 123},
    ),
    "compute": (
        "compute",
        {"cpu_hours": 1, "memory_gb_hours": 0},
        "compute",
        {"cpu_hours": "1", "memory_gb_hours": "0"},
    ),
    "calls": ("api_calls", {"endpoint": "/x", "count": 2}, "api_calls", {"count": 2, "endpoint": "/x"}),
    "a custom meter": ("sms", {"quantity": 2}, "sms", {"quantity": "2"}),
    "a custom meter by text": ("sms", {"value": "2.5"}, "sms", {"quantity": "2.5"}),
    "an event that counts": ("sms", {}, "sms", {"quantity": "1"}),
}


@pytest.mark.parametrize("name", DATA)
async def test_the_data_may_be(desk: Desk, user: str, name: str) -> None:
    type_, data, meter, quantities = DATA[name]
    answer = await send(desk, event(user, data, type_))
    assert answer.status_code == 204, answer.text
    [row] = await desk.events(user)
    assert (row["meter"], json.loads(row["quantities"])) == (meter, quantities)


@pytest.mark.parametrize(
    ("changes", "status", "named"),
    [
        ({"subject": None}, 422, "subject"),
        ({"id": None}, 422, "id"),
        ({"type": "fax", "data": {"value": 1}}, 422, "fax"),
        ({"type": "com.example.sms", "data": {}}, 422, "meter"),
        ({"data": [1]}, 422, "data"),
        ({"data": {"duration_ms": 5}, "type": "sms"}, 422, "quantity"),
        ({"data": {"quantity": "many"}, "type": "sms"}, 422, "quantity"),
        ({"data": {"quantity": "1e999999999"}, "type": "sms"}, 422, "quantity"),
        ({"data": {"quantity": -1}, "type": "sms"}, 422, "quantity"),
        ({"data": {"tokens": 5, "model": "m"}, "type": "prompt"}, 422, "type"),
        ({"data": {"tokens": 1.5, "type": "input"}, "type": "prompt"}, 422, "tokens"),
        ({"time": "2001-01-01T00:00:00Z"}, 422, "time"),
    ],
)
async def test_an_event_without_usage_is_refused_by_name(
    desk: Desk, user: str, changes: dict[str, Any], status: int, named: str
) -> None:
    answer = await send(desk, {**event(user), **changes})
    assert answer.status_code == status, answer.text
    assert named in answer.json()["detail"]


@pytest.mark.parametrize(("body", "content_type"), [(b"{", ONE), (b"[]", "text/plain"), (b"{}", MANY), (b"", JSON)])
async def test_a_request_without_cloudevents_is_a_bad_request(desk: Desk, body: bytes, content_type: str) -> None:
    answer = await desk.router.post("/v1/events", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_a_key_without_users_or_permission_reports_nothing(desk: Desk, user: str) -> None:
    for client, status in ((desk.nameless, 422), (desk.reader, 403), (desk.nobody, 401)):
        answer = await client.post("/v1/events", json=event(user))
        assert answer.status_code == status
    assert await desk.events(user) == []


async def test_the_source_of_an_event_is_its_own(desk: Desk, user: str) -> None:
    await send(desk, event(user, id="same", source="/a"))
    await send(desk, event(user, id="same", source="/b"))
    await desk.router.post("/v1/usage", json=usage(user, "same"))
    assert {row["source"] for row in await desk.events(user)} == {"/a", "/b", SOURCE}


async def test_the_same_id_with_other_data_is_refused(desk: Desk, user: str) -> None:
    sent = event(user)
    assert (await send(desk, sent)).status_code == 204
    answer = await send(desk, {**sent, "data": {**OTEL, "gen_ai.usage.output_tokens": 101}})
    assert (answer.status_code, answer.json()["code"]) == (422, "event_id_reused")
    assert len(await desk.events(user)) == 1


async def test_the_price_book_decides_although_the_data_states_a_cost(desk: Desk, user: str) -> None:
    for data in ({**OTEL, "cost": 0, "cost_cents": 0}, {"metric": {**llm(), "cost": "0"}, "cost": "0"}):
        assert (await send(desk, event(user, data))).status_code == 204
    assert [row["cost_nanos"] for row in await desk.events(user)] == [4_500_000, 4_500_000]


async def test_a_volume_belongs_to_the_month_of_utc(desk: Desk, user: str) -> None:
    """The first 1,000 calls of a month cost a dollar, and further ones half. Both events are of the same month."""
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=4)
    calls = {"endpoint": "/tiered", "count": 1000}
    for at in (first.astimezone(timezone(timedelta(hours=5))), first):  # on the first, and on the last of a month
        assert (await send(desk, event(user, calls, "api_calls", time=at.isoformat()))).status_code == 204
    assert [row["cost_nanos"] for row in await desk.events(user)] == [DOLLAR, DOLLAR // 2]
