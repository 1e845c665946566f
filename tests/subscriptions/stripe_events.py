"""Stripe's events about subscriptions, in the shapes of three generations of its API."""

import itertools
from datetime import datetime
from typing import Any, Literal

Shape = Literal["2024-06-20", "2025-09-30.clover", "2026-10-28.endive"]
SHAPES: tuple[Shape, ...] = ("2024-06-20", "2025-09-30.clover", "2026-10-28.endive")
Object = dict[str, Any]
_numbers = itertools.count(1)


def seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def event(kind: str, data: Object, at: datetime, shape: Shape = SHAPES[-1]) -> Object:
    return {
        "id": f"evt_{next(_numbers)}_{kind}",
        "object": "event",
        "api_version": shape,
        "type": kind,
        "created": seconds(at),
        "livemode": True,
        "data": {"object": data},
    }


def subscription(
    subscription_id: str,
    customer_id: str,
    price_id: str,
    period: tuple[datetime, datetime],
    *,
    status: str = "active",
    started_at: datetime | None = None,
    ended_at: datetime | None = None,
    cancels: bool = False,
    metadata: Object | None = None,
    shape: Shape = SHAPES[-1],
) -> Object:
    start, end = map(seconds, period)
    times = {"current_period_start": start, "current_period_end": end}
    is_old = shape == "2024-06-20"
    item = {"id": f"si_{subscription_id}", "object": "subscription_item", "price": {"id": price_id, "object": "price"}}
    return {
        "id": subscription_id,
        "object": "subscription",
        "status": status,
        "customer": customer_id,
        "items": {"object": "list", "data": [item if is_old else {**item, **times}]},
        "billing_cycle_anchor": seconds(started_at or period[0]),
        "start_date": seconds(started_at or period[0]),
        "created": seconds(started_at or period[0]),
        "ended_at": None if ended_at is None else seconds(ended_at),
        "canceled_at": None if ended_at is None else seconds(ended_at),
        "cancel_at": None,
        "cancel_at_period_end": cancels,
        "metadata": metadata or {},
        **(times if is_old else {}),
    }


def line(
    subscription_id: str,
    price_id: str,
    period: tuple[datetime, datetime],
    amount: int,
    *,
    proration: bool = False,
    shape: Shape = SHAPES[-1],
) -> Object:
    start, end = map(seconds, period)
    common = {"object": "line_item", "amount": amount, "currency": "usd", "period": {"start": start, "end": end}}
    if shape == "2024-06-20":
        price = {"id": price_id, "object": "price"}
        return {**common, "price": price, "proration": proration, "subscription": subscription_id}
    details = {"subscription": subscription_id, "subscription_item": "si_1", "proration": proration}
    return {
        **common,
        "parent": {"type": "subscription_item_details", "subscription_item_details": details},
        "pricing": {"type": "price_details", "price_details": {"price": price_id, "product": "prod_1"}},
    }


def invoice(
    invoice_id: str,
    subscription_id: str,
    customer_id: str,
    lines: list[Object],
    at: datetime,
    *,
    status: str = "paid",
    payment_id: str | None = None,
    metadata: Object | None = None,
    shape: Shape = SHAPES[-1],
) -> Object:
    total = max(0, sum(one["amount"] for one in lines))
    details = {"subscription": subscription_id, "metadata": metadata or {}}
    found: Object = {
        "id": invoice_id,
        "object": "invoice",
        "status": status,
        "customer": customer_id,
        "currency": "usd",
        "amount_due": total,
        "amount_paid": total if status == "paid" else 0,
        "attempt_count": 1,
        "created": seconds(at),
        "next_payment_attempt": None,
        "status_transitions": {"finalized_at": seconds(at), "paid_at": seconds(at) if status == "paid" else None},
        "lines": {"object": "list", "data": lines, "has_more": False},
    }
    if shape == "2024-06-20":
        old = {"subscription": subscription_id, "subscription_details": {"metadata": metadata or {}}}
        return {**found, **old, "payment_intent": payment_id}
    return {**found, "parent": {"type": "subscription_details", "subscription_details": details}}


def invoice_payment(invoice_id: str, payment_id: str) -> Object:
    return {
        "id": f"inpay_{invoice_id}",
        "object": "invoice_payment",
        "invoice": invoice_id,
        "status": "paid",
        "payment": {"type": "payment_intent", "payment_intent": payment_id},
    }


def refund(payment_id: str, amount: int, at: datetime, status: str = "succeeded", refund_id: str = "re_1") -> Object:
    return {
        "id": f"{refund_id}_{payment_id}",
        "object": "refund",
        "amount": amount,
        "status": status,
        "payment_intent": payment_id,
        "created": seconds(at),
        "metadata": {},
        "reason": None,
    }


def dispute(payment_id: str, amount: int, status: str) -> Object:
    return {
        "id": f"du_{payment_id}",
        "object": "dispute",
        "amount": amount,
        "status": status,
        "payment_intent": payment_id,
        "balance_transactions": [],
    }
