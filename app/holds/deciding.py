"""Decides requests about holds on locked accounts, and collects the rows to write. Reads and writes nothing.

A hold is settled once: the first outcome counts. A capture of up to the held amount never fails for want of credit: it
spends what nothing else could spend. So it succeeds on suspended and closed accounts too.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.billing.posting import CHARGE, ChargeRequest, charge_row
from app.db import new_id
from app.errors import AppError
from app.holds.errors import AboveHold, HoldNotFound, HoldSettled, WrongUnit
from app.holds.requests import (
    Amount,
    Capture,
    Change,
    Done,
    Expiry,
    Extension,
    Opening,
    Outcome,
    Overage,
    Progress,
    Rejected,
    Release,
    Unpaid,
)
from app.ledger.entries import Cause, Kind
from app.ledger.errors import AccountNotFound, CurrencyMismatch, IdempotencyKeyReused
from app.ledger.hold_queries import Key, Place
from app.ledger.holds import Hold, HoldStatus, reserve, room_beyond, spend
from app.ledger.limits import Spending
from app.ledger.locked_account import LockedAccount
from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT, MINOR_PER_CREDIT, Bucket, Shortfall, pay
from app.metering.events import HOLD_METER
from app.metering.own_events import own_event

DESCRIPTION = "Captured hold"


@dataclass(slots=True)
class Batch:
    """The state that a transaction has read under its locks, and the rows that it will write."""

    allowance: int
    holds: dict[Place, Hold] = field(default_factory=dict)
    by_key: dict[Key, Hold] = field(default_factory=dict)
    opened: list[Hold] = field(default_factory=list)
    changed: dict[Place, Hold] = field(default_factory=dict)
    charges: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)


class Decider:
    """Decides the requests of a transaction, in order."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def decide(self, request: Opening | Change, account: LockedAccount | None) -> Outcome:
        """Decide one request on a locked account."""
        if account is None:
            return Rejected(AccountNotFound() if isinstance(request, Opening) else HoldNotFound())
        try:
            match request:
                case Opening():
                    return self._open(request, account)
                case Capture():
                    return self._capture(request, account)
                case Release():
                    return self._release(request, account)
                case Extension():
                    return self._extend(request, account)
                case Progress():
                    return self._report(request, account)
                case Expiry():
                    return self._expire(request, account)
        except AppError as error:
            return Rejected(error)

    # --- opening ---

    def _open(self, request: Opening, account: LockedAccount) -> Outcome:
        key = request.key
        if key is not None and (existing := self._batch.by_key.get(key)) is not None:
            return reopened(request, existing)
        account.require_active()
        unit = account.currency if request.amount.is_money else CREDIT
        if request.currency not in (None, account.currency):
            raise CurrencyMismatch(request.currency or "", account.currency)
        buckets = self._buckets(account, unit, request.at)
        _require_room(account, unit, request.amount.value)
        debits = pay(buckets, request.amount.value, unit=unit, now=request.at)
        if isinstance(debits, Shortfall):
            return Unpaid(debits.available, debits.required, unit)
        if account.limits is not None:
            account.limits.admit(_spending(request, request.actor.key_id, unit, request.amount.value))
        hold = Hold(
            environment=account.environment,
            account_id=account.account_id,
            hold_id=new_id(),
            unit=unit,
            amount=request.amount.value,
            on_expiry=request.on_expiry,
            idempotency_key=request.idempotency_key,
            caller_kind=request.actor.kind or "key",
            fingerprint=request.fingerprint(),
            expires_at=request.at + request.expires_in,
            created_at=request.at,
            key_id=request.actor.key_id,
            product_type=request.product_type,
            run_id=request.run_id,
            details=request.details,
        )
        if account.limits is not None:
            account.limits.note(_spending(request, request.actor.key_id, unit, request.amount.value), hold.hold_id)
        reserve(account, hold, debits, request.actor, request.at, allowance=self._batch.allowance)
        self._batch.holds[Place(hold.account_id, hold.hold_id)] = hold
        self._batch.opened.append(hold)
        if key is not None:
            self._batch.by_key[key] = hold
        return Done(hold.copy(), is_new=True)

    def _buckets(self, account: LockedAccount, unit: str, now: datetime) -> list[Bucket]:
        if unit == CREDIT:
            return list(account.credit_buckets(now.date(), self._batch.allowance, now))
        return list(account.money_buckets(now))

    # --- changes of an open hold ---

    def _extend(self, request: Extension, account: LockedAccount) -> Outcome:
        hold = self._open_hold(request.place, account, request.environment)
        later = max(hold.expires_at, request.at + request.expires_in)
        is_new = later != hold.expires_at
        hold.expires_at = later
        return self._changed(hold, is_new=is_new)

    def _report(self, request: Progress, account: LockedAccount) -> Outcome:
        hold = self._open_hold(request.place, account, request.environment)
        most = max(hold.reported, min(hold.amount, _value(hold, request.amount)))
        is_new = most != hold.reported
        hold.reported = most
        return self._changed(hold, is_new=is_new)

    def _changed(self, hold: Hold, *, is_new: bool) -> Done:
        if is_new:
            self._batch.changed[Place(hold.account_id, hold.hold_id)] = hold
        return Done(hold.copy(), is_new=is_new)

    # --- settlement ---

    def _capture(self, request: Capture, account: LockedAccount) -> Outcome:
        hold = self._found(request.place, account, request.environment)
        if hold.status != "held":
            return recaptured(request, hold)
        amount = _value(hold, request.amount)
        if amount > hold.amount and request.overage == "refuse":
            raise AboveHold(request.amount.field, text_of(hold.unit, hold.amount))
        return self._settle(hold, account, amount, "captured", request.actor, request.at)

    def _release(self, request: Release, account: LockedAccount) -> Outcome:
        hold = self._found(request.place, account, request.environment)
        if hold.status != "held":
            return rereleased(hold)
        hold.outcome = None if account.erased_at is not None else request.outcome
        return self._settle(hold, account, 0, "released", request.actor, request.at)

    def _expire(self, request: Expiry, account: LockedAccount) -> Outcome:
        hold = self._found(request.place, account, account.environment)
        if hold.status != "held" or hold.expires_at > request.at:
            return Done(hold.copy(), is_new=False)
        return self._settle(hold, account, hold.due_amount, "expired", request.actor, request.at)

    def _settle(
        self, hold: Hold, account: LockedAccount, amount: int, status: HoldStatus, actor: Actor, now: datetime
    ) -> Done:
        """Spend `amount`: of the hold, and beyond it as far as the account can pay. Return the rest."""
        hold.status, hold.settled_at = status, now
        if amount:
            hold.spending_id = new_id()
            if hold.unit == CREDIT:
                self._spend_credits(hold, account, amount, actor, now)
            else:
                self._spend_money(hold, account, amount, actor, now)
        else:
            spend(account, hold, 0, hold.cause, actor, now)
        if not account.held_credits and not account.held_money_nanos:
            account.holds_expire_at = None  # else it may be too early now, until a transaction finds it due
        if account.limits is not None:
            less, uses = hold.captured - hold.amount, 0 if amount else -1
            account.limits.adjust(_spending(hold, hold.key_id, hold.unit, less, uses), hold.created_at, hold.hold_id)
        return self._changed(hold, is_new=True)

    def _spend_credits(self, hold: Hold, account: LockedAccount, amount: int, actor: Actor, now: datetime) -> None:
        assert hold.spending_id is not None
        cause = Cause("charge", hold.spending_id)
        hold.captured = min(amount, hold.amount)
        parts = spend(account, hold, hold.captured, cause, actor, now)
        spent = [("grant" if part.grant_id else part.pool, part.amount) for part in parts]
        for bucket, part in self._beyond(hold, account, amount, cause, actor, now):
            spent.append((bucket.kind, part))
            hold.overage += part
        details = {**hold.details, "hold_id": str(hold.hold_id)} if account.erased_at is None else {}
        minor = (hold.captured + hold.overage) * MINOR_PER_CREDIT
        charge = ChargeRequest(hold.account_id, minor, None, actor, now, description=DESCRIPTION, details=details)
        self._batch.charges.append(charge_row(account, hold.spending_id, charge, spent, CHARGE))

    def _spend_money(self, hold: Hold, account: LockedAccount, amount: int, actor: Actor, now: datetime) -> None:
        assert hold.spending_id is not None
        cause = Cause("usage_event", hold.spending_id)
        if account.billing_enabled:
            hold.captured = min(amount, hold.amount)
            spend(account, hold, hold.captured, cause, actor, now)
            hold.overage = sum(part for _, part in self._beyond(hold, account, amount, cause, actor, now))
        else:  # recorded and priced, never charged; the report is what a repeat is compared with
            hold.reported = min(amount, hold.amount)
            spend(account, hold, 0, cause, actor, now)
        self._batch.events.append(_event_row(hold, hold.spending_id, account, amount, now))

    def _beyond(
        self, hold: Hold, account: LockedAccount, amount: int, cause: Cause, actor: Actor, now: datetime
    ) -> list[tuple[Bucket, int]]:
        """Charge what a capture asks for beyond the hold, as far as the balance suffices and the books can count it."""
        if amount <= hold.amount or account.status != "active":
            return []
        buckets = self._buckets(account, hold.unit, now)
        available = sum(bucket.available for bucket in buckets)
        beyond = max(0, min(amount - hold.amount, available, room_beyond(account, hold)))
        if account.limits is not None:
            beyond = account.limits.room(_spending(hold, hold.key_id, hold.unit, beyond, uses=0))
            account.limits.count(_spending(hold, hold.key_id, hold.unit, beyond, uses=0))
        debits = pay(buckets, beyond, unit=hold.unit, now=now)
        assert not isinstance(debits, Shortfall), "the buckets hold what is available"
        kind = Kind.CHARGE if hold.unit == CREDIT else Kind.USAGE
        account.post_debits(debits, kind, cause, actor, now, allowance=self._batch.allowance)
        return [(bucket, part) for bucket, part in debits]

    def _open_hold(self, place: Place, account: LockedAccount, environment: Environment) -> Hold:
        hold = self._found(place, account, environment)
        if hold.status != "held":
            raise settled(hold)
        return hold

    def _found(self, place: Place, account: LockedAccount, environment: Environment) -> Hold:
        hold = self._batch.holds.get(place)
        if hold is None or hold.environment != environment:
            raise HoldNotFound
        return hold


def reopened(request: Opening, existing: Hold) -> Outcome:
    """Return the outcome of an opening whose key was used before."""
    if existing.fingerprint != request.fingerprint():
        return Rejected(IdempotencyKeyReused(request.idempotency_key or ""))
    return Done(existing.copy(), is_new=False)


def recaptured(request: Capture, hold: Hold) -> Outcome:
    """Return the outcome of a capture of a settled hold."""
    try:
        amount = _value(hold, request.amount)
    except WrongUnit as error:
        return Rejected(error)
    if hold.status == "captured" and _is_repeat(hold, amount, request.overage):
        return Done(hold.copy(), is_new=False)
    return Rejected(settled(hold))


def _is_repeat(hold: Hold, amount: int, overage: Overage) -> bool:
    """Return whether a capture of `amount` has the effect that this captured hold has.

    What a balance did not suffice for is not stored, so any larger amount is a repeat of a capture of what fits.
    """
    captured = hold.captured or hold.reported  # nothing was charged: its capture is its last report
    if amount <= hold.amount:
        return captured == amount and not hold.overage
    return overage == "charge_what_fits" and captured == hold.amount and hold.overage <= amount - hold.amount


def rereleased(hold: Hold) -> Outcome:
    """Return the outcome of a release of a settled hold. One that expired without a charge is released, too."""
    if hold.status == "released" or (hold.status == "expired" and hold.captured == 0):
        return Done(hold.copy(), is_new=False)
    return Rejected(settled(hold))


def settled(hold: Hold) -> HoldSettled:
    return HoldSettled(hold.status, text_of(hold.unit, hold.captured + hold.overage))


def text_of(unit: str, amount: int) -> str:
    """Return an amount as it is on the wire: hundredths of credits, or an exact decimal."""
    return str(amount * MINOR_PER_CREDIT) if unit == CREDIT else decimal_text(amount)


def _value(hold: Hold, amount: Amount) -> int:
    if amount.is_money == (hold.unit == CREDIT):
        raise WrongUnit(amount.field, hold.unit)
    return amount.value


def _require_room(account: LockedAccount, unit: str, amount: int) -> None:
    if unit == CREDIT:
        account.require_room_for_uses(amount)
    else:
        account.require_room_for_usage(amount)


def _spending(work: Opening | Hold, key_id: str | None, unit: str, amount: int, uses: int = 1) -> Spending:
    """Return what limits count of a hold, or of a correction of it."""
    agent_id = work.details.get("agent_id")  # of any type in holds that earlier versions stored
    agent = None if agent_id is None else str(agent_id)
    return Spending(unit, amount, key_id, agent, tool=work.product_type, run=work.run_id, uses=uses)


def _event_row(hold: Hold, usage_id: UUID, account: LockedAccount, amount: int, now: datetime) -> dict[str, Any]:
    """Return the usage event of captured money."""
    cost = hold.captured + hold.overage if account.billing_enabled else amount
    is_erased = account.erased_at is not None
    return own_event(
        account,
        usage_id,
        source=HOLD_METER,
        meter=HOLD_METER,
        status="charged" if account.billing_enabled else "recorded",
        cost_nanos=cost,
        stated_nanos=cost,
        occurred_at=now,
        now=now,
        metadata=json.dumps(hold.details) if hold.details and not is_erased else None,
        attribution=None if is_erased else json.dumps({"hold_id": str(hold.hold_id)}),
        tool=hold.product_type,
        run_id=None if is_erased else hold.run_id,
        key_id=hold.key_id,
    )
