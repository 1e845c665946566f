"""Facts: statements of a payment provider about payments, and the pure rules that turn them into credits.

Facts arrive late, twice and out of order, so none of them is an instruction. Each is merged into the known state by a
rule for which order and repetition do not matter. Then the credits are moved to the amount that the state calls for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Literal, Protocol
from uuid import UUID

Provider = Literal["stripe"]
"""The payment providers. A provider's ids of payments and events are unique only beside its name (ADR 25)."""
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
PAYMENT_STATUSES: tuple[PurchaseStatus, ...] = (
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "requires_capture",
    "processing",
    "succeeded",
    "canceled",
)
"""Stripe's statuses. Ours are these, `pending` (not opened at Stripe yet), `failed` and `unknown`."""
DELAYED_ACTIONS = (
    "display_bank_transfer_instructions",
    "boleto_display_details",
    "konbini_display_details",
    "multibanco_display_details",
    "oxxo_display_details",
    "pix_display_qr_code",
    "verify_with_microdeposits",
)
"""Stripe's types of `next_action` that the buyer completes hours or days later, away from the browser: bank transfers,
vouchers and micro-deposits. The other types end within minutes, such as 3-D Secure (`use_stripe_sdk`)."""
CANCELED_AFTER = timedelta(hours=24)
"""Stripe remembers idempotency keys for so long. Then a payment that its buyer has not begun to pay is canceled."""
BEGUN_FOR = timedelta(days=30)
"""The longest that a begun payment may take, unless Stripe ends it earlier."""
DisputeStatus = Literal["warning", "open", "won", "lost"]
RefundStatus = Literal["pending", "requires_action", "succeeded", "canceled", "failed"]
REFUND_STATUSES: tuple[RefundStatus, ...] = ("pending", "requires_action", "succeeded", "canceled", "failed")
"""Each replaces the earlier ones: a refund that succeeded can fail later, and a failed one stays failed."""
UNDONE_REFUND = ("canceled", "failed")
FINAL_DISPUTE = ("won", "lost")
WITHDRAWN_DISPUTE = ("open", "lost")


@dataclass(frozen=True, slots=True)
class Dispute:
    dispute_id: str
    amount_minor: int
    status: DisputeStatus
    decided_at: datetime | None = None
    """The provider's time of the decision. None: open, or stored by a version without this field."""


@dataclass(frozen=True, slots=True)
class Refund:
    refund_id: str
    amount_minor: int
    status: RefundStatus
    created_at: datetime
    request_key: str | None = None
    """The key of our own request. None: requested elsewhere, or by a version that did not send it."""
    reason: str | None = None
    """In the provider's words."""


@dataclass(frozen=True, slots=True)
class Card:
    """The means of payment, as the provider describes it. Without a card, `brand` is the kind of payment."""

    fingerprint: str | None
    brand: str | None
    last4: str | None


@dataclass(frozen=True, slots=True)
class PaymentFacts:
    """One statement about a payment, as of `at`. None: not stated."""

    object_id: ClassVar[None] = None
    provider: Provider
    provider_payment_id: str | None
    """None: a checkout session without a payment so far."""
    at: datetime
    status: PurchaseStatus | None = None
    next_action: str | None = None
    """Stripe's type of the buyer's next step. It belongs to the status."""
    received_minor: int | None = None
    received_currency: str | None = None
    refunded_minor: int | None = None
    """The total of all refunds that neither failed nor were canceled, as of `at`."""
    refunds: tuple[Refund, ...] = ()
    dispute: Dispute | None = None
    card: Card | None = None
    receipt_url: str | None = None
    session_id: str | None = None
    """The checkout session that takes the payment on a page of the provider."""
    account_id: UUID | None = None
    purchase_id: UUID | None = None
    """Our own ids, as the payment carries them in its metadata."""


class Stated(Protocol):
    """A statement of a provider about a payment, a subscription or an invoice."""

    @property
    def provider(self) -> Provider:
        """The provider that states it."""

    @property
    def provider_payment_id(self) -> str | None:
        """The payment that it is about. None: unknown, or it is about something else."""

    @property
    def object_id(self) -> str | None:
        """The subscription or the invoice that it is about. None: it is about a payment."""


@dataclass(frozen=True, slots=True)
class CardSetup:
    """A page of the provider that saves a card, by our own ids in its metadata."""

    account_id: UUID
    setup_id: UUID


@dataclass(frozen=True, slots=True)
class Event:
    """An entry of the provider's event log. `facts` is None for events that do not concern us."""

    provider: Provider
    event_id: str
    type: str
    created_at: datetime
    livemode: bool
    facts: Stated | None
    setup: CardSetup | None = None
    """The page that saves a card, which has changed."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The part of a purchase that refunds and disputes have taken back, in its unit: credits, or nanos of money."""

    refunded: int
    disputed: int


def has_begun(status: str | None, next_action: str | None) -> bool:
    """Return whether the buyer has begun to pay, so that the payment may succeed days later without another click."""
    if status == "requires_action":
        return next_action in DELAYED_ACTIONS
    return status in ("processing", "requires_capture")


def lifetime(status: str | None, next_action: str | None) -> timedelta:
    """Return the time after which an unpaid purchase is canceled, from its opening."""
    return BEGUN_FOR if has_begun(status, next_action) else CANCELED_AFTER


def is_withdrawn(dispute: Dispute | None) -> bool:
    """Return whether a dispute has taken the money, also if it has not been decided. None: there is no dispute."""
    return dispute is not None and dispute.status in WITHDRAWN_DISPUTE


def merge_dispute(known: Dispute | None, stated: Dispute) -> Dispute:
    """Merge a statement about a dispute into the known state; the order of statements does not matter.

    A decision replaces every undecided state, and the later of two decisions counts; in the same second `lost` wins. A
    decision without a time yields to any that has one. An inquiry becomes a dispute, not the other way round.
    """
    if known is None:
        return stated
    winner = max(known, stated, key=_dispute_rank)
    return Dispute(winner.dispute_id, max(known.amount_minor, stated.amount_minor), winner.status, winner.decided_at)


def _dispute_rank(dispute: Dispute) -> tuple[int, float, bool]:
    if dispute.status not in FINAL_DISPUTE:
        return (0, 0.0, dispute.status == "open")
    decided_s = float("-inf") if dispute.decided_at is None else dispute.decided_at.timestamp()
    return (1, decided_s, dispute.status == "lost")


def merge_refund(known: Refund | None, stated: Refund) -> Refund:
    """Merge a statement about a refund into the known state; the order of statements does not matter."""
    if known is None:
        return stated
    status = max(known.status, stated.status, key=REFUND_STATUSES.index)
    return Refund(
        known.refund_id,
        max(known.amount_minor, stated.amount_minor),
        status,
        known.created_at,
        known.request_key or stated.request_key,
        known.reason or stated.reason,
    )


def refunded_money(reported_minor: int, refunds: Iterable[Refund]) -> int:
    """Return the money that refunds took back, in minor units.

    It is the sum of known refunds that neither failed nor were canceled, plus the part of the reported total that no
    known refund explains.

    `reported_minor` is the largest total that was ever reported. The provider lowers its total when a refund fails, so
    the largest one may contain refunds that failed later: every known refund is subtracted from it, those too.
    """
    known = list(refunds)
    valid = sum(refund.amount_minor for refund in known if refund.status not in UNDONE_REFUND)
    return valid + max(0, reported_minor - sum(refund.amount_minor for refund in known))


def taken_back(*, sold: int, amount_minor: int, refunded_minor: int, withdrawn_minor: int) -> TakenBack:
    """Return what to take back of `sold`, credits or nanos, in proportion to the money that was paid for it.

    Rounded down to whole credits or nanos, in the customer's favor. Refunds come first: a dispute takes from their
    rest, so that no cent counts twice.
    """
    refunded = min(refunded_minor, amount_minor)
    gone = min(refunded + withdrawn_minor, amount_minor)
    by_refunds = sold * refunded // amount_minor
    return TakenBack(by_refunds, sold * gone // amount_minor - by_refunds)
