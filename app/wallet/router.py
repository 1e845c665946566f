"""`/v1/billing/grants`: give, list and end grants of credits and of money."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response, status

from app.accounts.dependencies import Accounts, QueryUser
from app.auth.api_keys.key_route import KeyRoute
from app.auth.caller import Caller, Permission
from app.auth.dependencies import ReaderOrUser, require
from app.clock import Now
from app.errors import error_body
from app.http.idempotency import IN_OPENAPI, REPLAYED, REPLAYED_IN_OPENAPI, idempotency_key
from app.http.schemas import ERRORS, MAX_INT64, ErrorReply
from app.wallet.dependencies import Wallet
from app.wallet.schemas import GrantBody, GrantReply, GrantsReply, OpenOnly, ReplayedGrant

router = APIRouter(prefix="/v1/billing/grants", tags=["billing"], responses=ERRORS, route_class=KeyRoute)
Giver = Annotated[Caller, Depends(require(Permission.MONEY_CREDIT))]


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=GrantReply,
    openapi_extra=IN_OPENAPI,
    responses={404: {"model": ErrorReply}, 409: {"model": ReplayedGrant, "headers": REPLAYED_IN_OPENAPI}},
)
async def create_grant(
    body: GrantBody, request: Request, caller: Giver, accounts: Accounts, wallet: Wallet, now: Now
) -> GrantReply | Response:
    """Give an existing account credits or money with a priority and an expiry. Grants pay no debt.

    Repeating an idempotency key answers 409 and gives nothing. 503 `upgrade_in_progress` while the service is being
    upgraded.
    """
    new = body.grant()
    account_id = await accounts.find_account_id(body.identity(caller))
    key = idempotency_key(body.idempotency_key, request)
    grant = await wallet.give_grant(account_id, new, actor=caller.actor, now=now, idempotency_key=key)
    if grant.replayed:
        existing = ReplayedGrant.of(grant, now, **error_body("Grant already exists", "grant_exists"))
        headers = {"X-Existing-Grant-ID": str(grant.grant_id), **REPLAYED}
        return Response(existing.model_dump_json(), status.HTTP_409_CONFLICT, headers, media_type="application/json")
    return GrantReply.of(grant, now)


@router.get("")
async def list_grants(
    user: QueryUser,
    caller: ReaderOrUser,
    wallet: Wallet,
    now: Now,
    show: Annotated[OpenOnly, Query(description="`active`: only grants that can pay.")] = "all",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=MAX_INT64)] = 0,
) -> GrantsReply:
    """List the user's grants, newest first. An unknown user has none."""
    grants, total = await wallet.list_grants(
        user.identity(caller), only_open=show == "active", now=now, limit=limit, offset=offset
    )
    return GrantsReply(
        grants=[GrantReply.of(grant, now) for grant in grants],
        total_count=total,
        has_more=offset + len(grants) < total,
    )


@router.post("/{grant_id}/end", responses={404: {"model": ErrorReply}})
async def end_grant(grant_id: UUID, caller: Giver, wallet: Wallet, now: Now) -> GrantReply:
    """End a grant before its expiry: its rest is lost. A spent, expired or ended grant stays as it is."""
    grant = await wallet.end_grant(caller.environment, grant_id, actor=caller.actor, now=now)
    return GrantReply.of(grant, now)
