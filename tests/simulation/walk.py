"""A share of the customers on their walk, between two services: one gets Stripe's events shaken, one in order."""

import gc
import itertools
import logging
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
import uvloop

from app.plans.document import Plans
from app.verification import verify_books
from tests.databases import create_database, drop_database
from tests.simulation.books import Service, differences, gather, running_service
from tests.simulation.customers import Customer
from tests.simulation.delivery import Counts, Delivery, version_for
from tests.simulation.lives import HOUR, LIVES, MONTHS, month
from tests.simulation.provider import Accounts, Direct
from tests.subscriptions.conftest import SOLD
from tests.subscriptions.made import DOLLAR
from tests.subscriptions.store import store_plans

QUARTER, YEAR = 3, 12


@dataclass
class Share:
    """Customers who walk in one process. `customers`: their number; `webhooks`: of these get events as webhooks."""

    number: int
    customers: int
    webhooks: int
    seed: int
    limit_s: float


@dataclass
class Result:
    """`months` is less than all of them if the time limit was reached."""

    counts: Counts
    refreshes: int = 0
    months: int = 0
    problems: list[str] = field(default_factory=list)


class Walk:
    """The customers, their ways, and both services."""

    def __init__(self, services: Sequence[Service], accounts: Accounts) -> None:
        self._shaken, self._straight = services
        self._accounts = accounts
        self._customers: list[tuple[Customer, Delivery]] = []
        self.counts = Counts()

    def begin(self, account_ids: Sequence[UUID], seed: str, webhooks: int) -> None:
        """Let the customers subscribe. A part of them has its events delivered as webhooks."""
        lives = itertools.cycle(LIVES.values())
        for number, (account_id, life) in enumerate(zip(account_ids, lives, strict=False)):
            dice = random.Random(f"{seed} {number}")
            delivery = Delivery(account_id, dice, version_for(dice), number < webhooks)
            account = self._accounts.open(delivery.publish)
            self._customers.append((Customer(account, account_id, life), delivery))

    async def live(self, first: int) -> None:
        """Live a quarter from a month on, and deliver it to both services."""
        last = first + QUARTER - 1
        is_last = last == MONTHS - 1
        now = month(last)[1] - HOUR
        for customer, _ in self._customers:
            for number in range(first, first + QUARTER):
                customer.live(number)
        await gather(*(self._shake(delivery, now, is_last=is_last) for _, delivery in self._customers))
        troubled = None if is_last else {delivery.account_id for _, delivery in self._customers if delivery.troubled}
        await self._shaken.refresh(troubled, now)
        orders = [(customer.account_id, customer.subscription_id) for customer, _ in self._customers]
        await self._shaken.look_at_orders(orders, now)
        await self._shaken.look_at_due(now)
        if (last + 1) % YEAR == 0:
            await gather(*(self._in_order(delivery, now) for _, delivery in self._customers))
            await self._straight.look_at_due(now)

    async def _in_order(self, delivery: Delivery, now: datetime) -> None:
        """Deliver a year. In order, it makes no difference that it comes at once."""
        facts = [one.facts for one in delivery.sent_in_order]
        delivery.sent_in_order.clear()
        if facts:
            await self._straight.apply(delivery.account_id, facts, now)

    async def _shake(self, delivery: Delivery, now: datetime, *, is_last: bool) -> None:
        arrived = delivery.shaken(self.counts, is_last=is_last)
        if delivery.by_webhook:
            self.counts.webhooks += len(arrived)
            for one in arrived:
                assert one.event is not None
                await self._shaken.deliver(one.event, now)
        elif arrived:
            await self._shaken.apply(delivery.account_id, [one.facts for one in arrived], now)

    async def problems(self) -> list[str]:
        """Return what is wrong in the end."""
        shaken, straight = await self._shaken.books(), await self._straight.books()
        found = differences(shaken, straight)
        ends = {row[0]: row[1:] for row in straight["plan and money"]}
        for customer, _ in self._customers:
            plan, money, debt, *_ = ends[customer.account_id]
            kept = (money - debt) / DOLLAR
            if (plan, kept) != (customer.life.plan_name, customer.life.dollars):
                found.append(f"{customer.account_id}: {plan} with {kept} instead of {customer.life}")
        return found


async def walk(share: Share) -> Result:
    """Walk a share of the customers through the two years, between two new databases."""
    started_s, accounts = time.monotonic(), Accounts(SOLD)
    http = Direct(accounts)
    names = [f"simulation_{uuid.uuid4().hex}" for _ in range(2)]
    first = await create_database(names[0])
    await store_plans(first, Plans(plans=SOLD))
    async with running_service(first, http) as service:
        ids = [await service.open_account() for _ in range(share.customers)]
    second = await create_database(names[1], template=names[0])
    async with running_service(first, http) as shaken, running_service(second, http) as straight:
        walk = Walk((shaken, straight), accounts)
        result = Result(walk.counts)
        walk.begin(ids, f"{share.seed} {share.number}", share.webhooks)
        while result.months < MONTHS and time.monotonic() - started_s < share.limit_s:
            await walk.live(result.months)
            result.months += QUARTER
            result.refreshes = shaken.refreshes
            done = f"{walk.counts.events:,} events, {shaken.refreshes:,} reads, {time.monotonic() - started_s:.0f} s"
            print(f"share {share.number}, {result.months} months: {done}", flush=True)
        if result.months < MONTHS:
            result.problems.append(f"stopped after {result.months} months: the limit of {share.limit_s} s")
            return result
        result.problems += await walk.problems()
        for service in (shaken, straight):
            verification = await verify_books(service.db, month(MONTHS)[1])
            result.problems += [] if verification.ok else [f"ledger: {verification.problem}"]
    for name in names:
        await drop_database(name)
    return result


def walk_share(share: Share) -> Result:
    """Walk a share of the customers. It sets up the process, which runs nothing else."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.set_threshold(50_000, 20, 100)  # Stripe's objects are many, and stay
    return uvloop.run(walk(share))
