"""Record ids on the wire (`app.db.opaque_ids`)."""

from typing import NamedTuple
from uuid import UUID

from app.cost_records.errors import CostRecordNotFound
from app.db import opaque_ids

PREFIX = "cr_"
NOBODY = UUID(int=0)
"""Instead of an account: the record is of work without a user."""


class Place(NamedTuple):
    """The place of a cost record."""

    account_id: UUID
    record_id: UUID


def text_of(account_id: UUID, record_id: UUID) -> str:
    return opaque_ids.encode(PREFIX, account_id, record_id)


def place_of(text: str) -> Place:
    """Return the place that an id names. Raises CostRecordNotFound for any other text."""
    if (found := opaque_ids.decode(PREFIX, text)) is None:
        raise CostRecordNotFound
    return Place(*found)
