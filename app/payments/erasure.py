"""Erasure of callers' texts in purchases when a person is erased.

The payment's id stays: without it, refunds and disputes would no longer find their purchase.
"""

from app.accounts.erasure import Texts

TEXTS = Texts(
    "purchases",
    "purchase_id",
    dict.fromkeys(
        (
            "idempotency_key",
            "card_fingerprint",
            "card_brand",
            "card_last4",
            "receipt_url",
            "buyer",
            "success_url",
            "cancel_url",
        ),
        "NULL",
    ),
)
