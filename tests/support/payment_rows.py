"""Valid rows of the tables of payments."""

import uuid

from tests.support.row_values import (
    ACCOUNT,
    NOW,
    Row,
)

PAYMENT_ROWS: dict[str, Row] = {
    "payment_customers": {
        "account_id": ACCOUNT,
        "provider": "stripe",
        "environment": "live",
        "customer_id": "cus_1",
        "attempt": 1,
        "created_at": NOW,
        "updated_at": NOW,
    },
    "provider_objects": {
        "environment": "live",
        "provider": "stripe",
        "object_id": "cus_1",
        "kind": "customer",
        "account_id": ACCOUNT,
        "parent_id": None,
        "created_at": NOW,
    },
    "payment_providers": {"environment": "live", "encryption_key_id": "k", "sealed": b"x", "updated_at": NOW},
    "purchases": {
        "account_id": ACCOUNT,
        "purchase_id": uuid.UUID(int=8),
        "environment": "live",
        "pack": "standard",
        "credits": 20,
        "amount_minor": 500,
        "currency": "USD",
        "idempotency_key": "key",
        "caller_kind": "key",
        "payment_intent_id": "pi_1",
        "status": "pending",
        "status_at": NOW,
        "credit_id": None,
        "refunded_minor": 0,
        "credits_refunded": 0,
        "credits_disputed": 0,
        "created_at": NOW,
        "updated_at": NOW,
    },
    "purchase_disputes": {
        "account_id": ACCOUNT,
        "purchase_id": uuid.UUID(int=9),
        "dispute_id": "du_1",
        "amount_minor": 500,
        "status": "open",
        "updated_at": NOW,
    },
    "purchase_refunds": {
        "account_id": ACCOUNT,
        "purchase_id": uuid.UUID(int=9),
        "refund_id": "re_1",
        "amount_minor": 500,
        "status": "pending",
        "created_at": NOW,
        "updated_at": NOW,
    },
    "payment_events": {
        "environment": "live",
        "event_id": "evt_1",
        "type": "charge.refunded",
        "payment_intent_id": None,
        "outcome": "applied",
        "created_at": NOW,
        "received_at": NOW,
    },
    "payment_cursors": {"environment": "live", "events_read_until": NOW},
}
