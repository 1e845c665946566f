"""The worker: all background jobs.

Jobs come from the queue in PostgreSQL. The code that causes a job writes it there (the outbox, `app.outbox.defer`); its
task is in `create_worker`. The clock causes the others: the periodic jobs (periodic_jobs.py). Each job runs at
least once, so it may run twice: all are idempotent.

Retries: a job that raises runs again by `RETRY`, if its task names that strategy. A job whose worker died is found by
`retry_stalled_jobs`. A job that has used its attempts stays in the queue's table with the status "failed", for an admin
to see and to retry (`app.outbox.retry_failed`). The periodic jobs find the work that it left undone.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool

from app.accounts.closing import SETTLE_PURCHASES
from app.accounts.erasure import BOOKS, FORGET_TEXTS, forget_texts
from app.admin.purchases import reconciliation
from app.analytics.erasure import forget_interactions
from app.auth.caller import Environment
from app.clock import utc_now
from app.connection_urls import PostgresUrl
from app.cost_records.erasure import TEXTS as COST_RECORD_TEXTS
from app.db.schema_check import wait_until_fit
from app.health.router import VERSION
from app.ledger.run_hooks import REPORT_BURN_RATE
from app.ledger.verification import last_verification
from app.metering.erasure import TEXTS as USAGE_TEXTS
from app.metering.erasure import forget_event_ids
from app.neighbours.erasure import TEXTS as MOVED_TEXTS
from app.observability import tracing
from app.observability.metrics import BUILD, JOB_SECONDS
from app.observability.sentry import flush_sentry
from app.observability.tracing import start_tracing, stop_tracing
from app.outbox import QUEUE
from app.payments.erasure import TEXTS as PURCHASE_TEXTS
from app.payments.settlement import REFUND_CLOSED
from app.refills.erasure import TEXTS as REFILL_TEXTS
from app.risk.burn_rate import SINCE as BURN_RATE_SINCE
from app.risk.burn_rate import Finding
from app.risk.burn_rate import report as report_finding
from app.settings import Settings
from app.subscriptions.books import REFRESH
from app.subscriptions.erasure import TEXTS as ORDER_TEXTS
from app.tools.erasure import TEXTS as TOOL_TEXTS
from app.verification import verify_books
from app.wallet.erasure import TEXTS as WALLET_TEXTS
from app.wallet.referrals import PAY_REFERRAL
from app.worker.monitoring import Monitor, monitoring
from app.worker.periodic_jobs import MAX_ATTEMPTS, add_periodic_jobs
from app.worker.refill_jobs import add_refill_jobs
from app.worker.services import JOBS_AT_ONCE, Services, running_services

JOB_TIMEOUT_S = 300
LONGER_S = {"verify_ledger": 3600}
RECONNECT_AFTER_S = 2
RETRY = RetryStrategy(max_attempts=MAX_ATTEMPTS, exponential_wait=2)  # for about an hour
log = structlog.get_logger()


class _Connections(AsyncConnectionPool):
    async def open(self, *_: Any, **__: Any) -> None:
        """Open without waiting for the first connection: its first user waits, no longer than any later one."""
        await super().open()


def create_worker(settings: Settings, services: Services) -> App:
    url, timeout_s = PostgresUrl.parse(settings.direct_url.get_secret_value()), settings.database_timeout_s
    # The role's own timeout is for requests; the queue's clean-up may take as long as any job.
    options = {"options": f"-c statement_timeout={JOB_TIMEOUT_S}s"}
    queue = App(
        connector=PsycopgConnector(
            pool_factory=_Connections,
            conninfo=url.libpq(),
            kwargs=options,
            min_size=1,
            max_size=JOBS_AT_ONCE,
            timeout=timeout_s,
        ),
        worker_defaults={"worker_middleware": [observe_job, end_in_time]},
    )

    @queue.task(name="reconcile_purchase", queue=QUEUE, retry=RETRY)
    async def reconcile_purchase(account_id: str, purchase_id: str) -> None:
        """Check a purchase with Stripe some time after it was opened, whether or not its webhooks arrived."""
        await services.payments.reconcile_purchase(UUID(account_id), UUID(purchase_id), utc_now())

    @queue.task(name=SETTLE_PURCHASES, queue=QUEUE, retry=RETRY)
    async def settle_purchases(account_id: str) -> None:
        """Cancel a closed account's open purchases at Stripe, or book those that wait for a reopened account."""
        await services.payments.settle_purchases(UUID(account_id), utc_now())
        await services.subscriptions.refresher.account_changed(UUID(account_id), utc_now())

    @queue.task(name=REFUND_CLOSED, queue=QUEUE, retry=RETRY)
    async def refund_closed(account_id: str, purchase_id: str) -> None:
        """Refund money that arrived for a closed account."""
        await services.payments.refund_closed(UUID(account_id), UUID(purchase_id), utc_now())

    @queue.task(name=REFRESH, queue=QUEUE, retry=RETRY)
    async def refresh_subscription(account_id: str, environment: Environment, subscription_id: str) -> None:
        """Read what the provider knows about a subscription of which the events say too little."""
        await services.subscriptions.refresher.refresh(environment, UUID(account_id), subscription_id, utc_now())

    @queue.task(name=PAY_REFERRAL, queue=QUEUE, retry=RETRY)
    async def pay_referral(account_id: str) -> None:
        """Give the grants of a referral, once the invited account has settled a payment."""
        await services.promotions.pay_referral(UUID(account_id), utc_now())

    @queue.task(name=FORGET_TEXTS, queue=QUEUE, retry=RETRY)
    async def forget_texts_of_erased(account_id: str) -> None:
        """Delete callers' texts from an erased account's books."""
        usage = (TOOL_TEXTS, WALLET_TEXTS, *COST_RECORD_TEXTS, USAGE_TEXTS, MOVED_TEXTS)
        payments = (PURCHASE_TEXTS, ORDER_TEXTS, *REFILL_TEXTS)
        await forget_texts(services.db, UUID(account_id), (*BOOKS, *usage, *payments))
        await services.refilling.cards.detach_soon(UUID(account_id), utc_now())
        await forget_event_ids(services.db, UUID(account_id))
        await forget_interactions(services.reports, UUID(account_id))

    @queue.task(name=REPORT_BURN_RATE, queue=QUEUE, retry=RETRY)
    async def report_burn_rate(
        environment: Environment, account_id: str, subject: str, unit: str, observed: int, most: int
    ) -> None:
        """Raise an alert about a run, or a use of an API key, that the brake has paused."""
        await services.mark.require(BURN_RATE_SINCE)  # an older version could not read the alert
        finding = Finding(environment, UUID(account_id), subject, unit, observed, most)
        await report_finding(services.db, finding, utc_now())

    # No automatic retry: an admin is watching, and a waiting retry would hold the lock of the scheduled run.
    @queue.task(
        name=reconciliation.TASK,
        queue=QUEUE,
        queueing_lock=reconciliation.TASK,
        lock=reconciliation.LOCK,
        pass_context=True,
    )
    async def reconcile_all(context: JobContext) -> None:
        """Reconcile all unsettled purchases with Stripe, at an admin's request, and record the result."""
        assert context.job.id is not None
        done = await services.payments.reconcile(utc_now())
        await reconciliation.record_result(services.db, context.job.id, done, utc_now())

    add_refill_jobs(queue, services, RETRY)
    add_periodic_jobs(queue, services)
    return queue


async def observe_job(run: Callable[[], Awaitable[Any]], context: JobContext, _: Worker) -> Any:
    """Wrap each job: its ids on every log line, one metric, one span in the trace of its cause.

    Removes the traceparent from the job's arguments; the queue's table keeps it for the next attempt.
    """
    job, outcome, started = context.job, "failed", time.perf_counter()
    traceparent = job.task_kwargs.pop(tracing.TRACEPARENT, None)
    about: dict[str, Any] = {"job_id": job.id, "task": job.task_name}
    if "account_id" in job.task_kwargs:
        about["account_id"] = job.task_kwargs["account_id"]
    structlog.contextvars.bind_contextvars(**about)  # each job has its own asyncio task
    try:
        with tracing.job(job.task_name, str(traceparent), {f"billing.{name}": value for name, value in about.items()}):
            result = await run()
        outcome = "succeeded"
        return result
    except Exception as error:
        log.warning("job_failed", attempts=job.attempts, exc_info=error)
        raise
    finally:
        JOB_SECONDS.labels(job.task_name, outcome).observe(time.perf_counter() - started)


async def end_in_time(run: Callable[[], Awaitable[Any]], context: JobContext, _: Worker) -> Any:
    """Wrap each job, inside `observe_job`: fail it when it takes too long. Raise TimeoutError."""
    async with asyncio.timeout(LONGER_S.get(context.job.task_name, JOB_TIMEOUT_S)):
        return await run()


async def run_worker(settings: Settings) -> None:
    """Run jobs until SIGTERM or SIGINT. Then finish the running ones and return.

    Raise if PostgreSQL does not answer at the start, or its schema does not fit. If it becomes unavailable later, the
    worker waits for it.
    """
    BUILD.info({"version": VERSION})
    if settings.otel_exporter_otlp_endpoint is not None:
        start_tracing(settings.otel_exporter_otlp_endpoint, service="ciris-billing-worker", version=VERSION)
    # Procrastinate's own handlers exist only while it runs: not while we wait for the database to return.
    stopping = asyncio.Event()
    task = asyncio.current_task()
    assert task is not None

    def stop() -> None:
        if not stopping.is_set():  # a second cancellation would cut off running jobs
            stopping.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        async with monitoring(settings) as monitor:
            await _work(settings, stopping, monitor)
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    finally:
        await stop_tracing()
        await flush_sentry()


async def _work(settings: Settings, stopping: asyncio.Event, monitor: Monitor) -> None:
    """Run jobs until cancelled. Procrastinate then finishes the running ones."""
    async with running_services(settings) as services:
        await wait_until_fit(services.db, wait_s=settings.database_start_wait_s)
        await verify_if_never(services, utc_now())
    log.info("worker_started")
    while not stopping.is_set():
        try:
            async with running_services(settings) as services, create_worker(settings, services).open_async() as queue:
                monitor.databases = (services.db, services.reports)
                await queue.run_worker_async(
                    concurrency=JOBS_AT_ONCE, shutdown_graceful_timeout=20, install_signal_handlers=False
                )
        except ConnectorException:
            log.warning("database_unavailable", retry_after_s=RECONNECT_AFTER_S)
            if not stopping.is_set():
                await asyncio.sleep(RECONNECT_AFTER_S)


async def verify_if_never(services: Services, now: datetime) -> None:
    """Verify the ledger if it never was: a new installation shows a verified ledger at once, not in an hour."""
    if await last_verification(services.db) is None:
        await verify_books(services.db, now)
