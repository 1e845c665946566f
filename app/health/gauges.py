"""What stands in the database, as metrics (ADR 13).

`measure_standing` is cheap, and asked with each scrape: it must be right when no worker runs. `measure_books` reads
whole tables; the worker does it each minute.
"""

import asyncio
from collections import defaultdict
from datetime import datetime

import structlog

from app.analytics import totals
from app.clock import utc_now
from app.db import Database
from app.errors import describe, is_database_unavailable
from app.jobs import count_failed, find_queue
from app.ledger.verification import last_verification
from app.observability import metrics
from app.observability.metrics import Sum
from app.payments.queries import find_unsettled
from app.risk.queries import FINDERS, count_open

BOOKS_EVERY_S = 60
FOUND = (
    metrics.LEDGER_OK,
    metrics.LEDGER_VERIFIED,
    metrics.JOBS_AGE,
    metrics.WORKER_AGE,
    metrics.NOT_CREDITED,
    metrics.NOT_CREDITED_AGE,
    metrics.UNHEARD_AGE,
    metrics.WEBHOOK_AGE,
    metrics.LOCK_WAITERS,
    metrics.LOCK_WAIT_AGE,
)
log = structlog.get_logger()


def measure_connections(*databases: Database) -> None:
    """Pools as they are now. Those of one name in several databases count together."""
    used: dict[str, int] = defaultdict(int)
    size: dict[str, int] = defaultdict(int)
    for db in databases:
        for pool, (in_use, limit) in db.usage().items():
            used[pool] += in_use
            size[pool] += limit
    for pool in size:
        metrics.CONNECTIONS_IN_USE.labels(pool).set(used[pool])
        metrics.CONNECTIONS.labels(pool).set(size[pool])


async def measure_standing(db: Database, now: datetime) -> None:
    """Ledger, queue, purchases and locks, by point reads. While the database is away they have no values at all."""
    try:
        verification = await last_verification(db)
        queue, unsettled, locks = await find_queue(db, now), await find_unsettled(db), await db.find_lock_waits(now)
        async with db.read() as session:
            open_alerts = await count_open(session)
    except Exception as error:
        if not is_database_unavailable(error):
            raise
        metrics.DATABASE_UP.set(0)
        for gauge in FOUND:
            gauge.set(float("nan"))
        metrics.JOBS.clear()
        metrics.ALERTS_OPEN.clear()
        return
    metrics.DATABASE_UP.set(1)
    metrics.LEDGER_OK.set(float("nan") if verification is None else verification.ok)
    if verification is not None and verification.ok:
        metrics.LEDGER_VERIFIED.set(verification.finished_at.timestamp())
    for rule in FINDERS:
        metrics.ALERTS_OPEN.labels(rule).set(open_alerts.get(rule, 0))
    metrics.JOBS.labels("todo").set(queue["todo"])
    metrics.JOBS.labels("doing").set(queue["doing"])
    metrics.JOBS_AGE.set(_age_s(queue["due_since"], now))
    metrics.NOT_CREDITED.set(unsettled["not_credited"])
    metrics.NOT_CREDITED_AGE.set(_age_s(unsettled["not_credited_since"], now))
    metrics.UNHEARD_AGE.set(_age_s(unsettled["unheard_since"], now))
    metrics.LOCK_WAITERS.set(locks["waiters"])
    metrics.LOCK_WAIT_AGE.set(_age_s(locks["since"], now))
    if unsettled["webhook_received_at"] is not None:
        metrics.WEBHOOK_AGE.set(_age_s(unsettled["webhook_received_at"], now))
    # No worker at all is not a worker that was just heard of.
    metrics.WORKER_AGE.set(_age_s(queue["worker_seen_at"], now) if queue["worker_seen_at"] else float("inf"))


def _age_s(since: datetime | None, now: datetime) -> float:
    """0 for what is not there."""
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


async def measure_books(reports: Database, now: datetime) -> None:
    """Sums over the whole books, of one moment. Reads every account and purchase; locks nothing."""
    async with reports.consistent_read() as session:
        accounts, purchases = await totals.sum_accounts(session), await totals.sum_purchases(session)
        products, spent = await totals.sum_products(session), await totals.sum_spent(session)
    values: dict[Sum, dict[tuple[str, ...], float]] = {told: defaultdict(float) for told in metrics.SUMS}
    granted = values[metrics.GRANTED]
    for row in accounts:
        world = row["environment"]
        values[metrics.ACCOUNTS][world, row["status"]] = row["accounts"]
        values[metrics.OUTSTANDING][world, "paid"] += float(row["paid"])
        values[metrics.OUTSTANDING][world, "debt"] += float(row["debt"])
        granted[world,] += float(row["paid"] - row["debt"])
    for row in products:
        values[metrics.OUTSTANDING][row["environment"], "product_paid"] = float(row["paid"])
    for row in spent:
        for pool in ("daily_free", "free", "paid", "product_free", "product_paid"):
            values[metrics.SPENT][row["environment"], pool] = float(row[pool])
        granted[row["environment"],] += float(row["paid"])
    for row in purchases:
        world, money = row["environment"], (row["environment"], row["currency"])
        values[metrics.PURCHASES][world, row["status"]] += row["purchases"]
        values[metrics.SOLD][world,] += float(row["sold"])
        values[metrics.REFUNDED][world, "refund"] += float(row["credits_refunded"])
        values[metrics.REFUNDED][world, "dispute"] += float(row["credits_disputed"])
        values[metrics.RECEIVED][money] += float(row["received_minor"])
        values[metrics.GIVEN_BACK][money] += float(row["refunded_minor"])
        values[metrics.FOR_REVIEW][world,] += row["for_review"]
        # What is there, less what is owed, and what was spent, is all that came and stayed: what of it was not sold was
        # given.
        granted[world,] += float(row["credits_refunded"] + row["credits_disputed"] - row["sold"])
    metrics.JOBS_FAILED.set(await count_failed(reports))
    metrics.BOOKS.replace(values)
    metrics.BOOKS_MEASURED.set(now.timestamp())


async def keep_measuring_books(reports: Database) -> None:
    """Each BOOKS_EVERY_S, until cancelled. When one fails, the time of the last good one stands still."""
    while True:
        try:
            await measure_books(reports, utc_now())
        except Exception as error:
            log.warning("books_not_measured", error=describe(error))
        await asyncio.sleep(BOOKS_EVERY_S)
