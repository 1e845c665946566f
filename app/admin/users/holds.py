"""`/admin/users/{account_id}/holds`: amounts that are reserved for work, and their settlements."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from app.admin.dependencies import Db, ReportRoute, Viewer
from app.admin.users.router import NOT_FOUND, find_user
from app.holds.schemas import HoldReply
from app.holds.service import HoldService
from app.http.schemas import ERRORS, Reply

router = APIRouter(prefix="/admin/users", tags=["admin: users"], responses=ERRORS, route_class=ReportRoute)


async def hold_service(request: Request) -> HoldService:
    service: HoldService = request.app.state.holds
    return service


Holds = Annotated[HoldService, Depends(hold_service)]


class AccountHoldsReply(Reply):
    holds: list[HoldReply]
    next_cursor: UUID | None


@router.get("/{account_id}/holds", responses=NOT_FOUND)
async def list_account_holds(
    account_id: UUID,
    admin: Viewer,
    db: Db,
    holds: Holds,
    show: Literal["open", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: UUID | None = None,
) -> AccountHoldsReply:
    """List the account's open holds, or all holds, newest first."""
    await find_user(db, account_id)
    found = await holds.list_of_account(account_id, cursor, limit + 1, only_open=show == "open")
    page = [HoldReply.of(hold) for hold in found[:limit]]
    return AccountHoldsReply(holds=page, next_cursor=found[limit - 1].hold_id if len(found) > limit else None)
