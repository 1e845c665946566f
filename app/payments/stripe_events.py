"""Parsing of Stripe's events and payment intents into facts."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from app.payments.facts import PAYMENT_STATUSES, Event, PaymentFacts, PurchaseStatus
from app.payments.stripe_objects import (
    HANDLED,
    MALFORMED,
    STRIPE,
    THIN_EVENT,
    charge_facts,
    stripe_amount,
    stripe_id,
    stripe_time,
    thin_event,
)

log = structlog.get_logger()


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def intent_facts(intent: Mapping[str, Any], *, at: datetime, failed: bool = False) -> PaymentFacts:
    """Return the facts of a payment intent. `failed`: its last attempt failed. Raises KeyError, ValueError."""
    metadata = intent.get("metadata") or {}
    status: PurchaseStatus = intent["status"] if intent["status"] in PAYMENT_STATUSES else "unknown"
    if failed or (status == "requires_payment_method" and intent.get("last_payment_error")):
        status = "failed"  # the last attempt failed; another one may still succeed
    paid = status == "succeeded"
    return PaymentFacts(
        provider=STRIPE,
        provider_payment_id=stripe_id(intent["id"]),
        at=at,
        status=status,
        next_action=_next_action(intent) if status == "requires_action" else None,
        received_minor=stripe_amount(intent["amount_received"]) if paid else None,
        received_currency=str(intent["currency"]).upper() if paid else None,
        account_id=_uuid(metadata.get("account_id")),
        purchase_id=_uuid(metadata.get("purchase_id")),
    )


def _next_action(intent: Mapping[str, Any]) -> str | None:
    action = intent.get("next_action")
    return None if action is None else stripe_id(action["type"])


def parse_event(event: Mapping[str, Any]) -> Event:
    """Parse an event. A handled event with a malformed object has no facts. Raises ValueError for anything else."""
    try:
        if event.get("object") == THIN_EVENT:
            return thin_event(event)
        event_id, kind, created_at = stripe_id(event["id"]), stripe_id(event["type"]), stripe_time(event["created"])
        data = event["data"]["object"]
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("not an event") from error
    facts = None
    try:
        if kind in HANDLED:
            facts = _facts(kind, data, created_at)
    except MALFORMED as error:
        # Stripe signed it and would repeat it, so it is accepted. The error log shows it to the operator.
        log.error("stripe_event_malformed", event_id=event_id, type=kind, exc_info=error)
    return Event(STRIPE, event_id, kind, created_at, event.get("livemode") is True, facts)


def _facts(kind: str, data: Mapping[str, Any], at: datetime) -> PaymentFacts | None:
    if kind.startswith("payment_intent."):
        return intent_facts(data, at=at, failed=kind == "payment_intent.payment_failed")
    return charge_facts(kind, data, at)
