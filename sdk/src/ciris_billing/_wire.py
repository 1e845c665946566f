"""Shared parts of both clients' I/O: credentials, paging, answer size and log filtering."""

import logging
from contextvars import ContextVar
from uuid import UUID

import httpx

from ciris_billing.models import Transaction, TransactionPage

MAX_ANSWER_BYTES = 16 * 1024 * 1024
sending = ContextVar("ciris_billing_sending", default=False)
"""Whether the current context is sending a request of this client."""


def _not_ours(record: logging.LogRecord) -> bool:
    """Drop httpx's log records about this client's requests, whose URLs contain identities. The client logs its own."""
    return not sending.get()


logging.getLogger("httpx").addFilter(_not_ours)


class Pages:
    """Position in a paged list. New entries push older ones to later pages, where they are skipped as duplicates."""

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
        raise TypeError("pass either api_key or token, one of the two")
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key):
        raise ValueError("the API key contains invalid characters: remove blanks and a line break around it")


def credential_header(api_key: str | None, token: str | None) -> dict[str, str]:
    return {"X-API-Key": api_key} if api_key is not None else {"Authorization": f"Bearer {token}"}


def keep_chunk(content: bytearray, chunk: bytes, *, late: bool) -> None:
    """Append a chunk. Raises httpx errors when the answer is late or too large."""
    if late:
        raise httpx.ReadTimeout("no complete answer in time")
    content += chunk
    if len(content) > MAX_ANSWER_BYTES:
        raise httpx.RemoteProtocolError("the answer is too large")
