"""`/v1/accounts/me/approvals`: the approvals that the user's agents wait for, and the user's decisions."""

from typing import Any

from fastapi import APIRouter, Response

from app.accounts.dependencies import Accounts
from app.accounts.schemas import identity_of
from app.approvals.dependencies import Approvals
from app.approvals.router import Show
from app.approvals.schemas import DENIAL, ApprovalReply, ApprovalsReply, ApproveBody
from app.approvals.service import place_of
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.auth.persons import require_person
from app.clock import Now
from app.http.schemas import CODED_ERRORS, CodedErrorReply

router = APIRouter(
    prefix="/v1/accounts/me/approvals", tags=["own account"], responses=CODED_ERRORS, route_class=GuardedRoute
)
DECISION: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}, 409: {"model": CodedErrorReply}}


@router.get("")
async def list_own_approvals(
    caller: EndUser, approvals: Approvals, now: Now, response: Response, show: Show = "open"
) -> ApprovalsReply:
    """List the approvals of the user who calls, newest first."""
    response.headers["Cache-Control"] = "no-store"
    found = await approvals.list_of(identity_of(caller, None, None), show, now)
    return ApprovalsReply(approvals=[ApprovalReply.of(approval, now) for approval in found])


@router.post("/{approval_id}/approve", responses=DECISION)
async def approve_own(
    approval_id: str,
    caller: EndUser,
    accounts: Accounts,
    approvals: Approvals,
    now: Now,
    body: ApproveBody | None = None,
) -> ApprovalReply:
    """Allow the request once, up to an amount and a time. 403 `person_required` for a token that an agent may have."""
    require_person(caller, now)
    place = place_of(approval_id)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    decision = (body or ApproveBody()).decision(await approvals.find(caller.environment, place))
    decided = await approvals.decide(caller.environment, place, decision, caller.actor, now, of_account=account_id)
    return ApprovalReply.of(decided, now)


@router.post("/{approval_id}/deny", responses=DECISION)
async def deny_own(
    approval_id: str, caller: EndUser, accounts: Accounts, approvals: Approvals, now: Now
) -> ApprovalReply:
    """Deny the request. For a day after it, the same request or a larger one is refused without a new approval."""
    require_person(caller, now)
    place = place_of(approval_id)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    decided = await approvals.decide(caller.environment, place, DENIAL, caller.actor, now, of_account=account_id)
    return ApprovalReply.of(decided, now)
