"""SubscriptionService: subscribing on Stripe's page or with a saved card, changes, and what an account has."""

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.accounts.service import AccountService
from app.auth.caller import Environment
from app.configuration.service import Configuration
from app.db import Database, new_id
from app.ledger.errors import AccountClosed
from app.ledger.locked_account import lock_account
from app.ledger.money import minor_floor
from app.payments.customers import Customers
from app.payments.errors import PaymentProviderError, PaymentProviderFailed, PaymentProviderRejects
from app.payments.facts import Provider
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_subscriptions import Begun, Offer, Page, StripeSubscriptions
from app.payments.subscription_facts import SubscriptionFacts
from app.plans.document import Interval, Plan
from app.subscriptions import queries
from app.subscriptions.books import load
from app.subscriptions.changing import Changer
from app.subscriptions.errors import AlreadySubscribed
from app.subscriptions.offers import Offered, offered_plan
from app.subscriptions.queries import Row
from app.subscriptions.refreshing import Refresher
from app.subscriptions.rows import terms_row
from app.subscriptions.settlement import Settlement
from app.subscriptions.state import LIVE, Terms, in_force, latest

REUSED_FOR = timedelta(hours=23)
"""A second click gets the page of the first for so long. Stripe remembers idempotency keys a little longer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The plan of an account, and the subscription that it is from. None: it has none."""

    plan_name: str
    is_entitled: bool
    subscription: SubscriptionFacts | None
    terms: Terms | None
    next_plan: str | None
    """The plan from the next period on, if it is another."""
    grace_ends_at: datetime | None
    monthly_minor: int
    """The money that the plan grants each month, in minor units of the account's currency."""


class SubscriptionService:
    """One per process. Its methods open their own transactions, and call the provider outside of them."""

    def __init__(
        self,
        db: Database,
        configuration: Configuration,
        accounts: AccountService,
        gateway: StripeGateway,
        settlement: Settlement,
    ) -> None:
        self._db = db
        self._configuration = configuration
        self._accounts = accounts
        self._gateway = gateway
        self._provider: Provider = gateway.provider
        self._settlement = settlement
        self._customers = Customers(db, gateway)
        self._stripe = StripeSubscriptions(gateway)
        refunds_closed = configuration.settings.closed_account_payments == "refund"
        self.refresher = Refresher(db, accounts, gateway, settlement, refunds_closed=refunds_closed)
        self.changer = Changer(db, configuration, accounts, gateway, settlement, self.refresher)

    # --- subscribing ---

    async def open_page(
        self,
        environment: Environment,
        account_id: UUID,
        plan: str,
        interval: Interval,
        *,
        user: str,
        success_url: str,
        cancel_url: str,
        now: datetime,
    ) -> Page:
        """Begin to subscribe on a page of Stripe. A second click gets the same page; another wish closes it.

        The order is stored before Stripe is called. Raises UpgradeInProgress, UnknownPlan, PlanNotSold,
        AlreadySubscribed, AccountSuspended, AccountClosed, PaymentsNotConfigured, PaymentProviderError.
        """
        urls = {"success_url": success_url, "cancel_url": cancel_url}
        while True:
            order = await self._order(environment, account_id, plan, interval, urls, now)
            offer = await self._offer(order, now)
            page = await self._page_of(order, offer, user, now)
            if page.url is not None:
                return page
            if not await self.refresher.look_at_order({**order, "session_id": page.session_id}, now):
                raise AlreadySubscribed

    async def begin(
        self,
        environment: Environment,
        account_id: UUID,
        plan: str,
        interval: Interval,
        *,
        payment_method_id: str,
        details: dict[str, Any],
        now: datetime,
    ) -> Begun:
        """Begin a subscription whose first invoice the caller's browser pays. A repeat gets the same one.

        Raises PaymentDeclined for a card that cannot be saved, and as `open_page`.
        """
        order = await self._order(environment, account_id, plan, interval, {}, now)
        offer = await self._offer(order, now)
        card_id = await self._stripe.attach(environment, offer.customer_id, payment_method_id, details)
        key: str | None = order["subscription_id"]
        if key is not None:
            begun = await self._stripe.begun(environment, key, at=now)
        else:
            try:
                begun = await self._stripe.begin(offer, card_id, at=now)
            except (PaymentProviderFailed, PaymentProviderRejects):
                # Stripe repeats its failure, and refuses another card, for this idempotency key.
                await self._note(account_id, offer.order_id, now, attempt=offer.attempt + 1)
                raise
            await self._note(account_id, offer.order_id, now, subscription_id=begun.facts.subscription_id)
        await self._settlement.apply(self._db, environment, account_id, [begun.facts], now)
        return begun

    async def _order(
        self,
        environment: Environment,
        account_id: UUID,
        plan: str,
        interval: Interval,
        urls: dict[str, str],
        now: datetime,
    ) -> Row:
        """Return the open order of a wish. Insert it, after closing an open order of another wish."""
        await self._settlement.require_finished_upgrade()
        await self._gateway.publishable_key(environment)  # raises before anything is written
        currency = (await self._accounts.state(account_id))["currency"]
        offered = offered_plan(await self._configuration.current(), plan, interval, currency, environment)
        requested = {"price_id": offered.price_id, "success_url": None, "cancel_url": None, **urls}
        while True:
            async with self._db.transaction() as tx:
                (await lock_account(tx, account_id)).require_active()
                subscriptions = await queries.list_subscriptions(tx, account_id)
                if any(row["status"] in LIVE for row in subscriptions):
                    raise AlreadySubscribed
                order = await queries.find_open_order(tx, account_id)
                if order is None:
                    order = self._new_order(environment, account_id, offered, requested, now)
                    await queries.insert_order(tx, order)
                    return order
            is_same = all(order[name] == value for name, value in requested.items())
            if is_same and now - order["created_at"] < REUSED_FOR:
                return order
            await self._give_up(order, now)

    def _new_order(
        self,
        environment: Environment,
        account_id: UUID,
        offered: Offered,
        requested: dict[str, str | None],
        now: datetime,
    ) -> Row:
        return {
            "account_id": account_id,
            "order_id": new_id(),
            "environment": environment,
            "provider": self._provider,
            **terms_row(offered.terms),
            **requested,
            "session_id": None,
            "subscription_id": None,
            "status": "open",
            "attempt": 1,
            "created_at": now,
            "updated_at": now,
        }

    async def _give_up(self, order: Row, now: datetime) -> None:
        """Close an order, at the provider first: no one can fulfill it afterwards. Raises AlreadySubscribed."""
        environment, account_id = order["environment"], order["account_id"]
        key: str | None = order["subscription_id"]
        has_page = order["success_url"] is not None
        if has_page and (order["session_id"] is not None or now - order["created_at"] < REUSED_FOR):
            page = await self._page_of(order, await self._offer(order, now), str(account_id), now)
            if page.url is not None:
                page = await self._stripe.close_page(environment, page.session_id)
            key = page.subscription_id
        if key is not None:
            await self.refresher.refresh(environment, account_id, key, now)  # its payment may have just arrived
            async with self._db.read() as db:
                known = await queries.list_subscriptions(db, account_id)
            status = next((row["status"] for row in known if row["subscription_id"] == key), None)
            if status in LIVE or (has_page and status == "incomplete"):
                raise AlreadySubscribed
            facts = await self._stripe.end(environment, key, at=now)  # incomplete: it was never paid
            if facts is not None:
                await self._settlement.apply(self._db, environment, account_id, [facts], now)
        await self.refresher.close_order(account_id, order["order_id"], now)

    async def _offer(self, order: Row, now: datetime) -> Offer:
        customer_id = await self._customers.customer_of(order["environment"], order["account_id"], now)
        names = ("environment", "account_id", "order_id", "attempt", "price_id")
        return Offer(**{name: order[name] for name in names}, customer_id=customer_id)

    async def _page_of(self, order: Row, offer: Offer, user: str, now: datetime) -> Page:
        """Return the page of an order. Open it, if that has not happened or was not noted."""
        if order["session_id"] is not None:
            return await self._stripe.page(offer.environment, order["session_id"])
        try:
            page = await self._stripe.open_page(offer, user, order["success_url"], order["cancel_url"])
        except PaymentProviderFailed:
            await self._note(offer.account_id, offer.order_id, now, attempt=offer.attempt + 1)
            raise
        except PaymentProviderRejects:
            if await self._customers.forget_missing(offer.environment, offer.account_id, offer.customer_id, now):
                await self._note(offer.account_id, offer.order_id, now, attempt=offer.attempt + 1)
            else:
                await self.refresher.close_order(offer.account_id, offer.order_id, now)
            raise
        await self._note(offer.account_id, offer.order_id, now, session_id=page.session_id)
        if (await self._accounts.state(offer.account_id))["status"] == "closed":
            raise AccountClosed  # closed since this click began; the job of the closing closes the page
        return page

    async def _note(self, account_id: UUID, order_id: UUID, now: datetime, **changes: object) -> None:
        async with self._db.transaction() as tx:
            await queries.update_order(tx, account_id, order_id, now, **changes)

    # --- the portal and the standing ---

    async def open_portal(self, environment: Environment, account_id: UUID, return_url: str, now: datetime) -> str:
        """Return the address of Stripe's billing portal. Raises UpgradeInProgress, PaymentProviderError."""
        customer_id = await self._customers.customer_of(environment, account_id, now)
        return await self._stripe.open_portal(environment, customer_id, return_url)

    async def standing(self, environment: Environment, account_id: UUID, now: datetime) -> Standing:
        """Return the account's plan and subscription. Reads an open order at the provider first.

        So a user who returns from the page sees the subscription, whether or not its events have arrived.
        """
        async with self._db.read() as db:
            order = await queries.find_open_order(db, account_id)
        if order is not None and (order["session_id"] or order["subscription_id"]):
            with contextlib.suppress(PaymentProviderError):  # the books are shown
                await self.refresher.look_at_order(order, now)
        return await self.known_standing(environment, account_id, now)

    async def known_standing(self, environment: Environment, account_id: UUID, now: datetime) -> Standing:
        """Return the account's plan and subscription as they are known. Calls no provider."""
        state = await self._accounts.state(account_id)
        async with self._db.read() as db:
            book = await load(db, account_id, environment)
        grace, subscribed = self._settlement.grace, book.subscribed()
        entitled = in_force(subscribed, grace, now)
        shown = entitled or latest(subscribed)
        terms = None if shown is None else shown.plan_in_force(now)
        following = None if shown is None else shown.terms.get(shown.facts.price_id or "")
        other = following is not None and terms is not None and following.plan.name != terms.plan.name
        plan = entitled.plan_in_force(now) if entitled is not None else None
        return Standing(
            plan_name=state["plan_name"],
            is_entitled=entitled is not None,
            subscription=None if shown is None else shown.facts,
            terms=terms,
            next_plan=following.plan.name if other and following is not None else None,
            grace_ends_at=None if shown is None else shown.grace_ends_at(grace),
            monthly_minor=0 if plan is None else _monthly(plan.plan, state["currency"]),
        )


def _monthly(plan: Plan, currency: str) -> int:
    """Return the money that a plan grants each month, in minor units, rounded down."""
    nanos = sum(grant.units for grant in plan.grants if (grant.cadence, grant.currency) == ("month", currency))
    return minor_floor(nanos, currency)
