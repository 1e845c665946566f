"""Facts of subscriptions and invoices, made by hand for pure tests."""

from datetime import UTC, datetime
from typing import Any

from app.payments.facts import Dispute, Refund
from app.payments.subscription_facts import InvoiceFacts, InvoiceLine, SubscriptionFacts
from app.plans.document import Plan, PlanGrant
from app.subscriptions.state import Invoice, Subscribed, Terms

DOLLAR = 10**9


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def plan(name: str, dollars: int = 0, **fields: Any) -> Plan:
    grants = fields.pop("grants", None)
    if grants is None:
        grants = [PlanGrant(unit="money", currency="USD", amount=str(dollars), expires="never")]
    return Plan(name=name, title=name, grants=grants, **fields)


STANDARD, PRO = plan("standard", 25), plan("pro", 60)
TERMS = {
    "price_standard": Terms(STANDARD, "month"),
    "price_pro": Terms(PRO, "month"),
    "price_standard_year": Terms(STANDARD, "year"),
    "price_pro_year": Terms(PRO, "year"),
}


def subscription(**fields: Any) -> SubscriptionFacts:
    given: dict[str, Any] = {
        "provider": "stripe",
        "subscription_id": "sub_1",
        "at": at("2026-01-31"),
        "status": "active",
        "customer_id": "cus_1",
        "price_id": "price_standard",
        "price_item_id": "si_1",
        "period_start": at("2026-01-31"),
        "period_end": at("2026-02-28"),
        "anchor": at("2026-01-31"),
        "started_at": at("2026-01-31"),
        **fields,
    }
    return SubscriptionFacts(**{"seen_at": given["at"], **given})


def line(price: str, start: str, end: str, amount_minor: int = 2000, *, proration: bool = False) -> InvoiceLine:
    return InvoiceLine(price, at(start), at(end), amount_minor, proration)


def invoice(number: int, *lines: InvoiceLine, **fields: Any) -> Invoice:
    refunds = fields.pop("refunds", {})
    disputes = fields.pop("disputes", {})
    reported = fields.pop("reported", {})
    created_at = fields.pop("created_at", lines[0].start if lines else at("2026-01-31"))
    status = fields.pop("status", "paid")
    total = max(0, sum(one.amount_minor for one in lines))
    given: dict[str, Any] = {
        "provider": "stripe",
        "invoice_id": f"in_{number}",
        "at": created_at,
        "status": status,
        "subscription_id": "sub_1",
        "currency": "USD",
        "amount_due_minor": total,
        "amount_paid_minor": total if status == "paid" else 0,
        "created_at": created_at,
        "lines": lines,
        **fields,
    }
    return Invoice(InvoiceFacts(**{"seen_at": given["at"], **given}), refunds, reported, disputes)


def subscribed(*invoices: Invoice, **fields: Any) -> Subscribed:
    return Subscribed(subscription(**fields), invoices, TERMS)


def refund(amount_minor: int, status: Any = "succeeded") -> dict[str, tuple[str, Refund]]:
    return {"re_1": ("pi_1", Refund("re_1", amount_minor, status, at("2026-02-01")))}


def dispute(amount_minor: int, status: Any) -> dict[str, Dispute]:
    return {"du_1": Dispute("du_1", amount_minor, status)}
