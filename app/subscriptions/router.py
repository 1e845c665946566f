"""`/v1/subscriptions`: users subscribe to plans, change and cancel (wire-compatible with Z-Billing)."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from app.accounts.dependencies import Accounts
from app.accounts.schemas import ProfileFields, identity_of
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.auth.persons import require_person
from app.auth.spelling import canonical_uuid
from app.clock import Now
from app.http.schemas import CODED_ERRORS, CodedErrorReply
from app.payments.return_urls import portal_return_url, return_urls
from app.subscriptions.schemas import (
    ChangeBody,
    ChangedSubscriptionReply,
    PageReply,
    PortalBody,
    PortalReply,
    SubscribeBody,
    SubscriptionReply,
)
from app.subscriptions.service import SubscriptionService

router = APIRouter(prefix="/v1/subscriptions", tags=["subscriptions"], responses=CODED_ERRORS, route_class=GuardedRoute)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}}
REFUSALS: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": CodedErrorReply}}


async def subscription_service(request: Request) -> SubscriptionService:
    service: SubscriptionService = request.app.state.subscriptions
    return service


Subscriptions = Annotated[SubscriptionService, Depends(subscription_service)]


@router.post("/checkout", responses=REFUSALS)
async def subscribe(
    body: SubscribeBody, request: Request, caller: EndUser, accounts: Accounts, subscriptions: Subscriptions, now: Now
) -> PageReply:
    """Begin to subscribe on a page of Stripe. A second click gets the same page. Creates a missing account.

    The account has the plan once its first invoice is paid. An account that has a subscription changes it instead: 409.
    """
    success_url, cancel_url = return_urls(request.app.state.settings, body.success_url, body.cancel_url)
    identity = identity_of(caller, None, None)
    account_id = await accounts.directory.resolve(identity, ProfileFields().profile(caller), caller.actor, now)
    page = await subscriptions.open_page(
        caller.environment,
        account_id,
        body.plan,
        body.interval,
        user=canonical_uuid(identity.external_id),
        success_url=success_url,
        cancel_url=cancel_url,
        now=now,
    )
    assert page.url is not None, "an open page"
    return PageReply(url=page.url, session_id=page.session_id)


@router.post("/portal", responses=NOT_FOUND)
async def open_billing_portal(
    request: Request,
    caller: EndUser,
    accounts: Accounts,
    subscriptions: Subscriptions,
    now: Now,
    body: PortalBody | None = None,
) -> PortalReply:
    """Open Stripe's billing portal: invoices, cards, and the end of the subscription."""
    return_url = portal_return_url(request.app.state.settings, None if body is None else body.return_url)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    return PortalReply(url=await subscriptions.open_portal(caller.environment, account_id, return_url, now))


@router.get("/me", responses=NOT_FOUND)
async def get_own_subscription(
    caller: EndUser, accounts: Accounts, subscriptions: Subscriptions, now: Now
) -> SubscriptionReply:
    """Return the plan of the user who calls, and the subscription that it is from."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    return SubscriptionReply.of(await subscriptions.standing(caller.environment, account_id, now))


@router.post("/cancel", responses=REFUSALS)
async def cancel_own_subscription(
    caller: EndUser, accounts: Accounts, subscriptions: Subscriptions, now: Now
) -> SubscriptionReply:
    """Cancel the subscription at the end of its period. Until then it stays as it is, and can be resumed."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    await subscriptions.changer.set_canceling(caller.environment, account_id, now, canceling=True)
    return SubscriptionReply.of(await subscriptions.known_standing(caller.environment, account_id, now))


@router.post("/resume", responses=REFUSALS)
async def resume_own_subscription(
    caller: EndUser, accounts: Accounts, subscriptions: Subscriptions, now: Now
) -> SubscriptionReply:
    """Let a canceled subscription continue. Possible until it has ended."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    await subscriptions.changer.set_canceling(caller.environment, account_id, now, canceling=False)
    return SubscriptionReply.of(await subscriptions.known_standing(caller.environment, account_id, now))


@router.post("/change", responses=REFUSALS)
async def change_own_subscription(
    body: ChangeBody, caller: EndUser, accounts: Accounts, subscriptions: Subscriptions, now: Now
) -> ChangedSubscriptionReply:
    """Change the plan, or with `preview` only answer what that would cost.

    A plan that costs more takes effect now: the saved card pays the difference for the remaining time, and the account
    gets the difference of the grants. A plan that costs less takes effect at the end of the period. A payment that
    fails changes nothing (409 `payment_declined`). Agents have users' tokens too, so a change needs a person
    (403 `person_required`), as raising a limit does. A preview does not.
    """
    if not body.preview:
        require_person(caller, now)
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    where, changer = (caller.environment, account_id), subscriptions.changer
    if body.preview:
        change = await changer.preview_change(*where, body.plan, body.interval, now)
        return ChangedSubscriptionReply.previewing(await subscriptions.known_standing(*where, now), change)
    prorated_at = None if body.prorated_at is None else datetime.fromtimestamp(body.prorated_at, UTC)
    await changer.change(*where, body.plan, body.interval, prorated_at=prorated_at, now=now)
    return ChangedSubscriptionReply.of(await subscriptions.known_standing(*where, now))
