"""Facts about subscriptions and their invoices, and the pure rules that merge them.

As with payments, no fact is an instruction: events arrive late, twice, out of order or never. A rule for which order
and repetition do not matter merges each into the known state. Grants and plans are computed from the state
(app/subscriptions).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import ClassVar, Literal, get_args
from uuid import UUID

from app.payments.facts import Provider
from app.plans.entitlement import Status

STATUSES: tuple[Status, ...] = (
    "incomplete",
    "trialing",
    "active",
    "past_due",
    "unpaid",
    "paused",
    "incomplete_expired",
    "canceled",
)
"""Stripe's statuses, in the order in which they follow each other within one second."""
ENDED: frozenset[Status] = frozenset({"canceled", "incomplete_expired"})
"""No subscription leaves these statuses."""
InvoiceStatus = Literal["draft", "open", "uncollectible", "void", "paid"]
INVOICE_STATUSES: tuple[InvoiceStatus, ...] = get_args(InvoiceStatus)
"""Each replaces the earlier ones. A paid invoice stays paid, a void one stays void."""
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionFacts:
    """The state of a subscription as of `at`, and `seen_at`: the latest time of which anything is known about it."""

    provider_payment_id: ClassVar[None] = None
    provider: Provider
    subscription_id: str
    at: datetime
    seen_at: datetime
    status: Status
    customer_id: str | None = None
    price_id: str | None = None
    """The present price. The paid ones are in the lines of the invoices."""
    price_item_id: str | None = None
    """The part of the subscription that has the price."""
    period_start: datetime | None = None
    period_end: datetime | None = None
    anchor: datetime
    """The start of a period, from which the others are counted."""
    started_at: datetime
    ended_at: datetime | None = None
    cancel_at: datetime | None = None
    """When it will end, if it is canceled at a time or at the end of its period."""
    account_id: UUID | None = None
    order_id: UUID | None = None
    """Our own ids, as the subscription carries them in its metadata."""

    @property
    def object_id(self) -> str:
        return self.subscription_id

    @property
    def is_ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A price of a subscription for a period. A proration is a part of it: negative for the unused part of a price."""

    price_id: str
    start: datetime
    end: datetime
    amount_minor: int
    """Before its discounts."""
    is_proration: bool = False
    discount_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceFacts:
    """The state of a subscription's invoice as of `at`."""

    provider_payment_id: ClassVar[None] = None
    provider: Provider
    invoice_id: str
    at: datetime
    seen_at: datetime
    status: InvoiceStatus
    subscription_id: str
    customer_id: str | None = None
    currency: str
    amount_due_minor: int
    amount_paid_minor: int = 0
    created_at: datetime
    attempts: int = 0
    """To pay it, as Stripe counts them."""
    next_attempt_at: datetime | None = None
    lines: tuple[InvoiceLine, ...] = ()
    payment_ids: tuple[str, ...] = ()
    """The payments that are known to pay it."""
    account_id: UUID | None = None

    @property
    def object_id(self) -> str:
        return self.invoice_id

    @property
    def is_paid(self) -> bool:
        return self.status == "paid"


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePaymentFacts:
    """A payment belongs to an invoice: its refunds and disputes take back what the invoice granted."""

    provider_payment_id: ClassVar[None] = None
    provider: Provider
    invoice_id: str
    payment_id: str
    at: datetime

    @property
    def object_id(self) -> str:
        return self.invoice_id


Facts = SubscriptionFacts | InvoiceFacts | InvoicePaymentFacts


def merge_subscription(known: SubscriptionFacts | None, stated: SubscriptionFacts) -> SubscriptionFacts:
    """Merge a statement about a subscription into the known state; the order of statements does not matter.

    An end is final. Otherwise the latest statement counts. The times of events are whole seconds, those of reads are
    exact. Within a second, the later of two reads counts. Otherwise the later period counts, then the status that
    follows the other, and then the exact time.
    """
    if known is None:
        return stated
    are_reads = bool(known.at.microsecond and stated.at.microsecond)
    ranks = (_subscription_rank(known, are_reads=are_reads), _subscription_rank(stated, are_reads=are_reads))
    winner, other = (known, stated) if ranks[0] >= ranks[1] else (stated, known)
    return replace(
        winner,
        seen_at=max(known.seen_at, stated.seen_at),
        customer_id=winner.customer_id or other.customer_id,
        account_id=winner.account_id or other.account_id,
        order_id=winner.order_id or other.order_id,
    )


def _subscription_rank(facts: SubscriptionFacts, *, are_reads: bool) -> tuple[object, ...]:
    """Return a total order of events, and one of reads: two statements that are equal by it state the same."""
    return (
        facts.is_ended,
        facts.at if are_reads else facts.at.replace(microsecond=0),
        facts.period_end or BEGINNING,
        facts.period_start or BEGINNING,
        STATUSES.index(facts.status),
        facts.at,
        facts.ended_at or BEGINNING,
        facts.cancel_at or BEGINNING,
        facts.price_id or "",
        facts.price_item_id or "",
        facts.anchor,
        facts.started_at,
        facts.customer_id or "",
        str(facts.account_id),
        str(facts.order_id),
    )


def merge_invoice(known: InvoiceFacts | None, stated: InvoiceFacts) -> InvoiceFacts:
    """Merge a statement about an invoice into the known state; the order of statements does not matter.

    The status that follows the others counts, then the later statement. Payments add up.
    """
    if known is None:
        return stated
    winner, other = (known, stated) if _invoice_rank(known) >= _invoice_rank(stated) else (stated, known)
    return replace(
        winner,
        seen_at=max(known.seen_at, stated.seen_at),
        attempts=max(known.attempts, stated.attempts),
        customer_id=winner.customer_id or other.customer_id,
        account_id=winner.account_id or other.account_id,
        payment_ids=tuple(sorted({*known.payment_ids, *stated.payment_ids})),
    )


def _invoice_rank(facts: InvoiceFacts) -> tuple[object, ...]:
    return (
        INVOICE_STATUSES.index(facts.status),
        facts.at,
        len(facts.lines),  # an event contains the first lines only, the invoice itself all
        facts.attempts,
        facts.amount_paid_minor,
        facts.amount_due_minor,
        facts.next_attempt_at or BEGINNING,
        facts.created_at,
        _lines_rank(facts.lines),
        facts.customer_id or "",
        str(facts.account_id),
    )


def _lines_rank(lines: Iterable[InvoiceLine]) -> tuple[tuple[object, ...], ...]:
    return tuple(
        (line.start, line.end, line.price_id, line.amount_minor, line.is_proration, line.discount_minor)
        for line in lines
    )
