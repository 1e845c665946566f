"""Accounts with grants and money, made through the ledger."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from app.accounts.directory import Identity, Profile
from app.billing.service import BillingService
from app.db import Database, new_id
from app.ledger.entries import Kind
from app.ledger.locked_account import LockedAccount, lock_account, write
from app.ledger.lots import Lot
from app.ledger.pools import CREDIT
from tests.books import connected
from tests.conftest import ACTOR
from tests.databases import Urls

DOLLAR = 1_000_000_000
"""In nanos."""


@asynccontextmanager
async def locked(db: Database, account_id: UUID, now: datetime) -> AsyncIterator[LockedAccount]:
    """Lock an account, and store what the block posts."""
    async with db.transaction() as tx:
        account = await lock_account(tx, account_id)
        yield account
        await write(tx, [account], now)


async def open_account(billing: BillingService, identity: Identity, now: datetime) -> UUID:
    return await billing.accounts.directory.resolve(identity, Profile(), ACTOR, now)


def lot(amount: int, now: datetime, **changes: Any) -> Lot:
    values = {
        "grant_id": new_id(),
        "unit": CREDIT,
        "amount": amount,
        "remaining": amount,
        "priority": 50,
        "category": "promotional",
        "expires_at": None,
        "created_at": now,
        "source": "tests",
    }
    return Lot(**{**values, **changes})


async def give(db: Database, account_id: UUID, amount: int, now: datetime, **changes: Any) -> UUID:
    """Give a grant, and return its id."""
    given = lot(amount, now, **changes)
    async with locked(db, account_id, now) as account:
        account.give_lot(given, Kind.GRANT_GIVEN, ACTOR, now)
    return given.grant_id


async def wallet_of(urls: Urls, account_id: UUID) -> Mapping[str, Any]:
    """The account's columns."""
    async with connected(urls) as connection:
        row = await connection.fetchrow("SELECT * FROM accounts WHERE account_id = $1", account_id)
    assert row is not None
    return dict(row)


async def entries_of(urls: Urls, account_id: UUID) -> list[tuple[str, str, int, int, str]]:
    """The account's entries as (pool, unit, delta, balance_after, kind), in order."""
    async with connected(urls) as connection:
        rows = await connection.fetch(
            "SELECT pool, unit, delta, balance_after, kind FROM ledger_entries WHERE account_id = $1 ORDER BY entry_no",
            account_id,
        )
    return [tuple(row) for row in rows]
