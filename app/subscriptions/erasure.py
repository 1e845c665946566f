"""Erasure of callers' texts in orders when a person is erased. The customer at the provider is deleted as well."""

from app.accounts.erasure import Texts

TEXTS = Texts("subscription_orders", "order_id", {"success_url": "NULL", "cancel_url": "NULL"})
