"""The service under test, in this process, shared by all examples of test_machine.py."""

import asyncio
import contextlib
import uuid
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from app.admin.audit.log import record_by_caller
from app.approvals.service import ApprovalService
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.cost_records.service import CostRecordService
from app.db import Database
from app.db.version_mark import VersionMark
from app.holds.service import HoldService
from app.limits.service import LimitService
from app.metering.service import UsageService
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.pricing.service import PriceBooks
from app.pricing.unknown_models import UnknownModels
from app.runs.service import RunService
from app.settings import Settings
from app.tools.service import ProductInventoryService
from app.wallet.service import WalletService
from tests.conftest import settings_for
from tests.databases import Urls, create_database, drop_database
from tests.payments.test_history import SECRET, History
from tests.servers import running_stripe
from tests.support.account_model import Sale

BEGINNING = datetime(2026, 2, 27, 21, 30, tzinfo=UTC)
DAILY_FREE, FREE = 3, 4
PACKS = {"standard": {"price_minor": 500, "credits": 20}, "odd": {"price_minor": 299, "credits": 7}}
PRODUCTS = {
    "web_search": {"initial_free": 2, "daily_free": 2, "free_cap": 5, "price_credits": 1},
    "image_gen": {"initial_free": 1, "daily_free": 0, "free_cap": 0, "price_credits": 4},
}
HANDLED = ("payment_intent.succeeded", "charge.refunded", "charge.dispute.")
Result = TypeVar("Result")


@dataclass
class ServiceEnvironment:
    """The service in this process, shared by all examples, each of which has a separate account."""

    runner: asyncio.Runner
    urls: Urls
    db: Database
    gateway: StripeGateway
    billing: BillingService
    tools: ProductInventoryService
    payments: PaymentService
    wallet: WalletService
    usage: UsageService
    holds: HoldService
    limits: LimitService
    runs: RunService
    approvals: ApprovalService

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)


@contextlib.contextmanager
def running_environment() -> Iterator[ServiceEnvironment]:
    name = f"billing_{uuid.uuid4().hex}"
    # An explicit factory: the runner leaves the thread's current loop, which other tests use, alone.
    with running_stripe() as local, asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        urls = runner.run(create_database(name))
        settings = settings_for(
            urls,
            stripe_live={**local.keys, "webhook_secret": SECRET},
            stripe_api_base=local.url,
            daily_free_uses=DAILY_FREE,
            free_uses=FREE,
            packs=PACKS,
            products=PRODUCTS,
        )
        environment = runner.run(_open(runner, urls, settings))
        yield environment
        runner.run(environment.gateway.close())
        runner.run(environment.db.close())
        runner.run(drop_database(name))


async def _open(runner: asyncio.Runner, urls: Urls, settings: Settings) -> ServiceEnvironment:
    """In the runner's loop, to which the connections belong."""
    db = Database(settings.database_url, pool_size=2)
    billing, gateway = (
        BillingService(db, Configuration(db, settings)),
        StripeGateway(settings, Configuration(db, settings)),
    )
    inventory = ProductInventoryService(db, Configuration(db, settings), billing)
    payments = PaymentService(db, Configuration(db, settings), billing, gateway)
    wallet = WalletService(db, billing.accounts, VersionMark(db))
    usage = UsageService(
        db,
        billing.batcher,
        billing.accounts,
        PriceBooks(db),
        UnknownModels(db),
        Configuration(db, settings),
        VersionMark(db),
    )
    holds = HoldService(db, billing.batcher, billing.configuration)
    limits = LimitService(db, billing.accounts, VersionMark(db), record_by_caller)
    runs = RunService(db, CostRecordService(db, billing.batcher, billing.configuration))
    approvals = ApprovalService(db, billing.accounts, runs)
    return ServiceEnvironment(
        runner, urls, db, gateway, billing, inventory, payments, wallet, usage, holds, limits, runs, approvals
    )


@dataclass
class Bought:
    """A paid purchase: Stripe's side of it, and the model's."""

    history: History
    sale: Sale
    delivered: list[dict[str, Any]] = field(default_factory=list)
    dispute: dict[str, Any] | None = None
    """The open one: Stripe has one at a time."""
