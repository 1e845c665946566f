"""Explanations name the limits that allowed a request, with the headroom that they left."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.limits.purging import KEEP, purge_past_windows
from tests.limits.conftest import LIMITS, Teller
from tests.runs.conftest import CHARGES, HOLDS

KEPT = "SELECT count(*) AS number FROM evaluated_limits WHERE account_id = $1"


async def path_of(teller: Teller, user: str, route: str, answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """Where the request is explained, and the query."""
    body = answer.json()
    if route == "usage":
        return f"/v1/usage/events/{json.loads(answer.request.content)['event_id']}", {"user_id": user}
    if route in ("charge", "tool"):
        charge_id = body["charge_id"] if route == "charge" else await tool_charge(teller, user)
        return f"{CHARGES}/{charge_id}/explanation", {}
    return f"{HOLDS}/{body['hold_id']}/explanation", {}


async def explained(teller: Teller, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
    found = await teller.boss.get(path, params=query)
    assert found.status_code == 200, found.text
    limits: list[dict[str, Any]] = found.json()["limits"]
    return limits


async def tool_charge(teller: Teller, user: str) -> str:
    [row] = await teller.desk.rows(
        "SELECT charge_id FROM charges WHERE account_id = $1 AND operation <> 'charge' ORDER BY charge_id DESC LIMIT 1",
        await teller.desk.account_id(user),
    )
    return str(row["charge_id"])


def facts(limits: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [tuple(limit[name] for name in ("id", "amount", "spent", "headroom")) for limit in limits]


@pytest.mark.parametrize("route", ["charge", "tool", "hold of credits", "hold of money", "usage"])
async def test_the_limits_of_a_request_are_named_as_they_were(teller: Teller, user: str, route: str) -> None:
    """Shorter windows first, also soft ones, and none that is not about it. Later changes do not count."""
    is_money = route in ("usage", "hold of money")
    unit = "money" if is_money else "credits"
    amount, spent, rest = ("0.000000011", "0.000000003", "0.000000008") if is_money else ("11", "3", "8")
    month = await teller.limit(
        user, window="month", unit=unit, amount=amount, scope={"type": "key", "value": teller.key_id}
    )
    uses = await teller.limit(user, window="day", unit="uses", amount="5", action="notify")
    await teller.limit(user, window="day", unit=unit, amount=amount, scope={"type": "agent", "value": "another"})
    answer = await teller.spend(route, user)
    assert answer.is_success, answer.text
    expected = [(uses["id"], "5", "1", "4"), (month["id"], amount, spent, rest)]
    place = await path_of(teller, user, route, answer)
    found = await explained(teller, *place)
    assert facts(found) == expected
    assert (found[1]["scope"], found[1]["scope_value"], found[1]["window"]) == ("key", teller.key_id, "month")
    assert (found[0]["action"], found[0]["owner"], found[0]["unit"]) == ("notify", "operator", "uses")
    await teller.spend(route, user)
    await teller.limit(user, window="day", unit="uses", amount="9", action="notify")
    assert (await teller.boss.delete(f"{LIMITS}/{month['id']}")).status_code == 200
    assert facts(await explained(teller, *place)) == expected


async def test_a_captured_holds_charge_names_the_limits_of_the_hold(teller: Teller, user: str) -> None:
    limit = await teller.limit(user, amount="10")
    hold = (await teller.spend("hold of credits", user)).json()["hold_id"]
    captured = await teller.boss.post(f"{HOLDS}/{hold}/capture", json={"amount_minor": 100})
    found = await teller.boss.get(f"{CHARGES}/{captured.json()['charge_id']}/explanation")
    assert facts(found.json()["limits"]) == [(limit["id"], "10", "3", "7")]


async def settled(teller: Teller, user: str, opened_by: str) -> tuple[str, httpx.Response]:
    """Open a hold of money or a cost record, and settle it. Return its id, and the explanation of its event."""
    if opened_by == "record":
        body = (await teller.spend("record", user)).json()
        path, cost = f"/v1/cost-records/{body['record_id']}", {"item_id": "i", "cost": "0.000000002"}
        assert (await teller.boss.post(f"{path}/items", json=cost)).is_success
        answer = await teller.boss.post(f"{path}/complete", json={"status": "completed"})
    else:
        body = (await teller.spend("hold of money", user)).json()
        answer = await teller.boss.post(f"{HOLDS}/{body['hold_id']}/capture", json={"amount": "0.000000002"})
    assert answer.is_success, answer.text
    event = await teller.boss.get(f"/v1/usage/events/{answer.json()['transaction_id']}", params={"user_id": user})
    assert event.status_code == 200, event.text
    return body.get("record_id") or body["hold_id"], event


@pytest.mark.parametrize(("opened_by", "pool"), [("record", "money"), ("hold", "held")])
async def test_an_event_of_settled_work_names_its_opening_and_the_limits_of_it(
    teller: Teller, user: str, opened_by: str, pool: str
) -> None:
    limit = await teller.limit(user, unit="money", amount="0.00000001")
    opening_id, event = await settled(teller, user, opened_by)
    body = event.json()
    ids = {"hold_id": None, "record_id": None, f"{opened_by}_id": opening_id}
    assert {name: body[name] for name in ids} == ids
    assert facts(body["limits"]) == [(limit["id"], "0.00000001", "0.000000003", "0.000000007")]
    assert [(move["pool"], move["change"]) for move in body["moves"]] == [(pool, "-0.000000002")]


async def test_accounts_without_limits_and_refused_requests_store_nothing(teller: Teller, user: str) -> None:
    account_id = await teller.desk.account_id(user)
    charged = await teller.spend("charge", user)
    assert await explained(teller, *await path_of(teller, user, "charge", charged)) == []
    await teller.limit(user, amount="4")
    for route in ("charge", "tool", "hold of credits"):
        assert (await teller.spend(route, user)).status_code == 402
    assert (await teller.desk.rows(KEPT, account_id))[0]["number"] == 0


async def test_the_worker_deletes_old_notes(teller: Teller, user: str) -> None:
    account_id = await teller.desk.account_id(user)
    await teller.limit(user, amount="10")
    assert (await teller.spend("charge", user)).status_code == 201
    now = datetime.now(UTC)
    await purge_past_windows(teller.desk.db, now + KEEP - timedelta(hours=1))
    assert (await teller.desk.rows(KEPT, account_id))[0]["number"] == 1
    await purge_past_windows(teller.desk.db, now + KEEP + timedelta(minutes=5))
    assert (await teller.desk.rows(KEPT, account_id))[0]["number"] == 0
