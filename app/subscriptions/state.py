"""State of an account's subscriptions, and the plan that it entitles the account to. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.payments.facts import Dispute, Refund, is_withdrawn, refunded_money
from app.payments.subscription_facts import InvoiceFacts, InvoiceLine, SubscriptionFacts
from app.plans.document import Interval, Plan
from app.plans.entitlement import entitled_until, is_entitled

LIVE = ("trialing", "active", "past_due", "unpaid", "paused")
"""Statuses of a subscription that has begun and not ended."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The plan of a price, as the subscriber subscribed to it."""

    plan: Plan
    interval: Interval


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice with the refunds and disputes of its payments."""

    facts: InvoiceFacts
    refunds: Mapping[str, tuple[str, Refund]]
    """By refund: its payment and its state."""
    reported: Mapping[str, int]
    """By payment: the largest total of refunds that was reported."""
    disputes: Mapping[str, Dispute]

    @property
    def refunded_minor(self) -> int:
        payments = {payment for payment, _ in self.refunds.values()} | self.reported.keys()
        return sum(
            refunded_money(self.reported.get(payment, 0), [r for its, r in self.refunds.values() if its == payment])
            for payment in payments
        )

    @property
    def withdrawn_minor(self) -> int:
        return sum(d.amount_minor for d in self.disputes.values() if is_withdrawn(d))

    @property
    def is_kept(self) -> bool:
        """Whether it is paid, and the payment was not wholly taken back. One of nothing is kept."""
        gone = self.refunded_minor + self.withdrawn_minor
        return self.facts.is_paid and (gone == 0 or gone < self.facts.amount_paid_minor)


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription with its invoices, and the terms of its prices."""

    facts: SubscriptionFacts
    invoices: tuple[Invoice, ...] = ()
    terms: Mapping[str, Terms] = field(default_factory=dict)

    @property
    def seen_at(self) -> datetime:
        """Return the latest time of which anything is known about the subscription."""
        return max([self.facts.seen_at, *(invoice.facts.seen_at for invoice in self.invoices)])

    def past_due_since(self) -> datetime | None:
        """Return when the oldest unpaid invoice was due. Without a known one, the start of the present period."""
        unpaid = [i.facts.created_at for i in self.invoices if i.facts.status in ("open", "uncollectible")]
        return min(unpaid, default=self.facts.period_start)

    def is_entitled(self, grace: timedelta, now: datetime) -> bool:
        return is_entitled(self.facts.status, self.past_due_since(), grace, now)

    def grace_ends_at(self, grace: timedelta) -> datetime | None:
        return entitled_until(self.facts.status, self.past_due_since(), grace)

    def begun(self, moment: datetime) -> datetime:
        """Return a moment, or the start of the present period if that is later: the provider's clock may be ahead."""
        return max(moment, self.facts.period_start or moment)

    def price_in_force(self, now: datetime) -> str | None:
        """Return the price that is paid for the present time: the latest one that began. A change comes after a start.

        So a lower price that was chosen in mid-period counts from the next period. In a time that is not paid yet, the
        subscription's own price counts.
        """
        lines, now = paid_lines(self.invoices), self.begun(now)
        paid = [line for line in lines if line.start <= now < ended_at(line, lines)]
        paid.sort(key=lambda line: (line.start, line.end, line.is_proration))
        return paid[-1].price_id if paid else self.facts.price_id

    def plan_in_force(self, now: datetime) -> Terms | None:
        price_id = self.price_in_force(now)
        return None if price_id is None else self.terms.get(price_id)


def paid_lines(invoices: Iterable[Invoice]) -> list[InvoiceLine]:
    """Return the lines of kept invoices that charge a price: not those that credit the rest of an earlier one.

    Oldest invoice first.
    """
    kept = (invoice for invoice in sorted(invoices, key=lambda one: one.facts.created_at) if invoice.is_kept)
    return [line for invoice in kept for line in invoice.facts.lines if is_charge(line)]


def ended_at(line: InvoiceLine, lines: Iterable[InvoiceLine]) -> datetime:
    """Return when the paid time of a line ends: where another whole period of the subscription begins within it.

    So a change of interval, for which Stripe credits the rest of the earlier period, ends what the earlier one grants.
    """
    begun = (other.start for other in lines if not other.is_proration and line.start < other.start < line.end)
    return min(begun, default=line.end)


def is_charge(line: InvoiceLine) -> bool:
    return line.amount_minor > 0 or (line.amount_minor == 0 and not line.is_proration)


def in_force(subscriptions: Iterable[Subscribed], grace: timedelta, now: datetime) -> Subscribed | None:
    """Return the subscription that gives the account its plan: the newest that is entitled. None: none is.

    So the end of an old subscription never affects a newer one.
    """
    entitled = [s for s in subscriptions if s.is_entitled(grace, now) and s.plan_in_force(now) is not None]
    return max(entitled, key=lambda s: (s.facts.started_at, s.facts.subscription_id), default=None)


def latest(subscriptions: Iterable[Subscribed]) -> Subscribed | None:
    """Return the newest subscription that was ever active; one that has not ended rather than one that has."""
    begun = [one for one in subscriptions if one.facts.status not in ("incomplete", "incomplete_expired")]
    return max(begun, key=lambda one: (not one.facts.is_ended, one.facts.started_at), default=None)
