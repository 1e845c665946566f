"""Billing routes for an agent's own API, and a gate for its other routes. Needs the extra `[fastapi]`.

The agent's UI only calls the agent, and does not get the billing service's address or key. The agent's dependency
`current_user` returns the signed-in user, and answers 401 itself.
"""

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, HTTPException, Query
from pydantic import BaseModel

from ciris_billing.errors import (
    AccountClosed,
    AccountSuspended,
    BillingError,
    InvalidRequest,
    NotFound,
    PaymentRequired,
    RateLimited,
    ServiceUnavailable,
)
from ciris_billing.gate import Passage
from ciris_billing.models import CreditStatus, Packs, Purchase, PurchaseStatus, TransactionPage, User
from ciris_billing.providers import BillingNotEnabled, CIRISBillingProvider, CreditProvider, SimpleCreditProvider

__all__ = [
    "BillingNotEnabled",
    "CIRISBillingProvider",
    "CreditProvider",
    "SimpleCreditProvider",
    "billing_router",
    "require_credit",
]

log = logging.getLogger("ciris_billing")

CurrentUser = Callable[..., User | Awaitable[User]]
"""A FastAPI dependency that returns the signed-in user, or answers 401."""
STATUS_WORDS = frozenset(
    {
        "succeeded",
        "processing",
        "pending",
        "requires_payment_method",
        "requires_confirmation",
        "requires_action",
        "failed",
        "canceled",
        "unknown",
    }
)
"""The statuses that agents' UIs handle."""


class PurchaseOptions(BaseModel):
    price_minor: int
    uses: int
    currency: str


class Credits(BaseModel):
    has_credit: bool
    credits_remaining: int
    free_uses_remaining: int
    """One-time and daily free uses. UIs show the sum of this and `credits_remaining`."""
    total_uses: int
    plan_name: str
    purchase_required: bool
    purchase_options: PurchaseOptions | None

    @classmethod
    def of(cls, status: CreditStatus, currency: str) -> Self:
        options = None
        if status.purchase_required and status.purchase_price_minor is not None and status.purchase_uses is not None:
            options = PurchaseOptions(
                price_minor=status.purchase_price_minor, uses=status.purchase_uses, currency=currency
            )
        return cls(
            has_credit=status.has_credit,
            credits_remaining=status.credits_remaining,
            free_uses_remaining=status.free_uses_remaining + status.daily_free_uses_remaining,
            total_uses=status.total_uses,
            plan_name=status.plan_name,
            purchase_required=status.purchase_required,
            purchase_options=options,
        )


class InitiateBody(BaseModel):
    return_url: str | None = None
    pack: str | None = None
    """The name of a pack; the default pack if absent."""


class Initiated(BaseModel):
    payment_id: str
    client_secret: str | None
    amount_minor: int
    currency: str
    uses_purchased: int
    publishable_key: str

    @classmethod
    def of(cls, purchase: Purchase) -> Self:
        return cls.model_validate(purchase.model_dump(include=set(cls.model_fields)))


class PaymentState(BaseModel):
    status: str
    credits_added: int
    balance_after: int

    @classmethod
    def of(cls, status: PurchaseStatus) -> Self:
        word = "processing" if status.status == "requires_capture" else status.status
        return cls(
            status=word if word in STATUS_WORDS else "unknown",
            credits_added=status.credits_added,
            balance_after=status.balance_after,
        )


def billing_router(
    provider: CreditProvider, current_user: CurrentUser, *, aliases: bool = True, currency: str = "USD"
) -> APIRouter:
    """Return a router with the routes under `/v1/api/billing`, and with `aliases` those under `/api` for older UIs."""
    router = APIRouter(tags=["billing"])
    Signed = Annotated[User, Depends(current_user)]  # noqa: N806  # a type

    async def credits(user: Signed) -> Credits:
        """The user's balance, and the purchase options when a purchase is needed."""
        with _as_http():
            return Credits.of(await provider.check(user), currency)

    async def initiate(user: Signed, body: InitiateBody | None = None) -> Initiated:
        """Create a purchase, and return the data for Stripe.js in the user's browser."""
        with _as_http():
            body = body or InitiateBody()
            options = {} if body.pack is None else {"pack": body.pack}  # older providers take no pack
            return Initiated.of(await provider.create_purchase(user, return_url=body.return_url, **options))

    async def packs(user: Signed) -> Packs:
        """The packs that the user can buy."""
        with _as_http():
            return Packs(packs=await provider.packs(user))

    async def status(payment_id: str, user: Signed) -> PaymentState:
        """The state of one of the user's purchases. The credits are booked when `status` is `succeeded`."""
        with _as_http():
            try:
                return PaymentState.of(await provider.purchase_status(user, payment_id))
            except (NotFound, InvalidRequest) as error:
                raise HTTPException(404, "Payment not found") from error

    async def transactions(
        user: Signed,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        offset: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    ) -> TransactionPage:
        """The user's charges and credits, newest first."""
        with _as_http():
            return await provider.transactions(user, limit=limit, offset=offset)

    router.add_api_route("/v1/api/billing/credits", credits, methods=["GET"])
    router.add_api_route("/v1/api/billing/packs", packs, methods=["GET"])
    router.add_api_route("/v1/api/billing/purchase/initiate", initiate, methods=["POST"])
    router.add_api_route("/v1/api/billing/purchase/status/{payment_id}", status, methods=["GET"])
    router.add_api_route("/v1/api/billing/transactions", transactions, methods=["GET"])
    if aliases:
        router.add_api_route("/api/credits", credits, methods=["GET"], include_in_schema=False)
        router.add_api_route("/api/purchase/initiate", initiate, methods=["POST"], include_in_schema=False)
        router.add_api_route("/api/purchase/status/{payment_id}", status, methods=["GET"], include_in_schema=False)
    return router


def _new_interaction() -> str:
    return uuid.uuid4().hex


def require_credit(
    provider: CreditProvider,
    current_user: CurrentUser,
    *,
    interaction_id: Callable[..., str | Awaitable[str]] = _new_interaction,
    amount_minor: int = 100,
    description: str | None = None,
) -> Any:
    """Return a dependency that answers 402 if the user has no credit, and charges after the route has returned.

    A route that raises is not charged, and a response whose charge fails is not sent. As a parameter of the route, the
    dependency provides the Passage. `interaction_id` is a dependency that returns the interaction's id, for callers
    that repeat requests. It must not be a text that the user chooses, because equal ids are charged only once. By
    default, each request is a separate interaction. A streamed response is charged before it is streamed."""

    async def gate(
        user: Annotated[User, Depends(current_user)], interaction: Annotated[str, Depends(interaction_id)]
    ) -> AsyncIterator[Passage]:
        with _as_http():
            async with provider.gate(
                user, interaction_id=interaction, amount_minor=amount_minor, description=description
            ) as passage:
                yield passage

    return Depends(gate, scope="function")


@contextmanager
def _as_http() -> Iterator[None]:
    """Convert errors to HTTP errors for the agent's UI. Problems between the agent and the service are only logged."""
    try:
        yield
    except (BillingNotEnabled, AccountSuspended, AccountClosed) as error:
        raise HTTPException(403, error.message) from error
    except PaymentRequired as error:
        raise HTTPException(402, error.message) from error
    except InvalidRequest as error:
        log.warning("billing request refused: %s", error.code)
        raise HTTPException(422, error.fields or error.message) from error
    except (RateLimited, ServiceUnavailable) as error:
        if error.code == "payments_not_configured":
            log.error("billing service without a payment provider")
            raise HTTPException(500, "Internal server error") from error
        after = {} if error.retry_after is None else {"Retry-After": str(int(min(error.retry_after, 3600)) + 1)}
        raise HTTPException(503, "Billing service unavailable", after) from error
    except BillingError as error:
        log.error("billing call failed: %s", error.code, extra={"billing_request_id": error.request_id})
        raise HTTPException(500, "Internal server error") from error
