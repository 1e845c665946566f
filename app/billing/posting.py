"""Posting: records charges and credits on a locked account. Amounts are credits, except names that end in `_minor`.

BillingService uses it in its own transactions. The services of tools, payments and the back office use it in theirs.
"""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.auth.caller import Actor, DoubleCharges
from app.billing import queries
from app.billing.queries import Key
from app.db import Session, new_id
from app.db.statements import Tx
from app.ledger.entries import PAYS_DEBT
from app.ledger.errors import CurrencyMismatch, IdempotencyKeyReused
from app.ledger.locked_account import Cause, Kind, LockedAccount
from app.ledger.outcomes import Refused, Replayed
from app.ledger.pools import CREDIT, Credits, Debit, Shortfall, pay

CHARGE = "charge"
"""The operation of `/v1/billing/charges`: the key space of its idempotency keys."""


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """A charge to decide. `currency` None means the account's currency."""

    account_id: UUID
    amount_minor: int
    currency: str | None
    actor: Actor
    at: datetime
    idempotency_key: str | None = None
    description: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    run_id: str | None = None
    double_charges: DoubleCharges = "ignore"

    @property
    def run_ids(self) -> Sequence[str]:
        return () if self.run_id is None else (self.run_id,)

    @property
    def key(self) -> Key | None:
        """The idempotency key, in the caller's key space."""
        return None if self.idempotency_key is None else Key(self.account_id, self.actor.kind, self.idempotency_key)


@dataclass(frozen=True, slots=True)
class ChargeSeries:
    """Charges of one account, to decide in their order."""

    account_id: UUID
    charges: Sequence[ChargeRequest]

    @property
    def at(self) -> datetime:
        return self.charges[0].at

    @property
    def run_ids(self) -> Sequence[str]:
        return [run_id for charge in self.charges for run_id in charge.run_ids]

    @property
    def keys(self) -> list[Key | None]:
        return [request.key for request in self.charges]

    @property
    def key(self) -> Hashable | None:
        """Identifies the series. None: it has a charge without a key, which may not run again."""
        keys = self.keys
        return None if None in keys else (self.account_id, *keys)


@dataclass(frozen=True, slots=True)
class Charge:
    """A recorded charge. `paid_after` and `grants_after` are the paid pool and the live grants right after it."""

    charge_id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    cost: int
    paid_after: int
    description: str | None
    details: dict[str, Any]
    created_at: datetime
    grants_after: int = 0
    double_of: UUID | None = None
    """The charge that a new one probably repeats (app/billing/double_charges.py)."""

    @property
    def balance_after(self) -> int:
        """The paid credits and live grants right after the charge."""
        return self.paid_after + self.grants_after


@dataclass(frozen=True, slots=True)
class Credit:
    credit_id: UUID
    account_id: UUID
    credits: int
    currency: str
    transaction_type: str
    external_transaction_id: str | None
    paid_after: int
    description: str | None
    created_at: datetime
    replayed: bool = False
    grants_after: int = 0

    @property
    def balance_after(self) -> int:
        """The paid credits and live grants right after the credit."""
        return self.paid_after + self.grants_after


def require_currency(account: LockedAccount, currency: str) -> None:
    if currency != account.currency:
        raise CurrencyMismatch(currency, account.currency)


def post_charge(
    account: LockedAccount, request: ChargeRequest, debits: Sequence[Debit], *, allowance: int, operation: str
) -> dict[str, Any]:
    """Post each debit to the locked account, and return the row for `record_charges`."""
    charge_id = new_id()
    cause = Cause("charge", charge_id)
    kind = Kind.CHARGE if operation == CHARGE else Kind.TOOL_CHARGE
    account.post_debits(debits, kind, cause, request.actor, request.at, allowance=allowance)
    return charge_row(account, charge_id, request, ((bucket.kind, amount) for bucket, amount in debits), operation)


def charge_row(
    account: LockedAccount, charge_id: UUID, request: ChargeRequest, spent: Iterable[tuple[str, int]], operation: str
) -> dict[str, Any]:
    """Count the posted debits (kind of bucket, credits) as uses, and return the charge's row for `record_charges`."""
    parts = {"daily_free": 0, "grant": 0, "free": 0, "paid": 0}
    for kind, amount in spent:
        parts[kind] += amount
    cost = sum(parts.values())
    account.total_uses += cost
    grants_after = account.live_grants(request.at)
    grants = {"from_grants": parts["grant"], "grants_after": grants_after} if parts["grant"] or grants_after else {}
    run = {} if request.run_id is None else {"run_id": request.run_id}
    return {
        "account_id": account.account_id,
        "charge_id": charge_id,
        "entry_no": account.last_entry_no,
        "operation": operation,
        "idempotency_key": request.idempotency_key,
        "caller_kind": request.actor.kind,
        "amount_minor": request.amount_minor,
        "currency": account.currency,
        "cost": cost,
        "from_daily_free": parts["daily_free"],
        "from_free": parts["free"],
        "from_paid": parts["paid"],
        "paid_after": account.balances["paid"],
        "description": request.description,
        "metadata": json.dumps(request.details),
        "created_at": request.at,
        **grants,
        **run,
    }


def post_main_pool_charge(
    account: LockedAccount, request: ChargeRequest, price: Credits, *, operation: str
) -> dict[str, Any]:
    """As `post_charge`, of `price` from grants and paid credits only. The account has enough of them.

    The rules of `cost_of` do not apply: a use costs the product's price.
    """
    debits = pay(account.main_pool_buckets(request.at), price, unit=CREDIT, now=request.at)
    assert not isinstance(debits, Shortfall), "the caller has compared the price"
    return post_charge(account, request, debits, allowance=0, operation=operation)


async def record_charges(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Insert charges that were posted to locked accounts. The caller calls `write`."""
    if rows:
        await queries.insert_charges(tx, rows)


async def give_credits(
    tx: Session,
    account: LockedAccount,
    credits: int,
    transaction_type: str,
    *,
    actor: Actor,
    now: datetime,
    description: str | None = None,
    external_transaction_id: str | None = None,
    idempotency_key: str | None = None,
    own_grant: UUID | None = None,
) -> Credit:
    """Add paid credits to a locked account, or take them back if `credits` is negative. The caller calls `write`.

    Credits that were paid for (a purchase, a reinstatement, the return of a refund that did not arrive) pay the
    recorded debt first. Credits that are taken back after they were spent become debt. Taking back begins with the rest
    of `own_grant`, the grant that the payment gave.
    """
    kind = Kind(transaction_type)
    credit_id = new_id()
    cause = Cause("credit", credit_id)
    if credits < 0:
        account.take_back_paid(-credits, kind, cause, actor, now, own_grant=own_grant)
    elif kind in PAYS_DEBT:
        account.give_paid(credits, kind, cause, actor, now)
    else:
        account.post("paid", credits, kind, cause, actor, now)
    grants_after = account.live_grants(now)
    row = {
        "account_id": account.account_id,
        "credit_id": credit_id,
        "entry_no": account.last_entry_no,
        "transaction_type": transaction_type,
        "idempotency_key": idempotency_key,
        "caller_kind": actor.kind,
        "external_transaction_id": external_transaction_id,
        "credits": credits,
        "currency": account.currency,
        "paid_after": account.balances["paid"],
        "description": description,
        "created_at": now,
        **({"grants_after": grants_after} if grants_after else {}),
    }
    await queries.insert_credit(tx, row)
    return Credit(
        credit_id=credit_id,
        account_id=account.account_id,
        credits=credits,
        currency=account.currency,
        transaction_type=transaction_type,
        external_transaction_id=external_transaction_id,
        paid_after=account.balances["paid"],
        description=description,
        created_at=now,
        grants_after=grants_after,
    )


async def replayed_credit(
    tx: Session, account_id: UUID, actor: Actor, idempotency_key: str | None, requested: tuple[int, str, str]
) -> Credit | None:
    """Return the credit with the key in the actor's key space. Raises IdempotencyKeyReused for another `requested`."""
    if idempotency_key is None:
        return None
    row = await queries.find_credit_by_key(tx, Key(account_id, actor.kind, idempotency_key))
    if row is None:
        return None
    if (row.credits, row.currency, row.transaction_type) != requested:
        raise IdempotencyKeyReused(idempotency_key)
    return _credit(row, replayed=True)


def replayed(request: ChargeRequest, existing: Charge) -> Replayed[Charge] | Refused:
    currency = request.currency or existing.currency
    if (existing.amount_minor, existing.currency) != (request.amount_minor, currency):
        return Refused(IdempotencyKeyReused(request.idempotency_key or ""))
    return Replayed(existing)


def charge_of(row: Mapping[str, Any]) -> Charge:
    return Charge(
        charge_id=row["charge_id"],
        account_id=row["account_id"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        cost=row["cost"],
        paid_after=row["paid_after"],
        description=row["description"],
        details=row["metadata"],
        created_at=row["created_at"],
        grants_after=row.get("grants_after", 0),
    )


def _credit(row: Any, *, replayed: bool) -> Credit:
    return Credit(
        credit_id=row.credit_id,
        account_id=row.account_id,
        credits=row.credits,
        currency=row.currency,
        transaction_type=row.transaction_type,
        external_transaction_id=row.external_transaction_id,
        paid_after=row.paid_after,
        description=row.description,
        created_at=row.created_at,
        replayed=replayed,
        grants_after=row.grants_after,
    )
