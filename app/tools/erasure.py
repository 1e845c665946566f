"""Erasure of callers' texts in tool uses when a person is erased."""

from app.accounts.erasure import Texts

TEXTS = Texts("product_usage_log", "usage_log_id", {"idempotency_key": "NULL", "request_id": "NULL", "run_id": "NULL"})
