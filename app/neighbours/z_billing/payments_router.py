"""`POST /v1/credits/purchase` and `GET /v1/payments`: users buy money (wire-compatible with Z-Billing)."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from app.accounts.dependencies import Accounts
from app.accounts.schemas import identity_of
from app.auth.dependencies import EndUser
from app.auth.guarded_route import GuardedRoute
from app.auth.spelling import canonical_uuid
from app.clock import Now
from app.http.idempotency import IN_OPENAPI, idempotency_key
from app.http.schemas import CODED_ERRORS, CodedErrorReply
from app.neighbours.paging import limit_up_to
from app.neighbours.z_billing.payment_schemas import BuyMoneyBody, CheckoutReply, PaymentsReply
from app.payments.orders import RequestedMoney
from app.payments.return_urls import return_urls
from app.payments.router import Payments

MAX_PAYMENTS, DEFAULT_PAYMENTS = 100, 10
router = APIRouter(prefix="/v1", tags=["purchases"], responses=CODED_ERRORS, route_class=GuardedRoute)
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": CodedErrorReply}}
REFUSALS: dict[int | str, dict[str, Any]] = {**NOT_FOUND, 409: {"model": CodedErrorReply}}


@router.post("/credits/purchase", openapi_extra=IN_OPENAPI, responses=REFUSALS)
async def buy_money(
    body: BuyMoneyBody, request: Request, caller: EndUser, accounts: Accounts, payments: Payments, now: Now
) -> CheckoutReply:
    """Begin to buy money on a page of Stripe. The account receives the amount; the plan's discount lowers the price.

    A second click gets the same page, not a second one. The money is in the balance once the payment has arrived, which
    takes days with some methods.
    """
    field, amount_minor = body.amount()
    success_url, cancel_url = return_urls(request.app.state.settings, body.success_url, body.cancel_url)
    identity = identity_of(caller, None, None)
    account_id = await accounts.find_account_id(identity)
    page = await payments.open_checkout(
        caller.environment,
        account_id,
        RequestedMoney(amount_minor, field, canonical_uuid(identity.external_id), success_url, cancel_url),
        now=now,
        caller_kind="user",
        idempotency_key=idempotency_key(body.idempotency_key, request),
    )
    return CheckoutReply(checkout_url=page.checkout_url, session_id=page.session_id)


@router.get("/payments", responses=NOT_FOUND)
async def list_payments(
    caller: EndUser,
    accounts: Accounts,
    payments: Payments,
    limit: Annotated[int, Depends(limit_up_to(MAX_PAYMENTS, DEFAULT_PAYMENTS))],
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
) -> PaymentsReply:
    """List the payments of the user who calls, newest first, also those that are not paid yet."""
    account_id = await accounts.find_account_id(identity_of(caller, None, None))
    return PaymentsReply.of(await payments.list_payments(account_id, before=cursor, limit=limit + 1), limit)
