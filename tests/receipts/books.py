"""Ledgers with every kind of entry, and the documented form of their hashes in Python, independent of the service."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from app.accounts.directory import Identity
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.ledger.entries import Cause, Kind
from app.ledger.pools import Credits
from app.tools.service import ProductInventoryService
from tests.books import connected
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls
from tests.support.wallets import DOLLAR, give, locked, open_account

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
FIRST_HASH = bytes(32)
FIELDS = (
    *("account_id", "entry_no", "pool", "unit", "grant_id", "delta", "balance_after", "kind"),
    *("cause_type", "cause_id", "actor_type", "actor_id", "created_at"),
)
ADD_MANY = """
    WITH added AS (
        INSERT INTO ledger_entries (account_id, entry_no, pool, unit, delta, balance_after, kind, cause_type, cause_id,
                                    actor_type, actor_id, created_at)
        SELECT account_id, last_entry_no + i, 'paid', 'credit', 1, paid + i, 'opening_grant', 'account', account_id,
               'system', 'tests', $3
          FROM accounts, generate_series(1, $2::bigint) i WHERE account_id = $1)
    UPDATE accounts SET paid = paid + $2, last_entry_no = last_entry_no + $2 WHERE account_id = $1
"""


def documented_hash(entry: Mapping[str, Any], before: bytes) -> bytes:
    """The hash of an entry as docs/receipts.md describes it."""
    shown = {
        **{name: str(value) for name, value in entry.items()},
        "grant_id": "" if entry["grant_id"] is None else str(entry["grant_id"]),
        "created_at": entry["created_at"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    texts = ["ciris-billing-entry-v1", before.hex(), *(shown[name] for name in FIELDS)]
    return hashlib.sha256("".join(f"{len(text.encode())}:{text}," for text in texts).encode()).digest()


async def entries_of(urls: Urls, account_id: UUID) -> list[dict[str, Any]]:
    async with connected(urls) as connection:
        rows = await connection.fetch(
            "SELECT * FROM ledger_entries WHERE account_id = $1 ORDER BY entry_no", account_id
        )
    return [dict(row) for row in rows]


async def chain_of(urls: Urls, account_id: UUID) -> list[bytes]:
    """The account's hashes, in the order of the entries; asserts that there is no gap."""
    async with connected(urls) as connection:
        rows = await connection.fetch(
            "SELECT entry_no, hash FROM ledger_chain WHERE account_id = $1 ORDER BY entry_no", account_id
        )
    assert [row["entry_no"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["hash"] for row in rows]


async def expected_chain(urls: Urls, account_id: UUID, upto: int | None = None) -> list[bytes]:
    """The hashes of the account's entries, as documented; all of them, or the first ones."""
    hashes = [FIRST_HASH]
    for entry in (await entries_of(urls, account_id))[:upto]:
        hashes.append(documented_hash(entry, hashes[-1]))
    return hashes[1:]


async def add_many(urls: Urls, account_id: UUID, number: int) -> None:
    """Add so many entries at once, each of one paid credit. Their cause is the account."""
    async with connected(urls) as connection:
        await connection.execute(ADD_MANY, account_id, number, NOON)


async def write_history(urls: Urls, name: str = "ada@example.com") -> UUID:
    """An account with entries of credits, money, grants, products, a refund and a debt, at least 15."""
    settings = settings_for(urls, daily_free_uses=1)
    db = Database(SecretStr(urls.service))
    billing = BillingService(db, Configuration(db, settings))
    tools = ProductInventoryService(db, Configuration(db, settings), billing)
    account_id = await open_account(billing, Identity("live", "oauth:google", name), NOON)
    await billing.credit(
        account_id, credits=Credits(20), currency=None, transaction_type="grant", actor=ACTOR, now=NOON
    )
    await billing.charge(ChargeRequest(account_id, 500, "USD", ACTOR, NOON))
    await tools.grant(account_id, "web_search", Credits(2), actor=ACTOR, now=NOON)
    await tools.charge(account_id, "web_search", actor=ACTOR, now=NOON)
    await give(db, account_id, 7, NOON, expires_at=NOON + timedelta(hours=1))
    await give(db, account_id, 4 * DOLLAR, NOON, unit="USD")
    later = NOON + timedelta(days=1, microseconds=1)  # the grant of credits has expired
    async with locked(db, account_id, later) as account:
        cause = Cause("account", account_id)
        account.give_money(12_345_678_901, Kind.OPENING_GRANT, cause, ACTOR, later)
        account.take_back_paid(25, Kind.REFUND_REVERSAL, cause, ACTOR, later)
    await db.close()
    assert len(await entries_of(urls, account_id)) >= 15
    return account_id
