"""Erasure of callers' texts beside money when a person is erased."""

from app.accounts.erasure import Texts

TEXTS = Texts(
    "money_credits",
    "money_credit_id",
    {
        "idempotency_key": "NULL",
        "description": "NULL",
        # A payment's id links bought money to its purchase. Only Stripe can resolve it to a person.
        "external_transaction_id": "(SELECT p.payment_intent_id FROM purchases p WHERE p.account_id = t.account_id"
        " AND p.payment_intent_id = t.external_transaction_id)",
    },
)
