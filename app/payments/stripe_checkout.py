"""Checkout sessions: Stripe's hosted pages that take the payment of a purchase."""

from datetime import datetime
from typing import Any

from app.auth.caller import Environment
from app.ledger.money import minor_floor
from app.payments.errors import PaymentProviderRejects
from app.payments.purchase import Purchase
from app.payments.stripe_events import session_facts
from app.payments.stripe_gateway import OpenedPayment, StripeGateway, attempt_key

MAX_REFERENCE_CHARS = 200
"""Stripe accepts no longer `client_reference_id`."""


class StripeCheckout:
    """The calls to Stripe about checkout sessions. Errors and limits are those of StripeGateway."""

    def __init__(self, gateway: StripeGateway) -> None:
        self._gateway = gateway

    async def create(self, purchase: Purchase, *, at: datetime) -> OpenedPayment:
        """Open the page of a purchase of money. For the same attempt within a day, Stripe repeats its answer."""
        client = await self._gateway.client_of(purchase.environment)
        created = client.v1.checkout.sessions.create_async(
            session_params(purchase), {"idempotency_key": attempt_key(purchase.purchase_id, purchase.attempt)}
        )
        return _opened(await self._gateway.answer(created, operation="create"), at)

    async def retrieve(self, environment: Environment, session_id: str, *, at: datetime) -> OpenedPayment:
        """Return the session with its payment. Raises PaymentNotFound."""
        client = await self._gateway.client_of(environment)
        params: Any = {"expand": ["payment_intent", "payment_intent.latest_charge"]}
        return _opened(await self._gateway.answer(client.v1.checkout.sessions.retrieve_async(session_id, params)), at)

    async def expire(self, environment: Environment, session_id: str, *, at: datetime) -> OpenedPayment:
        """Close the page, so that it cannot be paid. Return the session as it is when it can no longer expire: paid."""
        client = await self._gateway.client_of(environment)
        try:
            call = client.v1.checkout.sessions.expire_async(session_id)
            return _opened(await self._gateway.answer(call, operation=None), at)
        except PaymentProviderRejects:
            return await self.retrieve(environment, session_id, at=at)


def session_params(purchase: Purchase) -> Any:
    """Return the parameters of a purchase's session. Equal for every attempt: Stripe compares them.

    The payment has our ids in its metadata, so that its events find the purchase. The price is what Stripe is to
    receive, in the purchase's currency: without conversion for the buyer, and without promotion codes.
    """
    buyer = purchase.buyer or str(purchase.account_id)
    ids = {"account_id": str(purchase.account_id), "purchase_id": str(purchase.purchase_id)}
    price = {
        "currency": purchase.currency.lower(),
        "unit_amount": purchase.amount_minor,
        "product_data": {"name": f"Credits for {purchase.money_text}{purchase.discount_text}"},
    }
    return {
        "mode": "payment",
        "line_items": [{"price_data": price, "quantity": 1}],
        "client_reference_id": buyer if len(buyer) <= MAX_REFERENCE_CHARS else str(purchase.account_id),
        "metadata": {
            **ids,
            "user_id": buyer,
            "credits_amount": str(minor_floor(purchase.money_nanos, purchase.unit)),
        },
        "payment_intent_data": {"metadata": ids},
        "adaptive_pricing": {"enabled": False},
        "success_url": purchase.success_url,
        "cancel_url": purchase.cancel_url,
    }


def _opened(session: Any, at: datetime) -> OpenedPayment:
    data = session.to_dict()
    return OpenedPayment(session_facts(data, at=at), checkout_url=data.get("url"))
