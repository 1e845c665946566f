"""Rows that a later version will write: grants, holds, and a charge that a grant pays. For tests of the proof.

This version writes no grants and no holds. It must accept those of the next one, which serves beside it during a
deploy.
"""

from datetime import datetime
from uuid import UUID

from app.db import new_id
from tests.books import connected
from tests.databases import SERVICE_ROLE, Urls

DOLLAR = 1_000_000_000
"""In nanos."""

_GRANT = """
    INSERT INTO grants (account_id, grant_id, unit, amount, remaining, priority, category, source, expires_at,
                        created_at)
    VALUES ($1, $2, $3, $4, $5, 1, 'promotional', 'signup', NULL, $6)
"""
_HOLD = """
    INSERT INTO holds (account_id, hold_id, unit, amount, reported, status, on_expiry, idempotency_key, caller_kind,
                       expires_at, created_at)
    VALUES ($1, $2, $3, $4, 0, $5, 'release', NULL, 'key', $6, $6)
"""
_PART = "INSERT INTO hold_parts (account_id, hold_id, part_no, pool, grant_id, amount) VALUES ($1, $2, $3, $4, $5, $6)"
_CHARGE = """
    INSERT INTO charges (account_id, charge_id, entry_no, operation, caller_kind, amount_minor, currency, cost,
                         from_daily_free, from_free, from_paid, from_grants, paid_after, metadata, created_at)
    SELECT account_id, $2, last_entry_no, 'charge', 'key', 200, currency, 2, 0, 0, 0, 2, paid, '{}', $3
      FROM accounts WHERE account_id = $1
"""
_ENTRY = """
    WITH account AS (
        UPDATE accounts SET last_entry_no = last_entry_no + 1 WHERE account_id = $1 RETURNING last_entry_no)
    INSERT INTO ledger_entries (account_id, entry_no, pool, unit, grant_id, delta, balance_after, kind, cause_type,
                                cause_id, actor_type, actor_id, created_at)
    SELECT $1, last_entry_no, $2, $3, $4, $5, $6, $7, $8, $9, 'system', 'later', $10 FROM account
"""


async def write_lots(urls: Urls, account_id: UUID, now: datetime) -> None:
    """Give grants of credits and of money, hold parts of both, settle one hold, and charge a grant.

    The account has paid credits. Afterwards one of them, 4 granted credits and a dollar are held.
    """
    credits, money, held, held_money, settled, charge = (new_id() for _ in range(6))
    async with connected(urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        async with connection.transaction():
            paid = await connection.fetchval("SELECT paid FROM accounts WHERE account_id = $1", account_id)
            await connection.execute(_GRANT, account_id, credits, "credit", 10, 4, now)
            await connection.execute(_GRANT, account_id, money, "USD", 5 * DOLLAR, 4 * DOLLAR, now)
            for hold_id, unit, amount, status in (
                (held, "credit", 5, "held"),
                (held_money, "USD", DOLLAR, "held"),
                (settled, "credit", 3, "released"),
            ):
                await connection.execute(_HOLD, account_id, hold_id, unit, amount, status, now)
            for hold_id, part_no, pool, grant_id, amount in (
                (held, 1, "grant", credits, 4),
                (held, 2, "paid", None, 1),
                (held_money, 1, "grant", money, DOLLAR),
                (settled, 1, "paid", None, 3),
            ):
                await connection.execute(_PART, account_id, hold_id, part_no, pool, grant_id, amount)
            for pool, unit, grant_id, delta, balance, kind, cause_type, cause_id in (
                ("grant", "credit", credits, 10, 10, "grant_given", "grant", credits),
                ("grant", "USD", money, 5 * DOLLAR, 5 * DOLLAR, "grant_given", "grant", money),
                ("grant", "credit", credits, -4, 6, "hold", "hold", held),
                ("paid", "credit", None, -1, paid - 1, "hold", "hold", held),
                ("held", "credit", None, 5, 5, "hold", "hold", held),
                ("grant", "USD", money, -DOLLAR, 4 * DOLLAR, "hold", "hold", held_money),
                ("held", "USD", None, DOLLAR, DOLLAR, "hold", "hold", held_money),
                ("paid", "credit", None, -3, paid - 4, "hold", "hold", settled),
                ("held", "credit", None, 3, 8, "hold", "hold", settled),
                ("held", "credit", None, -3, 5, "hold_release", "hold", settled),
                ("paid", "credit", None, 3, paid - 1, "hold_release", "hold", settled),
                ("grant", "credit", credits, -2, 4, "charge", "charge", charge),
            ):
                row = (pool, unit, grant_id, delta, balance, kind, cause_type, cause_id, now)
                await connection.execute(_ENTRY, account_id, *row)
            await connection.execute(
                "UPDATE accounts SET paid = paid - 1, total_uses = total_uses + 2, grants_credits = 4,"
                " grants_money_nanos = 4 * $2::bigint, held_credits = 5, held_money_nanos = $2,"
                " money_granted_nanos = 5 * $2 WHERE account_id = $1",
                account_id,
                DOLLAR,
            )
            await connection.execute(_CHARGE, account_id, charge, now)
