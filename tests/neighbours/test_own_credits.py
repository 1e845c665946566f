"""`/v1/credits/balance` and `/v1/credits/transactions` with a user's token."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.ledger.entries import Cause, Kind
from app.ledger.locked_account import LockedAccount
from tests.conftest import ACTOR
from tests.metering.conftest import Desk, usage
from tests.neighbours.conftest import ClientOf
from tests.neighbours.strict import BALANCE, TRANSACTION, read, z_error
from tests.support.wallets import DOLLAR, locked, lot

LIST = "/v1/credits/transactions"


async def listed(client: httpx.AsyncClient, **query: Any) -> Sequence[dict[str, Any]]:
    answer = await client.get(LIST, params=query)
    assert answer.status_code == 200, answer.text
    for transaction in answer.json()["transactions"]:
        read(transaction, TRANSACTION)
    found: list[dict[str, Any]] = answer.json()["transactions"]
    return found


async def test_the_balance(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    missing = await own.get("/v1/credits/balance")
    assert z_error(missing) == (404, "not_found", "Account not found")
    await own.get("/v1/accounts/me")
    await desk.give(user_id, 2 * DOLLAR + 9_999_999)
    found = await own.get("/v1/credits/balance")
    assert read(found.json(), BALANCE) == {"balance_cents": 200, "balance_formatted": "$2.00", "plan": "free"}
    assert found.json()["balance"] == "2.009999999"


async def test_a_movement_is_all_that_one_cause_did(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    """Usage that a grant and the balance paid, and debt that a purchase paid, are one transaction each."""
    await own.get("/v1/accounts/me")
    account_id = await desk.account_id(user_id)
    now = datetime.now(UTC) - timedelta(hours=1)
    async with locked(desk.db, account_id, now) as account:
        account.give_lot(lot(DOLLAR, now, unit="USD", source="signup"), Kind.GRANT_GIVEN, ACTOR, now)
        account.give_money(2 * DOLLAR, Kind.BONUS, Cause("account", account_id), ACTOR, now)
    await desk.router.post("/v1/usage", json=usage(user_id, "paid-by-two", cost="1.50"))
    await desk.debtor.post("/v1/usage", json=usage(user_id, "owed", cost="2.25"))
    later = datetime.now(UTC)
    async with locked(desk.db, account_id, later) as account:
        account.give_money(10 * DOLLAR, Kind.PURCHASE, Cause("account", account_id), ACTOR, later)
    names = ("transaction_type", "amount_cents", "amount", "balance_after_cents", "description")
    assert [[row[name] for name in names] for row in await listed(own)] == [
        ["purchase", 1000, "10.000000", 925, "Purchase"],
        ["usage", -225, "-2.250000", 0, "claude-3-5-sonnet"],
        ["usage", -150, "-1.500000", 150, "claude-3-5-sonnet"],
        ["bonus", 200, "2.000000", 300, "Bonus"],
        ["signupgrant", 100, "1.000000", 100, "Grant: signup"],
    ]
    used = (await desk.rows("SELECT usage_id FROM usage_events WHERE event_id = 'paid-by-two'"))[-1]
    rows = await listed(own)
    assert rows[2]["id"] == str(used["usage_id"])
    assert len({row["id"] for row in rows}) == len(rows)
    pages = [row for offset in range(6) for row in await listed(own, limit=1, offset=offset)]
    assert pages == rows


async def test_usage_that_is_owed_whole_and_grants_that_end(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get("/v1/accounts/me")
    account_id = await desk.account_id(user_id)
    now = datetime.now(UTC)
    async with locked(desk.db, account_id, now) as account:
        given = lot(DOLLAR, now, unit="USD", category="subscription", source="plan")
        account.give_lot(given, Kind.GRANT_GIVEN, ACTOR, now)
        account.end_lot(given, ACTOR, now)
    await desk.debtor.post("/v1/usage", json=usage(user_id, cost="0.004"))
    rows = await listed(own)
    assert [(row["transaction_type"], row["amount_cents"], row["balance_after_cents"]) for row in rows] == [
        ("usage", -1, 0),
        ("bonus", -100, 0),
        ("subscriptiongrant", 100, 100),
    ]


async def test_credits_are_no_money(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await own.get("/v1/accounts/me")
    account_id, now = await desk.account_id(user_id), datetime.now(UTC)
    async with locked(desk.db, account_id, now) as account:
        account.give_paid(50, Kind.GRANT, Cause("account", account_id), ACTOR, now)
    assert await listed(own) == []


Post = Callable[[LockedAccount, Cause, datetime], None]


def gift(source: str, kind: Kind = Kind.GRANT_GIVEN, category: str = "promotional") -> Post:
    def post(account: LockedAccount, cause: Cause, at: datetime) -> None:
        account.give_lot(lot(DOLLAR, at, unit="USD", source=source, category=category), kind, ACTOR, at)

    return post


def given(kind: Kind) -> Post:
    return lambda account, cause, at: account.give_money(DOLLAR, kind, cause, ACTOR, at)


def taken_back(kind: Kind) -> Post:
    return lambda account, cause, at: account.take_back_money(DOLLAR, kind, cause, ACTOR, at)


@pytest.mark.parametrize(
    ("post", "z_billing", "second_layer"),
    [
        (gift("signup"), "signupgrant", "admin_credit"),
        (gift("daily"), "dailygrant", "admin_credit"),
        (gift("referral"), "referralbonus", "admin_credit"),
        (gift("summer"), "bonus", "admin_credit"),
        (gift("plan", category="subscription"), "subscriptiongrant", "admin_credit"),
        (gift("plan", Kind.PURCHASE, "subscription"), "subscriptiongrant", "topup"),
        (given(Kind.PURCHASE), "purchase", "topup"),
        (given(Kind.DISPUTE_REINSTATEMENT), "purchase", "topup"),
        (given(Kind.BONUS), "bonus", "admin_credit"),
        (given(Kind.OPENING_GRANT), "bonus", "admin_credit"),
        (given(Kind.ADJUSTMENT), "bonus", "adjustment"),
        (given(Kind.REFUND), "refund", "refund"),
        (given(Kind.REFUND_REVERSAL), "refund", "refund"),
        (taken_back(Kind.REFUND_REVERSAL), "refund", "refund"),
        (taken_back(Kind.DISPUTE_REVERSAL), "refund", "refund"),
    ],
)
async def test_each_movement_has_the_words_of_both_neighbours(
    own: httpx.AsyncClient, desk: Desk, user_id: str, post: Post, z_billing: str, second_layer: str
) -> None:
    await own.get("/v1/accounts/me")
    account_id, now = await desk.account_id(user_id), datetime.now(UTC)
    cause = Cause("account", account_id)
    async with locked(desk.db, account_id, now) as account:
        account.give_money(10 * DOLLAR, Kind.PURCHASE, cause, ACTOR, now - timedelta(hours=1))
    async with locked(desk.db, account_id, now) as account:
        post(account, cause, now)
    row, first = await listed(own)
    assert (row["transaction_type"], first["transaction_type"]) == (z_billing, "purchase")
    assert abs(row["amount_cents"]) == 100
    [shown, _] = (await own.get("/api/billing/history")).json()["transactions"]
    assert (shown["type"], shown["amount_usd"]) == (second_layer, 1)


async def test_pages(own: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    assert z_error(await own.get(LIST)) == (404, "not_found", "Account not found")
    await own.get("/v1/accounts/me")
    await desk.give(user_id, DOLLAR)
    events = [usage(user_id, f"e{number}", cost="0.001") for number in range(120)]
    sent = await desk.router.post("/v1/usage/batch", json={"events": events})
    assert sent.json()["processed"] == 120
    assert len(await listed(own)) == 50
    capped = await own.get(LIST, params={"limit": 1_000})
    assert (len(capped.json()["transactions"]), capped.json()["has_more"]) == (100, True)
    last = await own.get(LIST, params={"limit": 100, "offset": 100})
    assert (len(last.json()["transactions"]), last.json()["has_more"]) == (21, False)
    rows = [*capped.json()["transactions"], *last.json()["transactions"]]
    assert [row["balance_after"] for row in rows[-3:]] == ["0.998000", "0.999000", "1.000000"]
    assert len({row["id"] for row in rows}) == 121
    assert await listed(own, limit=0) == []
    assert (await own.get(LIST, params={"offset": 10**17})).json() == {"transactions": [], "has_more": False}


@pytest.mark.parametrize("field", ["limit", "offset"])
@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "1e3", "NaN", "٣", "9" * 19, "9" * 5_000, "\0", "5 "])
async def test_a_page_that_is_no_number_is_400(field: str, value: str, own: httpx.AsyncClient) -> None:
    refused = await own.get(LIST, params={field: value})
    assert z_error(refused)[:2] == (400, "bad_request")
    assert refused.json()["field"] == field


async def test_own_usage(client_of: ClientOf, desk: Desk, user_id: str) -> None:
    own = client_of(user_id)
    assert z_error(await own.get("/v1/usage/me"))[:2] == (404, "not_found")
    await own.get("/v1/accounts/me")
    await desk.give(user_id, DOLLAR)
    await desk.router.post("/v1/usage", json=usage(user_id, "mine", cost="0.001"))
    report = (await own.get("/v1/usage/me")).json()
    assert [(event["event_id"], event["cost"]) for event in report["events"]] == [("mine", "0.001000")]
    assert (await client_of(str(user_id)[::-1]).get("/v1/usage/me")).status_code == 404
