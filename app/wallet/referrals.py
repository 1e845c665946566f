"""Referrals: the inviter of an account. A referral is due once the invited account has settled a payment.

    await add_referral(tx, account, inviter_id, has_paid=False, now=now)  # under the invited account's lock
    await payment_settled(tx, account_id, now)                            # in the transaction that books the payment

The job PAY_REFERRAL pays a due referral (app/promotions). It is an outbox row of the transaction that makes it due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.db import Session
from app.db.statements import Tx
from app.ledger.locked_account import LockedAccount
from app.outbox import defer
from app.wallet import claim_queries as queries

PAY_REFERRAL = "pay_referral"
"""Name of the task that gives the grants of a due referral."""


@dataclass(frozen=True, slots=True)
class Referral:
    """`account_id` is the invited account. An account is invited once, by one other account."""

    account_id: UUID
    inviter_id: UUID
    due_at: datetime | None
    paid_at: datetime | None


async def find_referral(tx: Tx, account_id: UUID) -> Referral | None:
    """Return who invited the account."""
    row = await queries.find_referral(tx, account_id)
    return None if row is None else Referral(**row)


async def add_referral(tx: Session, account: LockedAccount, inviter_id: UUID, *, has_paid: bool, now: datetime) -> None:
    """Store who invited a locked account, unless that is known. It is due at once if the account has paid."""
    if await queries.find_referral(tx, account.account_id) is not None:
        return
    await queries.insert_referral(tx, account.account_id, inviter_id, now, now if has_paid else None)
    if has_paid:
        await _pay_soon(tx, account.account_id, now)


async def payment_settled(tx: Session, account_id: UUID, now: datetime) -> None:
    """Make the account's referral due, if one waits. The caller holds the account's lock."""
    if await queries.mark_due(tx, account_id, now):
        await _pay_soon(tx, account_id, now)


async def wait_for_payment(tx: Tx, account_id: UUID) -> None:
    """Let the account's referral wait for the next payment, unless it is paid. The caller holds the account's lock."""
    await queries.mark_waiting(tx, account_id)


async def mark_paid(tx: Tx, account_id: UUID, now: datetime) -> bool:
    """Mark a due referral as paid. Of concurrent callers, one gets True."""
    return await queries.mark_paid(tx, account_id, now)


async def list_due(tx: Tx, after: UUID | None, limit: int) -> Sequence[UUID]:
    """Return accounts whose referral is due and not paid, `after` an account, in the order of their ids."""
    return await queries.list_due(tx, after, limit)


async def _pay_soon(tx: Session, account_id: UUID, now: datetime) -> None:
    await defer(tx, PAY_REFERRAL, {"account_id": str(account_id)}, now)
