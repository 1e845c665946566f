"""Periodic jobs: those that the clock causes.

They find the work that a failed job left undone. `retry_stalled_jobs` finds the jobs whose worker died.
"""

from datetime import timedelta

import structlog
from procrastinate import App, JobContext
from procrastinate.builtin_tasks import remove_old_jobs
from procrastinate.jobs import Status

from app.accounts.activity import refresh_activity
from app.accounts.search import refresh_search
from app.admin.audit.log import record_by_system
from app.admin.purchases import reconciliation
from app.analytics.rollup import database_time
from app.analytics.rollup import roll_up as add_to_sums
from app.auth.admins.sessions import purge_expired_sessions
from app.auth.id_tokens.revocations import purge_expired_revocations
from app.clock import utc_now
from app.ledger.verification import last_verification
from app.limits.purging import purge_past_windows
from app.live.tickets import purge_expired_tickets
from app.outbox import QUEUE
from app.receipts.chain import extend_chains
from app.refusals.log import forget_refusals
from app.risk.service import look as look_for_unusual
from app.verification import verify_books
from app.wallet.expiry import expire_grants
from app.worker.services import Services

STALLED_AFTER_S = 60
KEEP_FINISHED_HOURS = 72
VERIFY_EVERY = timedelta(hours=1)
MAX_ATTEMPTS = 11
log = structlog.get_logger()


def add_periodic_jobs(queue: App, services: Services) -> None:
    """Add the periodic jobs. A queueing lock admits one waiting run of each."""

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

    @queue.periodic(cron="*/5 * * * *")
    @queue.task(name="pay_due_referrals", queue=QUEUE, queueing_lock="pay_due_referrals")
    async def pay_due_referrals(timestamp: int) -> None:
        """Pay the referrals whose job has failed, or whose account had no room for another grant."""
        await services.promotions.pay_due_referrals(utc_now())

    @queue.periodic(cron="* * * * *")
    @queue.task(name="renew_subscriptions", queue=QUEUE, queueing_lock="renew_subscriptions")
    async def renew_subscriptions(timestamp: int) -> None:
        """Give the monthly grants of yearly subscriptions, end grace periods, and check late renewals."""
        await services.subscriptions.refresher.look_at_due(utc_now())

    @queue.periodic(cron="*/5 * * * *")
    @queue.task(name="reconcile_subscriptions", queue=QUEUE, queueing_lock="reconcile_subscriptions")
    async def reconcile_subscriptions(timestamp: int) -> None:
        """Find what became of orders whose events were lost. The event log is read with that of purchases."""
        await services.subscriptions.refresher.look_at_orders(utc_now())

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

    @queue.periodic(cron="*/10 * * * *")
    @queue.task(name="give_default_limits", queue=QUEUE, queueing_lock="give_default_limits")
    async def give_default_limits(timestamp: int) -> None:
        """Give the limits of `ISSUERS` to accounts that are older. New accounts have them from the start."""
        await services.limits.give_missing_defaults(utc_now())

    @queue.periodic(cron="* * * * *")
    @queue.task(name="extend_chains", queue=QUEUE, queueing_lock="extend_chains")
    async def extend_ledger_chains(timestamp: int) -> None:
        """Hash new ledger entries, so that statements can name them. A request for a statement does so as well."""
        await extend_chains(services.reports)

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
        """Delete finished jobs (failed ones stay), and old revocations, sessions, tickets, refusals and counters."""
        await remove_old_jobs(context, max_hours=KEEP_FINISHED_HOURS)
        async with services.db.transaction() as tx:
            await purge_expired_revocations(tx, now=utc_now())
            await purge_expired_sessions(tx, now=utc_now())
            await purge_expired_tickets(tx, now=utc_now())
        await forget_refusals(services.db, utc_now())
        await purge_past_windows(services.db, utc_now())
