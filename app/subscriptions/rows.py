"""Rows of subscriptions and invoices as typed values, and back. Pure."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.auth.caller import Environment
from app.payments.facts import Dispute, Refund
from app.payments.subscription_facts import InvoiceFacts, InvoiceLine, SubscriptionFacts
from app.plans.document import Plan
from app.subscriptions.queries import Row
from app.subscriptions.state import Invoice, Terms

_SUBSCRIPTION = (
    *("provider", "subscription_id", "at", "seen_at", "status", "customer_id", "price_id", "price_item_id"),
    *("period_start", "period_end", "anchor", "started_at", "ended_at", "cancel_at", "order_id"),
)
_INVOICE = (
    *("provider", "invoice_id", "at", "seen_at", "status", "subscription_id", "currency", "amount_due_minor"),
    *("amount_paid_minor", "created_at", "attempts", "next_attempt_at"),
)


def subscription_of(row: Row) -> SubscriptionFacts:
    return SubscriptionFacts(**{name: row[name] for name in _SUBSCRIPTION})


def subscription_row(account_id: UUID, environment: Environment, facts: SubscriptionFacts, now: datetime) -> Row:
    values = {name: getattr(facts, name) for name in _SUBSCRIPTION}
    return {**values, "account_id": account_id, "environment": environment, "updated_at": now}


def invoice_of(row: Row) -> Invoice:
    facts = InvoiceFacts(
        **{name: row[name] for name in _INVOICE},
        lines=tuple(_line_of(line) for line in row["lines"]),
        payment_ids=tuple(row["payment_ids"]),
    )
    refunds = {key: (value["payment_id"], _refund_of(key, value)) for key, value in row["refunds"].items()}
    disputes = {key: _dispute_of(key, value) for key, value in row["disputes"].items()}
    return Invoice(facts, refunds, dict(row["refunds_reported"]), disputes)


def invoice_row(account_id: UUID, invoice: Invoice, now: datetime) -> Row:
    return {
        **{name: getattr(invoice.facts, name) for name in _INVOICE},
        "account_id": account_id,
        "lines": [_line_row(line) for line in invoice.facts.lines],
        "payment_ids": list(invoice.facts.payment_ids),
        "refunds": {
            key: {
                "payment_id": payment_id,
                "amount_minor": refund.amount_minor,
                "status": refund.status,
                "created_at": refund.created_at.isoformat(),
                "reason": refund.reason,
            }
            for key, (payment_id, refund) in invoice.refunds.items()
        },
        "disputes": {
            key: {
                "amount_minor": dispute.amount_minor,
                "status": dispute.status,
                "decided_at": None if dispute.decided_at is None else dispute.decided_at.isoformat(),
            }
            for key, dispute in invoice.disputes.items()
        },
        "refunds_reported": dict(invoice.reported),
        "refunded_minor": invoice.refunded_minor,
        "withdrawn_minor": invoice.withdrawn_minor,
        "updated_at": now,
    }


def terms_of(row: Row) -> Terms:
    """Return the terms that a row of terms, or of an order, stores."""
    return Terms(Plan.model_validate(row["terms"]), row["plan_interval"])


def terms_row(terms: Terms) -> dict[str, Any]:
    """Return the columns in which terms are stored."""
    document = terms.plan.model_dump(mode="json")
    return {"plan_name": terms.plan.name, "plan_interval": terms.interval, "terms": document}


def _line_of(line: dict[str, Any]) -> InvoiceLine:
    start, end = (datetime.fromtimestamp(line[name], UTC) for name in ("start", "end"))
    discount = line.get("discount_minor", 0)  # absent: stored by an earlier version
    return InvoiceLine(line["price_id"], start, end, line["amount_minor"], line["is_proration"], discount)


def _line_row(line: InvoiceLine) -> dict[str, Any]:
    return {**asdict(line), "start": int(line.start.timestamp()), "end": int(line.end.timestamp())}


def _refund_of(refund_id: str, value: dict[str, Any]) -> Refund:
    created_at = datetime.fromisoformat(value["created_at"])
    return Refund(refund_id, value["amount_minor"], value["status"], created_at, reason=value["reason"])


def _dispute_of(dispute_id: str, value: dict[str, Any]) -> Dispute:
    decided = value["decided_at"]
    decided_at = None if decided is None else datetime.fromisoformat(decided)
    return Dispute(dispute_id, value["amount_minor"], value["status"], decided_at)
