"""Charged cost records, for lists of an account's movements of money. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from app.cost_records import queries
from app.db import Session


@dataclass(frozen=True, slots=True)
class ChargedRecord:
    """A record that an account was charged for. The texts are None once the person is erased."""

    usage_id: UUID
    """The usage event of the charge."""
    request_id: str | None
    tool: str
    query: str | None


async def find_charged_records(
    db: Session, account_id: UUID, record_ids: Sequence[UUID]
) -> Mapping[UUID, ChargedRecord]:
    """Return charged records of one account, by their ids."""
    if not record_ids:
        return {}
    rows = await queries.find_charged(db, account_id, record_ids)
    return {row["record_id"]: ChargedRecord(**{name: row[name] for name in ChargedRecord.__slots__}) for row in rows}
