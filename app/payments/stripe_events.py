"""Parsing of Stripe's events, payment intents and checkout sessions into facts."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from app.payments.facts import PAYMENT_STATUSES, CardSetup, Event, PaymentFacts, PurchaseStatus, Stated
from app.payments.stripe_objects import (
    HANDLED,
    MALFORMED,
    SESSION_EVENTS,
    STRIPE,
    SUBSCRIPTION_EVENTS,
    THIN_EVENT,
    card_of,
    charge_facts,
    ids_in,
    receipt_of,
    stripe_amount,
    stripe_id,
    stripe_time,
    thin_event,
)
from app.payments.stripe_subscription_objects import facts_of

log = structlog.get_logger()


def intent_facts(intent: Mapping[str, Any], *, at: datetime, failed: bool = False) -> PaymentFacts:
    """Return the facts of a payment intent. `failed`: its last attempt failed. Raises KeyError, ValueError."""
    status: PurchaseStatus = intent["status"] if intent["status"] in PAYMENT_STATUSES else "unknown"
    if failed or (status == "requires_payment_method" and intent.get("last_payment_error")):
        status = "failed"  # the last attempt failed; another one may still succeed
    paid = status == "succeeded"
    account_id, purchase_id = ids_in(intent.get("metadata"))
    return PaymentFacts(
        provider=STRIPE,
        provider_payment_id=stripe_id(intent["id"]),
        at=at,
        status=status,
        next_action=_next_action(intent) if status == "requires_action" else None,
        received_minor=stripe_amount(intent["amount_received"]) if paid else None,
        received_currency=str(intent["currency"]).upper() if paid else None,
        account_id=account_id,
        purchase_id=purchase_id,
    )


def _next_action(intent: Mapping[str, Any]) -> str | None:
    action = intent.get("next_action")
    return None if action is None else stripe_id(action["type"])


def session_facts(session: Mapping[str, Any], *, at: datetime, failed: bool = False) -> PaymentFacts:
    """Return the facts of a checkout session, and of its payment if the session contains it. `failed`: it ended unpaid.

    A session states that it was paid, or that it ended. While it is neither, its payment intent has the status, in
    separate events: then the order of both kinds of events makes no difference. Raises KeyError, ValueError.
    """
    account_id, purchase_id = ids_in(session.get("metadata"))
    facts = replace(
        _payment_inside(session, at),
        session_id=stripe_id(session["id"]),
        account_id=account_id,
        purchase_id=purchase_id,
    )
    if session["payment_status"] == "paid":
        return replace(
            facts,
            status="succeeded",
            next_action=None,
            received_minor=stripe_amount(session["amount_total"]),
            received_currency=str(session["currency"]).upper(),
        )
    ended = session["status"] == "complete" and facts.status in ("requires_payment_method", "failed", "canceled")
    if failed or ended or session["status"] == "expired":
        # No one can pay the payment of a session that has ended.
        return replace(facts, status="canceled", next_action=None)
    if session["status"] == "open" and facts.provider_payment_id is None:
        return replace(facts, status="requires_payment_method")
    return facts


def _payment_inside(session: Mapping[str, Any], at: datetime) -> PaymentFacts:
    """Return the facts of a session's payment. Of one that is named but not contained, only its id."""
    intent = session.get("payment_intent")
    if not isinstance(intent, Mapping):
        return PaymentFacts(STRIPE, None if intent is None else stripe_id(intent), at)
    facts, charge = intent_facts(intent, at=at), intent.get("latest_charge")
    if not isinstance(charge, Mapping) or facts.received_minor is None:
        return facts
    return replace(facts, card=card_of(charge), receipt_url=receipt_of(charge))


def parse_event(event: Mapping[str, Any]) -> Event:
    """Parse an event. A handled event with a malformed object has no facts. Raises ValueError for anything else."""
    try:
        if event.get("object") == THIN_EVENT:
            return thin_event(event)
        event_id, kind, created_at = stripe_id(event["id"]), stripe_id(event["type"]), stripe_time(event["created"])
        data = event["data"]["object"]
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("not an event") from error
    facts: Stated | None = None
    setup: CardSetup | None = None
    try:
        if kind in SESSION_EVENTS and data.get("mode") == "setup":
            setup = _setup(data)
        elif kind in HANDLED:
            facts = _facts(kind, data, created_at)
    except MALFORMED as error:
        # Stripe signed it and would repeat it, so it is accepted. The error log shows it to the operator.
        log.error("stripe_event_malformed", event_id=event_id, type=kind, exc_info=error)
    return Event(STRIPE, event_id, kind, created_at, event.get("livemode") is True, facts, setup)


def _setup(session: Mapping[str, Any]) -> CardSetup | None:
    """Return our ids of a session that saves a card. None: it is none of ours."""
    account_id, setup_id = ids_in(session.get("metadata"), "setup_id")
    return None if account_id is None or setup_id is None else CardSetup(account_id, setup_id)


def _facts(kind: str, data: Mapping[str, Any], at: datetime) -> Stated | None:
    if kind in SUBSCRIPTION_EVENTS:
        return facts_of(kind, data, at)
    if kind in SESSION_EVENTS:
        return session_facts(data, at=at, failed=kind == "checkout.session.async_payment_failed")
    if kind.startswith("payment_intent."):
        return intent_facts(data, at=at, failed=kind == "payment_intent.payment_failed")
    return charge_facts(kind, data, at)
