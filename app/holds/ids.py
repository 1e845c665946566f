"""Hold ids on the wire: opaque texts that encode the account, so that a hold is found without a search. Pure."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from app.holds.errors import HoldNotFound
from app.ledger.hold_queries import Place

PREFIX = "hold_"
_ID = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)


def text_of(account_id: UUID, hold_id: UUID) -> str:
    return PREFIX + urlsafe_b64encode(account_id.bytes + hold_id.bytes).decode().rstrip("=")


def place_of(text: str) -> Place:
    """Return the place that an id names. Raises HoldNotFound for a text that `text_of` does not return."""
    if _ID.fullmatch(text) is None:
        raise HoldNotFound
    content = urlsafe_b64decode(f"{text[len(PREFIX) :]}=")
    place = Place(UUID(bytes=content[:16]), UUID(bytes=content[16:]))
    if text_of(*place) != text:  # unused bits of the last character
        raise HoldNotFound
    return place
