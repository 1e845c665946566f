"""Usage events over HTTP: recorded once, charged exactly, refused or owed by policy."""

import asyncio
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.ledger.entries import Cause, Kind
from tests.conftest import ACTOR
from tests.metering.conftest import Desk, llm, usage
from tests.support.wallets import DOLLAR, locked, lot

PATH = "/v1/usage"


async def test_an_event_is_charged_exactly_and_shown_rounded(desk: Desk, user: str) -> None:
    answer = await desk.router.post(PATH, json=usage(user, "a/1"))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert {name: body[name] for name in ("success", "balance_cents", "cost_cents", "balance", "cost")} == {
        "success": True,
        "balance_cents": 999,
        "cost_cents": 1,
        "balance": "9.995500",
        "cost": "0.004500",
    }
    assert (body["event_id"], body["status"], body["debt"], body["currency"]) == ("a/1", "charged", "0.000000", "USD")
    assert isinstance(body["transaction_id"], str)
    assert await desk.wallet(user) == (10 * DOLLAR - 4_500_000, 0)


async def test_a_repeat_answers_409_with_the_first_result_and_writes_nothing(desk: Desk, user: str) -> None:
    event = usage(user, metric=llm(1, 1))
    first = (await desk.router.post(PATH, json=event)).json()
    await desk.router.post(PATH, json=usage(user))
    before = (await desk.wallet(user), await desk.events(user))
    for _ in range(3):
        answer = await desk.router.post(PATH, json={**event, "metadata": {"another": "attempt"}})
        body = answer.json()
        assert answer.status_code == 409
        assert {name: body[name] for name in first} == first
        assert body["code"] == "duplicate_event"
        assert body["detail"] == f"Event {event['event_id']} already processed"
    assert (await desk.wallet(user), await desk.events(user)) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": llm(1001)},
        {"metric": llm(model="gpt-4o-mini")},
        {"metric": {**llm(), "provider": ""}},
        {"metric": {"type": "api_calls", "endpoint": "x", "count": 1}},
        {"cost_cents": 1},
        {"cost": "0.0045"},
    ],
)
async def test_the_same_id_for_other_usage_is_refused(desk: Desk, user: str, changes: dict[str, Any]) -> None:
    event = usage(user)
    assert (await desk.router.post(PATH, json=event)).status_code == 200
    answer = await desk.router.post(PATH, json={**event, **changes})
    assert (answer.status_code, answer.json()["code"]) == (422, "event_id_reused")


async def test_ids_belong_to_their_account_and_source(desk: Desk, user: str) -> None:
    other = await desk.user(1000)
    answers = [
        await client.post(PATH, json=usage(who, "same", llm(number)))
        for number, (client, who) in enumerate([(desk.router, user), (desk.other, user), (desk.router, other)])
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    again = await desk.writer.post(PATH, json=usage(user, "same", llm(0)))  # another key of the same source
    assert again.status_code == 409


async def test_of_many_equal_events_at_once_exactly_one_is_new(desk: Desk, user: str) -> None:
    event = usage(user)
    answers = await asyncio.gather(*(desk.router.post(PATH, json=event) for _ in range(40)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 39}
    assert len({answer.json()["transaction_id"] for answer in answers}) == 1
    assert len(await desk.events(user)) == 1


async def test_of_racing_events_with_one_id_and_other_usage_exactly_one_counts(desk: Desk, user: str) -> None:
    events = [usage(user, "same", llm(number)) for number in range(1, 21)]
    answers = await asyncio.gather(*(desk.router.post(PATH, json=event) for event in events))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 422: 19}
    assert {answer.json().get("code") for answer in answers} == {None, "event_id_reused"}
    [row] = await desk.events(user)
    assert await desk.wallet(user) == (10 * DOLLAR - row["cost_nanos"], 0)


async def test_equal_events_of_a_new_user_create_one_account_and_count_once(desk: Desk) -> None:
    event = usage(str(uuid.uuid4()))
    paths = [(PATH, event), (f"{PATH}/batch", {"events": [event]})] * 10
    answers = await asyncio.gather(*(desk.debtor.post(path, json=body) for path, body in paths))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len(await desk.events(event["user_id"])) == 1
    assert await desk.wallet(event["user_id"]) == (0, 4_500_000)


async def test_without_money_an_event_is_refused_recorded_and_may_be_sent_again(desk: Desk) -> None:
    user = await desk.user(1)
    event = usage(user, "later", metric=llm(10_000, 0))  # 3 cents
    for _ in range(3):
        answer = await desk.router.post(PATH, json=event)
        body = answer.json()
        assert answer.status_code == 402
        assert (body["balance"], body["required"], body["currency"]) == ("0.010000", "0.030000", "USD")
    [row] = await desk.events(user)
    assert (row["status"], row["refusal"], row["cost_nanos"]) == ("refused", "insufficient_money", 30_000_000)
    [attempts] = await desk.rows("SELECT * FROM usage_attempts WHERE usage_id = $1", row["usage_id"])
    assert attempts["attempts"] == 3
    assert await desk.wallet(user) == (10_000_000, 0)
    await desk.give(user, 20_000_000)
    assert (await desk.router.post(PATH, json=event)).status_code == 200  # the cost is all there is
    assert await desk.wallet(user) == (0, 0)
    assert (await desk.router.post(PATH, json=event)).status_code == 409
    assert [row["status"] for row in await desk.events(user)] == ["refused", "charged"]


async def test_with_the_policy_debt_what_is_missing_is_owed_up_to_the_limit(desk: Desk) -> None:
    user = await desk.user(1)
    first = (await desk.debtor.post(PATH, json=usage(user, cost_cents=301))).json()
    assert (first["status"], first["debt"], first["balance_cents"]) == ("debt", "3.000000", 0)
    assert await desk.wallet(user) == (0, 3 * DOLLAR)
    second = await desk.debtor.post(PATH, json=usage(user, cost_cents=201))
    assert second.status_code == 402
    assert "Debt limit" in second.json()["detail"]
    assert (await desk.debtor.post(PATH, json=usage(user, cost_cents=200))).json()["debt"] == "2.000000"
    assert await desk.wallet(user) == (0, 5 * DOLLAR)
    assert [row["refusal"] for row in await desk.events(user)] == [None, "debt_limit_reached", None]


async def test_an_account_that_is_not_billed_is_recorded_and_priced(desk: Desk) -> None:
    user = await desk.user()
    await desk.rows("UPDATE accounts SET billing_enabled = false WHERE account_id = $1", await desk.account_id(user))
    body = (await desk.router.post(PATH, json=usage(user))).json()
    assert (body["status"], body["cost"], body["balance_cents"]) == ("recorded", "0.004500", 0)
    assert await desk.wallet(user) == (0, 0)
    assert (await desk.router.post("/v1/usage/check", json={"user_id": user, "required_cents": 5})).json()["sufficient"]


async def test_suspended_and_closed_accounts_are_refused(desk: Desk, user: str) -> None:
    account_id = await desk.account_id(user)
    set_status = "UPDATE accounts SET status = $2, status_reason = $3 WHERE account_id = $1"
    await desk.rows(set_status, account_id, "suspended", "fraud")
    answer = await desk.router.post(PATH, json=usage(user))
    assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")
    assert [row["refusal"] for row in await desk.events(user)] == ["account_suspended"]
    await desk.rows(set_status, account_id, "closed", None)
    assert (await desk.router.post(PATH, json=usage(user))).json()["code"] == "account_closed"
    assert len(await desk.events(user)) == 1
    assert await desk.wallet(user) == (10 * DOLLAR, 0)


async def test_a_thousand_small_events_cost_what_they_sum_to(desk: Desk) -> None:
    user = await desk.user(50)
    events = [usage(user, f"e{i}", llm(80, 0, cost="ignored"), cost="0.0004") for i in range(1000)]
    for first in (0, 500):
        answer = await desk.router.post("/v1/usage/batch", json={"events": events[first : first + 500]})
        assert answer.json()["failed"] == 0
    assert await desk.wallet(user) == (DOLLAR // 10, 0)


async def test_credits_of_no_kind_pay_for_usage(desk: Desk) -> None:
    """The account has 3 free uses, paid credits and a grant of credits."""
    user = await desk.user()
    now, account_id = datetime.now(UTC), await desk.account_id(user)
    async with locked(desk.db, account_id, now) as account:
        account.give_paid(100, Kind.GRANT, Cause("account", account_id), ACTOR, now)
        account.give_lot(lot(100, now), Kind.GRANT_GIVEN, ACTOR, now)
    check = await desk.router.post("/v1/usage/check", json={"user_id": user, "required_cents": 1})
    assert (check.json()["sufficient"], check.json()["balance"]) == (False, "0.000000")
    refused = await desk.router.post(PATH, json=usage(user, metric=llm(1, 0)))
    assert (refused.status_code, refused.json()["balance"]) == (402, "0.000000")
    [row] = await desk.rows("SELECT free, paid, grants_credits FROM accounts WHERE account_id = $1", account_id)
    assert row == {"free": 3, "paid": 100, "grants_credits": 100}


@pytest.mark.parametrize("hours_ago", [None, 1.5])
async def test_an_expired_grant_pays_for_no_usage_even_if_the_work_was_done_before(
    desk: Desk, hours_ago: float | None
) -> None:
    """No worker has recorded the expiry. The next entry of the account does."""
    user = await desk.user()
    now, account_id = datetime.now(UTC), await desk.account_id(user)
    earlier = now - timedelta(hours=2)
    async with locked(desk.db, account_id, earlier) as account:
        for dollars, expires_at in ((5, now - timedelta(hours=1)), (1, None)):
            given = lot(dollars * DOLLAR, earlier, unit="USD", expires_at=expires_at)
            account.give_lot(given, Kind.GRANT_GIVEN, ACTOR, earlier)
    own: dict[str, Any] = {} if hours_ago is None else {"time": (now - timedelta(hours=hours_ago)).isoformat()}
    check = await desk.router.post("/v1/usage/check", json={"user_id": user, "required_cents": 101})
    assert (check.json()["sufficient"], check.json()["balance_cents"]) == (False, 100)
    refused = await desk.router.post(PATH, json=usage(user, cost="1.000000001", **own))
    assert (refused.status_code, refused.json()["balance"]) == (402, "1.000000")
    paid = await desk.router.post(PATH, json=usage(user, cost="0.25", **own))
    assert (paid.status_code, paid.json()["balance"]) == (200, "0.750000")
    kinds = await desk.rows(
        "SELECT kind, delta FROM ledger_entries WHERE account_id = $1 AND unit = 'USD' ORDER BY entry_no", account_id
    )
    assert [tuple(row.values()) for row in kinds[2:]] == [("grant_expiry", -5 * DOLLAR), ("usage", -DOLLAR // 4)]
