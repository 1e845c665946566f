"""PaymentService: purchases from the click to the credits. No call to Stripe is made inside a transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from app.auth.caller import CallerKind, Environment
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.db.version_mark import VersionMark
from app.ledger.errors import AccountClosed, IdempotencyKeyReused
from app.observability.metrics import WEBHOOK_FAILURES, WEBHOOK_LAG, WEBHOOKS
from app.packs import Pack
from app.payments import queries
from app.payments.closed_accounts import give_back
from app.payments.errors import (
    CheckoutCompleted,
    InvalidSignature,
    PaymentNotFound,
    PaymentProviderError,
    PurchaseGivenUp,
    RefundRefused,
)
from app.payments.event_log import catch_up
from app.payments.facts import CANCELED_AFTER, PaymentFacts, lifetime
from app.payments.inbox import OtherBooks, receive
from app.payments.intents import PaymentIntents
from app.payments.opening import STUCK_AFTER, find_or_insert
from app.payments.orders import MoneyOrder, Order, PackOrder, RequestedMoney
from app.payments.purchase import Purchase
from app.payments.reconciliation_tally import Attempts
from app.payments.refill_purchases import hand_over
from app.payments.refund_reconciliation import reconcile_money_back, reconcile_refunds
from app.payments.stripe_gateway import OpenedPayment, StripeGateway
from app.payments.stripe_http import request_key

MONEY_SINCE = "0042"
"""Versions before this revision cannot read purchases of money (ADR 26)."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Payment:
    """A purchase as the API returns it to its buyer. `credits_added` and `balance_after` are in credits."""

    payment_id: str
    client_secret: str | None
    amount_minor: int
    currency: str
    uses_purchased: int
    status: str
    publishable_key: str
    credits_added: int
    balance_after: int


@dataclass(frozen=True, slots=True)
class CheckoutPage:
    """Stripe's page that takes the payment of a purchase of money."""

    session_id: str
    checkout_url: str


class PaymentService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(
        self,
        db: Database,
        configuration: Configuration,
        billing: BillingService,
        gateway: StripeGateway,
        others: OtherBooks | None = None,
    ) -> None:
        """`others`: the books beside purchases. Without them, their events are left to another process."""
        self._db = db
        self._configuration = configuration
        self._billing = billing
        self._gateway = gateway
        self._intents = PaymentIntents(db, gateway)
        self._mark = VersionMark(db)
        self._others = others

    # --- buying ---

    async def all_packs(self) -> Mapping[str, Pack]:
        """Return every pack that is for sale, by name."""
        return (await self._configuration.current()).packs

    async def packs_of(self, account_id: UUID | None) -> Mapping[str, Pack]:
        """Return the packs in the account's currency, the default one first. None: the account of a new user."""
        config = await self._configuration.current()
        currency = config.defaults.currency
        if account_id is not None:
            currency = (await self._billing.accounts.state(account_id))["currency"]
        return {name: pack for name, pack in config.packs.items() if pack.currency == currency}

    async def open_purchase(
        self,
        environment: Environment,
        account_id: UUID,
        *,
        now: datetime,
        pack: str | None = None,
        caller_kind: CallerKind = "key",
        idempotency_key: str | None = None,
    ) -> Payment:
        """Begin to buy a pack. A second click gets the same payment back. Locks the account briefly.

        The purchase is stored before Stripe is called, with a job that reconciles it later, so money finds its purchase
        after a crash at any point. Raises UnknownPack, CurrencyMismatch, IdempotencyKeyReused, TooManyOpenPurchases,
        PurchaseGivenUp, PurchaseRejected, AccountSuspended, AccountClosed, PaymentsNotConfigured,
        PaymentProviderUnavailable.
        """
        order = PackOrder(pack, await self._configuration.current())
        purchase, opened = await self._open(environment, account_id, order, caller_kind, idempotency_key, now)
        return await self._payment(account_id, purchase.purchase_id, opened.client_secret, now)

    async def open_checkout(
        self,
        environment: Environment,
        account_id: UUID,
        requested: RequestedMoney,
        *,
        now: datetime,
        caller_kind: CallerKind = "user",
        idempotency_key: str | None = None,
    ) -> CheckoutPage:
        """Begin to buy money on a page of Stripe. A second click gets the same page. Otherwise as `open_purchase`.

        Raises UpgradeInProgress, InvalidAmount, UnknownCurrency, CheckoutCompleted for a page that is closed, and as
        `open_purchase`.
        """
        await self._mark.require(MONEY_SINCE)
        order = MoneyOrder(requested, await self._configuration.current())
        _, opened = await self._open(environment, account_id, order, caller_kind, idempotency_key, now)
        if opened.facts.status == "canceled":
            raise PurchaseGivenUp
        if opened.checkout_url is None or opened.facts.session_id is None:
            raise CheckoutCompleted
        return CheckoutPage(opened.facts.session_id, opened.checkout_url)

    async def _open(
        self,
        environment: Environment,
        account_id: UUID,
        order: Order,
        caller_kind: CallerKind,
        idempotency_key: str | None,
        now: datetime,
    ) -> tuple[Purchase, OpenedPayment]:
        """Find or store the purchase of a click, and open its payment at Stripe."""
        await self._gateway.publishable_key(environment)  # raises before anything is written
        for _ in range(2):
            async with self._db.transaction() as tx:
                purchase = await find_or_insert(
                    tx,
                    environment,
                    account_id,
                    order,
                    provider=self._gateway.provider,
                    caller_kind=caller_kind,
                    idempotency_key=idempotency_key,
                    max_open=self._configuration.settings.max_open_purchases,
                    now=now,
                )
            if purchase.status == "canceled" and not purchase.is_opened:
                raise PurchaseGivenUp
            opened = await self._intents.booked_of(purchase, now)
            if idempotency_key is not None or opened.facts.status not in ("succeeded", "canceled"):
                break
            # Stripe reports only now that the last click's payment has ended, so this click begins another.
        if await self._is_closed(account_id):
            raise AccountClosed  # closed since this click began; the job of the closing cancels the payment
        return purchase, opened

    async def _is_closed(self, account_id: UUID) -> bool:
        return bool((await self._billing.accounts.state(account_id))["status"] == "closed")

    # --- reading ---

    async def payment(
        self, environment: Environment, payment_id: str, now: datetime, *, of: UUID | None = None
    ) -> Payment:
        """Return the payment as Stripe reports it, after booking its credits if it has succeeded.

        `of` limits the search to one account. A booked payment is answered from our own rows. A payment whose money did
        not arrive as agreed is "unknown" until an admin has reviewed it. Raises PaymentNotFound,
        PaymentProviderUnavailable.
        """
        async with self._db.read() as db:
            purchase = await queries.find_purchase_of_payment(db, environment, self._gateway.provider, payment_id)
        if purchase is None or of not in (None, purchase.account_id):
            raise PaymentNotFound
        structlog.contextvars.bind_contextvars(account_id=str(purchase.account_id))
        client_secret = None
        if not purchase.is_booked:
            opened = await self._gateway.retrieve_payment_intent(environment, payment_id, at=now)
            client_secret = None if purchase.is_money else opened.client_secret
            await self._intents.book(environment, opened.facts, now)
        return await self._payment(purchase.account_id, purchase.purchase_id, client_secret, now)

    async def list_payments(self, account_id: UUID, *, before: UUID | None, limit: int) -> Sequence[Purchase]:
        """Return the account's purchases that reached Stripe, newest first."""
        async with self._db.read() as db:
            return await queries.list_opened(db, account_id, before=before, limit=limit)

    async def _payment(self, account_id: UUID, purchase_id: UUID, client_secret: str | None, now: datetime) -> Payment:
        async with self._db.read() as db:
            purchase = await queries.find_purchase(db, account_id, purchase_id)
        assert purchase is not None
        assert purchase.provider_payment_id is not None
        account = await self._billing.accounts.state(account_id)
        grants = (await self._billing.accounts.live_grants(account, now)).credits
        booked = purchase.is_booked
        return Payment(
            payment_id=purchase.provider_payment_id,
            client_secret=None if booked else client_secret,
            amount_minor=purchase.amount_minor,
            currency=purchase.currency,
            uses_purchased=purchase.credits,
            status=purchase.status,
            publishable_key=await self._gateway.publishable_key(purchase.environment),
            credits_added=purchase.credits if booked else 0,
            balance_after=account["paid"] + grants,
        )

    # --- refunding ---

    async def refund(
        self, account_id: UUID, purchase_id: UUID, amount_minor: int | None, idempotency_key: str, now: datetime
    ) -> None:
        """Refund money and take the credits back in proportion. Without `amount_minor`, refund the rest.

        The same key again refunds nothing more, also after a day, when Stripe has forgotten the key. Raises
        PaymentNotFound, RefundRefused, PaymentProviderUnavailable. After the last one the outcome is not known: a retry
        with the same key is safe, and the webhook takes the credits in any case.
        """
        key = request_key(idempotency_key)
        async with self._db.read() as db:
            purchase = await queries.find_purchase(db, account_id, purchase_id)
            earlier = None if purchase is None else await queries.find_refund_of_request(db, purchase.key, key)
        if purchase is None or purchase.provider_payment_id is None:
            raise PaymentNotFound
        if earlier is not None and amount_minor not in (None, earlier.amount_minor):
            raise RefundRefused(IdempotencyKeyReused.code)
        if earlier is not None:
            return
        facts = await self._gateway.refund(
            purchase.environment,
            purchase.provider_payment_id,
            amount_minor,
            idempotency_key=f"refund {purchase_id} {key}",
            request_key=key,
            at=now,
        )
        await self._intents.book(purchase.environment, facts, now)

    # --- receiving events ---

    async def handle_webhook(self, payload: bytes, signature: str | None, now: datetime) -> None:
        """Apply a signed event once, however often Stripe delivers it. Raises InvalidSignature."""
        try:
            environment, event = await self._gateway.verify_webhook(payload, signature)
            outcome = await receive(self._db, environment, event, now, self._others)
        except BaseException as error:  # includes the cancellation at the deadline
            WEBHOOK_FAILURES.labels("signature" if isinstance(error, InvalidSignature) else "error").inc()
            raise
        WEBHOOKS.labels(environment, outcome).inc()
        if outcome in ("applied", "review"):
            WEBHOOK_LAG.observe(max(0.0, (now - event.created_at).total_seconds()))

    # --- reconciling ---

    async def reconcile(self, now: datetime, attempts: Attempts | None = None) -> dict[str, int]:
        """Apply what webhooks have missed, in every environment. Return the numbers of events and payments.

        Reads Stripe's event log since the last run, lists succeeded payments and new refunds, and retrieves the
        payments of unsettled purchases. "failed" counts steps that raised an error.
        """
        attempts = attempts or Attempts()
        for environment in await self._gateway.environments():
            try:
                await catch_up(self._db, self._gateway, environment, now, attempts, self._others)
                async for facts in self._gateway.succeeded_since(environment, now - CANCELED_AFTER, at=now):
                    work = self._book_if_missing(environment, facts, now)
                    await attempts.attempt("payments", work, payment_intent_id=facts.provider_payment_id)
                await reconcile_refunds(self._db, self._gateway, environment, now, attempts)
                await self._ask_about_stuck(environment, now, attempts)
                await self._refund_closed(environment, now, attempts)
            except PaymentProviderError:
                attempts.done["failed"] += 1
        return attempts.done

    async def _ask_about_stuck(self, environment: Environment, now: datetime, attempts: Attempts) -> None:
        async with self._db.read() as db:
            stuck = await queries.list_unsettled(db, environment, self._gateway.provider, until=now - STUCK_AFTER)
        for key in stuck:
            account_id, purchase_id = key.account_id, key.purchase_id
            work = self.reconcile_purchase(account_id, purchase_id, now)
            if not await attempts.attempt("payments", work, purchase_id=str(purchase_id)):
                async with self._db.transaction() as tx:  # to the end of the queue, behind the other purchases
                    await queries.touch_purchase(tx, account_id, purchase_id, now)

    async def _book_if_missing(self, environment: Environment, facts: PaymentFacts, now: datetime) -> bool:
        assert facts.provider_payment_id is not None
        async with self._db.read() as db:
            purchase = await queries.find_purchase_of_payment(
                db, environment, facts.provider, facts.provider_payment_id
            )
        if purchase is not None and purchase.received_minor is not None:
            return False
        return await self._intents.book(environment, facts, now) != "ignored"

    async def reconcile_purchase(self, account_id: UUID, purchase_id: UUID, now: datetime) -> bool:
        """Retrieve one purchase's payment from Stripe and apply it. Return whether its money has arrived.

        A purchase that may not have reached Stripe, because the process died, is opened there now, unpaid. Every
        purchase ends: it is canceled, at Stripe first, after a day if the buyer has not begun to pay, after 30 days if
        the buyer has begun, and at once if the account is closed. A booked purchase is retrieved only while it waits
        for review, because there may be room for its credits by now. Raises PurchaseRejected.
        """
        async with self._db.read() as db:
            purchase = await queries.find_purchase(db, account_id, purchase_id)
        if purchase is None or purchase.status == "canceled":
            return False
        if purchase.is_booked and purchase.review_reason is None:
            return False
        if purchase.is_refill and not purchase.is_booked and purchase.received_minor is None:
            await hand_over(self._db, purchase, now)
            return False
        age = now - purchase.created_at
        if not purchase.is_opened and (age > CANCELED_AFTER or not purchase.can_be_opened):
            # Its buyer never received a payment to pay. Stripe has forgotten the idempotency key, or we the request.
            await self._intents.cancel_unopened(account_id, purchase_id, now)
            return False
        opened = await self._intents.find_or_open(purchase, now)
        status, environment = opened.facts.status, purchase.environment
        expired = status in queries.OPEN and age > lifetime(status, opened.facts.next_action)
        if expired or (status in queries.CANCELABLE and await self._is_closed(account_id)):
            opened = await self._intents.close(purchase, opened.facts, now)
        await self._intents.book(environment, opened.facts, now)
        return opened.facts.received_minor is not None

    async def reconcile_money_back(self, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
        """Apply the refunds and disputes that Stripe has for one purchase. Raises PaymentProviderUnavailable."""
        await reconcile_money_back(self._db, self._gateway, account_id, purchase_id, now)

    # --- closed accounts ---

    async def settle_purchases(self, account_id: UUID, now: datetime) -> None:
        """Reconcile every unsettled purchase of an account that was closed, erased or reopened.

        Idempotent. A failure of one purchase does not stop the others. The first failure is raised at the end, so that
        the job is retried.
        """
        async with self._db.read() as db:
            unsettled = await queries.list_unsettled_of(db, account_id)
        failure: Exception | None = None
        for purchase_id in unsettled:
            try:
                await self.reconcile_purchase(account_id, purchase_id, now)
            except Exception as error:
                log.warning("purchase_not_settled", purchase_id=str(purchase_id), exc_info=error)
                failure = failure or error
        if failure is not None:
            raise failure

    async def refund_closed(self, account_id: UUID, purchase_id: UUID, now: datetime) -> bool:
        """Refund money that arrived for a closed account, if CLOSED_ACCOUNT_PAYMENTS is `refund`.

        Return whether the money went back. A payment of a reopened account is booked instead. Raises
        PaymentProviderUnavailable.
        """
        if self._configuration.settings.closed_account_payments != "refund":
            return False
        async with self._db.read() as db:
            purchase = await queries.find_purchase(db, account_id, purchase_id)
        if purchase is None or purchase.review_reason != "account_closed" or purchase.provider_payment_id is None:
            return False
        if not await self._is_closed(account_id):
            await self.reconcile_purchase(account_id, purchase_id, now)
            return False
        return await give_back(self._db, self._gateway, purchase, purchase.provider_payment_id, now)

    async def _refund_closed(self, environment: Environment, now: datetime, attempts: Attempts) -> None:
        """Repeat the refunds of closed accounts whose own jobs have failed."""
        async with self._db.read() as db:
            waiting = await queries.list_to_refund(db, environment, self._gateway.provider, until=now - STUCK_AFTER)
        for key in waiting:
            work = self.refund_closed(key.account_id, key.purchase_id, now)
            await attempts.attempt("payments", work, purchase_id=str(key.purchase_id))
