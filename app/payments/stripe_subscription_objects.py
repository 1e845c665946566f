"""Parsing of Stripe's subscriptions and invoices into facts, in the shapes of all API versions since 2020.

Fields that moved, with the version that moved them. The older place is read if the newer one is absent:

| field | until | since |
|---|---|---|
| the period of a subscription | `current_period_start`, `_end` | 2025-03-31.basil: of its items |
| the subscription of an invoice | `subscription` | 2025-03-31.basil: `parent.subscription_details.subscription` |
| its metadata | `subscription_details.metadata` | 2025-03-31.basil: `parent.subscription_details.metadata` |
| the payment of an invoice | `payment_intent` | 2025-03-31.basil: `payments`, and events `invoice_payment.paid` |
| the price of a line | `price.id` | 2025-03-31.basil: `pricing.price_details.price` |
| whether a line is a proration | `proration` | 2025-03-31.basil: `parent.…_details.proration` |
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from app.payments.stripe_objects import STRIPE, Object, stripe_amount, stripe_id, stripe_time
from app.payments.subscription_facts import (
    INVOICE_STATUSES,
    STATUSES,
    Facts,
    InvoiceFacts,
    InvoiceLine,
    InvoicePaymentFacts,
    SubscriptionFacts,
)

MIN_INT64 = -(2**63)
MAX_LINES = 250
"""Lines of one invoice that are read. Stripe allows so many in a subscription's invoice."""


def facts_of(kind: str, data: Object, at: datetime) -> Facts | None:
    """Return the facts of an event. None: it is about none of our subscriptions. Raises as `subscription_facts`."""
    if kind.startswith("customer.subscription."):
        return subscription_facts(data, at=at)
    if kind.startswith("invoice_payment."):
        return invoice_payment_facts(data, at=at)
    return invoice_facts(data, at=at)


def subscription_facts(data: Object, *, at: datetime) -> SubscriptionFacts:
    """Return the facts of a subscription. Raises KeyError, TypeError, ValueError, OverflowError for a malformed one."""
    items = data["items"]["data"]
    item: Object = items[0] if items else {}
    period_end = _time(item.get("current_period_end", data.get("current_period_end")))
    cancel_at = _time(data.get("cancel_at"))
    if data.get("cancel_at_period_end"):
        cancel_at = cancel_at or period_end
    metadata = data.get("metadata")
    return SubscriptionFacts(
        provider=STRIPE,
        subscription_id=stripe_id(data["id"]),
        at=at,
        seen_at=at,
        status=STATUSES[STATUSES.index(data["status"])],
        customer_id=_id_of(data.get("customer")),
        price_id=_id_of(item.get("price") or item.get("plan")),
        price_item_id=_id_of(item.get("id")),
        period_start=_time(item.get("current_period_start", data.get("current_period_start"))),
        period_end=period_end,
        anchor=stripe_time(data["billing_cycle_anchor"]),
        started_at=stripe_time(data.get("start_date") or data["created"]),
        ended_at=_time(data.get("ended_at")),
        cancel_at=cancel_at,
        account_id=_our_id(metadata, "account_id"),
        order_id=_our_id(metadata, "order_id"),
    )


def invoice_facts(data: Object, *, at: datetime) -> InvoiceFacts | None:
    """Return the facts of an invoice. None: it is of no subscription. Raises as `subscription_facts`."""
    details = _parent(data, "subscription_details") or data.get("subscription_details") or {}
    subscription_id = _id_of(details.get("subscription") or data.get("subscription"))
    if subscription_id is None:
        return None
    transitions: Object = data.get("status_transitions") or {}
    paid = data["status"] == "paid"
    return InvoiceFacts(
        provider=STRIPE,
        invoice_id=stripe_id(data["id"]),
        at=at,
        seen_at=at,
        status=INVOICE_STATUSES[INVOICE_STATUSES.index(data["status"])],
        subscription_id=subscription_id,
        customer_id=_id_of(data.get("customer")),
        currency=str(data["currency"]).upper(),
        amount_due_minor=stripe_amount(data["amount_due"]),
        amount_paid_minor=stripe_amount(data["amount_paid"]) if paid else 0,
        created_at=_time(transitions.get("finalized_at")) or stripe_time(data["created"]),
        attempts=int(data.get("attempt_count") or 0),
        next_attempt_at=None if paid else _time(data.get("next_payment_attempt")),
        lines=tuple(_lines(data, subscription_id)),
        payment_ids=tuple(sorted(_payments(data))),
        account_id=_our_id(details.get("metadata"), "account_id"),
    )


def invoice_payment_facts(data: Object, *, at: datetime) -> InvoicePaymentFacts | None:
    """Return the facts of a payment of an invoice. None: it was paid outside of Stripe. Raises as above."""
    payment_id = _payment_of(data)
    if payment_id is None:
        return None
    invoice_id = _id_of(data["invoice"])
    if invoice_id is None:
        raise ValueError("a payment of no invoice")
    return InvoicePaymentFacts(provider=STRIPE, invoice_id=invoice_id, payment_id=payment_id, at=at)


def _lines(invoice: Object, subscription_id: str) -> Iterator[InvoiceLine]:
    """Yield the lines of the subscription's prices."""
    for line in invoice["lines"]["data"][:MAX_LINES]:
        parent = _parent(line, "subscription_item_details") or _parent(line, "invoice_item_details")
        pricing: Object = line.get("pricing") or {}
        price_id = _id_of((pricing.get("price_details") or {}).get("price") or line.get("price") or line.get("plan"))
        of = _id_of(parent.get("subscription") or line.get("subscription")) or subscription_id
        if price_id is None or of != subscription_id:
            continue
        amount = line["amount"]
        if not isinstance(amount, int) or not MIN_INT64 <= amount <= -(MIN_INT64 + 1):
            raise ValueError("not an amount")
        period = line["period"]
        start, end = stripe_time(period["start"]), stripe_time(period["end"])
        is_proration = bool(parent.get("proration", line.get("proration", False)))
        if start < end:
            discount = sum(stripe_amount(one["amount"]) for one in line.get("discount_amounts") or ())
            yield InvoiceLine(price_id, start, end, amount, is_proration, discount)


def _payments(invoice: Object) -> Iterator[str]:
    """Yield the ids of the payments inside an invoice."""
    if (payment_id := _id_of(invoice.get("payment_intent"))) is not None:
        yield payment_id
    for payment in (invoice.get("payments") or {}).get("data", ()):
        if payment.get("status") == "paid" and (found := _payment_of(payment)) is not None:
            yield found


def _payment_of(payment: Object) -> str | None:
    return _id_of((payment.get("payment") or {}).get("payment_intent"))


def _parent(data: Object, kind: str) -> Object:
    found: Object = (data.get("parent") or {}).get(kind) or {}
    return found


def _id_of(value: Any) -> str | None:
    """Return the id of an object that is named or contained. None: absent. Raises ValueError."""
    if value is None or value == "":
        return None
    return stripe_id(value["id"] if isinstance(value, Mapping) else value)


def _time(seconds: object) -> datetime | None:
    return None if seconds is None else stripe_time(seconds)


def _our_id(metadata: object, name: str) -> UUID | None:
    given = metadata if isinstance(metadata, Mapping) else {}
    try:
        return UUID(str(given.get(name)))
    except ValueError:
        return None
