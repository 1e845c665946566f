"""`/admin/users/{account_id}/limits`: bounds of the account's spending. Admins set the operator's, and remove any."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import Field

from app.admin.dependencies import Administrator, Db, ReportRoute, Viewer
from app.admin.schemas import ReasonBody
from app.admin.users.router import CHANGE, NOT_FOUND, find_user, require_anonymous
from app.http.schemas import ERRORS, Reply
from app.ledger.units import amount_text
from app.limits.audit import REMOVED, SET, facts_of_change, facts_of_removal
from app.limits.dependencies import Limits
from app.limits.errors import LimitNotFound
from app.limits.schemas import LimitFields, LimitReply, LimitsReply
from app.limits.service import Place

router = APIRouter(prefix="/admin/users", tags=["admin: users"], responses=ERRORS, route_class=ReportRoute)


class SetLimitBody(LimitFields, ReasonBody):
    pass


class SetLimitReply(Reply):
    limit: LimitReply
    was: str | None = Field(description="The earlier amount. null: the limit is new.")


@router.get("/{account_id}/limits", responses=NOT_FOUND)
async def list_account_limits(account_id: UUID, admin: Viewer, db: Db, limits: Limits) -> LimitsReply:
    """List the account's limits with their counters, shorter windows first."""
    await find_user(db, account_id)
    found = await limits.list(account_id, admin.now)
    return LimitsReply(limits=[LimitReply.of(limit, admin.now, limits.zone) for limit in found])


@router.put("/{account_id}/limits", responses=CHANGE)
async def set_account_limit(
    account_id: UUID, body: SetLimitBody, admin: Administrator, db: Db, limits: Limits
) -> SetLimitReply:
    """Set a limit of the operator, or change its amount. The counter stays. A repeat changes nothing."""
    new = body.limit()
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    await limits.require_finished_upgrade()
    async with db.transaction() as tx:
        change = await limits.put_in(tx, account_id, new, "operator", admin.now)
        limit, was = change.limit, None if change.before is None else amount_text(change.limit.unit, change.before)
        if change.before != limit.amount:
            before, after = facts_of_change(limit, change.before)
            await admin.record(
                tx,
                SET,
                "account",
                account_id,
                environment=user["environment"],
                before=before,
                after=after,
                reason=body.reason,
            )
    change.report()
    return SetLimitReply(limit=LimitReply.of(limit, admin.now, limits.zone), was=was)


@router.post("/{account_id}/limits/{limit_id}/remove", responses=CHANGE)
async def remove_account_limit(
    account_id: UUID, limit_id: str, body: ReasonBody, admin: Administrator, db: Db, limits: Limits
) -> LimitReply:
    """Remove a limit, also a user's, and return it."""
    place = Place.of(limit_id)
    user = await find_user(db, account_id)
    require_anonymous(body.reason, user)
    if place.account_id != account_id:
        raise LimitNotFound
    await limits.require_finished_upgrade()
    async with db.transaction() as tx:
        limit = await limits.remove_in(tx, place, admin.now)
        before, after = facts_of_removal(limit)
        await admin.record(
            tx,
            REMOVED,
            "account",
            account_id,
            environment=user["environment"],
            before=before,
            after=after,
            reason=body.reason,
        )
    return LimitReply.of(limit, admin.now, limits.zone)
