"""Services that jobs use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.cost_records.service import CostRecordService
from app.db import SHARE_OF_LISTS, Database
from app.db.version_mark import VersionMark
from app.holds.service import HoldService
from app.limits.service import LimitService
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.promotions.service import PromotionService
from app.refills.wiring import RefillServices, refill_services
from app.settings import Settings
from app.subscriptions.service import SubscriptionService
from app.subscriptions.wiring import subscription_services
from app.wallet.service import WalletService

JOBS_AT_ONCE = 4
ROLL_UP_STATEMENT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Services:
    """The services that jobs use. `reports` has a longer statement timeout than `db`."""

    db: Database
    reports: Database
    payments: PaymentService
    billing: BillingService
    cost_records: CostRecordService
    holds: HoldService
    promotions: PromotionService
    limits: LimitService
    mark: VersionMark
    subscriptions: SubscriptionService
    refilling: RefillServices


@asynccontextmanager
async def running_services(settings: Settings) -> AsyncIterator[Services]:
    """Create the services for jobs, as the API has them, for as long as the block runs."""
    db = Database(settings.direct_url, pool_size=4, timeout_s=settings.database_timeout_s)
    # Enough that no job waits for another's connection. If a connection could not be opened, a waiting job would get no
    # error before the statement timeout, which is long here.
    pool_size = JOBS_AT_ONCE * SHARE_OF_LISTS
    reports = Database(settings.direct_url, pool_size=pool_size, timeout_s=ROLL_UP_STATEMENT_TIMEOUT_S)
    configuration = Configuration(db, settings)
    gateway = StripeGateway(settings, configuration)
    try:
        billing = BillingService(db, configuration)
        settlement, subscriptions = subscription_services(db, configuration, billing.accounts, gateway)
        payments = PaymentService(db, configuration, billing, gateway, settlement)
        cost_records = CostRecordService(db, billing.batcher, configuration)
        holds = HoldService(db, billing.batcher, configuration)
        mark = VersionMark(db)
        wallet = WalletService(db, billing.accounts, mark)
        promotions = PromotionService(*(db, configuration, billing.accounts, wallet, mark), zone=settings.time_zone)
        limits = LimitService(db, billing.accounts, mark)
        refilling = refill_services(db, configuration, mark, gateway)
        yield Services(
            *(db, reports, payments, billing, cost_records, holds, promotions, limits, mark, subscriptions, refilling)
        )
    finally:
        await gateway.close()
        await reports.close()
        await db.close()
