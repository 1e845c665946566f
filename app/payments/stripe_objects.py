"""Parsing of Stripe's refunds, disputes and charges into facts, in the shapes of all API versions."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import structlog

from app.payments.facts import REFUND_STATUSES, Card, Dispute, DisputeStatus, Event, PaymentFacts, Provider, Refund

Object = Mapping[str, Any]
Facts = TypeVar("Facts")
SESSION_EVENTS = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
)
REFUND_EVENTS = ("refund.created", "refund.updated", "refund.failed", "charge.refund.updated")
SUBSCRIPTION_EVENTS = (
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.pending_update_applied",
    "customer.subscription.pending_update_expired",
    "invoice.created",
    "invoice.finalized",
    "invoice.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice.payment_failed",
    "invoice.payment_action_required",
    "invoice.marked_uncollectible",
    "invoice.voided",
    "invoice_payment.paid",
)
HANDLED = (  # the types of webhook events that have an effect; the README says how to add one
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.processing",
    "payment_intent.requires_action",
    *SESSION_EVENTS,
    "charge.succeeded",
    "charge.refunded",
    *REFUND_EVENTS,
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    *SUBSCRIPTION_EVENTS,
)
DISPUTES: dict[str, DisputeStatus] = {
    "needs_response": "open",
    "under_review": "open",
    "lost": "lost",
    "won": "won",
    # An appeal follows a loss, and the money stays with the cardholder until the appeal is won.
    "appeal_needs_response": "lost",
    "appeal_under_review": "lost",
    "warning_needs_response": "warning",
    "warning_under_review": "warning",
    "warning_closed": "warning",
    # Before 2014-11-20: decided for us after the charge had been refunded. The refund counts as a refund.
    "charge_refunded": "won",
}
THIN_EVENT = "v2.core.event"
REQUEST_KEY = "request_key"
"""In a refund's metadata: names our request, so that its audit entry is found after a crash at any point."""
STRIPE: Provider = "stripe"
FUNDS_WITHDRAWN = "charge.dispute.funds_withdrawn"
MAX_INT64 = 2**63 - 1
MAX_URL_CHARS = 2048
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
log = structlog.get_logger()


def read_or_log(read: Callable[[Object], Facts], data: Object) -> Facts | None:
    """Return what `read` makes of one of Stripe's objects. Log an error and return None if it cannot read the object.

    Stripe adds statuses. An object with a status that is new to us must not stop the work on the others.
    """
    try:
        return read(data)
    except MALFORMED as error:
        log.error("stripe_object_malformed", object=data.get("object"), object_id=data.get("id"), exc_info=error)
        return None


def stripe_id(value: object) -> str:
    """Raises ValueError."""
    if not isinstance(value, str) or not 1 <= len(value) <= 255 or not value.isprintable():
        raise ValueError("not an id")
    return value


def stripe_amount(value: object) -> int:
    """Minor units. Raises ValueError."""
    if not isinstance(value, int) or not 0 <= value <= MAX_INT64:
        raise ValueError("not an amount")
    return value


def stripe_time(seconds: object) -> datetime:
    """Raises ValueError, OverflowError."""
    return datetime.fromtimestamp(int(str(seconds)), UTC)


def refund_of(refund: Object) -> Refund:
    """Return a refund. Raises KeyError, ValueError, OverflowError for any other object, and for an unknown status."""
    status = "succeeded" if refund["status"] is None else refund["status"]  # null: a charge of the first API versions
    known = REFUND_STATUSES[REFUND_STATUSES.index(status)]
    return Refund(
        stripe_id(refund["id"]),
        stripe_amount(refund["amount"]),
        known,
        stripe_time(refund["created"]),
        text_of((refund.get("metadata") or {}).get(REQUEST_KEY)),
        text_of(refund.get("reason")),
    )


def card_of(charge: Object) -> Card | None:
    """Return the means of payment of a charge. None: unknown. A card has the same fingerprint for every payer."""
    details = charge.get("payment_method_details") or {}
    kind = text_of(details.get("type"))
    if kind is None:
        return None
    method = details.get(kind) or {}
    fingerprint = stripe_id(method["fingerprint"]) if kind == "card" and method.get("fingerprint") else None
    return Card(fingerprint, text_of(method.get("brand")) or kind, text_of(method.get("last4")))


def receipt_of(charge: Object) -> str | None:
    """Return the address of a charge's receipt. None: it has none that a browser can open."""
    return url_of(charge.get("receipt_url"))


def url_of(url: object) -> str | None:
    """Return an address that a browser can open; None for anything else."""
    if not isinstance(url, str) or len(url) > MAX_URL_CHARS or not url.isprintable():
        return None
    return url if url.startswith(("https://", "http://")) else None


def ids_in(metadata: object, name: str = "purchase_id") -> tuple[UUID | None, UUID | None]:
    """Return our own ids in the metadata of a payment: of the account and of the purchase, or of `name`."""
    given = metadata if isinstance(metadata, Mapping) else {}
    return _uuid(given.get("account_id")), _uuid(given.get(name))


def _uuid(value: object) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def text_of(value: object) -> str | None:
    """Return a short text for display; None for anything else."""
    return value if isinstance(value, str) and 1 <= len(value) <= 255 and value.isprintable() else None


def refunds_inside(charge: Object) -> tuple[Refund, ...]:
    """Return the refunds inside a charge: in API versions before 2022-11-15 the last ten, since then none.

    A refund that cannot be read counts by the charge's total.
    """
    carried = (charge.get("refunds") or {}).get("data", ())
    return tuple(refund for data in carried if (refund := read_or_log(refund_of, data)) is not None)


def dispute_of(kind: str, dispute: Object) -> Dispute:
    """Return the dispute that an event of type `kind` contains. Raises KeyError, ValueError.

    A dispute that Stripe prevented never becomes a chargeback. Its money is withdrawn if Stripe resolved it by
    refunding the cardholder, and stays if the issuer dropped it: the dispute's balance transactions say which.
    """
    status = dispute["status"]
    if status == "prevented":
        moved = sum(entry["amount"] for entry in dispute.get("balance_transactions") or ())
        decided: DisputeStatus = "lost" if kind == FUNDS_WITHDRAWN or moved < 0 else "won"
    else:
        decided = DISPUTES[status]
    return Dispute(stripe_id(dispute["id"]), stripe_amount(dispute["amount"]), decided)


def charge_facts(kind: str, data: Object, at: datetime) -> PaymentFacts | None:
    """Return the facts in an event about a charge, a refund or a dispute. None: it is about none of our payments.

    Raises KeyError, TypeError, ValueError, AttributeError, OverflowError for a malformed object.
    """
    if not data.get("payment_intent"):
        return None  # all our payments are payment intents
    payment_intent_id = stripe_id(data["payment_intent"])
    if kind in REFUND_EVENTS:
        return PaymentFacts(STRIPE, payment_intent_id, at, refunds=(refund_of(data),))
    if kind.startswith("charge.dispute."):
        return PaymentFacts(STRIPE, payment_intent_id, at, dispute=dispute_of(kind, data))
    account_id, purchase_id = ids_in(data.get("metadata"))
    return PaymentFacts(
        STRIPE,
        payment_intent_id,
        at,
        refunded_minor=stripe_amount(data["amount_refunded"]),
        refunds=refunds_inside(data),
        card=card_of(data),
        receipt_url=receipt_of(data),
        account_id=account_id,
        purchase_id=purchase_id,
    )


def thin_event(event: Object) -> Event:
    """Return the event without facts: an endpoint that is set to thin payloads sends no objects.

    The service acknowledges it, because Stripe would repeat it for days. It logs an error, because the operator has to
    change the endpoint. Reconciliation reads the same change from the event log.

    Raises KeyError, TypeError, ValueError.
    """
    event_id, kind = stripe_id(event["id"]), stripe_id(event["type"])
    created_at = datetime.fromisoformat(event["created"])
    if created_at.tzinfo is None:
        created_at = created_at.replace(tzinfo=UTC)
    log.error("stripe_thin_event", event_id=event_id, type=kind, remedy="set the webhook endpoint to snapshot payloads")
    return Event(STRIPE, event_id, kind, created_at, event.get("livemode") is True, None)
