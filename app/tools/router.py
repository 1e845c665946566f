"""`/v1/tools`: the balances of tools, checks, and charges for uses."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response

from app.accounts.directory import Profile
from app.accounts.schemas import LaterQueryUserId, OAuthProvider, identity_of
from app.auth.api_keys.key_route import KeyRoute
from app.auth.caller import Caller, Permission
from app.auth.dependencies import ReaderOrUser, require
from app.billing.dependencies import Billing
from app.billing.schemas import InsufficientCreditsReply
from app.billing.service import BillingService
from app.clock import Now
from app.http.idempotency import IN_OPENAPI, REPLAYED, REPLAYED_IN_OPENAPI, idempotency_key
from app.http.schemas import ERRORS, ErrorReply, Key255
from app.ledger.outcomes import Refused, Replayed
from app.ledger.pools import Shortfall
from app.refusals.schemas import NotAllowedReply
from app.tools.schemas import ToolBalanceReply, ToolBalancesReply, ToolChargeBody, ToolChargeReply, ToolCheckReply
from app.tools.service import ProductInventoryService

UNKNOWN: dict[int | str, dict[str, Any]] = {400: {"model": ErrorReply, "description": "Unknown product type"}}
router = APIRouter(prefix="/v1/tools", tags=["tools"], responses=ERRORS, route_class=KeyRoute)

Writer = Annotated[Caller, Depends(require(Permission.WRITE))]
ProductType = Annotated[Key255, Path(examples=["web_search"])]


async def product_inventory_service(request: Request) -> ProductInventoryService:
    service: ProductInventoryService = request.app.state.tools
    return service


async def account_of_query(
    caller: ReaderOrUser,
    billing: Billing,
    now: Now,
    oauth_provider: OAuthProvider | None = None,
    external_id: Key255 | None = None,
    user_id: LaterQueryUserId = None,
) -> UUID:
    """Return the account of the token's user or, with an API key, of the user in the query. Create it if missing."""
    identity = identity_of(caller, oauth_provider, external_id, user_id)
    return await billing.accounts.directory.resolve(identity, Profile(), caller.actor, now)


Tools = Annotated[ProductInventoryService, Depends(product_inventory_service)]
AccountId = Annotated[UUID, Depends(account_of_query)]


@router.get("/balance/{product_type}", responses=UNKNOWN)
async def get_tool_balance(
    product_type: ProductType, account_id: AccountId, tools: Tools, now: Now
) -> ToolBalanceReply:
    return ToolBalanceReply.of(await tools.balance(account_id, product_type, now))


@router.get("/balance")
async def list_tool_balances(account_id: AccountId, tools: Tools, now: Now) -> ToolBalancesReply:
    balances = await tools.balances(account_id, now)
    return ToolBalancesReply(balances=[ToolBalanceReply.of(balance) for balance in balances])


@router.get("/check/{product_type}", responses=UNKNOWN)
async def check_tool(
    product_type: ProductType, account_id: AccountId, caller: ReaderOrUser, tools: Tools, now: Now
) -> ToolCheckReply:
    """Return whether the next use of the tool is paid for."""
    return ToolCheckReply.of(await tools.check(account_id, product_type, now, key=caller.actor.key_id))


@router.post(
    "/charge",
    response_model=ToolChargeReply,
    openapi_extra=IN_OPENAPI,
    responses={
        **UNKNOWN,
        200: {"headers": REPLAYED_IN_OPENAPI},
        402: {"model": InsufficientCreditsReply | NotAllowedReply},
    },
)
async def charge_tool(body: ToolChargeBody, request: Request, caller: Writer, now: Now) -> ToolChargeReply | Response:
    """Charge one use of a tool: a free use, else a paid use, else paid credits at the tool's price.

    Creates a missing account. Repeating an idempotency key answers 200 with the original result and the header
    `Idempotency-Replayed: true`, and charges nothing. 422 `idempotency_key_reused`: the key was used for another tool.
    400 `unknown_product_type`. 402 `insufficient_credits`: none of the three can pay. 403 `account_suspended`
    or `account_closed`. These errors charge nothing. After a 503 the outcome is unknown: retry with the same key.
    """
    billing: BillingService = request.app.state.billing
    tools: ProductInventoryService = request.app.state.tools
    identity = body.identity(caller)
    account_id, _ = await billing.accounts.directory.find_or_create(
        identity, caller.actor, now, profile=body.profile(caller)
    )
    outcome = await tools.charge(
        account_id,
        body.product_type,
        actor=caller.actor,
        now=now,
        idempotency_key=idempotency_key(body.idempotency_key, request),
        request_id=body.request_id,
        run_id=body.run_id,
    )
    if isinstance(outcome, Refused):
        raise outcome.error
    if not isinstance(outcome, Replayed):  # a replay writes nothing
        await billing.accounts.directory.note_profile(account_id, body.profile(caller), now)
    if isinstance(outcome, Shortfall):
        raise await tools.refusal(account_id, body.product_type, outcome, now)
    reply = ToolChargeReply.of(outcome.record)
    if isinstance(outcome, Replayed):
        return Response(reply.model_dump_json(), headers=REPLAYED, media_type="application/json")
    return reply
