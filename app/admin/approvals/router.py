"""`/admin/approvals`: the queue of refused requests that wait for a person."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from app.admin.approvals.schemas import ApproveQueuedBody, QueuedApproval, QueuedApprovalsReply
from app.admin.audit.log import Admin
from app.admin.dependencies import Db, Support, Viewer
from app.admin.people import find_people
from app.admin.schemas import Person, ReasonBody
from app.admin.users.router import find_user, require_anonymous
from app.approvals.dependencies import Approvals
from app.approvals.schemas import DENIAL, ApprovalReply
from app.approvals.service import ApprovalService, Decision, Shown, place_of
from app.auth.guarded_route import GuardedRoute
from app.db import Database
from app.http.schemas import ERRORS, ErrorReply
from app.ledger.approval_queries import Stored
from app.ledger.units import amount_text

router = APIRouter(prefix="/admin/approvals", tags=["admin: approvals"], responses=ERRORS, route_class=GuardedRoute)
CHANGE: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}, 409: {"model": ErrorReply}}


@router.get("")
async def list_queued_approvals(
    admin: Viewer,
    db: Db,
    approvals: Approvals,
    show: Shown = "open",
    account_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: UUID | None = None,
) -> QueuedApprovalsReply:
    """List approvals of all accounts or of one, newest first. `open`: those that wait or may be used."""
    found = await approvals.list_all(admin.now, account_id=account_id, show=show, limit=limit + 1, before=cursor)
    page = found[:limit]
    async with db.read() as session:
        people = await find_people(session, [approval.account_id for approval in page])
    shown = [_queued(approval, people[approval.account_id], admin) for approval in page]
    return QueuedApprovalsReply(approvals=shown, next_cursor=page[-1].approval_id if len(found) > limit else None)


@router.post("/{approval_id}/approve", responses=CHANGE)
async def approve_queued(
    approval_id: str, body: ApproveQueuedBody, admin: Support, db: Db, approvals: Approvals
) -> ApprovalReply:
    """Allow the request once, up to an amount and a time."""
    decision = body.decision(await approvals.find(None, place_of(approval_id)))
    return await _decide(approval_id, decision, body.reason, admin, db, approvals)


@router.post("/{approval_id}/deny", responses=CHANGE)
async def deny_queued(
    approval_id: str, body: ReasonBody, admin: Support, db: Db, approvals: Approvals
) -> ApprovalReply:
    """Deny the request. For a day after it, the same request or a larger one is refused without a new approval."""
    return await _decide(approval_id, DENIAL, body.reason, admin, db, approvals)


async def _decide(
    approval_id: str, decision: Decision, reason: str, admin: Admin, db: Database, approvals: ApprovalService
) -> ApprovalReply:
    place = place_of(approval_id)
    found = await approvals.find(None, place)
    require_anonymous(reason, await find_user(db, place.account_id))
    async with db.transaction() as tx:
        decided, is_new = await approvals.decide_in(tx, None, place, decision, admin.caller.actor, admin.now)
        if is_new:
            allowed = None if decided.allowed is None else amount_text(decided.unit, decided.allowed)
            await admin.record(
                tx,
                "approval.deny" if decision.allowed is None else "approval.approve",
                "account",
                place.account_id,
                environment=decided.environment,
                before={"kind": found.kind, "asked": amount_text(found.unit, found.amount), "unit": found.unit},
                after={"approval_id": approval_id, "allowed": allowed, "expires_at": decided.expires_at},
                reason=reason,
            )
    return ApprovalReply.of(decided, admin.now)


def _queued(approval: Stored, person: Any, admin: Admin) -> QueuedApproval:
    reply = ApprovalReply.of(approval, admin.now)
    return QueuedApproval(
        **dict(reply),
        account_id=approval.account_id,
        environment=approval.environment,
        person=Person.of(person),
    )
