"""The wire contract of usage: each row of it, as the clients of Z-Billing send and read it."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.metering.conftest import PROVIDER, Desk, llm, usage
from tests.support.wallets import DOLLAR

PATH = "/v1/usage"


def is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


METRICS: dict[str, tuple[dict[str, Any], str]] = {
    "tokens": (llm(), "0.004500"),
    "cached tokens": (
        {
            "type": "llm_tokens",
            "provider": "anthropic",
            "model": "claude-3-5-sonnet",
            "usage": {"input_tokens": 1000, "cache_read_input_tokens": 1000, "output_tokens": 0},
        },
        "0.003300",
    ),
    "tokens in batch mode": (llm(mode="batch"), "0.002250"),
    "a model in another case": (llm(model="Claude-3-5-SONNET"), "0.004500"),
    "no tokens": (llm(0, 0), "0.000000"),
    "one token": (llm(1, 0, "gpt-4o-mini", provider="openai"), "0.00000015"),
    "compute": ({"type": "compute", "cpu_hours": 0.5, "memory_gb_hours": 1}, "0.050000"),
    "API calls": ({"type": "api_calls", "endpoint": "/v1/search", "count": 3}, "0.000030"),
    "a tool": ({"type": "tool_calls", "tool": "search"}, "0.002000"),
    "storage": ({"type": "storage", "quantity": 2.5}, "0.025000"),
    "a custom meter": ({"type": "custom", "meter": "sms", "quantity": 2}, "0.100000"),
}


@pytest.mark.parametrize("name", METRICS)
async def test_usage_and_its_quote_cost_the_same(desk: Desk, user: str, name: str) -> None:
    metric, cost = METRICS[name]
    answer = await desk.router.post(PATH, json=usage(user, metric=metric, zero_pro_user=True))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["success"] is True
    assert is_int(body["balance_cents"])
    assert is_int(body["cost_cents"])
    assert isinstance(body["transaction_id"], str)
    assert body["cost"] == cost
    quoted = await desk.router.post(f"{PATH}/quote", json={"metric": metric, "isZeroPro": True})
    assert quoted.status_code == 200, quoted.text
    quote = quoted.json()
    assert (quote["cost_cents"], quote["currency"], quote["cost"]) == (body["cost_cents"], "USD_CENTS", cost)
    assert sum(float(line["amount"]) for line in quote["lines"]) == pytest.approx(float(cost))


UNKNOWN = llm(model="gpt-99")
MALFORMED: dict[str, tuple[dict[str, Any], int, str]] = {
    "no metric": ({"metric": None}, 422, "metric"),
    "another metric": ({"metric": {"type": "minutes", "count": 1}}, 422, "metric"),
    "negative tokens": ({"metric": llm(-1)}, 422, "input_tokens"),
    "tokens as text": ({"metric": llm("5")}, 422, "input_tokens"),  # type: ignore[arg-type]  # on purpose
    "an empty id": ({"event_id": ""}, 422, "event_id"),
    "a long id": ({"event_id": "x" * 256}, 422, "event_id"),
    "NUL in the id": ({"event_id": "a\0"}, 422, "event_id"),
    "a negative cost": ({"cost_cents": -1}, 400, "cost_cents"),
    "a negative exact cost": ({"cost": "-0.01"}, 400, "cost"),
    "two costs": ({"cost": "1", "cost_cents": 100}, 422, "cost"),
    "a cost above the key's bound": ({"cost_cents": 10_001}, 422, "cost_cents"),
    "a cost of more than 64 bits": ({"cost": "9999999999"}, 422, "cost"),
    "half a cent": ({"cost_cents": 0.5}, 422, "cost_cents"),
    "an unknown model": ({"metric": UNKNOWN}, 422, "gpt-99"),
    "an unknown meter": ({"metric": {"type": "custom", "meter": "fax", "quantity": 1}}, 422, "fax"),
    "too much": ({"metric": llm(2**63 - 1, 2**63 - 1)}, 422, "metric"),
    "no user": ({"user_id": None}, 422, "user_id"),
    "a subset above its total": (
        {
            "metric": {
                "type": "llm_tokens",
                "provider": "openai",
                "model": "gpt-4o-mini",
                "usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
            }
        },
        422,
        "prompt_tokens",
    ),
    "metadata with NUL": ({"metadata": {"a": "\0"}}, 422, "metadata"),
    "deep metadata": ({"metadata": [[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]}, 422, "metadata"),
    "large metadata": ({"metadata": "x" * 20_000}, 422, "metadata"),
    "metadata of few bytes and many digits": ({"metadata": [1e308, -1e-308] * 30}, 422, "metadata"),
    "a metric of many digits": ({"metric": llm(more=[1e308] * 60)}, 422, "metric"),
    "a time without zone": ({"time": "2026-01-01T00:00:00"}, 422, "time"),
    "a time of the year 1": ({"time": "0001-01-01T00:00:00Z"}, 422, "time"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_bad_event_is_refused_by_the_name_of_its_field(desk: Desk, user: str, name: str) -> None:
    changes, status, named = MALFORMED[name]
    answer = await desk.router.post(PATH, json={**usage(user), **changes})
    assert answer.status_code == status, answer.text
    assert named in str(answer.json()["detail"])
    assert await desk.events(user) == []
    item = (await desk.router.post(f"{PATH}/batch", json={"events": [{**usage(user), **changes}]})).json()
    assert (item["processed"], item["failed"]) == (0, 1)
    assert named in item["results"][0]["message"]
    assert await desk.wallet(user) == (10 * DOLLAR, 0)


@pytest.mark.parametrize(("offset", "status"), [(-34.9, 200), (-35.1, 422), (0.003, 200), (0.004, 422)])
async def test_the_events_own_time_lies_in_its_window(desk: Desk, user: str, offset: float, status: int) -> None:
    at = datetime.now(UTC) + timedelta(days=offset)
    answer = await desk.router.post(PATH, json=usage(user, time=at.isoformat()))
    assert answer.status_code == status, answer.text
    if status == 422:
        assert answer.json()["field"] == "time"


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        ("nobody", "", 401),
        ("nobody", "/batch", 401),
        ("nobody", "/check", 401),
        ("nobody", "/quote", 401),
        ("stranger", "", 403),
        ("stranger", "/check", 403),
        ("reader", "", 403),
        ("reader", "/batch", 403),
        ("reader", "/compute", 403),
        ("reader", "/check", 200),
        ("reader", "/quote", 200),
        ("writer", "", 200),
        ("writer", "/check", 200),
        ("writer", "/quote", 200),
    ],
)
async def test_permissions(desk: Desk, user: str, key: str, path: str, status: int) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "": usage(user),
        "/batch": {"events": []},
        "/check": {"user_id": user, "required_cents": 1},
        "/quote": {"metric": llm()},
        "/compute": {"event_id": "e", "user_id": user, "cpu_hours": 1, "memory_gb_hours": 1},
    }
    answer = await desk.clients[key].post(f"{PATH}{path}", json=bodies[path])
    assert answer.status_code == status, answer.text


async def test_stating_a_cost_is_a_permission(desk: Desk, user: str) -> None:
    answer = await desk.writer.post(PATH, json=usage(user, cost_cents=0))
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_permission")
    free = (await desk.router.post(PATH, json=usage(user, cost_cents=0))).json()
    assert (free["cost_cents"], free["cost"], free["status"]) == (0, "0.000000", "charged")
    picture = (await desk.router.post(PATH, json=usage(user, metric=llm(0, 0, "flux"), cost_cents=4))).json()
    assert (picture["cost_cents"], picture["balance_cents"]) == (4, 996)
    at_the_bound = await desk.router.post(PATH, json=usage(user, cost_cents=10_000))
    assert at_the_bound.status_code == 402


async def test_an_account_is_created_by_usage_by_a_check_and_by_a_batch(desk: Desk) -> None:
    users = [str(uuid.uuid4()) for _ in range(3)]
    assert (await desk.router.post(PATH, json=usage(users[0]))).status_code == 402
    check = await desk.router.post(f"{PATH}/check", json={"user_id": users[1], "required_cents": 0})
    assert check.json()["sufficient"] is True
    await desk.router.post(f"{PATH}/batch", json={"events": [usage(users[2])]})
    for user in users:
        assert await desk.wallet(user) == (0, 0)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"required_cents": 1000}, (True, 1000, "10.000000")),
        ({"required_cents": 1001}, (False, 1001, "10.010000")),
        ({"required_cents": 0}, (True, 0, "0.000000")),
        ({"required_cents": -5}, (True, -5, "0.000000")),
        ({"required_cents": 0, "provider": "anthropic", "model": "claude-3-5-sonnet"}, (True, 3, "0.021000")),
        ({"required_cents": 0, "provider": "openai", "model": "gpt-4o-mini"}, (True, 1, "0.010000")),
        ({"required_cents": 0, "provider": "", "model": "unknown"}, (False, 1, "0.010000")),
        ({"required_cents": 7, "provider": "anthropic", "model": "claude-3-5-sonnet"}, (True, 7, "0.070000")),
        (
            {"required_cents": 0, "provider": "anthropic", "model": "claude-3-5-sonnet", "zeroProUser": True},
            (True, 3, "0.021000"),
        ),
    ],
)
async def test_a_check_answers_what_is_required(desk: Desk, user: str, body: dict[str, Any], expected: Any) -> None:
    answer = await desk.router.post(f"{PATH}/check", json={"user_id": user, **body})
    assert answer.status_code == 200, answer.text
    reply = answer.json()
    assert (reply["sufficient"], reply["required_cents"], reply["required"]) == expected
    assert (reply["balance_cents"], reply["balance"]) == (1000, "10.000000")
    assert await desk.wallet(user) == (10 * DOLLAR, 0)


async def test_an_empty_account_fails_the_models_reserve(desk: Desk) -> None:
    user = await desk.user()
    model = {"provider": "anthropic", "model": "claude-3-5-sonnet"}
    reply = (await desk.router.post(f"{PATH}/check", json={"user_id": user, "required_cents": 0, **model})).json()
    assert (reply["sufficient"], reply["required_cents"]) == (False, 3)


@pytest.mark.parametrize(("nanos", "sufficient"), [(21_000_000, True), (20_999_999, False)])
async def test_a_check_decides_by_exact_amounts(desk: Desk, nanos: int, sufficient: bool) -> None:
    """Rounded, the balance of two cents would never suffice for the three that the call needs."""
    user = await desk.user()
    await desk.give(user, nanos)
    model = {"provider": "anthropic", "model": "claude-3-5-sonnet"}
    reply = (await desk.router.post(f"{PATH}/check", json={"user_id": user, "required_cents": 0, **model})).json()
    assert (reply["sufficient"], reply["balance_cents"], reply["required_cents"]) == (sufficient, 2, 3)


@pytest.mark.parametrize("body", [{}, {"required_cents": "5"}, {"required_cents": 1.5}, {"required_cents": None}])
async def test_a_check_requires_its_amount(desk: Desk, user: str, body: dict[str, Any]) -> None:
    answer = await desk.router.post(f"{PATH}/check", json={"user_id": user, **body})
    assert answer.status_code == 422


async def test_compute_in_the_flat_form_is_the_same_event(desk: Desk, user: str) -> None:
    flat: dict[str, Any] = {
        "event_id": f"compute:{user}:1",
        "user_id": user.upper(),
        "agent_id": "0B6E2D3C11114222833344445555 6666".replace(" ", ""),
        "cpu_hours": 0.25,
        "memory_gb_hours": 0.5,
        "sku": "small",
        "hourly_price_cents": 99,
    }
    answer = await desk.router.post(f"{PATH}/compute", json=flat)
    assert answer.status_code == 200, answer.text
    assert answer.json()["cost"] == "0.025000"
    [row] = await desk.events(user)
    assert (row["meter"], row["agent_id"]) == ("compute", "0b6e2d3c-1111-4222-8333-444455556666")
    assert '"sku": "small"' in row["raw"]
    metric = {"type": "compute", "cpu_hours": 0.25, "memory_gb_hours": 0.5}
    assert (await desk.router.post(PATH, json=usage(user, f"compute:{user}:1", metric))).status_code == 409
    assert (await desk.router.post(f"{PATH}/compute", json={**flat, "cpu_hours": 1})).status_code == 422
    unknown = await desk.router.post(f"{PATH}/compute", json={"event_id": "e", "user_id": user, "cpu_hours": 1})
    assert unknown.status_code == 422


async def test_a_batch_answers_for_each_event_in_order(desk: Desk, user: str) -> None:
    poor = await desk.user()
    repeated = usage(user)
    events: list[Any] = [
        usage(user, cost_cents=999),
        repeated,
        repeated,
        usage(user, cost_cents=999),
        usage(poor),
        {"event_id": "half", "user_id": user},
        "no event",
        {"event_id": 5},
        usage(user, metric=llm(0, 0)),
    ]
    answer = await desk.router.post(f"{PATH}/batch", json={"events": events})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [(item["success"], item["error"]) for item in body["results"]] == [
        (True, None),
        (True, None),
        (False, "duplicate_event"),
        (False, "insufficient_credits"),
        (False, "insufficient_credits"),
        (False, "invalid_request"),
        (False, "invalid_request"),
        (False, "invalid_request"),
        (True, None),
    ]
    assert [item["event_id"] for item in body["results"][5:8]] == ["half", "", ""]
    assert [item["cost_cents"] for item in body["results"][:3]] == [999, 1, 1]
    assert body["results"][2]["transaction_id"] == body["results"][1]["transaction_id"]
    assert (body["processed"], body["failed"]) == (3, 6)
    again = (await desk.router.post(f"{PATH}/batch", json={"events": events[:2]})).json()
    assert [item["error"] for item in again["results"]] == ["duplicate_event"] * 2


async def test_a_batch_may_repeat_reuse_and_retry_an_id(desk: Desk) -> None:
    user = await desk.user(1)
    first, dear = usage(user, "a", llm(1, 0)), usage(user, "dear", cost_cents=2)
    events = [
        first,
        {**first, "user_id": user.upper()},
        {**first, "metric": llm(2, 0)},
        dear,
        dear,
        {"oauth_provider": PROVIDER, "external_id": user, "event_id": "dear", "metric": llm(1, 0)},
        dear,
    ]
    body = (await desk.router.post(f"{PATH}/batch", json={"events": events})).json()
    assert [item["error"] for item in body["results"]] == [
        None,
        "duplicate_event",
        "event_id_reused",
        "insufficient_credits",
        "insufficient_credits",
        None,
        "event_id_reused",
    ]
    assert [(row["event_id"], row["status"]) for row in await desk.events(user)] == [
        ("a", "charged"),
        ("dear", "refused"),
        ("dear", "charged"),
    ]
    account_id = await desk.account_id(user)
    attempts = await desk.rows("SELECT event_id, attempts FROM usage_attempts WHERE account_id = $1", account_id)
    assert attempts == [{"event_id": "dear", "attempts": 2}]
    assert await desk.wallet(user) == (10_000_000 - 2 * 3_000, 0)


@pytest.mark.parametrize("events", [None, "x", {}, [{}] * 1001])
async def test_a_batch_that_is_no_batch_is_refused_whole(desk: Desk, events: Any) -> None:
    assert (await desk.router.post(f"{PATH}/batch", json={"events": events})).status_code == 422
    assert (await desk.router.post(f"{PATH}/batch", json={"events": []})).json() == {
        "results": [],
        "processed": 0,
        "failed": 0,
    }


async def test_a_batch_of_a_thousand_is_in_order_for_each_account(desk: Desk) -> None:
    """Each of three accounts can pay for its first hundred events only, interleaved with the others' events."""
    users = [await desk.user(100) for _ in range(3)]
    events = [usage(users[number % 3], f"{number}", cost_cents=1) for number in range(1000)]
    body = (await desk.router.post(f"{PATH}/batch", json={"events": events})).json()
    paid = [number for number, item in enumerate(body["results"]) if item["success"]]
    assert paid == list(range(300))
    assert [item["event_id"] for item in body["results"]] == [event["event_id"] for event in events]


async def test_the_price_falls_with_the_months_volume_however_events_are_split(desk: Desk) -> None:
    """The first 1,000 calls cost a dollar, each further thousand half."""
    users = [await desk.user(1000) for _ in range(2)]
    counts = [[1500], [400, 400, 400, 300]]
    for user, parts in zip(users, counts, strict=True):
        events = [usage(user, metric={"type": "api_calls", "endpoint": "/tiered", "count": part}) for part in parts]
        await desk.router.post(f"{PATH}/batch", json={"events": events[:2]})
        for event in events[2:]:
            await desk.router.post(PATH, json=event)
        assert await desk.wallet(user) == (10 * DOLLAR - 1_250_000_000, 0)
    rows = await desk.events(users[1])
    assert [row["cost_nanos"] for row in rows] == [400_000_000, 400_000_000, 300_000_000, 150_000_000]
    detail = (await desk.reader.get(f"{PATH}/events/{rows[2]['event_id']}?user_id={users[1]}&source=router")).json()
    assert [line["quantity"] for line in detail["lines"]] == ["200", "200"]


async def test_test_keys_have_their_own_accounts(desk: Desk, user: str) -> None:
    assert (await desk.test.post(PATH, json=usage(user))).status_code == 402
    assert await desk.events(user) == []


@pytest.mark.parametrize(
    ("key", "path", "body", "status", "code"),
    [
        ("nobody", "", b"{}", 401, "unauthorized"),
        ("stranger", "", b"{}", 403, "forbidden"),
        ("router", "", b"{", 422, "bad_request"),
        ("router", "", b"\xff", 400, "bad_request"),
        ("router", "/check", b"{}", 422, "bad_request"),
        ("router", "/nothing", b"{}", 404, "not_found"),
        ("router", "/me", b"{}", 405, "bad_request"),
    ],
)
async def test_every_failure_has_the_envelope(
    desk: Desk, key: str, path: str, body: bytes, status: int, code: str
) -> None:
    answer = await desk.clients[key].post(f"{PATH}{path}", content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], type(error["message"])) == (status, code, str), answer.text
    assert {"detail", "code", "request_id"} <= set(answer.json())


async def test_refusals_in_the_words_of_the_contract(desk: Desk) -> None:
    user = await desk.user(1)
    event = usage(user, "e 1", cost_cents=2)
    error = (await desk.router.post(PATH, json=event)).json()["error"]
    assert (error["code"], error["details"]) == ("insufficient_credits", {"balance": 1, "required": 2})
    await desk.give(user, DOLLAR)
    await desk.router.post(PATH, json=event)
    error = (await desk.router.post(PATH, json=event)).json()["error"]
    assert error == {"code": "duplicate_event", "message": "Event e 1 already processed"}
    error = (await desk.router.post(PATH, json={**event, "cost_cents": -1})).json()["error"]
    assert error["code"] == "bad_request"
    missing = await desk.reader.get(f"{PATH}/events/x", params={"user_id": str(uuid.uuid4())})
    assert missing.json()["error"]["code"] == "not_found"
    assert "Account" in missing.json()["error"]["message"]
