"""Erasure of callers' texts in purchases when a person is erased.

The payment's id stays: without it, refunds and disputes would no longer find their purchase.
"""

from app.accounts.erasure import Texts

TEXTS = Texts(
    "purchases",
    "purchase_id",
    {"idempotency_key": "NULL", "card_fingerprint": "NULL", "card_brand": "NULL", "card_last4": "NULL"},
)
