"""Holds: credits or money reserved before work starts, and settled once afterwards.

async with billing.hold(user, credits=5) as hold:
    credits_used = await answer(message)
    await hold.capture(credits_used)
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict

from ciris_billing.models import MINOR_PER_CREDIT, Reply, User, without_none
from ciris_billing.usage import Amount, exact, payer

OnExpiry = Literal["release", "capture_reported", "capture_all"]
Overage = Literal["refuse", "charge_what_fits"]


def amount_fields(
    credits: int | None = None, amount_minor: int | None = None, amount: Decimal | str | int | None = None
) -> dict[str, Any]:
    """Return the amount of a request: whole credits, hundredths of a credit, or money. Raises TypeError unless exactly
    one is given, and for a float."""
    if [credits, amount_minor, amount].count(None) != 2:
        raise TypeError("pass credits, amount_minor or amount, one of the three")
    if amount is not None:
        return {"amount": exact("amount", amount)}
    if amount_minor is not None:
        return {"amount_minor": amount_minor}
    if not isinstance(credits, int) or isinstance(credits, bool):
        raise TypeError("credits is no whole number: pass an int, or hundredths of a credit as amount_minor")
    return {"amount_minor": credits * MINOR_PER_CREDIT}


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldOpening:
    """A hold to open: of a `User`, or of a `user_id` (the external id under the identity provider of the API key).

    It reserves whole `credits`, or `amount_minor` (hundredths of a credit, rounded up to whole credits), or money:
    `amount`, exact and in the currency's major unit. A hold that is not settled expires after `expires_in_s` (900 by
    default, at most 86,400). `on_expiry` decides what it costs then: `release` nothing, `capture_reported` the reported
    progress, `capture_all` all of it.

    The service opens one hold for an `idempotency_key` and user. Without one, the hold gets a random key, which is the
    same each time this object is sent.
    """

    user: User | None = None
    user_id: str | None = None
    credits: int | None = None
    amount_minor: int | None = None
    amount: Decimal | str | int | None = None
    currency: str | None = None
    expires_in_s: int | None = None
    on_expiry: OnExpiry | None = None
    product_type: str | None = None
    run_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    idempotency_key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        if not self.idempotency_key:
            raise ValueError("idempotency_key is empty: pass a name of the work, or none")

    def body(self) -> dict[str, Any]:
        """Return the opening as the service reads it."""
        names = ("currency", "expires_in_s", "on_expiry", "product_type", "run_id", "metadata", "idempotency_key")
        given = without_none({name: getattr(self, name) for name in names})
        amount = amount_fields(self.credits, self.amount_minor, self.amount)
        return {**payer(self.user, self.user_id), **amount, **given}


@dataclass(frozen=True, kw_only=True, slots=True)
class HoldTerms:
    """The hold of a gate's estimate. A hold that is left open, such as by a killed process, expires after
    `expires_in_s` (900 by default), and costs by `on_expiry` nothing (the default), the reported progress, or all of
    it."""

    expires_in_s: int | None = None
    on_expiry: OnExpiry | None = None

    def fields(self) -> dict[str, Any]:
        return without_none({"expires_in_s": self.expires_in_s, "on_expiry": self.on_expiry})


class HoldFields(TypedDict, total=False):
    """The fields of a HoldOpening without its user, as keyword arguments."""

    user_id: str | None
    credits: int | None
    amount_minor: int | None
    amount: Decimal | str | int | None
    currency: str | None
    expires_in_s: int | None
    on_expiry: OnExpiry | None
    product_type: str | None
    run_id: str | None
    metadata: Mapping[str, Any] | None
    idempotency_key: str


class Hold(Reply):
    """A hold. Amounts of credits are in `*_minor` (hundredths of a credit), those of money in the other fields; the
    others are None."""

    hold_id: str
    status: str
    """`held`, `captured`, `released` or `expired`."""
    unit: str
    """`credit`, or the currency of a hold of money."""
    amount_minor: int | None
    amount: Amount | None
    reported_minor: int | None
    reported: Amount | None
    captured_minor: int | None
    """Spent of the held amount."""
    captured: Amount | None
    overage_minor: int | None
    """Charged beyond the held amount, with `charge_what_fits`."""
    overage: Amount | None
    on_expiry: str
    expires_at: datetime
    created_at: datetime
    settled_at: datetime | None
    outcome: str | None
    """The reason of its release, from the caller."""
    charge_id: str | None
    """The charge of captured credits."""
    transaction_id: str | None
    """The usage event of captured money."""
    product_type: str | None
    run_id: str | None
    metadata: dict[str, Any]
    replayed: bool = False
    """`create_hold`: an earlier request with the idempotency key opened the hold, perhaps one whose answer was lost."""

    @property
    def is_settled(self) -> bool:
        return self.status != "held"

    @property
    def has_paid(self) -> bool:
        """Whether it is settled and has spent something."""
        return self.is_settled and any(amount for amount in (self.captured_minor, self.captured))
