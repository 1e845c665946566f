"""Erasure of callers' texts beside money when a person is erased."""

from app.accounts.erasure import Texts

TEXTS = Texts(
    "money_credits",
    "money_credit_id",
    {"idempotency_key": "NULL", "description": "NULL", "external_transaction_id": "NULL"},
)
