"""`/v1/billing/purchases`: buying credits."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, status

from app.accounts.schemas import LaterQueryUserId, OAuthProvider, identity_of
from app.auth.dependencies import ReaderOrUser, WriterOrUser
from app.auth.guarded_route import GuardedRoute
from app.billing.dependencies import Billing
from app.clock import Now
from app.http.schemas import ERRORS, ErrorReply, Key255
from app.payments.errors import PaymentNotFound
from app.payments.schemas import PaymentId, PurchaseBody, PurchaseReply, PurchaseStatusReply
from app.payments.service import PaymentService

NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ErrorReply}}
router = APIRouter(prefix="/v1/billing/purchases", tags=["purchases"], responses=ERRORS, route_class=GuardedRoute)


async def payment_service(request: Request) -> PaymentService:
    service: PaymentService = request.app.state.payments
    return service


async def account_of_view(
    caller: ReaderOrUser,
    billing: Billing,
    oauth_provider: OAuthProvider | None = None,
    external_id: Key255 | None = None,
    user_id: LaterQueryUserId = None,
) -> UUID | None:
    """Return the account to which the view is limited: an end user's own, or that of the user in an API key's query.

    The query lets an agent use a payment id from a browser without trusting it. None for a key that names no user: it
    sees its environment.
    """
    if caller.user is None and oauth_provider is external_id is user_id is None:
        return None
    account_id = await billing.accounts.directory.find(identity_of(caller, oauth_provider, external_id, user_id))
    if account_id is None:
        raise PaymentNotFound
    return account_id


Payments = Annotated[PaymentService, Depends(payment_service)]
Own = Annotated[UUID | None, Depends(account_of_view)]
PathPaymentId = Annotated[PaymentId, Path(examples=["pi_3PqRsT"])]


@router.post("", status_code=status.HTTP_201_CREATED, responses={409: {"model": ErrorReply}})
async def create_purchase(
    body: PurchaseBody, request: Request, caller: WriterOrUser, billing: Billing, payments: Payments, now: Now
) -> PurchaseReply:
    """Begin to buy a pack of credits. A second click gets the same open payment back, not a second one."""
    body.require_return_url_of(request.app.state.settings.return_url_schemes)
    account_id = await billing.accounts.directory.resolve(
        body.identity(caller), body.profile(caller), caller.actor, now
    )
    payment = await payments.open_purchase(
        caller.environment,
        account_id,
        now=now,
        pack=body.pack,
        caller_kind="key" if caller.user is None else "user",
        idempotency_key=body.idempotency_key,
    )
    return PurchaseReply.of(payment)


@router.get("/{payment_id}", responses=NOT_FOUND)
@router.get("/{payment_id}/status", responses=NOT_FOUND, operation_id="get_purchase_status")
async def get_purchase(
    payment_id: PathPaymentId, caller: ReaderOrUser, own: Own, payments: Payments, now: Now
) -> PurchaseStatusReply:
    """Return the purchase as Stripe reports it now. If it succeeded before a webhook arrived, book its credits."""
    return PurchaseStatusReply.of(await payments.payment(caller.environment, payment_id, now, of=own))
