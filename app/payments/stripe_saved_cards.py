"""Saved cards at Stripe: pages that save one, and payments with one without its owner.

A payment has the purchase's id as idempotency key, and equal parameters each time. A declined card is an answer here,
not an error: Stripe answers 402 with the payment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.auth.caller import Environment
from app.payments.errors import PaymentProviderRejects
from app.payments.facts import PaymentFacts
from app.payments.purchase import Purchase
from app.payments.stripe_events import intent_facts
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_http import with_declines
from app.payments.stripe_objects import card_of as card_of_charge
from app.payments.stripe_objects import ids_in, receipt_of, stripe_id, text_of, url_of

AUTHENTICATION_REQUIRED = "authentication_required"
CLOCKS_APART = timedelta(hours=1)
"""Stripe's clock may be so far behind ours."""


@dataclass(frozen=True, slots=True)
class CardPayment:
    """A payment with a saved card, as Stripe states it."""

    facts: PaymentFacts
    decline: str | None = None
    """Stripe's code of the last failure: the issuer's, if Stripe says it."""
    action_url: str | None = None
    """The page on which the card's owner authenticates the payment."""


@dataclass(frozen=True, slots=True)
class CardMethod:
    """A card that Stripe has saved for a customer."""

    method_id: str
    brand: str | None
    last4: str | None
    expiry_month: int | None
    expiry_year: int | None


@dataclass(frozen=True, slots=True)
class SetupPage:
    """A page that saves a card. `has_ended`: it can save no card."""

    session_id: str
    url: str | None
    has_ended: bool
    method: CardMethod | None


class StripeSavedCards:
    """The calls to Stripe about saved cards. Errors and limits are those of StripeGateway."""

    def __init__(self, gateway: StripeGateway) -> None:
        self._gateway = gateway

    # --- payments ---

    async def charge(self, purchase: Purchase, customer_id: str, method_id: str, *, at: datetime) -> CardPayment:
        """Pay the purchase with the card. For the same purchase within a day, Stripe repeats its answer."""
        client = await self._gateway.client_of(purchase.environment)
        params: Any = {
            "amount": purchase.amount_minor,
            "currency": purchase.currency.lower(),
            "customer": customer_id,
            "payment_method": method_id,
            "payment_method_types": ["card"],
            "off_session": True,
            "confirm": True,
            "metadata": {"account_id": str(purchase.account_id), "purchase_id": str(purchase.purchase_id)},
            "expand": ["latest_charge"],
        }
        created = client.v1.payment_intents.create_async(params, {"idempotency_key": str(purchase.purchase_id)})
        return _payment(await self._gateway.answer(with_declines(created), operation="create"), at)

    async def retrieve(self, environment: Environment, payment_id: str, *, at: datetime) -> CardPayment:
        """Raises PaymentNotFound."""
        client = await self._gateway.client_of(environment)
        call = client.v1.payment_intents.retrieve_async(payment_id, {"expand": ["latest_charge"]})
        return _payment((await self._gateway.answer(call)).to_dict(), at)

    async def find(self, purchase: Purchase, customer_id: str, *, at: datetime) -> CardPayment | None:
        """Look a purchase's payment up among the customer's. None: Stripe has none."""
        client = await self._gateway.client_of(purchase.environment)
        since = purchase.created_at - CLOCKS_APART
        params: Any = {"customer": customer_id, "created": {"gte": int(since.timestamp())}, "limit": 100}
        page = await self._gateway.answer(client.v1.payment_intents.list_async(params))
        async for intent in self._gateway.each(page):
            data = intent.to_dict()
            if ids_in(data.get("metadata"))[1] == purchase.purchase_id:
                return await self.retrieve(purchase.environment, stripe_id(data["id"]), at=at)
        return None

    async def authenticate(
        self, purchase: Purchase, payment_id: str, method_id: str, return_url: str, *, at: datetime
    ) -> CardPayment:
        """Confirm the same payment once more, with its owner present. Return the page for it. Repeats are equal.

        Return the payment as it is when Stripe does not confirm it: its card is removed, or it is over.
        """
        client = await self._gateway.client_of(purchase.environment)
        params: Any = {"payment_method": method_id, "return_url": return_url, "expand": ["latest_charge"]}
        key: Any = {"idempotency_key": f"authenticate {purchase.purchase_id}"}
        confirmed = client.v1.payment_intents.confirm_async(payment_id, params, key)
        try:
            return _payment(await self._gateway.answer(with_declines(confirmed), operation=None), at)
        except PaymentProviderRejects:
            return await self.retrieve(purchase.environment, payment_id, at=at)

    async def cancel(self, environment: Environment, payment_id: str, *, at: datetime) -> CardPayment:
        """Cancel a payment. Return it as it is when it can no longer be canceled: paid."""
        client = await self._gateway.client_of(environment)
        try:
            call = client.v1.payment_intents.cancel_async(payment_id)
            return _payment((await self._gateway.answer(call, operation=None)).to_dict(), at)
        except PaymentProviderRejects:
            return await self.retrieve(environment, payment_id, at=at)

    # --- saving and removing ---

    async def open_page(
        self,
        environment: Environment,
        customer_id: str,
        *,
        account_id: UUID,
        setup_id: UUID,
        success_url: str,
        cancel_url: str,
    ) -> SetupPage:
        """Open a page that saves a card. For the same setup within a day, Stripe repeats its answer."""
        client = await self._gateway.client_of(environment)
        ids = {"account_id": str(account_id), "setup_id": str(setup_id)}
        params: Any = {
            "mode": "setup",
            "customer": customer_id,
            "payment_method_types": ["card"],
            "metadata": ids,
            "setup_intent_data": {"metadata": ids},
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        created = client.v1.checkout.sessions.create_async(params, {"idempotency_key": str(setup_id)})
        return _page((await self._gateway.answer(created, operation="create")).to_dict())

    async def retrieve_page(self, environment: Environment, session_id: str) -> SetupPage:
        """Raises PaymentNotFound."""
        client = await self._gateway.client_of(environment)
        params: Any = {"expand": ["setup_intent.payment_method"]}
        call = client.v1.checkout.sessions.retrieve_async(session_id, params)
        return _page((await self._gateway.answer(call)).to_dict())

    async def detach(self, environment: Environment, method_id: str) -> None:
        """Remove a card from its customer: no payment with it is possible afterwards. Raises PaymentNotFound."""
        client = await self._gateway.client_of(environment)
        try:
            await self._gateway.answer(client.v1.payment_methods.detach_async(method_id), operation=None)
        except PaymentProviderRejects:
            return  # it is detached already


def _payment(intent: Mapping[str, Any], at: datetime) -> CardPayment:
    facts = intent_facts(intent, at=at)
    charge = intent.get("latest_charge")
    if isinstance(charge, Mapping) and facts.received_minor is not None:
        facts = replace(facts, card=card_of_charge(charge), receipt_url=receipt_of(charge))
    error = intent.get("last_payment_error") or {}
    declined = text_of(error.get("decline_code")) or text_of(error.get("code"))
    if AUTHENTICATION_REQUIRED in (error.get("code"), error.get("decline_code")):
        declined = AUTHENTICATION_REQUIRED
    action = intent.get("next_action") or {}
    url = (action.get("redirect_to_url") or {}).get("url") if action.get("type") == "redirect_to_url" else None
    return CardPayment(facts, declined, url_of(url))


def _page(session: Mapping[str, Any]) -> SetupPage:
    intent = session.get("setup_intent")
    method = None
    if isinstance(intent, Mapping) and intent.get("status") == "succeeded":
        method = _method(intent.get("payment_method"))
    ended = session["status"] == "expired" or (session["status"] == "complete" and method is None)
    return SetupPage(stripe_id(session["id"]), url_of(session.get("url")), ended, method)


def _method(method: object) -> CardMethod | None:
    """Return the card of an expanded payment method."""
    if not isinstance(method, Mapping) or method.get("type") != "card":
        return None
    card = method.get("card") or {}
    return CardMethod(
        stripe_id(method["id"]),
        text_of(card.get("brand")),
        text_of(card.get("last4")),
        _whole(card.get("exp_month")),
        _whole(card.get("exp_year")),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and 1 <= value <= 9999 else None
