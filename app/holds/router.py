"""`/v1/billing/holds`: reserve an amount before work starts, and settle it afterwards. For API keys."""

from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request, Response, status

from app.auth.api_keys.key_route import KeyRoute
from app.auth.dependencies import Reader, Writer
from app.billing.schemas import InsufficientCreditsReply
from app.billing.service import BillingService
from app.clock import Now
from app.holds.ids import place_of
from app.holds.requests import Capture, Change, Done, Extension, Opening, Progress, Rejected, Release, Unpaid
from app.holds.schemas import CaptureBody, ExtendBody, HoldBody, HoldReply, ReleaseBody, ReportBody
from app.holds.service import HoldService
from app.http.idempotency import IN_OPENAPI, REPLAYED, REPLAYED_IN_OPENAPI, idempotency_key
from app.http.schemas import ERRORS, ErrorReply
from app.ledger.pools import CREDIT, Shortfall
from app.metering.errors import InsufficientMoney
from app.metering.usage_schemas import InsufficientMoneyReply
from app.refusals.remedies import smaller
from app.refusals.schemas import NotAllowedReply

router = APIRouter(prefix="/v1/billing/holds", tags=["billing"], responses=ERRORS, route_class=KeyRoute)
SINCE = "0035"
"""Versions before this revision do not know how holds are spent (ADR 26)."""
REPEAT: dict[str, Any] = {"headers": REPLAYED_IN_OPENAPI, "description": "A repeat: nothing changed."}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
SETTLED: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": ErrorReply}}


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    response_model=HoldReply,
    openapi_extra=IN_OPENAPI,
    responses={
        200: {"model": HoldReply, **REPEAT},
        402: {"model": InsufficientCreditsReply | InsufficientMoneyReply | NotAllowedReply},
    },
)
async def create_hold(body: HoldBody, request: Request, caller: Writer, now: Now) -> HoldReply | Response:
    """Reserve credits or money before work starts. Creates a missing account. 402 if the account cannot pay for it.

    Until its settlement nothing else can spend the amount. A repeat of the idempotency key answers 200 with the same
    hold. 503 `upgrade_in_progress` while the service is being upgraded.
    """
    state = request.app.state
    details = body.details()
    await state.version_mark.require(SINCE)
    profile = body.profile(caller)._replace(agent_id=None)
    account_id, _ = await state.accounts.directory.find_or_create(
        body.identity(caller), caller.actor, now, profile=profile
    )
    opening = Opening(
        account_id=account_id,
        amount=body.value(),
        currency=body.currency,
        expires_in=body.lifetime(),
        on_expiry=body.on_expiry,
        actor=caller.actor,
        at=now,
        idempotency_key=idempotency_key(body.idempotency_key, request),
        product_type=body.product_type,
        run_id=body.run_id,
        details=details,
    )
    return await _answer(request, opening)


@router.post("/{hold_id}/capture", response_model=HoldReply, responses={**SETTLED, 200: REPEAT})
async def capture_hold(
    hold_id: str, body: CaptureBody, request: Request, caller: Writer, now: Now
) -> HoldReply | Response:
    """Spend an amount of a hold, and return the rest. Never refused for want of credit.

    The first settlement counts: the same capture again answers 200 with the same hold, another settlement 409
    `hold_settled`. An amount above the held one answers 422 `amount_above_hold`, or with `charge_what_fits` also
    charges the balance as far as it suffices.
    """
    place = place_of(hold_id)
    return await _answer(request, Capture(place, caller.environment, body.value(), body.overage, caller.actor, now))


@router.post("/{hold_id}/release", response_model=HoldReply, responses={**SETTLED, 200: REPEAT})
async def release_hold(
    hold_id: str, body: ReleaseBody, request: Request, caller: Writer, now: Now
) -> HoldReply | Response:
    """Return all of a hold. Parts from a grant or a day that has ended are lost."""
    return await _answer(request, Release(place_of(hold_id), caller.environment, body.outcome, caller.actor, now))


@router.post("/{hold_id}/extend", response_model=HoldReply, responses={**SETTLED, 200: REPEAT})
async def extend_hold(
    hold_id: str, body: ExtendBody, request: Request, caller: Writer, now: Now
) -> HoldReply | Response:
    """Let an open hold expire later. It never expires earlier than before."""
    span = timedelta(seconds=body.expires_in_s)
    return await _answer(request, Extension(place_of(hold_id), caller.environment, span, caller.actor, now))


@router.post("/{hold_id}/report", response_model=HoldReply, responses={**SETTLED, 200: REPEAT})
async def report_hold(
    hold_id: str, body: ReportBody, request: Request, caller: Writer, now: Now
) -> HoldReply | Response:
    """Report the cost of the work so far, so that an abandoned stream pays for its part."""
    return await _answer(request, Progress(place_of(hold_id), caller.environment, body.value(), caller.actor, now))


@router.get("/{hold_id}", responses=NOT_FOUND)
async def get_hold(hold_id: str, request: Request, caller: Reader) -> HoldReply:
    """Return a hold."""
    service: HoldService = request.app.state.holds
    return HoldReply.of(await service.find(caller.environment, place_of(hold_id)))


async def _answer(request: Request, change: Opening | Change) -> HoldReply | Response:
    state = request.app.state
    service: HoldService = state.holds
    match await service.run(change):
        case Done(hold, is_new):
            reply = HoldReply.of(hold)
            if is_new:
                return reply
            return Response(reply.model_dump_json(), headers=REPLAYED, media_type="application/json")
        case Unpaid(available, required, unit):
            if unit != CREDIT:
                remedies = smaller(unit, available)
                raise InsufficientMoney(available=available, required=required, currency=unit, remedies=remedies)
            billing: BillingService = state.billing
            assert isinstance(change, Opening), "a settlement is always paid"
            raise await billing.refusal(change.account_id, Shortfall(available, required), change.at)
        case Rejected(error):
            raise error
