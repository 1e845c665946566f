"""Goods of the service, as the contract's cases buy them: opened, paid, and settled by the worker's jobs."""

import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import UUID

from app.accounts.directory import Identity, Profile
from app.payments.orders import RequestedMoney
from app.refills.service import RequestedSettings
from app.worker.services import Services
from tests.books import balances
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.payments.contract import provider as contract
from tests.payments.money_pages import order
from tests.support.wallets import DOLLAR

PAGES = ("https://app.example/ok", "https://app.example/no")


@dataclass
class Shop:
    """The service under the contract: its services, as the worker has them, and the provider."""

    urls: Urls
    services: Services
    provider: contract.Provider

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def account(self) -> UUID:
        identity = Identity("live", "oauth:google", f"{uuid.uuid4()}@example.com")
        return await self.services.billing.accounts.directory.resolve(identity, Profile(), ACTOR, self.now)

    async def deliver(self, event: contract.Event) -> None:
        await self.services.payments.handle_webhook(*self.provider.webhook(event), self.now)

    async def money(self, account_id: UUID) -> float:
        """The money less the debt, in dollars."""
        pools = await balances(self.urls, account_id)
        return (pools.get("money", 0) + pools.get("grant of money", 0) - pools.get("money_debt", 0)) / DOLLAR


class Sale(ABC):
    """One sale to one account. Each step may be repeated after a crash."""

    goods: ClassVar[contract.Goods]
    minor: ClassVar[int] = 2500
    """The price."""
    payment: str = ""
    """The provider's id of the payment."""

    account_id: UUID

    def __init__(self, shop: Shop) -> None:
        self.shop, self.services = shop, shop.services

    async def prepare(self) -> None:
        """Open an account, and do what else comes before the sale."""
        self.account_id = await self.shop.account()

    @abstractmethod
    async def open(self) -> str:
        """Open it at the provider. Return what the buyer pays."""

    async def pay(self, opened: str, *, later: bool = False) -> None:
        self.payment = await self.shop.provider.pay(self.goods, opened, later=later)

    @abstractmethod
    async def work(self) -> None:
        """Run the jobs that follow events."""

    @abstractmethod
    async def look(self) -> None:
        """Find payments and refunds without their events, as the periodic jobs do."""

    async def kept(self) -> float:
        """Return the part of the goods that the account has, less its debt."""
        return await self.shop.money(self.account_id) / 25


class _Purchase(Sale):
    async def work(self) -> None:
        """No job follows the events of a purchase."""

    async def look(self) -> None:
        done = await self.services.payments.reconcile(self.shop.now + timedelta(minutes=11))
        assert done["failed"] == 0


class Credits(_Purchase):
    goods = "credits"
    minor = 500

    async def open(self) -> str:
        opened = await self.services.payments.open_purchase(
            "live", self.account_id, now=self.shop.now, idempotency_key="sale"
        )
        return opened.payment_id

    async def kept(self) -> float:
        pools = await balances(self.shop.urls, self.account_id)
        return (pools["paid"] - pools["debt"]) / 20


class Money(_Purchase):
    goods = "money"

    async def open(self) -> str:
        requested: RequestedMoney = order(self.minor)
        page = await self.services.payments.open_checkout("live", self.account_id, requested, now=self.shop.now)
        return page.session_id


class Refill(_Purchase):
    goods = "refill"
    _purchase_id: UUID | None = None

    async def open(self) -> str:
        await self.services.refilling.refills.start(self.account_id, self.shop.now)
        [refill] = await self.services.refilling.refills.list_refills(self.account_id, before=None, limit=2)
        self._purchase_id = refill.purchase_id
        return ""

    async def prepare(self) -> None:
        await super().prepare()
        refills, cards = self.services.refilling.refills, self.services.refilling.cards
        consent = (await refills.in_force()).consent_text
        address = await cards.open_page(
            "live", self.account_id, consent=consent, address=None, urls=PAGES, now=self.shop.now
        )
        await self.shop.provider.save_card(address.rsplit("/", 1)[1])
        await cards.list_of(self.account_id, self.shop.now, refresh=True)
        requested = RequestedSettings(True, 5 * DOLLAR, 25 * DOLLAR, None)
        await refills.set(self.account_id, lambda *_: requested, self.shop.now)

    async def pay(self, opened: str, *, later: bool = False) -> None:
        """Let the worker send the payment."""
        await self.work()

    async def work(self) -> None:
        assert self._purchase_id is not None
        await self.services.refilling.payments.settle(self.account_id, self._purchase_id, self.shop.now)
        if not self.payment:
            [self.payment] = await self.shop.provider.payments()


class Subscription(Sale):
    goods = "subscription"
    minor = 2000

    async def open(self) -> str:
        page = await self.services.subscriptions.open_page(
            "live",
            self.account_id,
            "standard",
            "month",
            user="user-1",
            success_url=PAGES[0],
            cancel_url=PAGES[1],
            now=self.shop.now,
        )
        return page.session_id

    async def work(self) -> None:
        """Read the subscription, as its events ask for."""
        standing = await self.services.subscriptions.known_standing("live", self.account_id, self.shop.now)
        if standing.subscription is not None:
            key = standing.subscription.subscription_id
            await self.services.subscriptions.refresher.refresh("live", self.account_id, key, self.shop.now)

    async def look(self) -> None:
        await self.services.subscriptions.refresher.look_at_orders(self.shop.now + timedelta(minutes=11))
        await self.work()


SALES: dict[contract.Goods, type[Sale]] = {sale.goods: sale for sale in (Credits, Money, Refill, Subscription)}
