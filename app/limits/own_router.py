"""`/v1/accounts/me/limits`: the limits of the user who calls, by the user's token."""

from typing import Any

from fastapi import APIRouter

from app.accounts.dependencies import Accounts
from app.accounts.schemas import ProfileFields, identity_of
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.auth.persons import is_person, require_person
from app.clock import Now
from app.http.schemas import CODED_ERRORS, CodedErrorReply
from app.limits.dependencies import Limits
from app.limits.schemas import LimitFields, LimitReply, LimitsReply
from app.limits.service import Place

router = APIRouter(
    prefix="/v1/accounts/me/limits", tags=["own account"], responses=CODED_ERRORS, route_class=GuardedRoute
)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}}


@router.get("")
async def list_own_limits(caller: EndUser, limits: Limits, now: Now) -> LimitsReply:
    """List the limits of the user who calls, the operator's included."""
    found = await limits.list_of(identity_of(caller, None, None), now)
    return LimitsReply(limits=[LimitReply.of(limit, now, limits.zone) for limit in found])


@router.put("")
async def set_own_limit(body: LimitFields, caller: EndUser, accounts: Accounts, limits: Limits, now: Now) -> LimitReply:
    """Set a limit of the user who calls: create or lower it. Creates a missing account.

    Agents have users' tokens too. So a higher amount answers 403 `person_required` unless the token's audience is one
    that only persons use, and its `auth_time`, if it has one, is at most 10 minutes old. 422 `above_operator_limit`.
    """
    new = body.limit()
    await limits.require_finished_upgrade()
    identity = identity_of(caller, None, None)
    account_id = await accounts.directory.resolve(identity, ProfileFields().profile(caller), caller.actor, now)
    limit = await limits.put(account_id, new, "user", now, may_raise=is_person(caller, now), by=caller)
    return LimitReply.of(limit, now, limits.zone)


@router.delete("/{limit_id}", responses=NOT_FOUND)
async def remove_own_limit(limit_id: str, caller: EndUser, accounts: Accounts, limits: Limits, now: Now) -> LimitReply:
    """Remove a limit of the user who calls, and return it. Needs a person, as raising it does.

    The operator's limit answers 403 `not_limit_owner`.
    """
    place = Place.of(limit_id)
    require_person(caller, now)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    limit = await limits.remove(place, caller, now, only="user", of_account=account_id)
    return LimitReply.of(limit, now, limits.zone)
