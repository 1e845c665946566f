"""Spending grants of credits: charges, tool charges, checks and every balance that counts them."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from app.accounts.directory import Identity
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.db import Database
from app.ledger.entries import Cause, Kind
from app.ledger.outcomes import New
from app.ledger.pools import CREDIT, Shortfall
from app.metering.events import StatedCost
from tests.books import account_locked, balances, connected, waiting_for_locks
from tests.conftest import ACTOR, running_app, settings_for
from tests.databases import Urls
from tests.support.wallets import DOLLAR, entries_of, give, locked, open_account
from tests.test_plans import recorded, tables_in

HOUR = timedelta(hours=1)
User = dict[str, str]


def charge(user: User, credits: int, **fields: object) -> dict[str, Any]:
    return {"json": {**user, "amount_minor": 100 * credits, **fields}}


async def test_every_balance_counts_paid_credits_and_live_grants(
    minter: httpx.AsyncClient, db: Database, account_id: UUID, user: User, database: Urls, now: datetime
) -> None:
    await give(db, account_id, 10, now)
    credit = {**user, "amount_minor": 500, "transaction_type": "grant"}
    assert (await minter.post("/v1/billing/credits", json=credit)).json()["balance_after"] == 1500
    check = (await minter.post("/v1/billing/credits/check", json=user)).json()
    assert (check["credits_remaining"], check["free_uses_remaining"], check["total_uses"]) == (15, 3, 0)
    answers = [await minter.post("/v1/billing/charges", **charge(user, 4, idempotency_key="k")) for _ in range(2)]
    assert [(answer.status_code, answer.json()["balance_after"]) for answer in answers] == [(201, 1100), (409, 1100)]
    by_key = await minter.get("/v1/billing/charges/by-key", params={**user, "idempotency_key": "k"})
    by_id = await minter.get(f"/v1/billing/charges/{by_key.json()['charge_id']}")
    assert (by_key.json()["balance_after"], by_id.json()["balance_after"]) == (1100, 1100)
    account = (await minter.get(f"/v1/billing/accounts/{account_id}")).json()
    shown = [account[name] for name in ("balance_minor", "paid_credits", "free_uses_remaining", "total_uses")]
    assert shown == [1100, 11, 3, 4]
    listed = (await minter.get("/v1/billing/transactions", params=user)).json()["transactions"]
    assert [(each["type"], each["balance_after"]) for each in listed] == [("charge", 1100), ("credit", 1500)]
    # The grant pays before free uses and paid credits. Once it is spent, they do.
    answer = await minter.post("/v1/billing/charges", **charge(user, 12))
    assert answer.json()["balance_after"] == 200
    assert await balances(database, account_id) == {"daily_free": 0, "free": 0, "paid": 2, "debt": 0}
    refused = (await minter.post("/v1/billing/charges", **charge(user, 3))).json()
    assert [refused[name] for name in ("balance_minor", "required_minor")] == [200, 300]


async def test_what_grants_paid_is_recorded(
    minter: httpx.AsyncClient, db: Database, account_id: UUID, user: User, database: Urls, now: datetime
) -> None:
    for _ in range(2):
        await give(db, account_id, 2, now)
    charge_id = (await minter.post("/v1/billing/charges", **charge(user, 5))).json()["charge_id"]
    async with connected(database) as connection:
        row = await connection.fetchrow(
            "SELECT cost, from_grants, from_free, from_paid, paid_after, grants_after FROM charges"
            " WHERE charge_id = $1",
            UUID(charge_id),
        )
    assert row is not None
    assert tuple(row) == (5, 4, 1, 0, 0, 0)


async def test_tools_are_paid_by_grants_and_paid_credits_but_not_by_free_uses(
    minter: httpx.AsyncClient, db: Database, account_id: UUID, user: User, now: datetime
) -> None:
    await give(db, account_id, 14, now)
    body = {**user, "product_type": "image_gen"}  # 5 initial free uses, then 10 credits each
    used = [(await minter.post("/v1/tools/charge", json=body)).json() for _ in range(6)]
    assert [each["used_free"] for each in used] == [True] * 5 + [False]
    assert (used[5]["used_main_pool"], used[5]["main_pool_credits"], used[5]["cost_minor"]) == (True, 0, 1000)
    assert used[0]["main_pool_credits"] == 1
    refused = await minter.post("/v1/tools/charge", json=body)
    assert (refused.status_code, refused.json()["balance_minor"]) == (402, 400)
    balance = (await minter.get("/v1/tools/balance/web_search", params=user)).json()
    assert balance["main_pool_credits"] == 4
    listed = (await minter.get("/v1/tools/balance", params=user)).json()["balances"]
    assert {each["product_type"]: each["main_pool_credits"] for each in listed} == {"web_search": 4, "image_gen": 0}
    checked = (await minter.get("/v1/tools/check/image_gen", params=user)).json()
    assert (checked["has_credit"], checked["main_pool_credits"]) == (False, 0)


async def test_nothing_shows_an_expired_grant_even_without_an_entry(
    minter: httpx.AsyncClient,
    db: Database,
    account_id: UUID,
    user: User,
    now: datetime,
    set_clock: Callable[[datetime], None],
) -> None:
    """The worker is stopped, and no transaction has locked the account since."""
    await give(db, account_id, 10, now, expires_at=now + HOUR)
    await give(db, account_id, 1, now, expires_at=now + 2 * HOUR)

    async def shown(at: datetime) -> list[int]:
        set_clock(at)
        check = (await minter.post("/v1/billing/credits/check", json=user)).json()
        account = (await minter.get(f"/v1/billing/accounts/{account_id}")).json()
        tool = (await minter.get("/v1/tools/balance/web_search", params=user)).json()
        return [check["credits_remaining"], account["paid_credits"], tool["main_pool_credits"]]

    assert await shown(now + HOUR - timedelta(microseconds=1)) == [11, 11, 11]
    assert await shown(now + HOUR) == [1, 1, 1]
    assert await shown(now + 2 * HOUR) == [0, 0, 0]
    refused = await minter.post("/v1/billing/charges", **charge(user, 4))
    assert (refused.status_code, refused.json()["balance_minor"]) == (402, 300)


async def test_a_charge_that_waits_for_the_lock_across_the_expiry_is_decided_as_of_its_request(
    billing: BillingService, db: Database, account_id: UUID, database: Urls, now: datetime
) -> None:
    """As for daily free uses, the time of the request counts: waiting costs a caller no credit.

    A request that arrives at the expiry does not get them, and it is the one that records the expiry.
    """
    expiry = now + HOUR
    await give(db, account_id, 2, now, expires_at=expiry)
    async with account_locked(database, account_id):
        before = asyncio.create_task(
            billing.charge(ChargeRequest(account_id, 100, None, ACTOR, expiry - timedelta(microseconds=1)))
        )
        await waiting_for_locks(database, 1)
        at_expiry = asyncio.create_task(billing.charge(ChargeRequest(account_id, 400, None, ACTOR, expiry)))
    first, second = await before, await at_expiry
    assert isinstance(first, New)
    assert first.debits[0].bucket.id == "grant"
    assert second == Shortfall(available=3, required=4)
    third = await billing.charge(ChargeRequest(account_id, 100, None, ACTOR, expiry))
    assert isinstance(third, New)
    assert [entry[4] for entry in await entries_of(database, account_id)][-3:] == ["charge", "grant_expiry", "charge"]


async def test_parallel_charges_never_overspend_grants(
    agent: httpx.AsyncClient, db: Database, account_id: UUID, user: User, database: Urls, now: datetime
) -> None:
    for amount in (1, 2, 3):
        await give(db, account_id, amount, now, expires_at=now + HOUR)
    answers = await asyncio.gather(
        *(agent.post("/v1/billing/charges", **charge(user, 1, idempotency_key=f"k{i}")) for i in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 9 + [402] * 11
    assert await balances(database, account_id) == {"daily_free": 0, "free": 0, "paid": 0, "debt": 0}


async def test_an_account_without_grants_costs_no_statement_and_no_column_more(
    own_database: Urls, identity: Identity, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A charge and a check of such an account, beside one with grants."""

    async def statements(app: FastAPI, at: datetime) -> set[str]:
        sent.clear()
        billing: BillingService = app.state.billing
        account_id = accounts[at]
        await billing.check(account_id, at)
        assert isinstance(await billing.charge(ChargeRequest(account_id, 100, None, ACTOR, at)), New)
        return {statement for statement in sent if tables_in(statement)}

    async with recorded(monkeypatch) as sent, running_app(settings_for(own_database)) as app:
        later = now + timedelta(seconds=1)
        other = Identity("live", "oauth:google", "with@example.com")
        accounts = {
            now: await open_account(app.state.billing, identity, now),
            later: await open_account(app.state.billing, other, now),
        }
        await give(app.state.db, accounts[later], 5, now)
        plain, with_grants = await statements(app, now), await statements(app, later)
    written = [statement for statement in plain if "INSERT" in statement or "UPDATE accounts" in statement]
    assert written
    for column in ("grant", "money", "held", "wallet"):
        assert column not in "".join(written)
    assert not [statement for statement in plain if "FROM grants" in statement]
    assert [statement for statement in with_grants if "from_grants" in statement]


async def test_money_pays_for_no_use(
    minter: httpx.AsyncClient, db: Database, account_id: UUID, user: User, database: Urls, now: datetime
) -> None:
    """Neither the plain balance nor a grant of money. The account has 3 free uses."""
    await give(db, account_id, 50 * DOLLAR, now, unit="USD")
    async with locked(db, account_id, now) as account:
        account.give_money(50 * DOLLAR, Kind.PURCHASE, Cause("account", account_id), ACTOR, now)
    check = (await minter.post("/v1/billing/credits/check", json=user)).json()
    assert (check["credits_remaining"], check["free_uses_remaining"]) == (0, 3)
    refused = await minter.post("/v1/billing/charges", **charge(user, 4))
    assert (refused.status_code, refused.json()["balance_minor"]) == (402, 300)
    tool = {**user, "product_type": "image_gen"}  # 5 initial free uses, then 10 credits each
    assert [(await minter.post("/v1/tools/charge", json=tool)).status_code for _ in range(6)] == [200] * 5 + [402]
    found = await balances(database, account_id)
    assert (found["free"], found["money"], found["grant of money"]) == (3, 50 * DOLLAR, 50 * DOLLAR)


@pytest.mark.parametrize(("amount", "unit"), [(0, CREDIT), (5, CREDIT), (5, "USD")])
async def test_a_check_reads_one_row_unless_a_grant_is_due(
    own_database: Urls, identity: Identity, now: datetime, monkeypatch: pytest.MonkeyPatch, amount: int, unit: str
) -> None:
    """A check of credits and a check of money, of an account without grants, and of one with a grant."""
    async with recorded(monkeypatch) as sent, running_app(settings_for(own_database)) as app:
        account_id = await open_account(app.state.billing, identity, now)
        if amount:
            await give(app.state.db, account_id, amount, now, unit=unit, expires_at=now + HOUR)
        reads: dict[timedelta, list[int]] = {}
        for at in (now, now + HOUR - timedelta(microseconds=1), now + HOUR):
            for check in (
                app.state.billing.check(account_id, at),
                app.state.usage.check(account_id, StatedCost("minor", 1), None, at),
            ):
                sent.clear()
                await check
                about = [statement for statement in sent if {"accounts", "grants"} & tables_in(statement)]
                reads.setdefault(at - now, []).append(len(about))
    at_expiry = [2, 2] if amount else [1, 1]
    assert list(reads.values()) == [[1, 1], [1, 1], at_expiry]
