"""Queries of grants that are given once, and of referrals: one statement per function."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db.statements import Tx, fetch, insert_rows, write
from app.wallet.models import GrantClaim

Row = Mapping[str, Any]
_FIND_CLAIMED = """
    SELECT g.amount FROM grant_claims c JOIN grants g USING (account_id, grant_id)
     WHERE c.account_id = $1 AND c.kind = $2 AND c.occasion = $3
    """
_FIND_REFERRAL = "SELECT account_id, inviter_id, due_at, paid_at FROM referrals WHERE account_id = $1"
_INSERT_REFERRAL = """
    INSERT INTO referrals (account_id, inviter_id, created_at, due_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT DO NOTHING
    """
_MARK_DUE = "UPDATE referrals SET due_at = $2 WHERE account_id = $1 AND due_at IS NULL RETURNING account_id"
_MARK_WAITING = "UPDATE referrals SET due_at = NULL WHERE account_id = $1 AND paid_at IS NULL"
_MARK_PAID = """
    UPDATE referrals SET paid_at = $2 WHERE account_id = $1 AND due_at IS NOT NULL AND paid_at IS NULL
    RETURNING account_id
    """
_LIST_DUE = """
    SELECT account_id FROM referrals
     WHERE due_at IS NOT NULL AND paid_at IS NULL AND ($1::uuid IS NULL OR account_id > $1)
     ORDER BY account_id LIMIT $2
    """


async def find_claimed_amount(tx: Tx, account_id: UUID, kind: str, occasion: str) -> int | None:
    """Return the amount of the account's grant of this kind and occasion. None: it has none; final under its lock."""
    rows = await fetch(tx, _FIND_CLAIMED, account_id, kind, occasion)
    return int(rows[0]["amount"]) if rows else None


async def insert_claim(tx: Tx, row: Mapping[str, Any]) -> None:
    await insert_rows(tx, GrantClaim, [row])


async def find_referral(tx: Tx, account_id: UUID) -> Row | None:
    """Return the referral of an invited account."""
    rows = await fetch(tx, _FIND_REFERRAL, account_id)
    return rows[0] if rows else None


async def insert_referral(tx: Tx, account_id: UUID, inviter_id: UUID, now: datetime, due_at: datetime | None) -> None:
    """Store who invited an account, unless that is known. The caller holds the account's lock."""
    await fetch(tx, _INSERT_REFERRAL, account_id, inviter_id, now, due_at)


async def mark_due(tx: Tx, account_id: UUID, now: datetime) -> bool:
    """Mark the referral of an invited account as due. Return False if there is none that waits."""
    return bool(await fetch(tx, _MARK_DUE, account_id, now))


async def mark_waiting(tx: Tx, account_id: UUID) -> None:
    """Let the referral of an invited account wait for a payment, unless it is paid."""
    await write(tx, _MARK_WAITING, account_id)


async def mark_paid(tx: Tx, account_id: UUID, now: datetime) -> bool:
    """Mark a due referral as paid. Return False if it is paid already: of concurrent callers, one gets True."""
    return bool(await fetch(tx, _MARK_PAID, account_id, now))


async def list_due(tx: Tx, after: UUID | None, limit: int) -> Sequence[UUID]:
    """Return invited accounts whose referral is due and not paid, in the order of their ids, `after` one."""
    return [row["account_id"] for row in await fetch(tx, _LIST_DUE, after, limit)]
