"""What callers wrote beside a tool's use, and what becomes of it when the person is erased."""

from app.accounts.erasure import Texts

TEXTS = Texts("product_usage_log", "usage_log_id", {"idempotency_key": "NULL", "request_id": "NULL"})
