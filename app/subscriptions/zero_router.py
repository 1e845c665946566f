"""`/api/subscriptions`: the routes of the zOS web app, which pays with Stripe.js in its own page."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request

from app.accounts.dependencies import Accounts
from app.accounts.schemas import ProfileFields, identity_of
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.clock import Now
from app.http.schemas import CODED_ERRORS, CodedErrorReply
from app.subscriptions.router import Subscriptions
from app.subscriptions.schemas import CancelledReply, ZeroProBody, ZeroProReply, ZeroStatusReply, ZeroSubscription

router = APIRouter(
    prefix="/api/subscriptions", tags=["subscriptions"], responses=CODED_ERRORS, route_class=GuardedRoute
)
REFUSALS: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}, 409: {"model": CodedErrorReply}}


@router.post("/zero-pro", responses=REFUSALS)
async def subscribe_with_card(
    body: ZeroProBody, request: Request, caller: EndUser, accounts: Accounts, subscriptions: Subscriptions, now: Now
) -> ZeroProReply:
    """Begin a monthly subscription to the plan of ZERO_PRO_PLAN. Creates a missing account.

    The browser pays its first invoice with the client secret. Until then it is `incomplete` and gives nothing. A repeat
    answers the same subscription.
    """
    identity = identity_of(caller, None, None)
    account_id = await accounts.directory.resolve(identity, ProfileFields().profile(caller), caller.actor, now)
    begun = await subscriptions.begin(
        caller.environment,
        account_id,
        request.app.state.settings.zero_pro_plan,
        "month",
        payment_method_id=body.payment_method_id,
        details=body.billing_details.given(),
        now=now,
    )
    return ZeroProReply(
        subscription_id=begun.facts.subscription_id, client_secret=begun.client_secret, status=begun.facts.status
    )


@router.get("/status")
async def get_zero_status(
    caller: EndUser,
    accounts: Accounts,
    subscriptions: Subscriptions,
    now: Now,
    kind: Annotated[Literal["ZERO"], Query(alias="type")] = "ZERO",
) -> ZeroStatusReply:
    """Return the subscription of the user who calls. null: none was ever paid."""
    account_id = await accounts.directory.find(identity_of(caller, None, None))
    if account_id is None:
        return ZeroStatusReply(subscription=None)
    return ZeroStatusReply(
        subscription=ZeroSubscription.of(await subscriptions.standing(caller.environment, account_id, now))
    )


@router.post("/cancel", responses=REFUSALS)
async def cancel_zero_subscription(
    caller: EndUser, accounts: Accounts, subscriptions: Subscriptions, now: Now
) -> CancelledReply:
    """Cancel the subscription at the end of its period."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    await subscriptions.changer.set_canceling(caller.environment, account_id, now, canceling=True)
    return CancelledReply()
