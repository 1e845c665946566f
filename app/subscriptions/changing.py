"""Changes of a subscription: its end and resumption, and another plan."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.accounts.service import AccountService
from app.auth.caller import Environment
from app.configuration.service import Configuration
from app.db import Database
from app.payments.errors import PaymentDeclined, PaymentProviderRejects
from app.payments.stripe_gateway import StripeGateway
from app.payments.stripe_subscriptions import Preview, StripeSubscriptions
from app.payments.subscription_facts import SubscriptionFacts
from app.plans.document import Interval
from app.plans.proration import Effect, effect_of_change
from app.plans.proration import Terms as PricedTerms
from app.subscriptions.books import load
from app.subscriptions.errors import ChangeNotPossible, NoSubscription
from app.subscriptions.offers import Offered, offered_plan
from app.subscriptions.refreshing import Refresher
from app.subscriptions.settlement import Settlement
from app.subscriptions.state import LIVE, Subscribed, in_force, latest

PRORATION_KEPT_FOR = timedelta(hours=1)
"""The price of a preview can be taken for so long."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of plan: when it takes effect, and the invoice that it leads to."""

    effect: Effect
    preview: Preview | None
    takes_effect_at: datetime | None
    prorated_at: datetime


class Changer:
    """One per process. Its methods open their own transactions, and call the provider outside of them."""

    def __init__(
        self,
        db: Database,
        configuration: Configuration,
        accounts: AccountService,
        gateway: StripeGateway,
        settlement: Settlement,
        refresher: Refresher,
    ) -> None:
        self._db = db
        self._configuration = configuration
        self._accounts = accounts
        self._stripe = StripeSubscriptions(gateway)
        self._settlement = settlement
        self._refresher = refresher

    async def set_canceling(
        self, environment: Environment, account_id: UUID, now: datetime, *, canceling: bool
    ) -> None:
        """Let the subscription end with its period, or continue after all. Raises NoSubscription."""
        current = await self._current(environment, account_id, now)
        key = current.facts.subscription_id
        facts = await self._stripe.set_canceling(environment, key, canceling=canceling, at=now)
        await self._settlement.apply(self._db, environment, account_id, [facts], now)

    async def preview_change(
        self, environment: Environment, account_id: UUID, plan: str, interval: Interval, now: datetime
    ) -> Change:
        """Return when a change would take effect, and what it would cost. Changes nothing.

        Raises NoSubscription, UnknownPlan, PlanNotSold, ChangeNotPossible.
        """
        current = await self._current(environment, account_id, now)
        offered, effect = await self._effect(environment, account_id, current, plan, interval, now)
        prorated_at = now.replace(microsecond=0)
        if effect == "none":
            return Change(effect, None, None, prorated_at)
        is_now = effect == "now"
        preview = await self._stripe.preview_change(
            current.facts, environment, offered.price_id, now=is_now, prorated_at=prorated_at
        )
        return Change(effect, preview, now if is_now else current.facts.period_end, prorated_at)

    async def change(
        self,
        environment: Environment,
        account_id: UUID,
        plan: str,
        interval: Interval,
        *,
        prorated_at: datetime | None,
        now: datetime,
    ) -> None:
        """Change the plan: an upgrade now, for the difference of the remaining time; a downgrade at the period's end.

        With `prorated_at` of a preview, the price is the previewed one. A payment that fails changes nothing. Raises
        PaymentDeclined, and as `preview_change`.
        """
        current = await self._current(environment, account_id, now)
        if current.facts.price_id != current.price_in_force(now):
            # A lower price was chosen for the next period, or the answer to an earlier change was lost.
            before = now - timedelta.resolution  # the read after the change is the later one
            await self._refresher.refresh(environment, account_id, current.facts.subscription_id, before)
            current = await self._current(environment, account_id, now)
        offered, effect = await self._effect(environment, account_id, current, plan, interval, now)
        facts, in_force_id = current.facts, current.price_in_force(now)
        if effect == "now" and in_force_id is not None and facts.price_id != in_force_id:
            # A lower price was chosen for the next period. The difference is to the price that is paid.
            facts = await self._set_price(environment, facts, in_force_id, now)
        if effect == "now":
            at = now if prorated_at is None else min(max(prorated_at, now - PRORATION_KEPT_FOR), now)
            at = max(at, facts.period_start or at)
            try:
                await self._stripe.change_price(facts, environment, offered.price_id, now=True, prorated_at=at, at=now)
            except (PaymentDeclined, PaymentProviderRejects):
                chosen_id = current.facts.price_id
                if chosen_id is not None and chosen_id != facts.price_id:
                    await self._set_price(environment, facts, chosen_id, now)
                raise
        elif facts.price_id != offered.price_id:
            await self._set_price(environment, facts, offered.price_id, now)
        await self._refresher.refresh(environment, account_id, facts.subscription_id, now)

    async def _set_price(
        self, environment: Environment, facts: SubscriptionFacts, price_id: str, now: datetime
    ) -> SubscriptionFacts:
        """Set the price of the next period."""
        return await self._stripe.change_price(facts, environment, price_id, now=False, prorated_at=now, at=now)

    async def _current(self, environment: Environment, account_id: UUID, now: datetime) -> Subscribed:
        """Return the subscription that can be changed. Raises NoSubscription, UpgradeInProgress."""
        await self._settlement.require_finished_upgrade()
        async with self._db.read() as db:
            subscribed = (await load(db, account_id, environment)).subscribed()
        current = in_force(subscribed, self._settlement.grace, now) or latest(subscribed)
        if current is None or current.facts.status not in LIVE:
            raise NoSubscription
        return current

    async def _effect(
        self,
        environment: Environment,
        account_id: UUID,
        current: Subscribed,
        plan: str,
        interval: Interval,
        now: datetime,
    ) -> tuple[Offered, Effect]:
        """Return what a change would sell, and when it takes effect."""
        currency = (await self._accounts.state(account_id))["currency"]
        offered = offered_plan(await self._configuration.current(), plan, interval, currency, environment)
        before = current.plan_in_force(now)
        if before is None or current.facts.status not in ("active", "trialing"):
            raise ChangeNotPossible("The subscription is not paid. Pay its open invoice on the billing page first")
        priced = before.plan.price(before.interval, currency)
        effect = effect_of_change(
            PricedTerms(before.plan.name, before.interval, 0 if priced is None else priced.amount_minor),
            PricedTerms(plan, interval, offered.price.amount_minor),
        )
        if effect == "period_end" and interval != before.interval:
            raise ChangeNotPossible(
                "A lower price at another interval is possible only at the end: cancel, then subscribe again"
            )
        return offered, effect
