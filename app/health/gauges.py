"""Gauges that are read from the database (ADR 13).

`measure_state` is cheap and runs with each scrape: it must be right when no worker runs. `measure_books` reads whole
tables; the worker runs it each minute.
"""

import asyncio
from collections import defaultdict
from datetime import datetime

import structlog

from app.analytics import totals
from app.clock import utc_now
from app.db import Database
from app.errors import describe, is_database_unavailable
from app.ledger.verification import last_verification
from app.observability import metrics
from app.observability.metrics import Sum
from app.outbox import count_failed, find_queue
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
    metrics.UNCHECKED_AGE,
    metrics.WEBHOOK_AGE,
    metrics.LOCK_WAITERS,
    metrics.LOCK_WAIT_AGE,
)
log = structlog.get_logger()


def measure_connections(*databases: Database) -> None:
    """Set the gauges of the connection pools. Pools with the same name in several databases are added up."""
    used: dict[str, int] = defaultdict(int)
    size: dict[str, int] = defaultdict(int)
    for db in databases:
        for pool, (in_use, limit) in db.usage().items():
            used[pool] += in_use
            size[pool] += limit
    for pool in size:
        metrics.CONNECTIONS_IN_USE.labels(pool).set(used[pool])
        metrics.CONNECTIONS.labels(pool).set(size[pool])


async def measure_state(db: Database, now: datetime) -> None:
    """Set the gauges of ledger, queue, purchases and locks, by point reads. While the database is down they are NaN."""
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
    metrics.UNCHECKED_AGE.set(_age_s(unsettled["unheard_since"], now))
    metrics.LOCK_WAITERS.set(locks["waiters"])
    metrics.LOCK_WAIT_AGE.set(_age_s(locks["since"], now))
    if unsettled["webhook_received_at"] is not None:
        metrics.WEBHOOK_AGE.set(_age_s(unsettled["webhook_received_at"], now))
    # Without any worker the age is infinite, not 0.
    metrics.WORKER_AGE.set(_age_s(queue["worker_seen_at"], now) if queue["worker_seen_at"] else float("inf"))


def _age_s(since: datetime | None, now: datetime) -> float:
    """Return the age in seconds; 0 without a start."""
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


async def measure_books(reports: Database, now: datetime) -> None:
    """Set the sums over the whole books, from one snapshot. Reads every account and purchase; locks nothing."""
    async with reports.consistent_read() as session:
        accounts, purchases = await totals.sum_accounts(session), await totals.sum_purchases(session)
        held = await totals.sum_held(session)
        products, spent = await totals.sum_products(session), await totals.sum_spent(session)
    values: dict[Sum, dict[tuple[str, ...], float]] = {total: defaultdict(float) for total in metrics.SUMS}
    granted = values[metrics.GRANTED]
    for row in accounts:
        environment = row["environment"]
        values[metrics.ACCOUNTS][environment, row["status"]] = row["accounts"]
        values[metrics.OUTSTANDING][environment, "paid"] += float(row["paid"])
        values[metrics.OUTSTANDING][environment, "debt"] += float(row["debt"])
        values[metrics.OUTSTANDING][environment, "grant"] += float(row["grants"])
        granted[environment,] += float(row["paid"] - row["debt"])
    for row in held:
        values[metrics.OUTSTANDING][row["environment"], "held"] = float(row["credits"])
        granted[row["environment"],] += float(row["paid"])
    for row in products:
        values[metrics.OUTSTANDING][row["environment"], "product_paid"] = float(row["paid"])
    for row in spent:
        values[metrics.SPENT][row["environment"], "grant"] = float(row["grants"])
        for pool in ("daily_free", "free", "paid", "product_free", "product_paid"):
            values[metrics.SPENT][row["environment"], pool] = float(row[pool])
        granted[row["environment"],] += float(row["paid"])
    for row in purchases:
        environment, money = row["environment"], (row["environment"], row["currency"])
        values[metrics.PURCHASES][environment, row["status"]] += row["purchases"]
        values[metrics.SOLD][environment,] += float(row["sold"])
        values[metrics.REFUNDED][environment, "refund"] += float(row["credits_refunded"])
        values[metrics.REFUNDED][environment, "dispute"] += float(row["credits_disputed"])
        values[metrics.RECEIVED][money] += float(row["received_minor"])
        values[metrics.GIVEN_BACK][money] += float(row["refunded_minor"])
        values[metrics.FOR_REVIEW][environment,] += row["for_review"]
        # granted = outstanding and held - debt + spent - (sold - taken back)
        granted[environment,] += float(row["credits_refunded"] + row["credits_disputed"] - row["sold"])
    metrics.JOBS_FAILED.set(await count_failed(reports))
    metrics.BOOKS.replace(values)
    metrics.BOOKS_MEASURED.set(now.timestamp())


async def keep_measuring_books(reports: Database) -> None:
    """Run measure_books every BOOKS_EVERY_S until cancelled. After a failure the time of the last success stays."""
    while True:
        try:
            await measure_books(reports, utc_now())
        except Exception as error:
            log.warning("books_not_measured", error=describe(error))
        await asyncio.sleep(BOOKS_EVERY_S)
