"""`/v1/billing`: checks, charges, credits, accounts, transactions."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import BaseModel

from app.accounts.schemas import LaterQueryUserId, OAuthProvider, identity_of
from app.auth.api_keys.key_route import KeyRoute
from app.auth.dependencies import Minter, Reader, ReaderOrUser, WriterOrUser
from app.billing.dependencies import Billing
from app.billing.errors import PROBABLE_DOUBLE_CHARGE
from app.billing.schemas import (
    ChargeBody,
    ChargeReply,
    CheckBody,
    CheckReply,
    CreditBody,
    CreditReply,
    InsufficientCreditsReply,
    ReplayedCharge,
    ReplayedCredit,
    Transaction,
    TransactionsReply,
)
from app.billing.service import BillingService
from app.clock import Now
from app.errors import error_body
from app.http.idempotency import IN_OPENAPI, REPLAYED, REPLAYED_IN_OPENAPI, idempotency_key
from app.http.schemas import ERRORS, MAX_INT64, ErrorReply, Key255
from app.ledger.outcomes import Refused, Replayed
from app.ledger.pools import Shortfall, credits_of_grant
from app.refusals.schemas import NotAllowedReply

DOUBLE_IN_OPENAPI: dict[str, Any] = {
    PROBABLE_DOUBLE_CHARGE: {
        "description": "The charge that this one probably repeats. Only for API keys that flag or refuse such charges.",
        "schema": {"type": "string", "format": "uuid"},
    }
}
router = APIRouter(prefix="/v1/billing", tags=["billing"], responses=ERRORS, route_class=KeyRoute)


# The busiest route is first: FastAPI searches the routes in this order.
@router.post(
    "/charges",
    status_code=status.HTTP_201_CREATED,
    response_model=ChargeReply,
    openapi_extra=IN_OPENAPI,
    responses={
        201: {"headers": DOUBLE_IN_OPENAPI},
        402: {"model": InsufficientCreditsReply | NotAllowedReply},
        409: {"model": ReplayedCharge, "headers": {**REPLAYED_IN_OPENAPI, **DOUBLE_IN_OPENAPI}},
    },
)
async def create_charge(body: ChargeBody, request: Request, caller: WriterOrUser, now: Now) -> ChargeReply | Response:
    """Charge an interaction that happened. Repeating an idempotency key answers 409 and charges nothing.

    A charge with the request id, description and amount of an earlier one, but another idempotency key, is probably a
    double one. By the policy of the API key it is charged as any other, charged with the header
    `Probable-Double-Charge`, or refused with 409 `probable_double_charge` and the first charge.
    """
    billing: BillingService = request.app.state.billing
    identity = body.identity(caller)
    profile = body.profile(caller)
    account_id, _ = await billing.accounts.directory.find_or_create(identity, caller.actor, now, profile=profile)
    key = idempotency_key(body.idempotency_key, request)
    outcome = await billing.charge(body.request(account_id, caller.actor, now, key, caller.double_charges))
    if not isinstance(outcome, Replayed):  # a replay writes nothing
        await billing.accounts.directory.note_profile(account_id, profile, now)
    match outcome:
        case Replayed(charge):
            existing = ReplayedCharge.of(charge, **error_body("Charge already exists", "charge_exists"))
            return _conflict(existing, {"X-Existing-Charge-ID": str(charge.charge_id)})
        case Shortfall():
            raise await billing.refusal(account_id, outcome, now)
        case Refused(error):
            raise error
    charge = outcome.record
    reply = ChargeReply.of(charge)
    if charge.double_of is None:
        return reply
    headers = {PROBABLE_DOUBLE_CHARGE: str(charge.double_of)}
    return Response(reply.model_dump_json(), status.HTTP_201_CREATED, headers, media_type="application/json")


@router.post("/credits/check")
@router.post("/check", operation_id="check_alias")
async def check_credit(body: CheckBody, request: Request, caller: ReaderOrUser, now: Now) -> CheckReply:
    """Check before an interaction whether the user can pay. Creates a missing account with its free uses."""
    billing: BillingService = request.app.state.billing
    identity = body.identity(caller)
    profile = body.profile(caller)
    account_id, _ = await billing.accounts.directory.find_or_create(identity, caller.actor, now, profile=profile)
    await billing.accounts.directory.note_profile(account_id, profile, now)
    agent = None if body.context is None else body.context.agent_id
    return CheckReply.of(await billing.check(account_id, now, key=caller.actor.key_id, agent=agent))


@router.get("/charges/by-key", responses={404: {"model": ErrorReply}})
async def get_charge_by_key(
    idempotency_key: Key255,
    caller: ReaderOrUser,
    billing: Billing,
    response: Response,
    oauth_provider: OAuthProvider | None = None,
    external_id: Key255 | None = None,
    user_id: LaterQueryUserId = None,
) -> ChargeReply:
    """Ask whether a charge happened. API keys see charges of API keys; a user's token sees charges of user tokens.

    404 `charge_not_found`: no charge has this key. Charges nothing and creates no account. Reads the primary database:
    a replica could miss a charge that has just been answered.
    """
    response.headers["Cache-Control"] = "no-store"
    identity = identity_of(caller, oauth_provider, external_id, user_id)
    return ChargeReply.of(await billing.charge_of_key(identity, caller.actor, idempotency_key))


@router.get("/charges/{charge_id}", responses={404: {"model": ErrorReply}})
async def get_charge(charge_id: UUID, caller: Reader, billing: Billing) -> ChargeReply:
    return ChargeReply.of(await billing.get_charge(caller.environment, charge_id))


@router.post(
    "/credits",
    status_code=status.HTTP_201_CREATED,
    response_model=CreditReply,
    openapi_extra=IN_OPENAPI,
    responses={404: {"model": ErrorReply}, 409: {"model": ReplayedCredit, "headers": REPLAYED_IN_OPENAPI}},
)
async def create_credit(
    body: CreditBody, request: Request, caller: Minter, billing: Billing, now: Now
) -> CreditReply | Response:
    """Add paid credits to an existing account. Repeating an idempotency key answers 409 and adds nothing."""
    account_id = await billing.accounts.find_account_id(body.identity(caller))
    await billing.accounts.directory.record_profile(account_id, body.profile(caller), now)
    credit = await billing.credit(
        account_id,
        credits=credits_of_grant(body.amount_minor),
        currency=body.currency,
        transaction_type=body.transaction_type,
        actor=caller.actor,
        now=now,
        description=body.description,
        external_transaction_id=body.external_transaction_id,
        idempotency_key=idempotency_key(body.idempotency_key, request),
    )
    if credit.replayed:
        existing = ReplayedCredit.of(credit, **error_body("Credit already exists", "credit_exists"))
        return _conflict(existing, {"X-Existing-Credit-ID": str(credit.credit_id)})
    return CreditReply.of(credit)


@router.get("/transactions")
async def list_transactions(
    caller: ReaderOrUser,
    billing: Billing,
    oauth_provider: OAuthProvider | None = None,
    external_id: Key255 | None = None,
    user_id: LaterQueryUserId = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    offset: Annotated[int, Query(ge=0, le=MAX_INT64)] = 0,
) -> TransactionsReply:
    """List the account's charges and credits, newest first. An unknown account has none."""
    identity = identity_of(caller, oauth_provider, external_id, user_id)
    rows, total = await billing.transactions(identity, limit, offset)
    return TransactionsReply(
        transactions=[Transaction.of(row) for row in rows],
        total_count=total,
        has_more=offset + len(rows) < total,
    )


def _conflict(existing: BaseModel, headers: dict[str, str]) -> Response:
    headers = {**headers, **REPLAYED}
    return Response(existing.model_dump_json(), status.HTTP_409_CONFLICT, headers, media_type="application/json")
