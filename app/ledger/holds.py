"""Holds: amounts reserved on a locked account, and their settlement. Pure: the caller reads and writes the rows.

A hold moves its parts from their pools into the pool `held`, where nothing else can spend them. Its settlement spends
the captured amount from there, in burn order, and returns the rest to the pools that it came from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Literal, Self
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.ledger.entries import DEBT_OF, Cause, Kind
from app.ledger.locked_account import MAX_INT64, LockedAccount
from app.ledger.money import MAX_NANOS
from app.ledger.pools import CREDIT, Debit

HoldStatus = Literal["held", "captured", "released", "expired"]
OnExpiry = Literal["release", "capture_reported", "capture_all"]
"""The settlement of a hold that is left open: nothing, the reported progress or all of it is spent."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a hold that came from one pool, or from one grant, in the hold's unit."""

    pool: str
    grant_id: UUID | None
    amount: int


@dataclass(slots=True)
class Hold:
    """A hold as its transaction sees it. Amounts are in `unit`: credits, or nanos of the account's currency.

    `spending_id` names the charge or the usage event of the captured amount.
    """

    environment: Environment
    account_id: UUID
    hold_id: UUID
    unit: str
    amount: int
    on_expiry: OnExpiry
    idempotency_key: str | None
    caller_kind: str
    fingerprint: bytes
    expires_at: datetime
    created_at: datetime
    key_id: str | None = None
    product_type: str | None = None
    run_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    status: HoldStatus = "held"
    reported: int = 0
    captured: int = 0
    overage: int = 0
    """The amount that a capture charged beyond the held one."""
    outcome: str | None = None
    settled_at: datetime | None = None
    spending_id: UUID | None = None
    parts: Sequence[Part] = ()

    def copy(self) -> Self:
        """Return a copy. `dataclasses.replace` takes six times as long."""
        return type(self)(*_values(self))

    @property
    def cause(self) -> Cause:
        return Cause("hold", self.hold_id)

    @property
    def due_amount(self) -> int:
        """The amount that its expiry spends."""
        return {"release": 0, "capture_reported": self.reported, "capture_all": self.amount}[self.on_expiry]


_values = attrgetter(*(column.name for column in fields(Hold)))


def reserve(
    account: LockedAccount, hold: Hold, debits: Sequence[Debit], actor: Actor, now: datetime, *, allowance: int = 0
) -> None:
    """Move the debits of a decision of `pay`, which sum to the hold's amount, into the pool `held`.

    `allowance`: of daily free uses, if they are among the buckets.
    """
    account.post_debits(debits, Kind.HOLD, hold.cause, actor, now, allowance=allowance)
    account.move_held(hold.unit, hold.amount, Kind.HOLD, hold.cause, actor, now)
    hold.parts = tuple(Part(bucket.id, bucket.grant_id, amount) for bucket, amount in debits)
    due = account.holds_expire_at
    account.holds_expire_at = hold.expires_at if due is None else min(due, hold.expires_at)


def spend(account: LockedAccount, hold: Hold, amount: int, cause: Cause, actor: Actor, now: datetime) -> list[Part]:
    """Spend `amount` of a hold, and give the rest back. Return the parts that were spent, in burn order.

    Does not fail. Grants of the parts must be among the account's lots, open or not.
    """
    spent: list[Part] = []
    if amount:
        kind = Kind.CHARGE if hold.unit == CREDIT else Kind.USAGE
        account.move_held(hold.unit, -amount, kind, cause, actor, now)
    for part in hold.parts:
        used = min(amount, part.amount)
        amount -= used
        if used:
            spent.append(Part(part.pool, part.grant_id, used))
        if used < part.amount:
            _return(account, hold, part, part.amount - used, actor, now)
    return spent


def room_beyond(account: LockedAccount, hold: Hold) -> int:
    """Return how much a capture may spend beyond its hold, so that the account's uses still fit 64 bits.

    The captured amount has left the pool `held`. Money is counted as used then, uses are counted with their charge.
    """
    if hold.unit == CREDIT:
        return MAX_INT64 - account.total_uses - account.held_credits - hold.captured
    return MAX_NANOS - account.money_used_nanos - account.held_money_nanos


def _return(account: LockedAccount, hold: Hold, part: Part, amount: int, actor: Actor, now: datetime) -> None:
    """Return a part to its pool, where it expires at once if its grant, or the day of its free uses, has ended.

    Purchased credits and money pay a debt first, as if they had never been held: a refund may have caused it.
    """
    account.move_held(hold.unit, -amount, Kind.HOLD_RELEASE, hold.cause, actor, now)
    if part.grant_id is not None:
        account.return_to_lot(account.lots[part.grant_id], amount, Kind.HOLD_RELEASE, hold.cause, actor, now)
        return
    account.post(part.pool, amount, Kind.HOLD_RELEASE, hold.cause, actor, now)
    if part.pool == "daily_free" and not now.date() <= hold.created_at.date() == account.daily_free_day:
        account.post(part.pool, -amount, Kind.DAILY_EXPIRY, hold.cause, actor, now)
    if part.pool in DEBT_OF:
        account.pay_debt(part.pool, amount, hold.cause, actor, now)
