"""Hold ids on the wire (`app.db.opaque_ids`)."""

from uuid import UUID

from app.db import opaque_ids
from app.holds.errors import HoldNotFound
from app.ledger.hold_queries import Place

PREFIX = "hold_"


def text_of(account_id: UUID, hold_id: UUID) -> str:
    return opaque_ids.encode(PREFIX, account_id, hold_id)


def place_of(text: str) -> Place:
    """Return the place that an id names. Raises HoldNotFound for any other text."""
    if (found := opaque_ids.decode(PREFIX, text)) is None:
        raise HoldNotFound
    return Place(*found)
