"""What a payment provider says about a payment, and what follows for the credits: pure.

Facts arrive late, twice and out of order. So none of them is an instruction: each is merged into what is known, in a
way in which order and repetition do not matter, and then the credits are brought to where the sum of it all says.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

PAYMENT_STATUSES = (
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "requires_capture",
    "processing",
    "succeeded",
    "canceled",
)
"""Stripe's words. Ours are these and `pending` (Stripe has not heard of it yet), `failed` and `unknown`."""
PurchaseStatus = Literal[
    "pending",
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "requires_capture",
    "processing",
    "succeeded",
    "failed",
    "canceled",
    "unknown",
]
DisputeStatus = Literal["warning", "open", "won", "lost"]
FINAL_DISPUTE = ("won", "lost")
WITHDRAWN_DISPUTE = ("open", "lost")


@dataclass(frozen=True, slots=True)
class Dispute:
    dispute_id: str
    amount_minor: int
    status: DisputeStatus


@dataclass(frozen=True, slots=True)
class PaymentFacts:
    """One statement about a payment, as of `at`. None: not said."""

    payment_intent_id: str
    at: datetime
    status: str | None = None
    received_minor: int | None = None
    received_currency: str | None = None
    refunded_minor: int | None = None
    dispute: Dispute | None = None
    card_fingerprint: str | None = None
    account_id: UUID | None = None
    purchase_id: UUID | None = None
    """Our own ids, as the payment carries them in its metadata."""


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the provider's event log. `facts` is None for what does not concern us."""

    event_id: str
    type: str
    created_at: datetime
    livemode: bool
    facts: PaymentFacts | None


@dataclass(frozen=True, slots=True)
class TakenBack:
    """Credits that refunds and disputes have taken back of a purchase."""

    refunded: int
    disputed: int


def merge_dispute(known: DisputeStatus | None, told: DisputeStatus) -> DisputeStatus:
    """A decided dispute stays decided; an inquiry may become a dispute, but not the other way round."""
    if known in FINAL_DISPUTE or (known == "open" and told == "warning"):
        assert known is not None
        return known
    return told


def taken_back(*, credits: int, amount_minor: int, refunded_minor: int, withdrawn_minor: int) -> TakenBack:
    """The credits to be taken back, in proportion to the money, in whole credits, rounded in the customer's favour.

    Refunds come first: a dispute takes what they have left, so that no cent counts twice.
    """
    refunded = min(refunded_minor, amount_minor)
    gone = min(refunded + withdrawn_minor, amount_minor)
    by_refunds = credits * refunded // amount_minor
    return TakenBack(by_refunds, credits * gone // amount_minor - by_refunds)
