"""The payment of a purchase at Stripe: opened, retrieved, closed, and booked.

A pack is paid by a payment intent, in the buyer's own page. Money is paid by a checkout session, on a page of Stripe.
"""

from datetime import datetime
from uuid import UUID

import structlog

from app.auth.caller import Environment
from app.db import Database
from app.ledger.locked_account import lock_account
from app.payments import queries
from app.payments.errors import (
    PaymentNotFound,
    PaymentProviderFailed,
    PaymentProviderRejects,
    PaymentProviderUnavailable,
    PurchaseRejected,
)
from app.payments.facts import PaymentFacts
from app.payments.purchase import Purchase
from app.payments.settlement import Outcome, apply
from app.payments.stripe_checkout import StripeCheckout
from app.payments.stripe_gateway import OpenedPayment, StripeGateway

log = structlog.get_logger()


class PaymentIntents:
    """The part of PaymentService that pairs each purchase with one payment at Stripe. Opens its own transactions."""

    def __init__(self, db: Database, gateway: StripeGateway) -> None:
        self._db = db
        self._gateway = gateway
        self._checkout = StripeCheckout(gateway)

    async def book(self, environment: Environment, facts: PaymentFacts, now: datetime) -> Outcome:
        """Apply the facts in a transaction. Commits."""
        async with self._db.transaction() as tx:
            return await apply(tx, environment, facts, now)

    async def booked_of(self, purchase: Purchase, now: datetime) -> OpenedPayment:
        """Return the purchase's payment at Stripe, after booking its state.

        A purchase has one payment: the first that is stored. If Stripe fails between two clicks, each click may open a
        payment. Buyers get the client secret, or the page, of the stored payment only, so no other payment can be paid.
        """
        opened = await self.find_or_open(purchase, now)
        if await self.book(purchase.environment, opened.facts, now) != "ignored":
            return opened
        stored = await self._stored(purchase)
        opened = await self.find_or_open(stored, now)
        await self.book(stored.environment, opened.facts, now)
        return opened

    async def find_or_open(self, purchase: Purchase, now: datetime) -> OpenedPayment:
        """Return the purchase's payment at Stripe. Open it there if that has not happened, or was not noted.

        A purchase that Stripe rejects is canceled, so that the next click begins another one. Raises PurchaseRejected.
        """
        if purchase.is_opened:
            try:
                return await self._retrieve(purchase, now)
            except PaymentNotFound:
                # The keys now belong to another Stripe account, so no buyer can pay this payment. If it was paid before
                # and the old keys return, its money is booked.
                payment_id, session_id = purchase.provider_payment_id, purchase.checkout_session_id
                log.error("payment_of_another_account", payment_intent_id=payment_id, session_id=session_id)
                facts = PaymentFacts(
                    purchase.provider,
                    payment_id,
                    now,
                    status="canceled",
                    session_id=session_id,
                    account_id=purchase.account_id,
                    purchase_id=purchase.purchase_id,
                )
                return OpenedPayment(facts)
        try:
            return await self._create(purchase, now)
        except PaymentProviderFailed:
            # Stripe repeats its failure for this idempotency key, so the next attempt needs another key.
            async with self._db.transaction() as tx:
                await queries.begin_next_attempt(tx, purchase.account_id, purchase.purchase_id, purchase.attempt, now)
            raise
        except PaymentProviderUnavailable:
            stored = await self._stored(purchase)
            if not stored.is_opened:
                raise
            return await self._retrieve(stored, now)  # opened by another click, while Stripe refused the equal request
        except PaymentProviderRejects as error:
            await self.cancel_unopened(purchase.account_id, purchase.purchase_id, now)
            raise PurchaseRejected from error

    async def _retrieve(self, purchase: Purchase, now: datetime) -> OpenedPayment:
        if purchase.checkout_session_id is not None:
            return await self._checkout.retrieve(purchase.environment, purchase.checkout_session_id, at=now)
        assert purchase.provider_payment_id is not None
        return await self._gateway.retrieve_payment_intent(purchase.environment, purchase.provider_payment_id, at=now)

    async def _create(self, purchase: Purchase, now: datetime) -> OpenedPayment:
        if purchase.is_money:
            return await self._checkout.create(purchase, at=now)
        return await self._gateway.create_payment_intent(
            purchase.environment,
            account_id=purchase.account_id,
            purchase_id=purchase.purchase_id,
            attempt=purchase.attempt,
            amount_minor=purchase.amount_minor,
            currency=purchase.currency,
            at=now,
        )

    async def close(self, purchase: Purchase, facts: PaymentFacts, now: datetime) -> OpenedPayment:
        """Cancel the purchase's payment at Stripe, or close its page. Return it as it is when it was paid before."""
        if facts.session_id is not None:
            return await self._checkout.expire(purchase.environment, facts.session_id, at=now)
        assert facts.provider_payment_id is not None
        return await self._gateway.cancel_payment_intent(purchase.environment, facts.provider_payment_id, at=now)

    async def _stored(self, purchase: Purchase) -> Purchase:
        async with self._db.read() as db:
            stored = await queries.find_purchase(db, purchase.account_id, purchase.purchase_id)
        assert stored is not None
        return stored

    async def cancel_unopened(self, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
        """Cancel a purchase that has no payment at Stripe. Locks the account. Commits."""
        async with self._db.transaction() as tx:
            await lock_account(tx, account_id)
            await queries.cancel_unopened(tx, account_id, purchase_id, now)
