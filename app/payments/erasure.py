"""What callers wrote beside a purchase, and what becomes of it when the person is erased.

The payment's id stays: without it no refund or dispute would find its purchase any more.
"""

from app.accounts.erasure import Texts

TEXTS = Texts(
    "purchases",
    "purchase_id",
    {"idempotency_key": "NULL", "card_fingerprint": "NULL", "card_brand": "NULL", "card_last4": "NULL"},
)
