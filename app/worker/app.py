"""The worker: all background jobs.

Jobs come from the queue in PostgreSQL. The code that causes a job writes it there (the outbox, `app.outbox.defer`); its
task is in `create_worker`. The clock causes the others: the periodic jobs of `_add_periodic_jobs`. Each job runs at
least once, so it may run twice: all are idempotent.

Retries: a job that raises runs again by `RETRY`, if its task names that strategy. A job whose worker died is found by
`retry_stalled_jobs`. A job that has used its attempts stays in the queue's table with the status "failed", for an admin
to see and to retry (`app.outbox.retry_failed`). The periodic jobs find the work that it left undone.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from procrastinate import App, JobContext, PsycopgConnector, RetryStrategy
from procrastinate.builtin_tasks import remove_old_jobs
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from procrastinate.worker import Worker
from psycopg_pool import AsyncConnectionPool

from app.accounts.activity import refresh_activity
from app.accounts.closing import SETTLE_PURCHASES
from app.accounts.erasure import BOOKS, FORGET_TEXTS, forget_texts
from app.accounts.search import refresh_search
from app.admin.audit.log import record_by_system
from app.admin.purchases import reconciliation
from app.analytics.erasure import forget_interactions
from app.analytics.rollup import database_time
from app.analytics.rollup import roll_up as add_to_sums
from app.auth.admins.sessions import purge_expired_sessions
from app.auth.id_tokens.revocations import purge_expired_revocations
from app.billing.service import BillingService
from app.clock import utc_now
from app.configuration.service import Configuration
from app.connection_urls import PostgresUrl
from app.cost_records.erasure import TEXTS as COST_RECORD_TEXTS
from app.cost_records.service import CostRecordService
from app.db import SHARE_OF_LISTS, Database
from app.db.schema_check import wait_until_fit
from app.health.router import VERSION
from app.holds.service import HoldService
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
from app.payments.service import PaymentService
from app.payments.settlement import REFUND_CLOSED
from app.payments.stripe_gateway import StripeGateway
from app.risk.service import look as look_for_unusual
from app.settings import Settings
from app.tools.erasure import TEXTS as TOOL_TEXTS
from app.verification import verify_books
from app.wallet.erasure import TEXTS as WALLET_TEXTS
from app.wallet.expiry import expire_grants
from app.worker.monitoring import Monitor, monitoring

JOBS_AT_ONCE = 4
JOB_TIMEOUT_S = 300
LONGER_S = {"verify_ledger": 3600}
ROLL_UP_STATEMENT_TIMEOUT_S = 60.0
STALLED_AFTER_S = 60
KEEP_FINISHED_HOURS = 72
RECONNECT_AFTER_S = 2
VERIFY_EVERY = timedelta(hours=1)
MAX_ATTEMPTS = 11
RETRY = RetryStrategy(max_attempts=MAX_ATTEMPTS, exponential_wait=2)  # for about an hour
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Services:
    """The services that jobs use. `reports` has a longer statement timeout than `db`."""

    db: Database
    reports: Database
    payments: PaymentService
    billing: BillingService
    cost_records: CostRecordService
    holds: HoldService


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
        payments = PaymentService(db, configuration, billing, gateway)
        cost_records = CostRecordService(db, billing.batcher, configuration)
        holds = HoldService(db, billing.batcher, configuration)
        yield Services(db, reports, payments, billing, cost_records, holds)
    finally:
        await gateway.close()
        await reports.close()
        await db.close()


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

    @queue.task(name=REFUND_CLOSED, queue=QUEUE, retry=RETRY)
    async def refund_closed(account_id: str, purchase_id: str) -> None:
        """Refund money that arrived for a closed account."""
        await services.payments.refund_closed(UUID(account_id), UUID(purchase_id), utc_now())

    @queue.task(name=FORGET_TEXTS, queue=QUEUE, retry=RETRY)
    async def forget_texts_of_erased(account_id: str) -> None:
        """Delete callers' texts from an erased account's books."""
        others = (TOOL_TEXTS, PURCHASE_TEXTS, WALLET_TEXTS, *COST_RECORD_TEXTS, USAGE_TEXTS, MOVED_TEXTS)
        await forget_texts(services.db, UUID(account_id), (*BOOKS, *others))
        await forget_event_ids(services.db, UUID(account_id))
        await forget_interactions(services.reports, UUID(account_id))

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

    _add_periodic_jobs(queue, services)
    return queue


def _add_periodic_jobs(queue: App, services: Services) -> None:
    """Add the jobs that the clock causes. A queueing lock admits one waiting run of each."""

    @queue.periodic(cron="*/5 * * * *")
    @queue.task(name="reconcile_payments", queue=QUEUE, queueing_lock="reconcile_payments", lock=reconciliation.LOCK)
    async def reconcile_payments(timestamp: int) -> None:
        await services.payments.reconcile(utc_now())

    @queue.periodic(cron="*/10 * * * *")
    @queue.task(name="verify_ledger", queue=QUEUE, queueing_lock="verify_ledger")
    async def verify(timestamp: int) -> None:
        """Verify the ledger, once an hour and soon after a start."""
        now = utc_now()
        last = await last_verification(services.db)
        if last is None or now - last.started_at >= VERIFY_EVERY:
            await verify_books(services.db, now)

    @queue.periodic(cron="* * * * *")
    @queue.task(name="roll_up", queue=QUEUE, queueing_lock="roll_up")
    async def roll_up(timestamp: int) -> None:
        """Add new entries of the books to the reports' sums. The next run continues where this one ends."""
        await add_to_sums(services.reports, await database_time(services.reports))

    @queue.periodic(cron="* * * * *")
    @queue.task(name="refresh_account_activity", queue=QUEUE, queueing_lock="refresh_account_activity")
    async def refresh_account_activity(timestamp: int) -> None:
        """Refresh the balances and activity that the back office sorts users by; they are up to a minute old."""
        await refresh_activity(services.db, utc_now())

    @queue.periodic(cron="* * * * *")
    @queue.task(name="expire_grants", queue=QUEUE, queueing_lock="expire_grants")
    async def expire_due_grants(timestamp: int) -> None:
        """Record the expiry of grants. They cannot pay from that moment on, whether or not it is recorded."""
        await expire_grants(services.db, utc_now())

    @queue.periodic(cron="* * * * *")
    @queue.task(name="expire_holds", queue=QUEUE, queueing_lock="expire_holds")
    async def expire_holds(timestamp: int) -> None:
        """Settle holds that were left open. The next transaction of the account does so as well."""
        await services.holds.expire(utc_now())

    @queue.periodic(cron="* * * * *")
    @queue.task(name="expire_cost_records", queue=QUEUE, queueing_lock="expire_cost_records")
    async def expire_cost_records(timestamp: int) -> None:
        """Settle cost records that were left open. Until then, a late completion still counts."""
        await services.cost_records.expire(utc_now())

    @queue.periodic(cron="* * * * *")
    @queue.task(name="refresh_search", queue=QUEUE, queueing_lock="refresh_search")
    async def refresh_search_words(timestamp: int) -> None:
        """Refresh the back office's search index: the words of people, and the spellings of identities."""
        await refresh_search(services.reports, utc_now())

    @queue.periodic(cron="*/5 * * * *")
    @queue.task(name="look_for_unusual_activity", queue=QUEUE, queueing_lock="look_for_unusual_activity")
    async def look_for_unusual_activity(timestamp: int) -> None:
        await look_for_unusual(services.db, services.reports, services.billing, record_by_system, utc_now())

    @queue.periodic(cron="* * * * *")
    @queue.task(name="retry_stalled_jobs", queue=QUEUE, queueing_lock="retry_stalled_jobs", pass_context=True)
    async def retry_stalled_jobs(context: JobContext, timestamp: int) -> None:
        """End the jobs whose worker died while it ran them: without a heartbeat for STALLED_AFTER_S.

        Such a job is scheduled again at once, with two exceptions, which get the status "failed". A job with a queueing
        lock: every periodic job, whose next run replaces it, and `reconcile_all`, which an admin can start again. A job
        with MAX_ATTEMPTS, which may be what kills its workers.
        """
        manager = context.app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=STALLED_AFTER_S):
            log.warning("job_stalled", job_id=job.id, task=job.task_name, attempts=job.attempts)
            if job.queueing_lock is not None or job.attempts >= MAX_ATTEMPTS:
                await manager.finish_job(job, Status.FAILED, delete_job=False)
            else:
                await manager.retry_job(job, retry_at=utc_now())

    @queue.periodic(cron="17 * * * *")
    @queue.task(name="clean_up", queue=QUEUE, queueing_lock="clean_up", pass_context=True)
    async def clean_up(context: JobContext, timestamp: int) -> None:
        """Delete finished jobs (failed ones stay), revocations of expired tokens, and old admin sessions."""
        await remove_old_jobs(context, max_hours=KEEP_FINISHED_HOURS)
        async with services.db.transaction() as tx:
            await purge_expired_revocations(tx, now=utc_now())
            await purge_expired_sessions(tx, now=utc_now())


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
