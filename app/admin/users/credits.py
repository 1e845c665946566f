"""`/admin/users/{account_id}/credits` and `/free-credits`: corrections of paid credits, and grants of free ones."""

from uuid import UUID

from fastapi import APIRouter, status

from app.admin.audit.log import Admin
from app.admin.changed import (
    ChangedMeanwhile,
    ChangedReply,
    NotEnoughToTake,
    find_last_move,
)
from app.admin.dependencies import Db, ReportRoute, Support
from app.admin.support_limits import Limits, counted, require_small
from app.admin.users.router import CHANGE, NOT_FOUND, find_user, require_anonymous
from app.admin.users.schemas import (
    AdjustBody,
    AdjustReply,
    GrantBody,
    GrantReply,
)
from app.billing.dependencies import Billing
from app.billing.errors import BalanceChanged, InsufficientCredits
from app.billing.free_grants import grant_free_in
from app.billing.posting import Credit
from app.billing.schemas import InsufficientCreditsReply
from app.billing.service import BillingService
from app.db import Session
from app.errors import InvalidRequest
from app.http.schemas import ERRORS

router = APIRouter(prefix="/admin/users", tags=["admin: users"], responses=ERRORS, route_class=ReportRoute)


@router.post(
    "/{account_id}/credits",
    status_code=status.HTTP_201_CREATED,
    responses={**NOT_FOUND, 402: {"model": InsufficientCreditsReply}, 409: {"model": ChangedReply}},
)
async def adjust_credits(
    account_id: UUID, body: AdjustBody, admin: Support, limits: Limits, db: Db, billing: Billing
) -> AdjustReply:
    """Give or take paid credits. Taking more than the balance fails and creates no debt. Idempotent by key."""
    if body.credits == 0:
        raise InvalidRequest("credits must not be 0", field="credits")
    require_small(body.credits, admin, limits)
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    environment = user["environment"]
    async with db.transaction() as tx, counted(tx, admin, limits):
        credit = await _adjust(tx, account_id, body, admin, billing)
        if not credit.replayed:
            await admin.record(
                tx,
                "account.adjust",
                "account",
                account_id,
                environment=environment,
                before={"paid": credit.paid_after - credit.credits},
                after={"paid": credit.paid_after, "credit_id": credit.credit_id},
                reason=body.reason,
            )
    return AdjustReply(
        credit_id=credit.credit_id, credits=credit.credits, paid_after=credit.paid_after, replayed=credit.replayed
    )


async def _adjust(tx: Session, account_id: UUID, body: AdjustBody, admin: Admin, billing: BillingService) -> Credit:
    """Adjust the balance. Raise ChangedMeanwhile or NotEnoughToTake."""
    try:
        return await billing.adjust_in(
            tx,
            account_id,
            body.credits,
            actor=admin.caller.actor,
            now=admin.now,
            description=body.reason,
            idempotency_key=body.idempotency_key,
            seen_paid=body.seen_paid,
        )
    except BalanceChanged as error:
        current = {"paid": error.paid}
        last = await find_last_move(tx, account_id)
        raise ChangedMeanwhile("The balance has changed", current=current, **last) from error
    except InsufficientCredits as error:
        raise NotEnoughToTake(error) from error


@router.post("/{account_id}/free-credits", status_code=status.HTTP_201_CREATED, responses=CHANGE)
async def grant_free_credits(account_id: UUID, body: GrantBody, admin: Support, limits: Limits, db: Db) -> GrantReply:
    """Add one-time free credits, which charges spend before paid ones. Idempotent by key."""
    require_small(body.credits, admin, limits)
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    async with db.transaction() as tx, counted(tx, admin, limits):
        granted = await grant_free_in(
            tx,
            account_id,
            body.credits,
            actor=admin.caller.actor,
            now=admin.now,
            idempotency_key=body.idempotency_key,
        )
        if not granted.replayed:
            await admin.record(
                tx,
                "account.grant_free",
                "account",
                account_id,
                environment=user["environment"],
                before={"free": granted.free_after - granted.credits},
                after={"free": granted.free_after, "grant_id": granted.grant_id},
                reason=body.reason,
            )
    return GrantReply(
        grant_id=granted.grant_id,
        credits=granted.credits,
        free_after=granted.free_after,
        replayed=granted.replayed,
    )
