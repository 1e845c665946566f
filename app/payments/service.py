"""PaymentService: purchases from the click to the credits. No call to Stripe is ever made in a transaction."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

import structlog

from app.auth.caller import CallerKind, Environment
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.ledger.errors import AccountClosed, IdempotencyKeyReused
from app.ledger.locked_account import lock_account
from app.observability.metrics import EVENTS_CAUGHT_UP, WEBHOOK_FAILURES, WEBHOOK_LAG, WEBHOOKS
from app.payments import queries
from app.payments.closed_accounts import give_back
from app.payments.errors import (
    InvalidSignature,
    PaymentNotFound,
    PaymentProviderError,
    PaymentProviderFailed,
    PaymentProviderRejects,
    PurchaseGivenUp,
    PurchaseRejected,
    RefundRefused,
)
from app.payments.facts import CANCELED_AFTER, Event, PaymentFacts, lifetime
from app.payments.gateway import PaymentIntent, StripeGateway
from app.payments.opening import STUCK_AFTER, find_or_insert
from app.payments.reconciliation_tally import Attempts
from app.payments.refund_reconciliation import reconcile_money_back, reconcile_refunds
from app.payments.settlement import Outcome, apply
from app.payments.stripe_objects import HANDLED, REFUND_EVENTS
from app.settings import Pack

ASKED_FOR = timedelta(days=30)
"""Stripe's event log reaches back so far, and so do we."""
READ_AT_ONCE: Mapping[queries.Feed, timedelta] = {"payments": timedelta(hours=6), "refunds": timedelta(days=6)}
"""How much of the event log is held in memory, and read before the cursor moves. Refunds are few."""
PLAIN_KEY = re.compile("[!-~]([ -~]{0,198}[!-~])?")
FEEDS: Mapping[queries.Feed, Collection[str]] = {
    "payments": tuple(kind for kind in HANDLED if kind not in REFUND_EVENTS),
    "refunds": REFUND_EVENTS,
}
"""Refunds have a cursor of their own: an older version, beside this one or before it, does not read their events."""
OVERLAP = timedelta(hours=1)
"""Events can appear in the log later than their own time; reading some twice is free."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Payment:
    """A purchase as its buyer sees it. `credits_added` and `balance_after` are in credits."""

    payment_id: str
    client_secret: str | None
    amount_minor: int
    currency: str
    uses_purchased: int
    status: str
    publishable_key: str
    credits_added: int
    balance_after: int


class PaymentService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(
        self, db: Database, configuration: Configuration, billing: BillingService, gateway: StripeGateway
    ) -> None:
        self._db = db
        self._configuration = configuration
        self._billing = billing
        self._gateway = gateway

    # --- buying ---

    async def all_packs(self) -> Mapping[str, Pack]:
        """Every pack that is for sale, by name."""
        return (await self._configuration.current()).packs

    async def packs_of(self, account_id: UUID | None) -> Mapping[str, Pack]:
        """The packs in the account's currency, the default one first. None: an account that does not exist yet."""
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
        """Begin to buy a pack; a second click gets the same payment back. Locks the account for a moment.

        Written down before Stripe hears of it, with a job that looks after it later: whatever dies in between, the
        money finds its purchase. Raises UnknownPack, CurrencyMismatch, IdempotencyKeyReused, TooManyOpenPurchases,
        PurchaseGivenUp, PurchaseRejected, AccountSuspended, AccountClosed, PaymentsNotConfigured,
        PaymentProviderUnavailable.
        """
        await self._gateway.publishable_key(environment)  # refuse before anything is written
        config = await self._configuration.current()
        for _ in range(2):
            async with self._db.transaction() as tx:
                purchase = await find_or_insert(
                    tx,
                    environment,
                    account_id,
                    config,
                    pack=pack,
                    caller_kind=caller_kind,
                    idempotency_key=idempotency_key,
                    max_open=self._configuration.settings.max_open_purchases,
                    now=now,
                )
            if purchase["status"] == "canceled" and purchase["payment_intent_id"] is None:
                raise PurchaseGivenUp
            intent = await self._booked_intent_of(purchase, now)
            if idempotency_key is not None or intent.facts.status not in ("succeeded", "canceled"):
                break
            # The last click's payment has come to its end, as we hear only now: this click begins another.
        if await self._is_closed(account_id):
            raise AccountClosed  # since this click began; the job of the closing cancels the payment
        return await self._payment(account_id, purchase["purchase_id"], intent.client_secret)

    async def _is_closed(self, account_id: UUID) -> bool:
        return bool((await self._billing.accounts.state(account_id))["status"] == "closed")

    async def _booked_intent_of(self, purchase: Mapping[str, Any], now: datetime) -> PaymentIntent:
        """Return the purchase's payment at Stripe, after booking its state.

        A purchase has one payment: the first that is stored. If Stripe fails between two clicks, each click may open a
        payment of its own. Buyers get the client secret of the stored payment only, so no other payment can be paid.
        """
        intent = await self._intent_of(purchase, now)
        if await self._apply(purchase["environment"], intent.facts, now) != "ignored":
            return intent
        async with self._db.read() as db:
            stored = await queries.find_purchase(db, purchase["account_id"], purchase["purchase_id"])
        assert stored is not None
        intent = await self._intent_of(stored, now)
        await self._apply(stored["environment"], intent.facts, now)
        return intent

    async def _intent_of(self, purchase: Mapping[str, Any], now: datetime) -> PaymentIntent:
        """The purchase's payment at Stripe, opened there if it is not yet (or if we died before we could note it).

        A purchase that Stripe rejects ends here, so that the next click begins another one. Raises PurchaseRejected.
        """
        environment: Environment = purchase["environment"]
        if purchase["payment_intent_id"] is not None:
            payment_id = purchase["payment_intent_id"]
            try:
                return await self._gateway.retrieve_payment_intent(environment, payment_id, at=now)
            except PaymentNotFound:
                # The keys are another account's by now. Nobody can pay this any more; if somebody has, and the old keys
                # come back, its money is booked all the same.
                log.error("payment_of_another_account", payment_intent_id=payment_id)
                return PaymentIntent(payment_id, None, PaymentFacts(payment_id, now, status="canceled"))
        try:
            return await self._gateway.create_payment_intent(
                environment,
                account_id=purchase["account_id"],
                purchase_id=purchase["purchase_id"],
                attempt=purchase["attempt"],
                amount_minor=purchase["amount_minor"],
                currency=purchase["currency"],
                at=now,
            )
        except PaymentProviderFailed:
            # Stripe remembers its own failure under the key: whoever asks next must ask with another one.
            async with self._db.transaction() as tx:
                await queries.begin_next_attempt(
                    tx, purchase["account_id"], purchase["purchase_id"], purchase["attempt"], now
                )
            raise
        except PaymentProviderRejects as error:
            await self._cancel_unopened(purchase["account_id"], purchase["purchase_id"], now)
            raise PurchaseRejected from error

    async def _cancel_unopened(self, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
        async with self._db.transaction() as tx:
            await lock_account(tx, account_id)
            await queries.cancel_unopened(tx, account_id, purchase_id, now)

    # --- asking ---

    async def payment(
        self, environment: Environment, payment_id: str, now: datetime, *, of: UUID | None = None
    ) -> Payment:
        """The payment as it stands at Stripe, its credits booked if it has succeeded. `of`: only this account's.

        A payment that is booked is answered from our own rows. One whose money arrived, but not as agreed, is
        "unknown" until a person has looked. Raises PaymentNotFound, PaymentProviderUnavailable.
        """
        async with self._db.read() as db:
            purchase = await queries.find_purchase_of_payment(db, environment, payment_id)
        if purchase is None or of not in (None, purchase["account_id"]):
            raise PaymentNotFound
        structlog.contextvars.bind_contextvars(account_id=str(purchase["account_id"]))
        client_secret = None
        if purchase["credit_id"] is None:
            intent = await self._gateway.retrieve_payment_intent(environment, payment_id, at=now)
            client_secret = intent.client_secret
            await self._apply(environment, intent.facts, now)
        return await self._payment(purchase["account_id"], purchase["purchase_id"], client_secret)

    async def _payment(self, account_id: UUID, purchase_id: UUID, client_secret: str | None) -> Payment:
        async with self._db.read() as db:
            purchase = await queries.find_purchase(db, account_id, purchase_id)
        assert purchase is not None
        account = await self._billing.accounts.state(account_id)
        booked = purchase["credit_id"] is not None
        return Payment(
            payment_id=purchase["payment_intent_id"],
            client_secret=None if booked else client_secret,
            amount_minor=purchase["amount_minor"],
            currency=purchase["currency"],
            uses_purchased=purchase["credits"],
            status=purchase["status"],
            publishable_key=await self._gateway.publishable_key(purchase["environment"]),
            credits_added=purchase["credits"] if booked else 0,
            balance_after=account["paid"],
        )

    # --- giving back ---

    async def refund(
        self, account_id: UUID, purchase_id: UUID, amount_minor: int | None, idempotency_key: str, now: datetime
    ) -> None:
        """Give money back, all that is left without `amount_minor`; take the credits back in proportion.

        The same key again gives nothing more, also after a day, when Stripe has forgotten it. Raises PaymentNotFound,
        RefundRefused, PaymentProviderUnavailable: then it is not known whether the money went, and to ask again with
        the same key is safe; the webhook takes the credits in any case.
        """
        key = request_key(idempotency_key)
        async with self._db.read() as db:
            purchase = await queries.find_purchase(db, account_id, purchase_id)
            earlier = await queries.find_refund_of_request(db, account_id, purchase_id, key)
        if purchase is None or purchase["payment_intent_id"] is None:
            raise PaymentNotFound
        if earlier is not None and amount_minor not in (None, earlier.amount_minor):
            raise RefundRefused(IdempotencyKeyReused.code)
        if earlier is not None:
            return
        facts = await self._gateway.refund(
            purchase["environment"],
            purchase["payment_intent_id"],
            amount_minor,
            idempotency_key=f"refund {purchase_id} {key}",
            request_key=key,
            at=now,
        )
        await self._apply(purchase["environment"], facts, now)

    # --- hearing ---

    async def handle_webhook(self, payload: bytes, signature: str | None, now: datetime) -> None:
        """Apply a signed event once, however often it comes. Committed when this returns. Raises InvalidSignature."""
        try:
            environment, event = await self._gateway.verify_webhook(payload, signature)
            outcome = await self._receive(environment, event, now)
        except BaseException as error:  # to run out of time is to be cancelled
            WEBHOOK_FAILURES.labels("signature" if isinstance(error, InvalidSignature) else "error").inc()
            raise
        WEBHOOKS.labels(environment, outcome).inc()
        if outcome in ("applied", "review"):
            WEBHOOK_LAG.observe(max(0.0, (now - event.created_at).total_seconds()))

    async def _receive(self, environment: Environment, event: Event, now: datetime) -> Outcome | Literal["repeated"]:
        """What became of the event. Its id is stored with its effect, so one does not exist without the other."""
        async with self._db.transaction() as tx:
            row = {
                "environment": environment,
                "event_id": event.event_id,
                "type": event.type,
                "payment_intent_id": event.facts.payment_intent_id if event.facts else None,
                "outcome": "ignored",
                "created_at": event.created_at,
                "received_at": now,
            }
            if not await queries.insert_event(tx, row):
                return "repeated"
            if event.facts is None:
                return "ignored"
            outcome = await apply(tx, environment, event.facts, now)
            await queries.update_event_outcome(tx, environment, event.event_id, outcome)
        return outcome

    async def _apply(self, environment: Environment, facts: PaymentFacts, now: datetime) -> Outcome:
        async with self._db.transaction() as tx:
            return await apply(tx, environment, facts, now)

    # --- reconciling ---

    async def reconcile(self, now: datetime, attempts: Attempts | None = None) -> dict[str, int]:
        """Heal what webhooks have missed, in every environment: how many events and payments were caught up on.

        Reads Stripe's event log since the last time, lists succeeded payments and new refunds, and asks about purchases
        that are stuck.
        "failed" counts what could not be done.
        """
        attempts = attempts or Attempts()
        for environment in await self._gateway.environments():
            try:
                for feed, types in FEEDS.items():
                    await self._catch_up_on_events(environment, feed, types, now, attempts)
                async for facts in self._gateway.succeeded_since(environment, now - CANCELED_AFTER, at=now):
                    work = self._book_if_missing(environment, facts, now)
                    await attempts.attempt("payments", work, payment_intent_id=facts.payment_intent_id)
                await reconcile_refunds(self._db, self._gateway, environment, now, attempts)
                await self._ask_about_stuck(environment, now, attempts)
                await self._refund_closed(environment, now, attempts)
            except PaymentProviderError:
                attempts.done["failed"] += 1
        return attempts.done

    async def _catch_up_on_events(
        self, environment: Environment, feed: queries.Feed, types: Collection[str], now: datetime, attempts: Attempts
    ) -> None:
        """Read Stripe's event log, a piece at a time. The cursor stays before an event that could not be applied."""
        async with self._db.read() as db:
            cursor = await queries.find_cursor(db, environment, feed)
        since = max(now - ASKED_FOR, (cursor or now - ASKED_FOR) - OVERLAP)
        failed: datetime | None = None
        while since < now:
            until = min(since + READ_AT_ONCE[feed], now)
            for event in await self._gateway.events_between(environment, types, since, until):
                work = self._catch_up_on(environment, event, now)
                if not await attempts.attempt("events", work, event_id=event.event_id, type=event.type):
                    failed = failed or event.created_at
            async with self._db.transaction() as tx:
                await queries.upsert_cursor(tx, environment, feed, failed or until)
            since = until

    async def _catch_up_on(self, environment: Environment, event: Event, now: datetime) -> bool:
        """Whether the event had an effect only now."""
        missed = await self._receive(environment, event, now) in ("applied", "review")
        if missed:
            EVENTS_CAUGHT_UP.inc()
        return missed

    async def _ask_about_stuck(self, environment: Environment, now: datetime, attempts: Attempts) -> None:
        async with self._db.read() as db:
            stuck = await queries.list_unsettled(db, environment, until=now - STUCK_AFTER)
        for purchase in stuck:
            account_id, purchase_id = purchase["account_id"], purchase["purchase_id"]
            work = self.reconcile_purchase(account_id, purchase_id, now)
            if not await attempts.attempt("payments", work, purchase_id=str(purchase_id)):
                async with self._db.transaction() as tx:  # to the end of the queue, so that it starves no other
                    await queries.touch_purchase(tx, account_id, purchase_id, now)

    async def _book_if_missing(self, environment: Environment, facts: PaymentFacts, now: datetime) -> bool:
        async with self._db.read() as db:
            purchase = await queries.find_purchase_of_payment(db, environment, facts.payment_intent_id)
        if purchase is not None and purchase["received_minor"] is not None:
            return False
        async with self._db.transaction() as tx:
            return await apply(tx, environment, facts, now) != "ignored"

    async def reconcile_purchase(self, account_id: UUID, purchase_id: UUID, now: datetime) -> bool:
        """Ask Stripe about one purchase; whether its money turned out to have arrived.

        A purchase that may never have reached Stripe (we died in between) is opened there now, unpaid. One that nobody
        has begun to pay for a day, or that was begun and not paid for 30 days, is canceled, at Stripe first; one of a
        closed account at once: so each comes to an end. One that is booked is asked about only while it waits for a
        person: there may be room for its credits by now. Raises PurchaseRejected.
        """
        async with self._db.read() as db:
            purchase = await queries.find_purchase(db, account_id, purchase_id)
        if purchase is None or purchase["status"] == "canceled":
            return False
        if purchase["credit_id"] is not None and purchase["review_reason"] is None:
            return False
        age = now - purchase["created_at"]
        if age > CANCELED_AFTER and purchase["payment_intent_id"] is None:
            # Its buyer never got anything to pay with, and Stripe no longer knows the idempotency key.
            await self._cancel_unopened(account_id, purchase_id, now)
            return False
        intent = await self._intent_of(purchase, now)
        status, environment = intent.facts.status, purchase["environment"]
        expired = status in queries.OPEN and age > lifetime(status, intent.facts.next_action)
        if expired or (status in queries.CANCELABLE and await self._is_closed(account_id)):
            intent = await self._gateway.cancel_payment_intent(environment, intent.payment_intent_id, at=now)
        await self._apply(environment, intent.facts, now)
        return intent.facts.received_minor is not None

    async def reconcile_money_back(self, account_id: UUID, purchase_id: UUID, now: datetime) -> None:
        """Ask Stripe for the refunds and disputes of one purchase. Raises PaymentProviderUnavailable."""
        await reconcile_money_back(self._db, self._gateway, account_id, purchase_id, now)

    # --- closed accounts ---

    async def settle_purchases(self, account_id: UUID, now: datetime) -> None:
        """Reconcile every unsettled purchase of an account that was closed, erased or reopened.

        Idempotent. A failure of one stops no other; the first one is raised in the end, so that the job is retried.
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
        """Give the money back that arrived for a closed account, if CLOSED_ACCOUNT_PAYMENTS says so.

        Whether it went back. Payments of an account that was reopened are booked instead. Raises
        PaymentProviderUnavailable.
        """
        if self._configuration.settings.closed_account_payments != "refund":
            return False
        async with self._db.read() as db:
            purchase = await queries.find_purchase(db, account_id, purchase_id)
        if purchase is None or purchase["review_reason"] != "account_closed" or purchase["payment_intent_id"] is None:
            return False
        if not await self._is_closed(account_id):
            await self.reconcile_purchase(account_id, purchase_id, now)
            return False
        return await give_back(self._db, self._gateway, purchase, now)

    async def _refund_closed(self, environment: Environment, now: datetime, attempts: Attempts) -> None:
        """The safety net of the job that each such payment has."""
        async with self._db.read() as db:
            waiting = await queries.list_to_refund(db, environment, until=now - STUCK_AFTER)
        for purchase in waiting:
            account_id, purchase_id = purchase["account_id"], purchase["purchase_id"]
            work = self.refund_closed(account_id, purchase_id, now)
            await attempts.attempt("payments", work, purchase_id=str(purchase_id))


def request_key(idempotency_key: str) -> str:
    """The key, or its digest when it does not fit Stripe's header: 255 plain characters, with what we put before it."""
    return idempotency_key if PLAIN_KEY.fullmatch(idempotency_key) else sha256(idempotency_key.encode()).hexdigest()
