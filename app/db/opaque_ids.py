"""Opaque ids on the wire: texts that encode an account and a row, so any shard finds it without a search. Pure."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

_ENCODED = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]", re.ASCII)
"""256 bits in 43 characters of 6 bits: the last two bits are zero."""


def encode(prefix: str, account_id: UUID, row_id: UUID) -> str:
    return prefix + urlsafe_b64encode(account_id.bytes + row_id.bytes).decode().rstrip("=")


def decode(prefix: str, text: str) -> tuple[UUID, UUID] | None:
    """Return the account and the row of an id. None for a text that `encode` does not return."""
    encoded = text.removeprefix(prefix)
    if encoded == text or _ENCODED.fullmatch(encoded) is None:
        return None
    content = urlsafe_b64decode(f"{encoded}=")
    return UUID(bytes=content[:16]), UUID(bytes=content[16:])
