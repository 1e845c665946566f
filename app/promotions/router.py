"""`/v1/credits/signup-grant`, `/daily-grant`, `/referral-grant`: for keys with `money:credit` (as Z-Billing)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from app.auth.dependencies import MoneyMinter
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.http.schemas import CODED_ERRORS
from app.promotions.schemas import DailyGrantBody, GrantedReply, ReferralGrantBody, ReferralReply, SignupGrantBody
from app.promotions.service import PromotionService

router = APIRouter(
    prefix="/v1/credits",
    tags=["usage"],
    responses=CODED_ERRORS,
    route_class=GuardedRoute,
)


async def promotion_service(request: Request) -> PromotionService:
    service: PromotionService = request.app.state.promotions
    return service


Promotions = Annotated[PromotionService, Depends(promotion_service)]


@router.post("/signup-grant", response_model_exclude_none=True)
async def give_signup_grant(
    body: SignupGrantBody, caller: MoneyMinter, promotions: Promotions, now: Now
) -> GrantedReply:
    """Give the user the grant for signing up, once. Creates a missing account.

    `referred_by` notes who invited the user: both get a grant once the user has settled a payment. `is_zero_pro`, which
    Z-Billing's callers send, is ignored.
    """
    user, inviter = body.identity(caller), body.inviter(caller)
    return GrantedReply.of(await promotions.sign_up(user, inviter, actor=caller.actor, now=now))


@router.post("/daily-grant", response_model_exclude_none=True)
async def give_daily_grant(body: DailyGrantBody, caller: MoneyMinter, promotions: Promotions, now: Now) -> GrantedReply:
    """Give the user the day's grant, once per day. Creates a missing account."""
    return GrantedReply.of(await promotions.give_daily(body.identity(caller), actor=caller.actor, now=now))


@router.post("/referral-grant", response_model_exclude_none=True)
async def give_referral_grant(
    body: ReferralGrantBody, caller: MoneyMinter, promotions: Promotions, now: Now
) -> ReferralReply:
    """Give both users the grant of a referral, once, after the invited user has settled a payment.

    Before that, the answer is `granted: false, reason: "pending"`, and the first payment pays the referral. A user is
    invited once. Creates missing accounts.
    """
    inviter, invitee = body.inviter(caller), body.invitee(caller)
    return ReferralReply.of(await promotions.refer(inviter, invitee, actor=caller.actor, now=now))
