"""Tickets: open an event stream from a browser's `EventSource`, which cannot send a header.

A ticket is in a URL, which proxies and browsers log. So it works once, within TICKET_LIFE, for the page that asked.
"""

import hashlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Request

from app.auth.errors import RateLimited
from app.auth.id_tokens.revocations import IssuedToken
from app.db import Database, Session
from app.errors import InvalidRequest
from app.live import queries
from app.live.errors import InvalidTicket

TICKET_LIFE = timedelta(seconds=60)
MAX_UNUSED = 20
"""Per account."""
MAX_ORIGIN_CHARS = 255
PREFIX = "tkt_"
SECRET_BYTES = 32
_TEXT = re.compile(rf"{PREFIX}([A-Za-z0-9_-]{{64}})", re.ASCII)
"""48 bytes in base64, which need no padding."""


@dataclass(frozen=True, slots=True)
class Page:
    """The origin of a request: the one that its browser states, and whether it is the service's own."""

    origin: str | None
    host: str
    is_same_origin: bool

    @classmethod
    def of(cls, request: Request) -> "Page":
        origins = request.headers.getlist("origin")
        origin = origins[0] if origins else None
        if len(origins) > 1 or origin == "null" or len(origin or "") > MAX_ORIGIN_CHARS:
            raise InvalidRequest("Origin must name one origin", field="Origin")
        own = request.headers.get("sec-fetch-site") == "same-origin"
        return cls(origin, request.headers.get("host", ""), own)

    def may_use(self, origin: str | None) -> bool:
        """Return whether this page got the ticket of `origin`. Browsers state no origin in a GET of the same site."""
        if self.origin is None and self.is_same_origin and origin is not None:
            return urlsplit(origin).netloc == self.host
        return self.origin == origin


@dataclass(frozen=True, slots=True)
class Admission:
    """The right that a ticket gives: to follow an account, for as long as a token counts."""

    account_id: UUID
    token: IssuedToken


class Tickets:
    """Issues and redeems tickets."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def issue(self, account_id: UUID, token: IssuedToken, page: Page, now: datetime) -> tuple[str, datetime]:
        """Return a new ticket and its end. Raise RateLimited while the account has too many unused ones."""
        text = _new_text(account_id)
        expires_at = min(now + TICKET_LIFE, token.expires_at)
        ticket = {
            "digest": _digest(text),
            "account_id": account_id,
            "origin": page.origin,
            "token_id": token.token_id,
            "token_issued_at": token.issued_at,
            "token_expires_at": token.expires_at,
            "expires_at": expires_at,
        }
        async with self._db.transaction() as tx:
            await queries.delete_expired_tickets(tx, now, account_id=account_id)
            if not await queries.insert_ticket(tx, ticket, most=MAX_UNUSED):
                raise RateLimited("account", retry_after_s=int(TICKET_LIFE.total_seconds()))
        return text, expires_at

    async def redeem(self, text: str, page: Page, now: datetime) -> Admission:
        """Use up a ticket, whether or not it admits. Raise InvalidTicket."""
        if (account_id := _account_of(text)) is None:
            raise InvalidTicket
        async with self._db.transaction() as tx:
            row = await queries.take_ticket(tx, account_id, _digest(text))
        if row is None or row["expires_at"] <= now or not page.may_use(row["origin"]):
            raise InvalidTicket
        token = IssuedToken(
            environment=row["environment"],
            oauth_provider=row["oauth_provider"],
            external_id=row["external_id"],
            token_id=row["token_id"],
            issued_at=row["token_issued_at"],
            expires_at=row["token_expires_at"],
        )
        return Admission(row["account_id"], token)


async def purge_expired_tickets(tx: Session, *, now: datetime) -> int:
    """Delete tickets that were not used in time. Return their number."""
    return await queries.delete_expired_tickets(tx, now)


def _new_text(account_id: UUID) -> str:
    """Return a ticket: the account, so that any shard finds it without a search, and 256 random bits."""
    return PREFIX + urlsafe_b64encode(account_id.bytes + secrets.token_bytes(SECRET_BYTES)).decode()


def _account_of(text: str) -> UUID | None:
    """Return the account in a well-formed ticket."""
    return UUID(bytes=urlsafe_b64decode(match[1])[:16]) if (match := _TEXT.fullmatch(text)) is not None else None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
