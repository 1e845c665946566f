"""`/v1/billing/approvals`: reads of approvals and their decisions, for API keys, which decide nothing."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.accounts.dependencies import QueryUser
from app.approvals.dependencies import Approvals
from app.approvals.schemas import ApprovalReply, ApprovalsReply
from app.approvals.service import Shown, place_of
from app.auth.dependencies import Reader
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.http.schemas import ERRORS, ErrorReply

router = APIRouter(prefix="/v1/billing/approvals", tags=["billing"], responses=ERRORS, route_class=GuardedRoute)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
Show = Annotated[Shown, Query(description="`open`: those that wait for a person or may be used.")]


@router.get("")
async def list_approvals(
    user: QueryUser, caller: Reader, approvals: Approvals, now: Now, response: Response, show: Show = "open"
) -> ApprovalsReply:
    """List a user's approvals, newest first."""
    response.headers["Cache-Control"] = "no-store"
    found = await approvals.list_of(user.identity(caller), show, now)
    return ApprovalsReply(approvals=[ApprovalReply.of(approval, now) for approval in found])


@router.get("/{approval_id}", responses=NOT_FOUND)
async def get_approval(
    approval_id: str, caller: Reader, approvals: Approvals, now: Now, response: Response
) -> ApprovalReply:
    """Return an approval. Once it is `approved`, the request that asked for it succeeds, once."""
    response.headers["Cache-Control"] = "no-store"
    return ApprovalReply.of(await approvals.find(caller.environment, place_of(approval_id)), now)
