"""Reconciliation of all purchases at an admin's request. The worker runs it, because it may take minutes.

Request and outcome are two entries of the audit log on one target, the job.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from app.admin.audit import queries as audit_queries
from app.admin.audit.log import Admin, record_outcome
from app.admin.purchases import queries
from app.admin.purchases.schemas import ReconciledFigures, ReconciliationReply
from app.db import Database
from app.outbox import defer_unless_waiting

TASK = "reconcile_all"
LOCK = "reconcile_payments"
"""Only one reconciliation of everything runs at a time, including the periodic one."""
REQUESTED, DONE = "purchase.reconcile_all", "purchase.reconciled_all"


async def request(db: Database, admin: Admin) -> None:
    """Have the worker reconcile everything. While such a job waits, another request changes nothing."""
    async with db.transaction() as tx:
        job_id, new = await defer_unless_waiting(tx, TASK, admin.now, lock=LOCK)
        if new:
            await admin.record(tx, REQUESTED, "job", job_id)


async def record_result(db: Database, job_id: int, done: Mapping[str, int], now: datetime) -> None:
    """Record the job's outcome, as the requesting admin's. Raise LookupError for a job that no admin requested."""
    async with db.transaction() as tx:
        requested = await audit_queries.find_audit_entry(tx, REQUESTED, "job", str(job_id))
        if requested is None:
            raise LookupError("no entry of the audit log requests this job")
        await record_outcome(tx, requested, DONE, after=done, now=now)


async def last(db: Database, now: datetime) -> ReconciliationReply | None:
    """Return the state of the last requested reconciliation; None if none was requested yet."""
    async with db.read() as session:
        row = await queries.find_last_reconciliation(session)
    if row is None:
        return None
    outcome = row["outcome"]
    return ReconciliationReply(
        **{name: row[name] for name in ("job_id", "asked_at", "asked_by", "finished_at", "worker_seen_at")},
        state=_state(row["job_status"], done=outcome is not None),
        outcome=None if outcome is None else ReconciledFigures(**outcome),
        now=now,
    )


def _state(job_status: str | None, *, done: bool) -> Literal["queued", "running", "finished", "failed"]:
    if job_status == "todo":
        return "queued"
    if job_status == "doing":
        return "running"
    return "finished" if done else "failed"
