"""Money credits: give money to a locked account, or take bought money back, as part of the caller's transaction.

account = await lock_account(tx, account_id)
credit = await give_money(tx, account, 5_000_000_000, Kind.PURCHASE, actor=actor, now=now)
await write(tx, [account], now)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.auth.caller import Actor
from app.db import Session, new_id
from app.ledger.entries import PAYS_DEBT, Cause, Kind
from app.ledger.errors import IdempotencyKeyReused
from app.ledger.locked_account import LockedAccount
from app.wallet import queries

_TAKES_BACK = PAYS_DEBT | {Kind.DISPUTE_REVERSAL}
"""Kinds that may be negative: they undo a purchase. Money that was spent becomes debt."""


@dataclass(frozen=True, slots=True)
class MoneyCredit:
    """Recorded money in nanos of `currency`. `balance_after_nanos`: money and live grants of money right after it."""

    money_credit_id: UUID
    account_id: UUID
    amount_nanos: int
    currency: str
    transaction_type: str
    balance_after_nanos: int
    external_transaction_id: str | None
    description: str | None
    created_at: datetime
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Particulars:
    """What a money credit says beside its amount. A payment's id is the `external_transaction_id`."""

    description: str | None
    created_at: datetime
    external_transaction_id: str | None


async def give_money(
    tx: Session,
    account: LockedAccount,
    nanos: int,
    kind: Kind,
    *,
    actor: Actor,
    now: datetime,
    description: str | None = None,
    external_transaction_id: str | None = None,
    idempotency_key: str | None = None,
    own_grant: UUID | None = None,
) -> MoneyCredit:
    """Add money to a locked account, or take bought money back if `nanos` is negative. The caller calls `write`.

    Purchases pay the recorded debt first; gifts do not. Taking back begins with the rest of `own_grant`, the grant that
    the purchase gave. Raises BalanceLimitExceeded past 64 bits: then nothing was posted. Raises ValueError for nothing
    and for a negative gift.
    """
    if nanos == 0 or (nanos < 0 and kind not in _TAKES_BACK):
        raise ValueError(f"{nanos} nanos as {kind.value}")
    credit_id = new_id()
    cause = Cause("money_credit", credit_id)
    if nanos > 0:
        account.give_money(nanos, kind, cause, actor, now)
    else:
        account.take_back_money(-nanos, kind, cause, actor, now, own_grant=own_grant)
    row = {
        "account_id": account.account_id,
        "money_credit_id": credit_id,
        "entry_no": account.last_entry_no,
        "transaction_type": kind.value,
        "amount_nanos": nanos,
        "currency": account.currency,
        "balance_after_nanos": account.money_remaining(now),
        "idempotency_key": idempotency_key,
        "caller_kind": actor.kind,
        "external_transaction_id": external_transaction_id,
        "description": description,
        "created_at": now,
    }
    await queries.insert_money_credit(tx, row)
    return money_credit_of(row)


async def replayed_money_credit(
    tx: Session, account_id: UUID, actor: Actor, idempotency_key: str | None, requested: tuple[int, str, str]
) -> MoneyCredit | None:
    """Return the credit with the key in the actor's key space. Raises IdempotencyKeyReused if it is not `requested`.

    `requested`: nanos, currency and kind.
    """
    if idempotency_key is None:
        return None
    row = await queries.find_money_credit_by_key(tx, account_id, actor.kind, idempotency_key)
    if row is None:
        return None
    if (row["amount_nanos"], row["currency"], row["transaction_type"]) != requested:
        raise IdempotencyKeyReused(idempotency_key)
    return money_credit_of(row, replayed=True)


async def described(db: Session, account_id: UUID, money_credit_ids: Sequence[UUID]) -> Mapping[UUID, Particulars]:
    """Return what money credits of one account say beside their amounts, by their ids."""
    rows = await queries.find_by_ids(db, account_id, money_credit_ids)
    return {key: Particulars(**{name: row[name] for name in Particulars.__slots__}) for key, row in rows.items()}


def money_credit_of(row: Any, *, replayed: bool = False) -> MoneyCredit:
    names = [name for name in MoneyCredit.__slots__ if name != "replayed"]
    return MoneyCredit(**{name: row[name] for name in names}, replayed=replayed)
