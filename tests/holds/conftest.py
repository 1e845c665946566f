"""Accounts with credits, grants and money, and their holds."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.accounts.directory import Identity
from app.auth.caller import Actor
from app.billing.service import BillingService
from app.db import Database
from app.holds.requests import Amount, Capture, Done, Opening, Outcome, Release
from app.holds.service import HoldService
from app.ledger.hold_queries import Place
from app.ledger.holds import Hold
from app.ledger.pools import Credits
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.support.wallets import open_account, wallet_of

KEY = Actor("api_key", "0123456789abcdef")


@pytest.fixture
def holds(db: Database, billing: BillingService) -> HoldService:
    return HoldService(db, billing.batcher, billing.configuration)


@pytest.fixture
async def account_id(billing: BillingService, identity: Identity, now: datetime) -> UUID:
    """The user's account, with 3 one-time free uses and 10 paid credits."""
    account_id = await open_account(billing, identity, now)
    await billing.credit(
        account_id, credits=Credits(10), currency="USD", transaction_type="grant", actor=ACTOR, now=now
    )
    return account_id


def opening(account_id: UUID, amount: int, now: datetime, *, money: bool = False, **changes: Any) -> Opening:
    values: dict[str, Any] = {
        "account_id": account_id,
        "amount": Amount(amount, money),
        "currency": None,
        "expires_in": timedelta(minutes=15),
        "on_expiry": "release",
        "actor": KEY,
        "at": now,
    }
    return Opening(**{**values, **changes})


async def held(
    holds: HoldService, account_id: UUID, amount: int, now: datetime, *, money: bool = False, **changes: Any
) -> Hold:
    """Open a hold that succeeds."""
    outcome = await holds.run(opening(account_id, amount, now, money=money, **changes))
    assert isinstance(outcome, Done)
    assert outcome.is_new
    return outcome.hold


def place(hold: Hold) -> Place:
    return Place(hold.account_id, hold.hold_id)


def capture(hold: Hold, amount: int, now: datetime, **changes: Any) -> Capture:
    values: dict[str, Any] = {"overage": "refuse", "actor": KEY, "at": now}
    return Capture(place(hold), "live", Amount(amount, hold.unit != "credit"), **{**values, **changes})


def release(hold: Hold, now: datetime, outcome: str | None = None) -> Release:
    return Release(place(hold), "live", outcome, KEY, now)


def done(outcome: Outcome) -> Hold:
    assert isinstance(outcome, Done), outcome
    return outcome.hold


async def balances(urls: Urls, account_id: UUID) -> Mapping[str, int]:
    """The account's balances that are not 0."""
    row = await wallet_of(urls, account_id)
    names = (
        *("daily_free", "free", "paid", "debt", "grants_credits", "held_credits", "money_nanos", "money_debt_nanos"),
        *("grants_money_nanos", "held_money_nanos", "total_uses", "money_used_nanos"),
    )
    return {name: row[name] for name in names if row[name]}
