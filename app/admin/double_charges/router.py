"""`/admin/double-charges`: charges that were flagged as probably double, of all accounts or of one."""

from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from app.admin.dependencies import ReportDb, ReportRoute, Viewer
from app.admin.double_charges.queries import list_doubles
from app.admin.people import Row, find_people
from app.admin.schemas import Pasted, Person
from app.http.schemas import ERRORS, Reply, Timestamp

router = APIRouter(prefix="/admin/double-charges", tags=["admin: usage"], responses=ERRORS, route_class=ReportRoute)


class DoubleCharge(Reply):
    """A charge that was recorded, and probably repeats an earlier one."""

    charge_id: UUID
    double_of: UUID = Field(description="The first charge with the same request id, description and amount.")
    account_id: UUID
    person: Person | None
    amount_minor: int = Field(description="Of each of the two, in hundredths of a credit.")
    currency: str
    description: str | None
    request_id: str | None = Field(description="`metadata.request_id` of both. null: the person was erased.")
    key_id: str | None = Field(description="The API key of the charge.")
    key_name: str | None
    idempotency_key: str | None
    first_idempotency_key: str | None = Field(description="Of the first charge.")
    created_at: Timestamp
    first_created_at: Timestamp

    @classmethod
    def of(cls, row: Row, person: Row | None) -> Self:
        return cls(**row, person=None if person is None else Person.of(person))


class DoubleChargesReply(Reply):
    double_charges: list[DoubleCharge]
    next_cursor: UUID | None


@router.get("")
async def list_double_charges(
    admin: Viewer,
    db: ReportDb,
    account_id: UUID | None = None,
    key_id: Annotated[Pasted | None, Query(description="The API key of the later charge.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: UUID | None = None,
) -> DoubleChargesReply:
    """List charges that were flagged as probably double, newest first. API keys with the policy `flag` make them."""
    async with db.read() as session:
        rows = await list_doubles(session, account_id=account_id, key_id=key_id, before=cursor, limit=limit + 1)
        page = rows[:limit]
        people = await find_people(session, {row["account_id"] for row in page})
    doubles = [DoubleCharge.of(row, people.get(row["account_id"])) for row in page]
    return DoubleChargesReply(double_charges=doubles, next_cursor=page[-1]["charge_id"] if len(rows) > limit else None)
