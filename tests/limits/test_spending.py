"""Limits and every way to spend: at the limit, one unit over it, and what is not counted."""

import asyncio
import uuid
from typing import Any

import pytest

from tests.limits.conftest import CREDIT_ROUTES, REQUESTS, SCOPES, Teller

WINDOWS = ("minute", "hour", "day", "month", "lifetime")
OK = (200, 201)
SMALLER = {"type": "smaller_amount", "amount": None, "currency": None}


def text(unit: str, units: int) -> str:
    """An amount of so many credits, uses or nanos."""
    return f"0.{units:09}" if unit == "money" else str(units)


def scope(teller: Teller, kind: str) -> dict[str, Any]:
    if kind == "account":
        return {"type": "account"}
    return {"type": kind, "value": teller.key_id if kind == "key" else teller.names[kind]}


NAMED = [(route, kind, unit) for route in REQUESTS for kind in SCOPES[route] for unit in ("own", "uses")]
CASES = [
    *((*named, WINDOWS[number % len(WINDOWS)]) for number, named in enumerate(NAMED)),
    *(("charge", "account", "own", window) for window in WINDOWS[1:]),
]


@pytest.mark.parametrize(("route", "kind", "unit", "window"), CASES)
async def test_no_limit_is_exceeded_by_one_unit(
    route: str, kind: str, unit: str, window: str, teller: Teller, user: str
) -> None:
    """Each request asks for three units, or for one use."""
    if unit == "own":
        unit = "credits" if route in CREDIT_ROUTES else "money"
    each = 1 if unit == "uses" else 3
    before = await teller.balance(user)
    terms = {"scope": scope(teller, kind), "window": window, "unit": unit}
    limit = await teller.limit(user, **terms, amount=text(unit, each - 1))
    over = await teller.spend(route, user)
    assert (over.status_code, over.json()["code"]) == (402, "limit_exceeded"), over.text
    assert over.json()["limit"]["id"] == limit["id"]
    assert (await teller.balance(user), await teller.spent(user)) == (before, [limit["spent"]])
    for amount, status in [(each, 200), (each, 402), (2 * each - 1, 402), (2 * each + 1, 200), (3 * each - 1, 402)]:
        await teller.limit(user, **terms, amount=text(unit, amount))
        answer = await teller.spend(route, user)
        assert (answer.status_code in OK) is (status == 200), (amount, answer.text)
    [counted] = await teller.limits(user)
    assert (counted["id"], float(counted["spent"])) == (limit["id"], float(text(unit, 2 * each)))


@pytest.mark.parametrize(("route", "kind"), [(r, kind) for r in REQUESTS for kind in SCOPES[r] if kind != "account"])
async def test_what_the_limit_does_not_name_is_not_counted(route: str, kind: str, teller: Teller, user: str) -> None:
    unit = "uses"
    named = scope(teller, kind)
    if kind == "tool" and route == "tool":
        await teller.limit(user, scope={"type": "tool", "value": "other"}, unit=unit, amount="0")
        assert (await teller.spend(route, user)).status_code in OK
        return
    await teller.limit(user, scope=named, unit=unit, amount="0")
    by = teller.other if kind == "key" else teller.boss
    names = {} if kind == "key" else {kind: "claude-3-haiku" if kind == "model" else "other"}
    assert (await teller.spend(route, user, by, **names)).status_code in OK
    assert await teller.spent(user) == ["0"]


@pytest.mark.parametrize("route", REQUESTS)
async def test_a_repeat_of_a_request_is_not_counted(route: str, teller: Teller, user: str) -> None:
    await teller.limit(user, unit="uses", amount="1")
    path, body = REQUESTS[route](uuid.uuid4().hex, teller.names)
    answers = [await teller.boss.post(path, json={"user_id": user, **body}) for _ in range(3)]
    assert answers[0].status_code in OK
    assert all(answer.status_code in (200, 409) for answer in answers[1:])
    assert await teller.spent(user) == ["1"]


@pytest.mark.parametrize("route", REQUESTS)
async def test_a_soft_limit_counts_and_refuses_nothing(route: str, teller: Teller, user: str) -> None:
    await teller.limit(user, unit="uses", amount="1", action="notify")
    [quiet] = await teller.limits(user)
    for _ in range(3):
        assert (await teller.spend(route, user)).status_code in OK
    [crossed] = await teller.limits(user)
    assert (quiet["crossed_at"], crossed["spent"]) == (None, "3")
    assert crossed["crossed_at"] is not None


async def test_a_soft_and_a_hard_limit_form_a_pair(teller: Teller, user: str) -> None:
    """The same window and unit: the soft one is crossed without a refusal, the hard one refuses."""
    soft = await teller.limit(user, amount="2", action="notify")
    hard = await teller.limit(user, amount="6")
    answers = [await teller.spend("charge", user) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 402]
    assert answers[2].json()["limit"]["id"] == hard["id"]
    crossed = {limit["id"]: limit["crossed_at"] is not None for limit in await teller.limits(user)}
    assert crossed == {soft["id"]: True, hard["id"]: False}


async def test_every_limit_must_allow_the_request(teller: Teller, user: str) -> None:
    """The shortest window without room is named; what all of them leave is offered."""
    await teller.limit(user, window="month", amount="5")
    await teller.limit(user, window="day", amount="4")
    await teller.limit(user, window="hour", amount="100", action="notify")
    assert (await teller.spend("charge", user)).status_code == 201
    refused = (await teller.spend("charge", user)).json()
    assert (refused["limit"]["window"], refused["limit"]["spent"], refused["required"]) == ("day", "3", "3")
    month = next(limit for limit in await teller.limits(user) if limit["window"] == "month")
    wait = {"type": "wait", "until": month["resets_at"].replace(".000Z", "Z"), "reason": "limit"}
    assert refused["remedies"] == [{**SMALLER, "amount_minor": 100}, wait]
    assert refused["retryable"] is False
    assert await teller.spent(user) == ["3", "3", "3"]


@pytest.mark.parametrize("window", ["day", "lifetime"])
async def test_waiting_is_offered_only_if_it_helps(window: str, teller: Teller, user: str) -> None:
    await teller.limit(user, window=window, amount="2")
    refused = (await teller.spend("charge", user)).json()
    assert refused["remedies"] == [{**SMALLER, "amount_minor": 200}]


async def test_a_batch_of_events_is_recorded_as_far_as_the_limit_goes(teller: Teller, user: str) -> None:
    await teller.limit(user, unit="money", amount="0.000000007")
    events = [{"user_id": user, **REQUESTS["usage"](uuid.uuid4().hex, teller.names)[1]} for _ in range(4)]
    answer = (await teller.boss.post("/v1/usage/batch", json={"events": events})).json()
    assert [result["success"] for result in answer["results"]] == [True, True, False, False]
    assert {result["error"] for result in answer["results"][2:]} == {"limit_exceeded"}
    assert await teller.spent(user) == ["0.000000006"]
    stored = await teller.desk.events(user)
    assert [event["refusal"] for event in stored] == [None, None, "limit_exceeded", "limit_exceeded"]


async def test_a_batch_of_charges_is_charged_as_far_as_the_limit_goes(teller: Teller, user: str) -> None:
    """Its refused charges are kept for the back office, as refusals of the single route are."""
    path = "/v1/billing/charges/batch"
    await teller.limit(user, amount="7")
    charges = [{"user_id": user, **REQUESTS["charge"](uuid.uuid4().hex, teller.names)[1]} for _ in range(4)]
    results = (await teller.boss.post(path, json={"charges": charges})).json()["results"]
    assert [result["status"] for result in results] == [201, 201, 402, 402]
    assert {result["body"]["code"] for result in results[2:]} == {"limit_exceeded"}
    assert await teller.spent(user) == ["6"]
    account_id = await teller.desk.account_id(user)
    kept: list[dict[str, Any]] = []
    for _ in range(400):  # the server, in its own thread, writes refusals every few seconds
        if kept := await teller.desk.rows("SELECT route, code FROM refused_requests WHERE account_id = $1", account_id):
            break
        await asyncio.sleep(0.05)
    assert kept == [{"route": path, "code": "limit_exceeded"}] * 2


async def test_work_that_is_done_counts_and_is_not_refused(teller: Teller, user: str) -> None:
    await teller.limit(user, unit="money", amount="0.000000004")
    for _ in range(2):
        assert (await teller.spend("usage", user, teller.debtor)).status_code == 200
    assert (await teller.spend("usage", user)).status_code == 402
    [limit] = await teller.limits(user)
    assert (limit["spent"], limit["crossed_at"] is None) == ("0.000000006", False)


async def test_unpaid_requests_are_not_counted(teller: Teller) -> None:
    user = await teller.desk.user()
    await teller.limit(user, unit="uses", amount="100")
    for route in REQUESTS:
        if route != "record":
            assert (await teller.spend(route, user)).status_code == 402, route
    assert await teller.spent(user) == ["0"]


async def settle(teller: Teller, hold: str, action: str, **body: Any) -> dict[str, Any]:
    answer = await teller.boss.post(f"/v1/billing/holds/{hold}/{action}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    ("action", "body", "credits", "uses"),
    [
        ("release", {"outcome": "client_abort"}, "0", "0"),
        ("capture", {"amount_minor": 300}, "3", "1"),
        ("capture", {"amount_minor": 100}, "1", "1"),
        ("capture", {"amount_minor": 400, "overage": "charge_what_fits"}, "4", "1"),
        ("capture", {"amount_minor": 900, "overage": "charge_what_fits"}, "5", "1"),
    ],
)
async def test_a_hold_counts_until_its_settlement_corrects_it(
    action: str, body: dict[str, Any], credits: str, uses: str, teller: Teller, user: str
) -> None:
    """A capture beyond the hold charges what the limits leave: here two credits."""
    await teller.limit(user, window="day", amount="5")
    await teller.limit(user, window="lifetime", unit="uses", amount="2")
    hold = (await teller.spend("hold of credits", user)).json()["hold_id"]
    assert await teller.spent(user) == ["3", "1"]
    assert (await teller.spend("charge", user)).status_code == 402
    before = await teller.balance(user)
    settled = await settle(teller, hold, action, **body)
    assert await teller.spent(user) == [credits, uses]
    charged = (settled["captured_minor"] + settled["overage_minor"]) // 100
    assert charged == int(credits)
    assert (await teller.balance(user))[0] == before[0] + 3 - charged


@pytest.mark.parametrize("beyond", ["0.000000004", "0.000000005", "0.000000009"])
async def test_a_capture_beyond_the_hold_never_charges_more_than_it_asks_for(
    beyond: str, teller: Teller, user: str
) -> None:
    await teller.limit(user, unit="money", amount="1")
    hold = (await teller.spend("hold of money", user)).json()["hold_id"]
    settled = await settle(teller, hold, "capture", amount=beyond, overage="charge_what_fits")
    assert float(settled["captured"]) + float(settled["overage"]) == pytest.approx(float(beyond), abs=1e-12)
    assert [float(spent) for spent in await teller.spent(user)] == [float(beyond)]


@pytest.mark.parametrize(
    ("items", "status", "money", "uses"),
    [
        ([], "completed", 0, 1),
        (["0.000000001"], "completed", 1, 1),
        (["0.000000002", "0.000000005"], "completed", 7, 1),
        (["0.000000002", "0.000000005"], "failed", 0, 0),
    ],
)
async def test_a_cost_record_counts_the_larger_of_its_estimate_and_its_sum(
    items: list[str], status: str, money: int, uses: int, teller: Teller, user: str
) -> None:
    await teller.limit(user, window="day", unit="money", amount="0.000000005")
    await teller.limit(user, window="month", unit="uses", amount="5")
    record = (await teller.spend("record", user)).json()["record_id"]
    total = 0
    for item in items:
        body = {"item_id": uuid.uuid4().hex, "cost": item}
        assert (await teller.boss.post(f"/v1/cost-records/{record}/items", json=body)).status_code == 201
        total += int(item[2:])
        assert float((await teller.spent(user))[0]) == max(total, 3) / 10**9
    done = await teller.boss.post(f"/v1/cost-records/{record}/complete", json={"status": status})
    assert done.status_code == 200, done.text
    spent = await teller.spent(user)
    assert (float(spent[0]), spent[1]) == (money / 10**9, str(uses))
