"""`/v1/billing/limits`: the limits of any user, for API keys. They set and remove the operator's."""

from typing import Any

from fastapi import APIRouter

from app.accounts.dependencies import Accounts, QueryUser
from app.auth.api_keys.key_route import KeyRoute
from app.auth.dependencies import LimitsWriter, Reader
from app.clock import Now
from app.http.schemas import ERRORS, ErrorReply
from app.limits.dependencies import Limits
from app.limits.schemas import LimitBody, LimitReply, LimitsReply
from app.limits.service import Place

router = APIRouter(prefix="/v1/billing/limits", tags=["billing"], responses=ERRORS, route_class=KeyRoute)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}


@router.get("")
async def list_limits(user: QueryUser, caller: Reader, limits: Limits, now: Now) -> LimitsReply:
    """List the user's limits with their counters. An unknown user has none."""
    found = await limits.list_of(user.identity(caller), now)
    return LimitsReply(limits=[LimitReply.of(limit, now, limits.zone) for limit in found])


@router.put("")
async def set_limit(body: LimitBody, caller: LimitsWriter, accounts: Accounts, limits: Limits, now: Now) -> LimitReply:
    """Set a limit of the operator. Needs `limits:write`, which spending does not. Creates a missing account.

    A limit with the same scope, window, unit and action gets the new amount and keeps its counter. A new one begins
    with the spending of its window so far; `lifetime` with the open holds and cost records. 503 `upgrade_in_progress`
    while the service is being upgraded.
    """
    new = body.limit()
    await limits.require_finished_upgrade()
    account_id, _ = await accounts.directory.find_or_create(
        body.identity(caller), caller.actor, now, profile=body.profile(caller)
    )
    limit = await limits.put(account_id, new, "operator", now, by=caller)
    return LimitReply.of(limit, now, limits.zone)


@router.delete("/{limit_id}", responses=NOT_FOUND)
async def remove_limit(limit_id: str, caller: LimitsWriter, limits: Limits, now: Now) -> LimitReply:
    """Remove a limit of the operator, and return it. A user's limit answers 403 `not_limit_owner`."""
    limit = await limits.remove(Place.of(limit_id), caller, now, only="operator")
    return LimitReply.of(limit, now, limits.zone)
