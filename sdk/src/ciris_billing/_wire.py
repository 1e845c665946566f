"""What both clients do to what they send and receive."""

import logging
from contextvars import ContextVar
from uuid import UUID

import httpx

from ciris_billing.models import Transaction, TransactionPage

MAX_ANSWER_BYTES = 16 * 1024 * 1024
sending = ContextVar("ciris_billing_sending", default=False)
"""Whether the request under way is one of ours."""


def _not_ours(record: logging.LogRecord) -> bool:
    """httpx logs the address of every request, and ours name people; we log our own calls without."""
    return not sending.get()


logging.getLogger("httpx").addFilter(_not_ours)


class Pages:
    """Where a walk through pages stands. What happens meanwhile pushes older entries to later pages: they are met
    again, and skipped."""

    def __init__(self) -> None:
        self._seen: set[UUID] = set()
        self.offset = 0
        self.more = True

    def new_in(self, page: TransactionPage) -> list[Transaction]:
        self.offset += len(page.transactions)
        self.more = page.has_more and bool(page.transactions)
        fresh = [entry for entry in page.transactions if entry.transaction_id not in self._seen]
        self._seen.update(entry.transaction_id for entry in fresh)
        return fresh


def check_credential(api_key: str | None, token: object) -> None:
    if (api_key is None) == (token is None):
        raise TypeError("give an api_key or a token function: one of the two")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key):
        raise ValueError("the API key has characters that no key has; was a line break read with it?")


def credential_header(api_key: str | None, token: str | None) -> dict[str, str]:
    return {"X-API-Key": api_key} if api_key is not None else {"Authorization": f"Bearer {token}"}


def keep_chunk(content: bytearray, chunk: bytes, *, late: bool) -> None:
    """Keep what arrives. Raises httpx's errors for what goes on for too long, or is too much to be an answer."""
    if late:
        raise httpx.ReadTimeout("no complete answer in time")
    content += chunk
    if len(content) > MAX_ANSWER_BYTES:
        raise httpx.RemoteProtocolError("the answer is too long")
