"""The providers under the contract. A further provider is one more entry of PROVIDERS."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import pytest

from app.plans.document import Plan, PlanGrant, PlanPrice, Plans
from app.verification import verify_books
from app.worker.services import running_services
from tests.conftest import settings_for
from tests.databases import create_database, drop_database
from tests.payments.contract.goods import SALES, Sale, Shop
from tests.payments.contract.provider import Goods, Provider
from tests.payments.contract.stripe_provider import Stripe
from tests.subscriptions.store import store_plans

PROVIDERS: Mapping[str, Callable[[], Provider]] = {"stripe": Stripe}
Sell = Callable[[], Awaitable[Sale]]


def sold(*goods: Goods) -> pytest.MarkDecorator:
    """A case for these goods, or for all, of each provider that sells them."""
    pairs = [(name, one) for name, make in PROVIDERS.items() for one in goods or SALES if one in make().sells]
    return pytest.mark.parametrize("sell", pairs, indirect=True, ids=[" ".join(pair) for pair in pairs])


@asynccontextmanager
async def running_shop(provider: Provider) -> AsyncIterator[Shop]:
    """Run the service with a provider. In the end, its books verify."""
    name = f"contract_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with provider.running():
        key = await provider.price_of("standard", 2000)
        price = PlanPrice(interval="month", currency="USD", amount_minor=2000, stripe_price_live=key)
        grant = PlanGrant(unit="money", currency="USD", amount="25", expires="never")
        plans = [Plan(name="free", title="Free"), Plan(name="standard", title="S", prices=[price], grants=[grant])]
        await store_plans(urls, Plans(plans=plans))
        packs = {"standard": {"price_minor": 500, "credits": 20}}
        settings = settings_for(urls, free_uses=0, packs=packs, database_timeout_s=20, **provider.settings)
        async with running_services(settings) as services:
            yield Shop(urls, services, provider)
            verification = await verify_books(services.db, datetime.now(UTC))
            assert verification.ok, verification.problem
    await drop_database(name)


@pytest.fixture(scope="package")
async def shops() -> AsyncIterator[Mapping[str, Shop]]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(running_shop(make())) for name, make in PROVIDERS.items()}


@pytest.fixture
async def sell(shops: Mapping[str, Shop], request: pytest.FixtureRequest) -> Sell:
    """Return what sells to another account each time."""
    name, goods = request.param
    shop = shops[name]
    await shop.provider.new_events()  # of earlier cases

    async def sell() -> Sale:
        sale = SALES[goods](shop)
        await sale.prepare()
        return sale

    return sell
