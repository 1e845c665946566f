"""Grants that paid periods call for. Pure: computed from the whole state, so the order of events does not matter.

A line of a paid invoice pays a price for a period. Its grants are

- of cadence `month`: one for a monthly period; one for each month of a yearly one,
- of cadence `day`: one for each day of it,
- of cadence `once`: one per plan and account, ever.

Months and days are counted in UTC from the start of the line, as Stripe counts its periods. So they depend on nothing
that can change later, such as the anchor of the subscription or a setting.

An upgrade is a proration of a paid invoice. For the rest of the month or day in which it begins it grants the
difference, and afterwards the new plan's amount. The difference is to the most that the period has granted, so that
changing back and forth grants nothing twice. A change of interval begins another whole period, which ends the earlier
one: its later months and days grant nothing. The first month of the new period grants its amount less the unused part
of the earlier plan's month, as Stripe's price does.

A grant is due only for a time of which the state is known (`seen_at`) and in which the subscription had not ended. So a
yearly subscription that ended in March grants nothing for April in any order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.payments.subscription_facts import BEGINNING, InvoiceLine
from app.plans.calendar import Period, boundary, period_at, periods_within
from app.plans.document import Cadence, Plan, PlanGrant
from app.plans.proration import prorated, upgrade_difference
from app.subscriptions.state import Invoice, Subscribed, Terms, ended_at, is_charge, paid_lines

CHANGE = ":change"
"""Ends the kind of a grant that an upgrade added to a period."""


@dataclass(frozen=True, slots=True)
class DueGrant:
    """A grant of a period. Unique by account, start of the period, and kind. `amount` is in credits or nanos."""

    period: Period
    kind: str
    grant: PlanGrant
    amount: int
    invoice_id: str
    plan_name: str

    @property
    def key(self) -> tuple[datetime, str]:
        return self.period.start, self.kind

    def expires_at(self) -> datetime | None:
        """Return when the grant can no longer be spent. None: never."""
        if self.grant.expires == "period_end":
            return self.period.end
        if self.grant.expires_after_days is not None:
            return boundary(self.period.start, "day", self.grant.expires_after_days)
        return None


@dataclass(frozen=True, slots=True)
class _Paid:
    """A line of a paid invoice, with the invoice."""

    line: InvoiceLine
    invoice: Invoice

    @property
    def order(self) -> tuple[object, ...]:
        return self.line.start, self.line.end, self.line.price_id, self.invoice.facts.invoice_id


def due_grants(subscribed: Subscribed, *, now: datetime) -> list[DueGrant]:
    """Return all grants that the subscription's paid periods call for until `now`, oldest first."""
    paid = sorted(
        (
            _Paid(line, invoice)
            for invoice in subscribed.invoices
            if invoice.is_kept
            for line in invoice.facts.lines
            if line.price_id in subscribed.terms and is_charge(line)
        ),
        key=lambda one: one.order,
    )
    found: dict[tuple[datetime, str], DueGrant] = {}
    for whole in (one for one in paid if not one.line.is_proration):
        for due in _of_period(subscribed, whole, paid):
            found.setdefault(due.key, due)
    until = subscribed.begun(min(now, subscribed.seen_at))
    stopped_at = subscribed.facts.ended_at
    starts = {due.key: max(due.period.start, subscribed.facts.started_at) for due in found.values()}
    return sorted(
        (
            due
            for due in found.values()
            if due.amount > 0 and starts[due.key] <= until and (stopped_at is None or starts[due.key] < stopped_at)
        ),
        key=lambda due: due.key,
    )


def next_start(subscribed: Subscribed, *, after: datetime) -> datetime | None:
    """Return when the next grant of a period that is paid already begins. None: nothing more is paid."""
    lines = paid_lines(subscribed.invoices)
    starts = [
        part.start
        for line in lines
        if not line.is_proration and (terms := subscribed.terms.get(line.price_id)) is not None
        for cadence in {grant.cadence for grant in terms.plan.grants}
        for part in _parts(line, cadence, terms)
        if after < part.start < ended_at(line, lines)
    ]
    return min(starts, default=None)


def _of_period(subscribed: Subscribed, whole: _Paid, paid: Sequence[_Paid]) -> Iterator[DueGrant]:
    """Yield the grants of a whole period until it ended, and those that upgrades within it add."""
    terms = subscribed.terms[whole.line.price_id]
    end = ended_at(whole.line, [one.line for one in paid])
    inside = [one for one in paid if one.line.is_proration and whole.line.start <= one.line.start < end]
    plans = {one.line.price_id: subscribed.terms[one.line.price_id].plan for one in (whole, *inside)}
    for cadence in sorted({grant.cadence for plan in plans.values() for grant in plan.grants}):
        if cadence == "once":
            yield from (
                _once(one, grant, plans) for one in (whole, *inside) for grant in _of(plans, one, cadence).values()
            )
            continue
        for number, part in enumerate(_parts(whole.line, cadence, terms)):
            credit = _unused(whole.invoice, subscribed.terms, whole.line.start) if number == 0 else {}
            if part.start < end:
                yield from _of_part(whole, inside, plans, cadence, part, credit)


def _once(paid: _Paid, grant: PlanGrant, plans: Mapping[str, Plan]) -> DueGrant:
    name = plans[paid.line.price_id].name
    return _due(Period(BEGINNING, paid.line.end), f"{name}:{grant.key}", grant, grant.units, paid, plans)


def _of_part(
    whole: _Paid,
    changes: Sequence[_Paid],
    plans: Mapping[str, Plan],
    cadence: Cadence,
    part: Period,
    credit: Mapping[str, int],
) -> Iterator[DueGrant]:
    """Yield the grants of one month or day. The last change before it counts, and every change within it."""
    before = [c for c in changes if c.line.start <= part.start]
    within = [c for c in changes if part.start < c.line.start < part.end]
    most: dict[str, int] = {}
    at_start = _of(plans, before[-1] if before else whole, cadence)
    for key, grant in _of(plans, whole, cadence).items():
        amount = min(grant.units, at_start[key].units if key in at_start else 0)
        most[key] = amount
        yield _due(part, key, grant, max(0, amount - credit.get(key, 0)), whole, plans)
    for change in (*before[-1:], *within):
        began = max(change.line.start, part.start)
        for key, grant in _of(plans, change, cadence).items():
            added = upgrade_difference(most.get(key, 0), grant.units, part, began)
            most[key] = max(most.get(key, 0), grant.units)
            yield _due(Period(began, part.end), f"{key}{CHANGE}:{change.line.price_id}", grant, added, change, plans)


def _due(period: Period, kind: str, grant: PlanGrant, amount: int, paid: _Paid, plans: Mapping[str, Plan]) -> DueGrant:
    return DueGrant(period, kind, grant, amount, paid.invoice.facts.invoice_id, plans[paid.line.price_id].name)


def _of(plans: Mapping[str, Plan], paid: _Paid, cadence: Cadence) -> dict[str, PlanGrant]:
    return _grants(plans[paid.line.price_id], cadence)


def _grants(plan: Plan, cadence: Cadence) -> dict[str, PlanGrant]:
    return {grant.key: grant for grant in plan.grants if grant.cadence == cadence}


def _parts(line: InvoiceLine, cadence: Cadence, terms: Terms) -> list[Period]:
    """Return the months or days of a paid period. That of a monthly price is one month, also a long trial."""
    whole = Period(line.start, line.end)
    if cadence == "month" and terms.interval == "month":
        return [whole]
    return [whole] if cadence == "once" else periods_within(line.start, cadence, whole)


def _unused(invoice: Invoice, terms: Mapping[str, Terms], at: datetime) -> dict[str, int]:
    """Return the unused part of the earlier plan's monthly grants, which an invoice credits, by the grant's key."""
    unused: dict[str, int] = {}
    for line in invoice.facts.lines:
        earlier = terms.get(line.price_id)
        if earlier is None or not line.is_proration or line.amount_minor >= 0 or line.end <= at:
            continue
        begun = boundary(line.end, earlier.interval, -1)
        month = Period(begun, line.end) if earlier.interval == "month" else period_at(begun, "month", at)
        for key, grant in _grants(earlier.plan, "month").items():
            unused[key] = unused.get(key, 0) + prorated(grant.units, month, at)
    return unused
