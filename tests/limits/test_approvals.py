"""Approvals: a limit of action `ask` refuses, a person allows, and the request succeeds once, for what was allowed."""

import asyncio
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.ledger.approval_queries import find_of_limits
from tests.books import account_locked, waiting_for_locks
from tests.demo.oidc_server import SPA
from tests.limits.conftest import CREDIT_ROUTES, OWN, REQUESTS, ClientOf, Teller

APPROVALS = "/v1/billing/approvals"
OWN_APPROVALS = "/v1/accounts/me/approvals"


async def asking(teller: Teller, user: str, unit: str = "credits", **fields: Any) -> None:
    """Set a limit that has no room for a second request of three units, and spend the first."""
    amount = {"credits": "3", "uses": "1", "money": "0.000000003"}[unit]
    await teller.limit(user, action="ask", unit=unit, amount=amount, **fields)


async def refused(answer: httpx.Response) -> str:
    """Assert that the request waits for an approval, and return the approval's id."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (402, "approval_required"), body
    assert body["remedies"][-1] == {
        "type": "request_approval",
        "approval_id": body["approval_id"],
        "until": body["remedies"][-1]["until"],
    }
    return str(body["approval_id"])


async def of(teller: Teller, approval_id: str) -> dict[str, Any]:
    answer = await teller.boss.get(f"{APPROVALS}/{approval_id}")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    return dict(answer.json())


async def approve(person: httpx.AsyncClient, approval_id: str, **body: Any) -> dict[str, Any]:
    answer = await person.post(f"{OWN_APPROVALS}/{approval_id}/approve", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.mark.parametrize("route", REQUESTS)
async def test_an_approved_request_succeeds_once(
    teller: Teller, user: str, person: httpx.AsyncClient, route: str
) -> None:
    unit = "credits" if route in CREDIT_ROUTES else "money"
    await asking(teller, user, unit)
    assert (await teller.spend(route, user)).is_success
    approval_id = await refused(await teller.spend(route, user))
    assert (await of(teller, approval_id))["status"] == "pending"
    spent = await teller.spent(user)
    decided = await approve(person, approval_id)
    assert (decided["status"], decided["allowed"], decided["decided_by"]) == ("approved", decided["amount"], "user")
    assert (await teller.spend(route, user)).is_success
    assert (await of(teller, approval_id))["status"] == "used"
    assert [float(after) for after in await teller.spent(user)] == [2 * float(before) for before in spent]
    assert await refused(await teller.spend(route, user)) != approval_id


async def test_uses_can_be_approved_too(teller: Teller, user: str, person: httpx.AsyncClient) -> None:
    await asking(teller, user, "uses")
    assert (await teller.spend("charge", user)).is_success
    approval_id = await refused(await teller.spend("charge", user))
    assert (await approve(person, approval_id))["allowed"] == "1"
    assert (await teller.spend("charge", user)).is_success


async def test_an_agent_in_a_loop_asks_once_and_for_the_largest_amount(teller: Teller, user: str) -> None:
    await asking(teller, user)
    body = {"user_id": user, "metadata": {"agent_id": "scout"}}
    asked = [
        await refused(await teller.boss.post("/v1/billing/charges", json={**body, "amount_minor": amount}))
        for amount in (400, 900, 500)
    ]
    assert len(set(asked)) == 1
    assert (await of(teller, asked[0]))["amount"] == "9"
    answer = await teller.boss.get(APPROVALS, params={"user_id": user})
    assert [approval["approval_id"] for approval in answer.json()["approvals"]] == asked[:1]


async def test_another_requester_cannot_use_what_was_allowed(
    teller: Teller, user: str, person: httpx.AsyncClient
) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    approval_id = await refused(await teller.spend("charge", user))
    await approve(person, approval_id)
    by_agent = await refused(await teller.spend("charge", user, agent="other"))
    by_key = await refused(await teller.spend("charge", user, by=teller.other))
    by_route = await refused(await teller.spend("tool", user))
    assert len({approval_id, by_agent, by_key, by_route}) == 4
    assert (await teller.spend("charge", user)).is_success


@pytest.mark.parametrize(("amount", "succeeds"), [("2", False), ("3", True), ("4", True)])
async def test_a_person_bounds_the_amount(
    teller: Teller, user: str, person: httpx.AsyncClient, amount: str, succeeds: bool
) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    await approve(person, await refused(await teller.spend("charge", user)), amount=amount)
    assert (await teller.spend("charge", user)).is_success == succeeds


async def test_what_was_allowed_ends_with_its_time(
    teller: Teller, user: str, person: httpx.AsyncClient, set_time: Any
) -> None:
    now = datetime.now(UTC)
    await asking(teller, user, window="lifetime")
    await teller.spend("charge", user)
    approval_id = await refused(await teller.spend("charge", user))
    set_time(now)
    await approve(person, approval_id, valid_for_s=60)
    set_time(now + timedelta(seconds=60))
    assert (await of(teller, approval_id))["status"] == "expired"
    answer = await person.post(f"{OWN_APPROVALS}/{approval_id}/approve")
    assert (answer.status_code, answer.json()["code"]) == (409, "approval_closed")
    async with teller.desk.db.read() as db:
        assert await find_of_limits(db, [await teller.desk.account_id(user)], now + timedelta(seconds=60)) == []
    assert await refused(await teller.spend("charge", user)) != approval_id


async def test_two_decisions_at_once_have_one_outcome(teller: Teller, user: str, person: httpx.AsyncClient) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    approval_id = await refused(await teller.spend("charge", user))
    async with account_locked(teller.desk.urls, await teller.desk.account_id(user)):
        own = f"{OWN_APPROVALS}/{approval_id}"
        decisions = [asyncio.create_task(person.post(f"{own}/{decision}")) for decision in ("approve", "deny")]
        await waiting_for_locks(teller.desk.urls, 2)
    answers = await asyncio.gather(*decisions)
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert (await of(teller, approval_id))["status"] in [answer.json().get("status") for answer in answers]


async def test_a_denied_request_does_not_ask_again_for_a_day(
    teller: Teller, user: str, person: httpx.AsyncClient, set_time: Any
) -> None:
    await asking(teller, user, window="lifetime")
    await teller.spend("charge", user)
    approval_id = await refused(await teller.spend("charge", user))
    for _ in range(2):  # the same decision again changes nothing
        answer = await person.post(f"{OWN_APPROVALS}/{approval_id}/deny")
        assert (answer.status_code, answer.json()["status"]) == (200, "denied")
    again = await teller.spend("charge", user)
    assert (again.status_code, again.json()["code"]) == (402, "limit_exceeded")
    smaller = {"user_id": user, "amount_minor": 100, "metadata": {"agent_id": "scout"}}
    assert await refused(await teller.boss.post("/v1/billing/charges", json=smaller)) != approval_id
    answer = await person.post(f"{OWN_APPROVALS}/{approval_id}/approve")
    assert (answer.status_code, answer.json()["approval_status"]) == (409, "denied")
    set_time(datetime.now(UTC) + timedelta(days=1, seconds=1))
    assert await refused(await teller.spend("charge", user)) != approval_id


async def test_what_a_hard_limit_or_the_balance_refuses_asks_nothing(teller: Teller, user: str) -> None:
    await asking(teller, user)
    await teller.limit(user, action="refuse", amount="5")
    await teller.spend("charge", user)
    answer = await teller.spend("charge", user)
    assert (answer.status_code, answer.json()["code"]) == (402, "limit_exceeded")
    body = {"user_id": user, "amount_minor": 10_000_000}
    answer = await teller.boss.post("/v1/billing/charges", json=body)
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")
    answer = await teller.boss.get(APPROVALS, params={"user_id": user, "show": "all"})
    assert answer.json() == {"approvals": []}


async def test_a_soft_limit_asks_below_a_hard_one(teller: Teller, user: str, person: httpx.AsyncClient) -> None:
    await asking(teller, user)
    await teller.limit(user, action="refuse", amount="6")
    await teller.spend("charge", user)
    await approve(person, await refused(await teller.spend("charge", user)))
    assert (await teller.spend("charge", user)).is_success
    answer = await teller.spend("charge", user)
    assert (answer.status_code, answer.json()["code"]) == (402, "limit_exceeded")


async def test_a_replay_needs_no_approval(teller: Teller, user: str) -> None:
    await asking(teller, user)
    body = {"user_id": user, "amount_minor": 300, "idempotency_key": uuid.uuid4().hex}
    assert (await teller.boss.post("/v1/billing/charges", json=body)).status_code == 201
    assert (await teller.boss.post("/v1/billing/charges", json=body)).status_code == 409


async def test_only_a_person_decides(teller: Teller, user: str, client_of: ClientOf) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    approval_id = await refused(await teller.spend("charge", user))
    agent = client_of(user)
    for verb in ("approve", "deny"):
        answer = await agent.post(f"{OWN_APPROVALS}/{approval_id}/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (403, "person_required")
        answer = await teller.boss.post(f"{OWN_APPROVALS}/{approval_id}/{verb}")
        assert answer.status_code == 401
    assert [a["approval_id"] for a in (await agent.get(OWN_APPROVALS)).json()["approvals"]] == [approval_id]
    other = await teller.user()
    stranger = client_of(other, aud=SPA.client_id)
    for verb in ("approve", "deny"):
        answer = await stranger.post(f"{OWN_APPROVALS}/{approval_id}/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (404, "approval_not_found")
    assert (await of(teller, approval_id))["status"] == "pending"


@pytest.mark.parametrize("approval_id", ["x", "approval_", "approval_" + "A" * 43, "limit_" + "A" * 43, "%00"])
async def test_other_ids_are_not_found(teller: Teller, person: httpx.AsyncClient, approval_id: str) -> None:
    answers = [await teller.boss.get(f"{APPROVALS}/{approval_id}")]
    answers += [await person.post(f"{OWN_APPROVALS}/{approval_id}/{verb}") for verb in ("approve", "deny")]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "approval_not_found")] * 3


@pytest.mark.parametrize(
    "body",
    [
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": "1.5"},
        {"amount": "x"},
        {"amount": str(2**63)},
        {"amount": "9" * 50},
        {"valid_for_s": 0},
        {"valid_for_s": 86_401},
        {"valid_for_s": "60"},
    ],
)
async def test_bad_decisions_are_refused(
    teller: Teller, user: str, person: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    approval_id = await refused(await teller.spend("charge", user))
    answer = await person.post(f"{OWN_APPROVALS}/{approval_id}/approve", json=body)
    assert answer.status_code in (400, 422), answer.text
    assert next(iter(body)) in answer.text
    assert (await of(teller, approval_id))["status"] == "pending"


async def test_of_fifty_requests_at_once_one_uses_an_approval(
    teller: Teller, user: str, person: httpx.AsyncClient
) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    approval_id = await refused(await teller.spend("charge", user))
    await approve(person, approval_id)
    answers = await asyncio.gather(*(teller.spend("charge", user) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 402: 49}
    assert len({answer.json()["approval_id"] for answer in answers if answer.status_code == 402}) == 1
    assert await teller.spent(user) == ["6"]


async def test_decisions_at_once_have_one_outcome(teller: Teller, user: str, person: httpx.AsyncClient) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    approval_id = await refused(await teller.spend("charge", user))
    verbs = ["approve", "deny"] * 10
    answers = await asyncio.gather(*(person.post(f"{OWN_APPROVALS}/{approval_id}/{verb}") for verb in verbs))
    status = (await of(teller, approval_id))["status"]
    won = {"approved": "approve", "denied": "deny"}[status]
    assert [answer.status_code for answer in answers] == [200 if verb == won else 409 for verb in verbs]


async def test_too_many_requesters_are_refused_without_asking(teller: Teller, user: str) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    for number in range(50):
        await refused(await teller.spend("charge", user, agent=f"agent-{number}"))
    answer = await teller.spend("charge", user, agent="one too many")
    assert (answer.status_code, answer.json()["code"]) == (402, "limit_exceeded")


async def test_a_removed_limit_asks_no_longer(teller: Teller, user: str) -> None:
    await asking(teller, user)
    await teller.spend("charge", user)
    await refused(await teller.spend("charge", user))
    [limit] = await teller.limits(user)
    await teller.boss.delete(f"/v1/billing/limits/{limit['id']}")
    assert (await teller.spend("charge", user)).is_success


async def test_users_set_limits_that_ask(teller: Teller, user: str, client_of: ClientOf) -> None:
    body = {"window": "day", "unit": "credits", "amount": "3", "action": "ask"}
    answer = await client_of(user).put(OWN, json=body)
    assert (answer.status_code, answer.json()["action"]) == (200, "ask")
    assert (await teller.spend("charge", user)).is_success
    await refused(await teller.spend("charge", user))


# --- runs ---


async def register(teller: Teller, user: str, run_id: str, **fields: Any) -> None:
    answer = await teller.boss.post("/v1/billing/runs", json={"user_id": user, "run_id": run_id, **fields})
    assert answer.status_code == 201, answer.text


async def pause(teller: Teller, user: str, run_id: str) -> None:
    answer = await teller.boss.patch(f"/v1/billing/runs/{run_id}", json={"user_id": user, "status": "paused"})
    assert answer.status_code == 200, answer.text


async def hold(teller: Teller, user: str, run_id: str, amount_minor: int = 300) -> httpx.Response:
    body = {"user_id": user, "run_id": run_id, "amount_minor": amount_minor}
    return await teller.boss.post("/v1/billing/holds", json=body)


def waits(answer: httpx.Response, code: str) -> str:
    body = answer.json()
    assert (answer.status_code, body["code"]) == (402, code), body
    assert (body["remedies"][-1]["type"], body["remedies"][-1]["approval_id"]) == (
        "request_approval",
        body["approval_id"],
    )
    return str(body["approval_id"])


async def test_a_paused_run_asks_and_goes_on_once_approved(
    teller: Teller, user: str, person: httpx.AsyncClient
) -> None:
    await register(teller, user, "above")
    await register(teller, user, "below", parent_run_id="above")
    await pause(teller, user, "above")
    asked = [waits(await hold(teller, user, run_id), "run_paused") for run_id in ("below", "above", "below")]
    assert len(set(asked)) == 1
    approval = await of(teller, asked[0])
    assert (approval["kind"], approval["refused_run_id"], approval["run_id"]) == ("resume", "above", "below")
    assert (await approve(person, asked[0]))["status"] == "approved"
    assert [(await hold(teller, user, run_id)).status_code for run_id in ("below", "below")] == [201, 201]
    assert (await of(teller, asked[0]))["status"] == "approved"


async def test_an_approval_raises_a_runs_budget_by_what_was_allowed(
    teller: Teller, user: str, person: httpx.AsyncClient
) -> None:
    await register(teller, user, "r", budget={"amount_minor": 400})
    assert (await hold(teller, user, "r")).status_code == 201
    approval_id = waits(await hold(teller, user, "r"), "run_budget_exceeded")
    assert waits(await hold(teller, user, "r", 600), "run_budget_exceeded") == approval_id
    approval = await of(teller, approval_id)
    assert (approval["kind"], approval["amount"], approval["unit"]) == ("budget", "5", "credits")
    await approve(person, approval_id, amount="2")
    answer = await teller.boss.get("/v1/billing/runs/r", params={"user_id": user})
    assert answer.json()["budget"]["amount_minor"] == 600
    assert (await hold(teller, user, "r")).status_code == 201
    assert waits(await hold(teller, user, "r"), "run_budget_exceeded") != approval_id


async def test_a_denied_run_does_not_ask_again(teller: Teller, user: str, person: httpx.AsyncClient) -> None:
    await register(teller, user, "r")
    await pause(teller, user, "r")
    approval_id = waits(await hold(teller, user, "r"), "run_paused")
    assert (await person.post(f"{OWN_APPROVALS}/{approval_id}/deny")).status_code == 200
    answer = await hold(teller, user, "r")
    assert (answer.status_code, answer.json()["code"]) == (402, "run_paused")
    assert "approval_id" not in answer.json()


async def test_a_closed_run_asks_nothing_and_cannot_be_approved(
    teller: Teller, user: str, person: httpx.AsyncClient
) -> None:
    await register(teller, user, "r")
    await pause(teller, user, "r")
    approval_id = waits(await hold(teller, user, "r"), "run_paused")
    await teller.boss.patch("/v1/billing/runs/r", json={"user_id": user, "status": "closed"})
    answer = await person.post(f"{OWN_APPROVALS}/{approval_id}/approve")
    assert (answer.status_code, answer.json()["code"]) == (409, "run_ended")
    assert (await of(teller, approval_id))["status"] == "pending"
    answer = await hold(teller, user, "r")
    assert (answer.status_code, answer.json()["code"]) == (402, "run_closed")
    assert "approval_id" not in answer.json()


async def test_too_many_runs_are_refused_without_asking(
    teller: Teller, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ledger.approvals.MAX_OPEN", 2)
    for run_id in ("one", "two", "one too many"):
        await register(teller, user, run_id, budget={"amount_minor": 100})
    asked = [waits(await hold(teller, user, run_id), "run_budget_exceeded") for run_id in ("one", "two", "one")]
    assert asked[0] == asked[2] != asked[1]
    answer = await hold(teller, user, "one too many")
    assert (answer.status_code, answer.json()["code"]) == (402, "run_budget_exceeded")
    assert "approval_id" not in answer.json()


async def test_two_runs_ask_apart_in_one_transaction(teller: Teller, user: str) -> None:
    for run_id in ("one", "two"):
        await register(teller, user, run_id)
        await pause(teller, user, run_id)
    answers = await asyncio.gather(*(hold(teller, user, run_id) for run_id in ("one", "two") * 10))
    asked = [waits(answer, "run_paused") for answer in answers]
    assert len(set(asked)) == 2
    assert set(asked[::2]).isdisjoint(asked[1::2])
