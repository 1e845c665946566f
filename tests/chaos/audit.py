"""Compares the books with the answers that callers received."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import SecretStr

from app.db import Database
from app.verification import verify_books
from tests.books import connected
from tests.chaos.control import control_problems
from tests.chaos.load import Journal
from tests.chaos.stack import Stack
from tests.databases import Urls

TABLES = {
    "charge": ("charges", "idempotency_key", "charge_id"),
    "charge in a run": ("charges", "idempotency_key", "charge_id"),
    "charge that asks": ("charges", "idempotency_key", "charge_id"),
    "tool charge": ("product_usage_log", "idempotency_key", "usage_log_id"),
    "usage event": ("usage_events", "event_id", "usage_id"),
    "batched event": ("usage_events", "event_id", "usage_id"),
    "capture": ("holds", "idempotency_key", "spending_id"),
    "release": ("holds", "idempotency_key", "CASE WHEN status = 'released' THEN status END"),
}
"""By kind of charge: its table, its key, and what its answer names, which is null if that did not happen."""
CREDITS_BOOKED = """
    SELECT p.payment_intent_id, count(c.credit_id) AS credits, sum(c.credits) AS total, max(p.credits) AS sold
      FROM purchases p LEFT JOIN credits c
           ON c.account_id = p.account_id AND c.external_transaction_id = p.payment_intent_id
     WHERE p.payment_intent_id = ANY($1::text[]) GROUP BY 1
"""
WEBHOOKS_WITHIN_S = 12.0


@dataclass(frozen=True)
class Books:
    """How the charges ended, and what is wrong with them."""

    acknowledged: int
    unacknowledged: int
    found_all_the_same: int
    """Of those without an acknowledgement: how many are in the books."""
    bought: int
    problems: list[str]


async def audit(stack: Stack, journal: Journal) -> Books:
    """Check that the books have every acknowledged charge once, under the acknowledged id; others at most once; every
    purchase once; every hold settled as it was acknowledged; no run above its budget, and no charge above a limit
    without an approval that no other charge used.
    """
    problems: list[str] = []
    acknowledged = unacknowledged = found_all_the_same = 0
    for kind, sent in journal.sent.items():
        acknowledged_ids = journal.acknowledged[kind]
        booked = await _booked(stack.urls, kind, sent)
        acknowledged += len(acknowledged_ids)
        unacknowledged += len(sent - acknowledged_ids.keys())
        found_all_the_same += len(booked.keys() - acknowledged_ids.keys())
        problems += [
            f"{kind} {key}: acknowledged {ids}, booked {booked.get(key)}"
            for key, ids in acknowledged_ids.items()
            if ids != set(booked.get(key, []))
        ]
        problems += [f"{kind} {key}: booked {len(ids)} times" for key, ids in booked.items() if len(ids) > 1]
    problems += await _purchase_problems(stack, journal)
    problems += await control_problems(stack.urls)
    problems += await _ledger_problems(stack.urls)
    return Books(acknowledged, unacknowledged, found_all_the_same, len(journal.paid), problems)


async def _booked(urls: Urls, kind: str, keys: set[str]) -> dict[str, list[str]]:
    table, key_column, id_column = TABLES[kind]
    sql = (
        f"SELECT {key_column} AS key, array_agg(CAST({id_column} AS text)) AS ids FROM {table}"
        f" WHERE {key_column} = ANY($1) AND {id_column} IS NOT NULL GROUP BY 1"
    )
    async with connected(urls) as connection:
        return {row["key"]: row["ids"] for row in await connection.fetch(sql, sorted(keys))}


async def _purchase_problems(stack: Stack, journal: Journal) -> list[str]:
    """After Stripe has had the time to repeat its webhooks."""
    deadline = asyncio.get_running_loop().time() + WEBHOOKS_WITHIN_S
    while True:
        async with connected(stack.urls) as connection:
            rows = await connection.fetch(CREDITS_BOOKED, sorted(journal.paid))
        right = {row["payment_intent_id"] for row in rows if row["credits"] == 1 and row["total"] == row["sold"]}
        wrong = journal.paid - right
        if not wrong or asyncio.get_running_loop().time() > deadline:
            return [f"payment {payment_id} was taken, and its credits are not booked once" for payment_id in wrong]
        await asyncio.sleep(0.2)


async def _ledger_problems(urls: Urls) -> list[str]:
    db = Database(SecretStr(urls.service), pool_size=3)
    try:
        result = await verify_books(db, datetime.now(UTC))
    finally:
        await db.close()
    return [] if result.ok else [f"ledger: {result.problem}"]
