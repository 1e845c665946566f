"""RefillPayments: sends the payment of a refill, and records its outcome. Each step may be repeated after a crash.

    await payments.settle(account_id, purchase_id, now)  # the job SETTLE_REFILL

The payment's idempotency key is the purchase's id. For SENT_FOR, a repeat so gets the same payment. Afterwards it is
looked up at Stripe, never sent again, and given up once Stripe has certainly no request of it. The money is booked as
that of any purchase, by the first of webhook, job and reconciliation; `settle` then finishes the refill.

No call to Stripe is made inside a transaction.
"""

from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app.db import Database, Session
from app.ledger import refill_queries as settings_queries
from app.ledger.locked_account import lock_account
from app.ledger.refill_hooks import end_refills
from app.ledger.refill_queries import Settings as RefillSettings
from app.observability import metrics
from app.payments.errors import PaymentDeclined, PaymentNotFound, PaymentProviderRejects
from app.payments.facts import CANCELED_AFTER, PaymentFacts
from app.payments.purchase import Purchase
from app.payments.refill_purchases import cancel_unopened, find_refill_purchase
from app.payments.settlement import apply
from app.payments.stripe_saved_cards import AUTHENTICATION_REQUIRED, CardPayment, StripeSavedCards
from app.plans.refills import RefillState, after_decline, retry_at
from app.refills import queries
from app.refills.records import Card, Refill, RefillStatus
from app.refills.service import RefillService
from app.settings import Settings

SENT_FOR = timedelta(hours=23)
"""Stripe remembers idempotency keys for a day."""
REJECTED = "rejected"
"""Our code of a decline: Stripe rejects the request and gives no code."""
AT_ONCE = 200
log = structlog.get_logger()


class RefillPayments:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(
        self,
        db: Database,
        refills: RefillService,
        stripe: StripeSavedCards,
        settings: Settings,
    ) -> None:
        self._db = db
        self._refills = refills
        self._stripe = stripe
        self._return_url = f"{settings.frontend_url.rstrip('/')}/billing/success" if settings.frontend_url else None

    async def settle(self, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
        """Bring a refill one step further: send its payment, ask for its state, finish it. No effect once it is over.

        Raises PaymentProviderUnavailable and the like: the job is retried, and the refill stays in flight.
        """
        async with self._db.read() as db:
            refill = await queries.find_refill(db, account_id, purchase_id)
            purchase = await find_refill_purchase(db, account_id, purchase_id)
        if refill is None or purchase is None or refill.finished_at is not None:
            return
        if purchase.received_minor is None and purchase.status != "canceled":
            async with self._db.read() as db:
                card = await queries.find_card(db, account_id, refill.card_id)
            assert card is not None
            payment = await self._payment(refill, purchase, card, now)
            if payment is not None:
                await self._follow(refill, purchase, card, payment, now)
        await self._finish(account_id, purchase_id, now)

    async def settle_stuck(self, now: datetime) -> int:
        """Settle the refills in flight whose jobs have failed. Return their number. For the worker.

        Those that were not looked at for the longest time come first: some wait a day for their owners.
        """
        async with self._db.read() as db:
            stuck = await queries.list_stuck(db, now - timedelta(minutes=10), AT_ONCE)
        for account_id, purchase_id in stuck:
            try:
                async with self._db.transaction() as tx:
                    await lock_account(tx, account_id)
                    await queries.touch_refill(tx, account_id, purchase_id, now)
                await self.settle(account_id, purchase_id, now)
            except Exception as error:
                log.warning("refill_not_settled", purchase_id=str(purchase_id), exc_info=error)
        return len(stuck)

    # --- the payment ---

    async def _payment(self, refill: Refill, purchase: Purchase, card: Card, now: datetime) -> CardPayment | None:
        """Return the refill's payment as it is at Stripe. Send it if it may be sent. None: there is none so far."""
        if purchase.provider_payment_id is not None:
            try:
                return await self._stripe.retrieve(purchase.environment, purchase.provider_payment_id, at=now)
            except PaymentNotFound:
                log.error("payment_of_another_account", payment_intent_id=purchase.provider_payment_id)
                return CardPayment(_canceled(purchase, now))
        if refill.sent_at is not None and (found := await self._find(purchase, card, now)) is not None:
            return found
        if now - refill.created_at < SENT_FOR and await self._mark_sent(refill, now):
            return await self._send(refill, purchase, card, now)
        await self._give_up(refill, now)
        return None

    async def _find(self, purchase: Purchase, card: Card, now: datetime) -> CardPayment | None:
        try:
            return await self._stripe.find(purchase, card.provider_customer_id, at=now)
        except (PaymentNotFound, PaymentProviderRejects):
            return None  # Stripe does not have the customer, so it has no payment either

    async def _mark_sent(self, refill: Refill, now: datetime) -> bool:
        """Note that the payment may be at Stripe from now on. Return False if it must not be sent."""
        async with self._db.transaction() as tx:
            if not await self._may_pay(tx, refill):
                return False
            await queries.mark_sent(tx, refill, now)
        return True

    async def _may_pay(self, tx: Session, refill: Refill) -> bool:
        """Return whether the account, its settings and the card still allow the payment. Locks the account."""
        account = await lock_account(tx, refill.account_id)
        settings = await settings_queries.find_settings_in(tx, refill.account_id)
        card = await queries.find_card(tx, refill.account_id, refill.card_id)
        purchase = await find_refill_purchase(tx, refill.account_id, refill.purchase_id)
        is_usable = card is not None and card.removed_at is None
        is_open = purchase is not None and purchase.status != "canceled"
        return account.status == "active" and settings is not None and settings.enabled and is_usable and is_open

    async def _send(self, refill: Refill, purchase: Purchase, card: Card, now: datetime) -> CardPayment | None:
        try:
            return await self._stripe.charge(purchase, card.provider_customer_id, card.provider_method_id, at=now)
        except (PaymentDeclined, PaymentProviderRejects, PaymentNotFound) as error:
            if (found := await self._find(purchase, card, now)) is not None:
                return found
            code = (None if isinstance(error, PaymentNotFound) else error.reason) or REJECTED
            async with self._db.transaction() as tx:
                await lock_account(tx, refill.account_id)
                await queries.note_decline(tx, refill, code, now)
                await cancel_unopened(tx, refill.account_id, refill.purchase_id, now)
            return None

    async def _give_up(self, refill: Refill, now: datetime) -> None:
        """Cancel a refill that Stripe certainly does not have: never sent, or so long ago that no request is left."""
        async with self._db.transaction() as tx:
            await lock_account(tx, refill.account_id)
            current = await queries.find_refill(tx, refill.account_id, refill.purchase_id)
            assert current is not None
            if current.sent_at is None or now - current.created_at >= CANCELED_AFTER:
                await cancel_unopened(tx, refill.account_id, refill.purchase_id, now)

    # --- its state ---

    async def _follow(
        self, refill: Refill, purchase: Purchase, card: Card, payment: CardPayment, now: datetime
    ) -> None:
        """Book what Stripe states about the payment. One that failed is authenticated or canceled."""
        await self._book(purchase, payment.facts, now)
        status, payment_id = payment.facts.status, payment.facts.provider_payment_id
        assert payment_id is not None
        if status in ("failed", "requires_payment_method") and await self._may_authenticate(refill, payment):
            assert self._return_url is not None
            method_id, url = card.provider_method_id, self._return_url
            payment = await self._stripe.authenticate(purchase, payment_id, method_id, url, at=now)
            await self._book(purchase, payment.facts, now)
            status = payment.facts.status
        is_over = now - refill.created_at >= CANCELED_AFTER
        page = payment.action_url if status == "requires_action" and not is_over else None
        if page is not None and await self._show_action(refill, page, now):
            return
        if status in ("failed", "requires_payment_method", "requires_confirmation", "requires_action"):
            code = payment.decline or (AUTHENTICATION_REQUIRED if status == "requires_action" else REJECTED)
            async with self._db.transaction() as tx:  # first: a canceled payment no longer says why it failed
                await lock_account(tx, refill.account_id)
                await queries.note_decline(tx, refill, code, now)
            canceled = await self._stripe.cancel(purchase.environment, payment_id, at=now)
            await self._book(purchase, canceled.facts, now)

    async def _may_authenticate(self, refill: Refill, payment: CardPayment) -> bool:
        is_first = refill.status == "in_flight" and payment.decline == AUTHENTICATION_REQUIRED
        if not is_first or self._return_url is None:
            return False
        async with self._db.transaction() as tx:
            return await self._may_pay(tx, refill)

    async def _show_action(self, refill: Refill, url: str, now: datetime) -> bool:
        """Store the page on which the user authenticates the payment, so that the settings show it.

        Return False if the account is closed: no one is to pay it then.
        """
        async with self._db.transaction() as tx:
            if (await lock_account(tx, refill.account_id)).status == "closed":
                return False
            is_new = await queries.require_action(tx, refill, url, now)
        if is_new:
            metrics.REFILLS.labels("authenticate").inc()
        return True

    async def _book(self, purchase: Purchase, facts: PaymentFacts, now: datetime) -> None:
        async with self._db.transaction() as tx:
            await apply(tx, purchase.environment, facts, now)

    # --- the end ---

    async def _finish(self, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
        """Finish a refill whose purchase is booked or canceled, and decide about the next one."""
        async with self._db.transaction() as tx:
            await lock_account(tx, account_id)
            refill = await queries.find_refill(tx, account_id, purchase_id)
            purchase = await find_refill_purchase(tx, account_id, purchase_id)
            settings = await settings_queries.find_settings_in(tx, account_id)
            assert refill is not None
            assert purchase is not None
            assert settings is not None
            if refill.finished_at is not None or not (purchase.is_booked or purchase.status == "canceled"):
                return
            next_at: datetime | None = now if settings.enabled else None
            outcome: RefillStatus = "paid"
            if purchase.is_booked:
                await settings_queries.note_paid(tx, account_id)
            elif refill.decline is None:
                outcome = "canceled"
            else:
                outcome, next_at = "declined", await self._decline(tx, settings, refill.decline, now)
            await queries.finish(tx, refill, outcome, now)
            await self._refills.decide_soon(tx, account_id, next_at)
        metrics.REFILLS.labels(outcome).inc()
        log.info("refill_finished", account_id=str(account_id), outcome=outcome, decline=refill.decline)

    async def _decline(self, tx: Session, settings: RefillSettings, code: str, now: datetime) -> datetime | None:
        """Count a decline. Return the time of the next attempt; None if refills are off now."""
        declines, is_last = after_decline(RefillState(has_consent=True, declines=settings.declines))
        await settings_queries.note_declined(tx, settings.account_id, declines, code, now)
        if not settings.enabled:
            return None
        if is_last:
            await end_refills(tx, settings.account_id, "declined", now)
            return None
        bounds = (await self._refills.in_force()).bounds
        return retry_at(RefillState(has_consent=True, declines=declines, last_declined_at=now), bounds)


def _canceled(purchase: Purchase, now: datetime) -> PaymentFacts:
    """Return the facts of a payment that Stripe does not have: the keys belong to another account now."""
    return PaymentFacts(
        purchase.provider,
        purchase.provider_payment_id,
        now,
        status="canceled",
        account_id=purchase.account_id,
        purchase_id=purchase.purchase_id,
    )
