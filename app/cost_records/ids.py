"""Record ids on the wire: opaque texts that encode the account, so that a record is found without a search. Pure."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple
from uuid import UUID

from app.cost_records.errors import CostRecordNotFound

PREFIX = "cr_"
_ID = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
NOBODY = UUID(int=0)
"""Instead of an account: the record is of work without a user."""


class Place(NamedTuple):
    """Where a record is."""

    account_id: UUID
    record_id: UUID


def text_of(account_id: UUID, record_id: UUID) -> str:
    return PREFIX + urlsafe_b64encode(account_id.bytes + record_id.bytes).decode().rstrip("=")


def place_of(text: str) -> Place:
    """Return the place that an id names. Raises CostRecordNotFound for a text that `text_of` does not return."""
    if _ID.fullmatch(text) is None:
        raise CostRecordNotFound
    content = urlsafe_b64decode(f"{text[len(PREFIX) :]}=")
    place = Place(UUID(bytes=content[:16]), UUID(bytes=content[16:]))
    if text_of(*place) != text:  # unused bits of the last character
        raise CostRecordNotFound
    return place
