"""Measure every report's statements on a filled PostgreSQL, and print a table with the share of the allowed time.

    python -m bench.analytics            100,000 accounts, 2 million charges in a year
    python -m bench.analytics --uses N   about 0.86 N charges

The books are filled by tests/admin/analytics_fill.py; all but the last minute of them is rolled up, as by the worker.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import SecretStr

from app.analytics import llm_reports, margin_reports, money_reports, usage_reports
from app.analytics.days import Days
from app.analytics.rollup import roll_up
from app.db import Database, Session
from app.demo.postgres import ephemeral_cluster
from tests.admin.analytics_fill import fill
from tests.books import connected
from tests.databases import TEMPLATE, Urls, prepare, urls

ALLOWED_MS = 300
REPETITIONS = 5
Report = Callable[[Session, Days], Awaitable[Any]]


async def standing(session: Session, days: Days) -> Mapping[str, Any]:
    return await money_reports.find_standing(session, days.environment, today=days.last, daily_free=0)


REPORTS: dict[str, Report] = {
    "standing": standing,
    "usage": usage_reports.find_usage,
    "usage by day": usage_reports.list_days,
    "by product": partial(usage_reports.list_by, dimension="product_type"),
    "by agent": partial(usage_reports.list_by, dimension="agent_id"),
    "by key": partial(usage_reports.list_by, dimension="key_id"),
    "active users": usage_reports.count_active,
    "active users by day": usage_reports.count_active_by_day,
    "top users": partial(usage_reports.list_top_accounts, limit=100),
    "cohorts": usage_reports.list_cohort_weeks,
    "cohorts' sizes": money_reports.list_cohorts,
    "new accounts": money_reports.count_new_accounts,
    "buyers": money_reports.count_buyers,
    "sales": money_reports.list_sales,
    "sales by day": money_reports.list_sales_days,
    "credits given": money_reports.sum_movements,
    "credits given by day": money_reports.list_movements,
    "prices": money_reports.list_prices,
    "models": margin_reports.list_models,
    "models by currency": margin_reports.list_models_by_currency,
    "revenue of no model": margin_reports.list_unattributed,
    "agents' margins": margin_reports.list_agents,
    "tools' revenue": margin_reports.list_tools,
    "margins": margin_reports.list_margins,
    "margins by day": margin_reports.list_margin_days,
    "newest interactions": partial(llm_reports.list_interactions, order="newest", after=None, limit=200),
    "dearest interactions": partial(llm_reports.list_interactions, order="cost", after=None, limit=200),
}


async def measure(db: Database, report: Report, days: Days) -> float:
    """Return the median of some runs, in ms, with warm caches."""
    times = []
    for _ in range(REPETITIONS):
        async with db.consistent_read() as session:
            begin = time.perf_counter()
            await report(session, days)
            times.append((time.perf_counter() - begin) * 1000)
    return sorted(times)[REPETITIONS // 2]


async def main(options: argparse.Namespace, database: Urls) -> None:
    begin = time.perf_counter()
    await fill(database, accounts=options.accounts, uses=options.uses, days=365)
    print(f"filled in {time.perf_counter() - begin:.0f} s")
    worker = Database(SecretStr(database.service), pool_size=3, timeout_s=60)
    begin = time.perf_counter()
    steps = await roll_up(worker, datetime.now(UTC))
    print(f"rolled up in {time.perf_counter() - begin:.0f} s, {steps} transactions")
    await worker.close()
    async with connected(database) as connection:
        await connection.execute("VACUUM ANALYZE")
        for table in (
            "accounts",
            "charges",
            "account_days",
            "active_days",
            "usage_days",
            "llm_interactions",
            "credits",
        ):
            print(f"{table:<18}{await connection.fetchval(f'SELECT count(*) FROM {table}'):>12,}")
    today = datetime.now(UTC).date()
    ranges = {n: Days("live", today - timedelta(days=n - 1), today) for n in (7, 30, 366)}
    db = Database(SecretStr(database.service), timeout_s=30)
    print(f"\n{'median ms of a range of':<26}" + "".join(f"{f'{n} days':>12}" for n in ranges) + f"{'of allowed':>14}")
    slowest = 0.0
    for name, report in REPORTS.items():
        times = [await measure(db, report, days) for days in ranges.values()]
        share = max(times) / ALLOWED_MS
        slowest = max(slowest, share)
        print(f"{name:<26}" + "".join(f"{ms:>12.1f}" for ms in times) + f"{share:>14.2f}", flush=True)
    await db.close()
    print(f"\nslowest: {slowest:.2f} of the {ALLOWED_MS} ms allowed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench.analytics", description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--uses", type=int, default=2_350_000)
    arguments = parser.parse_args()
    with ephemeral_cluster(durable=True) as running:  # on disk, as in production
        prepare(running)
        asyncio.run(main(arguments, urls(TEMPLATE)))
