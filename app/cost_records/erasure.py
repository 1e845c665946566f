"""Erasure of callers' texts in cost records when a person is erased. Sums by model, agent and tool stay."""

from app.accounts.erasure import Texts

RECORDS = Texts(
    "cost_records",
    "record_id",
    {"request_id": "NULL", "query": "NULL", "run_id": "NULL", "error_message": "NULL"},
)
ITEMS = Texts(
    "cost_record_items",
    "addition_id",
    {"item_id": "NULL", "quantities": "quantities - 'endpoint'", "raw": "NULL"},
)
TEXTS = (RECORDS, ITEMS)
