"""A business that sells subscriptions: the application's services, and Stripe's events, delivered as a test likes."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.accounts.directory import Identity, Opening, Profile
from app.billing.service import BillingService
from app.clock import request_time
from app.configuration.service import Configuration
from app.db import Database
from app.db.version_mark import VersionMark
from app.demo.stripe.webhooks import signature
from app.issuers import Issuer
from app.limits.service import LimitService
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.plans.document import Plan, PlanPrice, Plans
from app.subscriptions.books import load
from app.subscriptions.settlement import Settlement
from app.wallet.service import WalletService
from app.worker.services import running_services
from tests.books import balances, connected
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls, create_database, drop_database
from tests.demo.oidc_server import SPA, WEB, RunningOIDC, running_oidc
from tests.metering.conftest import PROVIDER, running_desk
from tests.servers import running_stripe
from tests.subscriptions import stripe_events as stripe
from tests.subscriptions.made import DOLLAR, PRO, STANDARD
from tests.subscriptions.store import FRONTEND, Buyer, Store, Token, sell

SECRET = "whsec_of_the_tests"
KEYS = {"secret_key": "sk_test_x", "publishable_key": "pk_test_x", "webhook_secret": SECRET}


def priced(plan: Plan, month: int, year: int) -> Plan:
    """Return a plan with prices, in cents."""
    prices = [
        PlanPrice(interval="month", currency="USD", amount_minor=month, stripe_price_live=f"price_{plan.name}"),
        PlanPrice(interval="year", currency="USD", amount_minor=year, stripe_price_live=f"price_{plan.name}_year"),
    ]
    return plan.model_copy(update={"prices": prices})


SOLD = [Plan(name="free", title="Free"), priced(STANDARD, 2000, 20_000), priced(PRO, 5000, 50_000)]


@dataclass
class Business:
    """The services that sell subscriptions, on a database of the test, with the plans on sale."""

    urls: Urls
    db: Database
    billing: BillingService
    payments: PaymentService
    settlement: Settlement
    limits: LimitService
    gateway: StripeGateway
    configuration: Configuration
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    plans: list[Plan] = field(default_factory=lambda: list(SOLD))

    async def account(self, currency: str | None = None, plan_name: str | None = None) -> UUID:
        identity = Identity("live", "oauth:google", f"{uuid.uuid4()}@example.com")
        account_id, _ = await self.billing.accounts.directory.find_or_create(
            identity, ACTOR, self.now, Opening(currency=currency, plan_name=plan_name), Profile()
        )
        return account_id

    async def deliver(self, *events: dict[str, Any], now: datetime | None = None) -> None:
        for event in events:
            payload = json.dumps(event).encode()
            await self.payments.handle_webhook(payload, signature(SECRET, payload, int(time.time())), now or self.now)

    async def settle(self, account_id: UUID, now: datetime) -> None:
        """Settle an account without any news, as the worker does."""
        applier = await self.settlement.applier()
        async with self.db.transaction() as tx:
            await applier.apply(tx, "live", account_id, [], now)

    async def money(self, account_id: UUID, now: datetime | None = None) -> float:
        """Return the spendable money less the debt, in dollars."""
        state = await self.billing.accounts.state(account_id)
        spendable = await self.billing.accounts.spendable_money(state, now or self.now)
        return (spendable - int(state["money_debt_nanos"])) / DOLLAR

    async def plan_of(self, account_id: UUID) -> str:
        return str((await self.billing.accounts.state(account_id))["plan_name"])

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        async with connected(self.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql, *values)]

    async def grants(self, account_id: UUID) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM period_grants WHERE account_id = $1 ORDER BY 2, 3", account_id)

    async def pools(self, account_id: UUID) -> dict[str, int]:
        return await balances(self.urls, account_id)

    async def book(self, account_id: UUID) -> Any:
        async with self.db.transaction() as tx:
            return await load(tx, account_id, "live")

    def set_plans(self, *plans: Plan) -> None:
        self.plans[:] = plans


@dataclass(frozen=True)
class Customer:
    """A customer of Stripe with one subscription, whose objects it makes."""

    account_id: UUID
    number: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    shape: stripe.Shape = stripe.SHAPES[-1]

    @property
    def subscription_id(self) -> str:
        return f"sub_{self.number}"

    @property
    def customer_id(self) -> str:
        return f"cus_{self.number}"

    def payment_id(self, number: int) -> str:
        return f"pi_{self.number}_{number}"

    @property
    def metadata(self) -> dict[str, str]:
        return {"account_id": str(self.account_id)}

    def state(
        self, kind: str, at: datetime, period: tuple[datetime, datetime], price: str = "price_standard", **fields: Any
    ) -> dict[str, Any]:
        made = stripe.subscription(
            self.subscription_id, self.customer_id, price, period, metadata=self.metadata, shape=self.shape, **fields
        )
        return stripe.event(f"customer.subscription.{kind}", made, at, self.shape)

    def line(
        self, period: tuple[datetime, datetime], price: str = "price_standard", amount: int = 2000, **fields: Any
    ) -> Any:
        return stripe.line(self.subscription_id, price, period, amount, shape=self.shape, **fields)

    def invoice(self, kind: str, number: int, at: datetime, *lines: Any, **fields: Any) -> dict[str, Any]:
        made = stripe.invoice(
            f"in_{self.number}_{number}",
            self.subscription_id,
            self.customer_id,
            list(lines),
            at,
            payment_id=self.payment_id(number),
            metadata=self.metadata,
            shape=self.shape,
            **fields,
        )
        return stripe.event(f"invoice.{kind}", made, at, self.shape)

    def payment(self, number: int, at: datetime) -> dict[str, Any]:
        made = stripe.invoice_payment(f"in_{self.number}_{number}", self.payment_id(number))
        return stripe.event("invoice_payment.paid", made, at, self.shape)

    def refund(self, number: int, amount: int, at: datetime, status: str = "succeeded") -> dict[str, Any]:
        made = stripe.refund(self.payment_id(number), amount, at, status)
        return stripe.event("refund.created" if status == "succeeded" else "refund.failed", made, at, self.shape)

    def dispute(self, kind: str, number: int, amount: int, at: datetime, status: str) -> dict[str, Any]:
        made = stripe.dispute(self.payment_id(number), amount, status)
        return stripe.event(f"charge.dispute.{kind}", made, at, self.shape)


@pytest.fixture
async def business(db: Database, database: Urls, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Business]:
    settings = settings_for(database, stripe_live=KEYS, free_uses=0)
    configuration = Configuration(db, settings)
    plans: list[Plan] = list(SOLD)
    read = Configuration.current

    async def with_plans(self: Configuration) -> Any:
        current = await read(self)
        documents = {**current.documents, "plans": Plans(plans=plans)}
        return type(current)(current.changes, documents, current.packs, current.products, current.providers)

    monkeypatch.setattr(Configuration, "current", with_plans)
    billing = BillingService(db, configuration)
    mark = VersionMark(db)
    limits = LimitService(db, billing.accounts, mark)
    wallet = WalletService(db, billing.accounts, mark)
    settlement = Settlement(configuration, billing.accounts, wallet, limits, mark)
    gateway = StripeGateway(settings, configuration)
    payments = PaymentService(db, configuration, billing, gateway, settlement)
    yield Business(database, db, billing, payments, settlement, limits, gateway, configuration, plans=plans)
    await gateway.close()


@pytest.fixture(scope="package")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="package")
async def shared(oidc: RunningOIDC) -> AsyncIterator[Store]:
    issuer = Issuer(
        issuer=oidc.issuer,
        jwks_url=oidc.jwks_url,
        audiences=[WEB.client_id, SPA.client_id],
        interactive_audiences=[SPA.client_id],
        provider=PROVIDER,
    )
    name = f"store_{uuid.uuid4().hex}"
    urls = await create_database(name)
    with running_stripe() as local:
        settings: dict[str, Any] = {
            "issuers": [issuer],
            "stripe_live": local.keys,
            "stripe_api_base": local.url,
            "frontend_url": FRONTEND,
            "stripe_timeout_s": 20,
            "request_timeout_s": 30,
        }
        async with (
            running_desk(urls, **settings) as desk,
            running_services(settings_for(urls, **settings)) as worker,
        ):
            store = Store(desk, local, worker)
            await sell(store)
            await store.control("webhooks/url", url=f"{desk.url}/webhooks/stripe")
            yield store
    await drop_database(name)


@pytest.fixture
def store(shared: Store) -> Iterator[Store]:
    shared.ahead = timedelta()
    shared.desk.app.dependency_overrides[request_time] = lambda: shared.now
    yield shared
    shared.desk.app.dependency_overrides.clear()


@pytest.fixture
async def open_buyer(store: Store, oidc: RunningOIDC) -> AsyncIterator[Callable[[], Buyer]]:
    async with AsyncExitStack() as stack:

        def open_client(user_id: str, audience: str) -> httpx.AsyncClient:
            token = Token(store, oidc, user_id, audience)
            client = httpx.AsyncClient(base_url=store.desk.url, auth=token, timeout=60)
            stack.push_async_callback(client.aclose)
            return client

        def open_buyer() -> Buyer:
            user_id = str(uuid.uuid4())
            return Buyer(store, open_client(user_id, WEB.client_id), open_client(user_id, SPA.client_id), user_id)

        yield open_buyer


@pytest.fixture
async def buyer(open_buyer: Callable[[], Buyer]) -> Buyer:
    """A user with an account."""
    made = open_buyer()
    assert (await made.client.get("/v1/accounts/me")).status_code == 200
    return made


# --- subscribing ---
