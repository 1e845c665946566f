"""`/admin/refusals`: why requests were refused, by request id or account."""

from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from app.admin.dependencies import ReportDb, ReportRoute, Viewer
from app.admin.people import Row, find_people
from app.admin.schemas import Person
from app.auth.api_keys.service import find_key_name
from app.http.schemas import ERRORS, Key255, Reply, Timestamp
from app.refusals.log import find_refusals

router = APIRouter(prefix="/admin/refusals", tags=["admin: usage"], responses=ERRORS, route_class=ReportRoute)


class RefusalRow(Reply):
    """A request that was answered 402, or 409 `probable_double_charge`, as it was answered."""

    refusal_id: UUID
    request_id: str | None = Field(description="null: the person was erased.")
    account_id: UUID
    person: Person | None
    key_id: str | None = Field(description="null: the request had a user's token.")
    key_name: str | None
    route: str
    code: str
    detail: str
    figures: dict[str, Any] = Field(
        description="The other members of the answer: amounts and remedies. Of a double charge: the first charge."
    )
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row, person: Row | None, key_name: str | None) -> Self:
        same = ("refusal_id", "request_id", "account_id", "key_id", "route", "code", "detail", "figures", "created_at")
        known = None if person is None else Person.of(person)
        return cls(**{name: row[name] for name in same}, person=known, key_name=key_name)


class RefusalsReply(Reply):
    refusals: list[RefusalRow]
    next_cursor: UUID | None


@router.get("")
async def list_refusals(
    admin: Viewer,
    db: ReportDb,
    request_id: Annotated[Key255 | None, Query(description="The header `X-Request-ID` of the answer.")] = None,
    account_id: UUID | None = None,
    code: Annotated[Key255 | None, Query(description="Of the answer, such as `probable_double_charge`.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: UUID | None = None,
) -> RefusalsReply:
    """List refused requests of the last two weeks, newest first. They appear a few seconds after their answers.

    Of an account that is refused very often, some are kept.
    """
    async with db.read() as session:
        rows = await find_refusals(
            session, request_id=request_id, account_id=account_id, code=code, before=cursor, limit=limit + 1
        )
        page = rows[:limit]
        people = await find_people(session, {row["account_id"] for row in page})
        keys = {row["key_id"] for row in page if row["key_id"] is not None}
        names = {key_id: await find_key_name(session, key_id) for key_id in keys}
    refusals = [RefusalRow.of(row, people.get(row["account_id"]), names.get(row["key_id"])) for row in page]
    return RefusalsReply(refusals=refusals, next_cursor=page[-1]["refusal_id"] if len(rows) > limit else None)
