"""Subscriptions at Stripe: pages that begin one, changes, and what Stripe knows about one.

Errors and limits are those of StripeGateway. The idempotency key of a request is the id of its order. Its parameters
are equal each time, because Stripe compares repeats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from app.auth.caller import Environment
from app.payments.errors import PaymentNotFound, PaymentProviderRejects
from app.payments.facts import PaymentFacts
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_objects import read_or_log, stripe_id, stripe_time
from app.payments.stripe_subscription_objects import (
    invoice_facts,
    invoice_payment_facts,
    subscription_facts,
)
from app.payments.subscription_facts import InvoiceFacts, InvoicePaymentFacts, SubscriptionFacts

MAX_REFERENCE_CHARS = 200
"""Stripe accepts no longer `client_reference_id`."""
Stated = SubscriptionFacts | InvoiceFacts | InvoicePaymentFacts | PaymentFacts


@dataclass(frozen=True, slots=True)
class Offer:
    """A price for a customer to subscribe to. Our ids are in the subscription's metadata, for its events."""

    environment: Environment
    account_id: UUID
    order_id: UUID
    attempt: int
    customer_id: str
    price_id: str

    @property
    def key(self) -> str:
        return str(self.order_id) if self.attempt == 1 else f"{self.order_id}:{self.attempt}"

    @property
    def ids(self) -> dict[str, str]:
        return {"account_id": str(self.account_id), "order_id": str(self.order_id)}


@dataclass(frozen=True, slots=True)
class Page:
    """A page on which a customer subscribes. `url` None: it is closed."""

    session_id: str
    url: str | None
    subscription_id: str | None
    is_expired: bool


@dataclass(frozen=True, slots=True)
class Begun:
    """A subscription that was created without a page. With the secret, a browser pays its first invoice."""

    facts: SubscriptionFacts
    client_secret: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    """The next invoice after a change, in minor units of its currency."""

    amount_due_minor: int
    currency: str
    due_at: datetime | None


class StripeSubscriptions:
    """The calls to Stripe about subscriptions, their invoices and its billing portal."""

    def __init__(self, gateway: StripeGateway) -> None:
        self._gateway = gateway

    # --- pages ---

    async def open_page(self, offer: Offer, user: str, success_url: str, cancel_url: str) -> Page:
        """Open the page that begins a subscription. For the same offer within a day, Stripe repeats its answer."""
        params: Any = {
            "mode": "subscription",
            "customer": offer.customer_id,
            "line_items": [{"price": offer.price_id, "quantity": 1}],
            "client_reference_id": user if len(user) <= MAX_REFERENCE_CHARS else str(offer.account_id),
            "metadata": offer.ids,
            "subscription_data": {"metadata": offer.ids},
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        client = await self._gateway.client_of(offer.environment)
        created = client.v1.checkout.sessions.create_async(params, {"idempotency_key": offer.key})
        return _page((await self._gateway.answer(created, operation="create")).to_dict())

    async def page(self, environment: Environment, session_id: str) -> Page:
        """Raises PaymentNotFound."""
        client = await self._gateway.client_of(environment)
        return _page((await self._gateway.answer(client.v1.checkout.sessions.retrieve_async(session_id))).to_dict())

    async def close_page(self, environment: Environment, session_id: str) -> Page:
        """Close the page, so that no one subscribes on it. Return it as it is when it can no longer be closed."""
        client = await self._gateway.client_of(environment)
        try:
            call = client.v1.checkout.sessions.expire_async(session_id)
            return _page((await self._gateway.answer(call, operation=None)).to_dict())
        except PaymentProviderRejects:
            return await self.page(environment, session_id)

    async def open_portal(self, environment: Environment, customer_id: str, return_url: str) -> str:
        """Return the address of Stripe's billing portal for a customer."""
        client = await self._gateway.client_of(environment)
        params: Any = {"customer": customer_id, "return_url": return_url}
        created = client.v1.billing_portal.sessions.create_async(params)
        return str((await self._gateway.answer(created, operation="create")).url)

    # --- without a page ---

    async def begin(self, offer: Offer, payment_method_id: str, *, at: datetime) -> Begun:
        """Create a subscription that is incomplete until a browser has paid its first invoice with the secret."""
        params: Any = {
            "customer": offer.customer_id,
            "items": [{"price": offer.price_id, "quantity": 1}],
            "default_payment_method": payment_method_id,
            "payment_behavior": "default_incomplete",
            "payment_settings": {"save_default_payment_method": "on_subscription"},
            "metadata": offer.ids,
            "expand": ["latest_invoice.confirmation_secret"],
        }
        client = await self._gateway.client_of(offer.environment)
        created = client.v1.subscriptions.create_async(params, {"idempotency_key": offer.key})
        return _begun((await self._gateway.answer(created, operation=None)).to_dict(), at)

    async def begun(self, environment: Environment, subscription_id: str, *, at: datetime) -> Begun:
        """Return a subscription with the secret of its first invoice. Raises PaymentNotFound."""
        client = await self._gateway.client_of(environment)
        params: Any = {"expand": ["latest_invoice.confirmation_secret"]}
        found = client.v1.subscriptions.retrieve_async(subscription_id, params)
        return _begun((await self._gateway.answer(found)).to_dict(), at)

    async def attach(
        self, environment: Environment, customer_id: str, payment_method_id: str, details: Mapping[str, Any]
    ) -> str:
        """Save a card for a customer, with the customer's name and address. Return the saved card. Idempotent.

        Raises PaymentDeclined.
        """
        client = await self._gateway.client_of(environment)
        attached = client.v1.payment_methods.attach_async(payment_method_id, {"customer": customer_id})
        saved = await self._gateway.answer(attached, operation=None)
        if details:
            params: Any = dict(details)
            await self._gateway.answer(client.v1.customers.update_async(customer_id, params), operation=None)
        return stripe_id(saved.id)

    # --- changes ---

    async def set_canceling(
        self, environment: Environment, subscription_id: str, *, canceling: bool, at: datetime
    ) -> SubscriptionFacts:
        """Let the subscription end with its period, or continue after all. Raises PaymentNotFound once it has ended."""
        params: Any = {"cancel_at_period_end": canceling}
        return await self._update(environment, subscription_id, params, at=at)

    async def end(self, environment: Environment, subscription_id: str, *, at: datetime) -> SubscriptionFacts | None:
        """End the subscription at once, without a refund. None: it had ended. Idempotent."""
        client = await self._gateway.client_of(environment)
        try:
            ended = await self._gateway.answer(client.v1.subscriptions.cancel_async(subscription_id), operation=None)
        except PaymentNotFound:
            return None
        return subscription_facts(ended.to_dict(), at=at)

    async def change_price(
        self,
        facts: SubscriptionFacts,
        environment: Environment,
        price_id: str,
        *,
        now: bool,
        prorated_at: datetime,
        at: datetime,
    ) -> SubscriptionFacts:
        """Change the price: `now`, with a payment of the difference, or from the next period on.

        A payment that fails changes nothing: raises PaymentDeclined.
        """
        params: Any = {"items": [{"id": facts.price_item_id, "price": price_id}], "proration_behavior": "none"}
        if now:
            params |= {
                "proration_behavior": "always_invoice",
                "proration_date": int(prorated_at.timestamp()),
                "payment_behavior": "error_if_incomplete",
            }
        return await self._update(environment, facts.subscription_id, params, at=at)

    async def preview_change(
        self, facts: SubscriptionFacts, environment: Environment, price_id: str, *, now: bool, prorated_at: datetime
    ) -> Preview:
        """Return the invoice that a change of price leads to: at once, or at the start of the next period."""
        details: Any = {"items": [{"id": facts.price_item_id, "price": price_id}], "proration_behavior": "none"}
        if now:
            details |= {"proration_behavior": "always_invoice", "proration_date": int(prorated_at.timestamp())}
        client = await self._gateway.client_of(environment)
        params: Any = {"subscription": facts.subscription_id, "subscription_details": details}
        found = (await self._gateway.answer(client.v1.invoices.create_preview_async(params))).to_dict()
        due = found.get("next_payment_attempt")
        return Preview(
            int(found["amount_due"]), str(found["currency"]).upper(), None if due is None else stripe_time(due)
        )

    async def _update(
        self, environment: Environment, subscription_id: str, params: Any, *, at: datetime
    ) -> SubscriptionFacts:
        client = await self._gateway.client_of(environment)
        call = client.v1.subscriptions.update_async(subscription_id, params)
        return subscription_facts((await self._gateway.answer(call, operation=None)).to_dict(), at=at)

    # --- reading ---

    async def all_about(
        self, environment: Environment, subscription_id: str, *, since: datetime, at: datetime
    ) -> list[Stated]:
        """Return all that Stripe knows about a subscription: itself, its invoices since a time, and their payments.

        With the refunds and disputes of these payments. Raises PaymentNotFound.
        """
        client = await self._gateway.client_of(environment)
        found = await self._gateway.answer(client.v1.subscriptions.retrieve_async(subscription_id))
        facts: list[Stated] = [subscription_facts(found.to_dict(), at=at)]
        params: Any = {
            "subscription": subscription_id,
            "created": {"gte": int(since.timestamp())},
            "limit": 100,
            "expand": ["data.payments"],
        }
        payment_ids: list[str] = []
        async for one in self._gateway.each(await self._gateway.answer(client.v1.invoices.list_async(params))):
            invoice = read_or_log(partial(invoice_facts, at=at), one.to_dict())
            if invoice is None:
                continue
            facts.append(invoice)
            payment_ids += invoice.payment_ids
            if invoice.amount_paid_minor > 0 and not invoice.payment_ids:
                payments = await self._payments_of(environment, invoice.invoice_id, at=at)
                facts += payments
                payment_ids += [payment.payment_id for payment in payments]
        for payment_id in payment_ids:
            facts += [back async for back in self._gateway.money_back(environment, payment_id, at=at)]
        return facts

    async def _payments_of(
        self, environment: Environment, invoice_id: str, *, at: datetime
    ) -> list[InvoicePaymentFacts]:
        """Return the payments of an invoice."""
        client = await self._gateway.client_of(environment)
        params: Any = {"invoice": invoice_id, "status": "paid", "limit": 100}
        page = await self._gateway.answer(client.v1.invoice_payments.list_async(params))
        found = [invoice_payment_facts(one.to_dict(), at=at) async for one in self._gateway.each(page)]
        return [facts for facts in found if facts is not None]


def _page(session: Mapping[str, Any]) -> Page:
    subscription = session.get("subscription")
    if isinstance(subscription, Mapping):
        subscription = subscription["id"]
    is_open = session["status"] == "open"
    return Page(
        stripe_id(session["id"]),
        session.get("url") if is_open else None,
        None if subscription is None else stripe_id(subscription),
        session["status"] == "expired",
    )


def _begun(subscription: Mapping[str, Any], at: datetime) -> Begun:
    invoice = subscription.get("latest_invoice")
    secret = None
    if isinstance(invoice, Mapping) and invoice.get("status") == "open":
        secret = (invoice.get("confirmation_secret") or {}).get("client_secret")
    return Begun(subscription_facts(subscription, at=at), secret)
