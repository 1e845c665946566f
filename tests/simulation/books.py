"""A service with its books, to which the simulation delivers what Stripe says; and the comparison of two of them."""

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import stripe
from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.accounts.service import AccountService
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.demo.stripe.objects import Object
from app.demo.stripe.webhooks import signature
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.subscriptions.books import REFRESH
from app.subscriptions.refreshing import AT_ONCE, Refresher
from app.subscriptions.settlement import Settlement
from app.subscriptions.wiring import subscription_services
from tests.books import connected
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls
from tests.simulation.provider import LOCAL

READS = {
    # Money that a won dispute returns is plain balance, and money that was never taken is still the grant's.
    "plan and money": "SELECT account_id, plan_name, money_nanos + grants_money_nanos AS money, money_debt_nanos,"
    " paid, debt FROM accounts",
    "subscriptions": "SELECT account_id, subscription_id, status, price_id, period_start, period_end, ended_at"
    " FROM subscriptions",
    "invoices": "SELECT account_id, invoice_id, status, amount_paid_minor, refunded_minor, withdrawn_minor"
    " FROM subscription_invoices",
    "grants": "SELECT account_id, period_start, kind, period_end, amount - refunded - disputed AS kept"
    " FROM period_grants WHERE amount > refunded + disputed",
}
JOBS = "SELECT DISTINCT args ->> 'account_id' AS account_id, args ->> 'subscription_id' AS subscription_id"
AT_ONCE_HERE = 3
"""Connections that write, of a pool."""
PATIENCE_S = 60
"""On a busy machine, a statement of the simulation may wait long."""


@dataclass
class Service:
    """The books of a service. `refreshes` counts the reads of a whole subscription from Stripe."""

    urls: Urls
    db: Database
    accounts: AccountService
    payments: PaymentService
    settlement: Settlement
    refresher: Refresher
    refreshes: int = 0

    async def open_account(self) -> UUID:
        identity = Identity("live", "oauth:google", f"{uuid.uuid4()}@example.com")
        return await self.accounts.directory.resolve(identity, Profile(), ACTOR, datetime.now().astimezone())

    async def deliver(self, event: Object, now: datetime) -> None:
        """Deliver an event as a signed webhook."""
        payload = json.dumps(event).encode()
        await self.payments.handle_webhook(payload, signature(LOCAL.webhook_secret, payload, int(time.time())), now)

    async def apply(self, account_id: UUID, facts: Sequence[Any], now: datetime) -> None:
        """Apply what events state about one account, in one transaction."""
        await self.settlement.apply(self.db, "live", account_id, facts, now)

    async def refresh(self, of: set[UUID] | None, now: datetime) -> None:
        """Run the waiting jobs that read a subscription, of some accounts or of all."""
        async with connected(self.urls) as connection:
            where = f"FROM procrastinate_jobs WHERE task_name = '{REFRESH}' AND status = 'todo'"
            jobs = await connection.fetch(f"{JOBS} {where}")
            chosen = [job for job in jobs if of is None or UUID(job["account_id"]) in of]
            for job in chosen:
                await connection.execute(f"DELETE {where} AND args ->> 'subscription_id' = $1", job["subscription_id"])
        for job in chosen:
            await self.refresher.refresh("live", UUID(job["account_id"]), job["subscription_id"], now)
        self.refreshes += len(chosen)

    async def look_at_orders(self, orders: Sequence[tuple[UUID, str]], now: datetime) -> None:
        """Read subscriptions of which nothing has arrived, as the worker does for the orders of its pages."""
        async with connected(self.urls) as connection:
            known = {
                row["subscription_id"] for row in await connection.fetch("SELECT subscription_id FROM subscriptions")
            }
        unknown = [(account_id, key) for account_id, key in orders if key not in known]
        for account_id, key in unknown:
            await self.refresher.refresh("live", account_id, key, now)
        self.refreshes += len(unknown)

    async def look_at_due(self, now: datetime) -> None:
        """Read what is due, as the worker does each minute."""
        for _ in range(20):
            looked_at = await self.refresher.look_at_due(now)
            self.refreshes += looked_at
            if looked_at < AT_ONCE:
                return
        raise AssertionError("subscriptions stay due")

    async def books(self) -> dict[str, Counter[tuple[Any, ...]]]:
        async with connected(self.urls) as connection:
            return {name: Counter(tuple(row) for row in await connection.fetch(sql)) for name, sql in READS.items()}


@asynccontextmanager
async def running_service(urls: Urls, http: stripe.HTTPClient) -> AsyncIterator[Service]:
    settings = settings_for(
        urls,
        stripe_live=LOCAL.keys,
        stripe_api_base=LOCAL.url,
        free_uses=0,
        database_timeout_s=PATIENCE_S,
        stripe_timeout_s=PATIENCE_S,
    )
    db = Database(SecretStr(urls.service), timeout_s=PATIENCE_S)
    configuration = Configuration(db, settings)
    billing = BillingService(db, configuration)
    gateway = StripeGateway(settings, configuration)
    await gateway.close()
    gateway._http = http  # type: ignore[assignment]  # the SDK without a network
    settlement, subscriptions = subscription_services(db, configuration, billing.accounts, gateway)
    payments = PaymentService(db, configuration, billing, gateway, settlement)
    try:
        yield Service(urls, db, billing.accounts, payments, settlement, subscriptions.refresher)
    finally:
        await db.close()


def differences(one: dict[str, Counter[tuple[Any, ...]]], other: dict[str, Counter[tuple[Any, ...]]]) -> list[str]:
    """Return what only one of both books has."""
    found = []
    for name, rows in one.items():
        found += [f"{name}: {row} only when shaken" for row in rows - other[name]]
        found += [f"{name}: {row} only in order" for row in other[name] - rows]
    return found


async def gather(*work: Any) -> None:
    """Run coroutines, some at once."""
    free = asyncio.Semaphore(AT_ONCE_HERE)

    async def run(one: Any) -> None:
        async with free:
            await one

    await asyncio.gather(*(run(one) for one in work))
