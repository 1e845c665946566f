"""Origins: the hold or the cost record whose settlement an event of our own records. For explanations.

Holds and cost records are above this package, so their services implement `FindOrigin`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from uuid import UUID


class Origin(NamedTuple):
    """A hold or a cost record: its id in the ledger, and its id on the wire."""

    cause_id: UUID
    wire_id: str


class FindOrigin(Protocol):
    async def origin_of(self, event: Mapping[str, Any]) -> Origin | None:
        """Return the origin of an event (its row). None: its person was erased, or an older version settled it."""
