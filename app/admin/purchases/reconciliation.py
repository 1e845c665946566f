"""Reconciling all purchases because an admin asked for it: by the worker, as it may take minutes.

That it was asked for and what came of it are two entries of the audit log upon one target, the job.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from app.admin.audit import queries as audit_queries
from app.admin.audit.log import Admin, record_outcome
from app.admin.purchases import queries
from app.admin.purchases.schemas import ReconciledFigures, ReconciliationReply
from app.db import Database
from app.jobs import defer_unless_waiting

TASK = "reconcile_all"
LOCK = "reconcile_payments"
"""Of all who reconcile everything, the clock included, one does at a time."""
ASKED, DONE = "purchase.reconcile_all", "purchase.reconciled_all"


async def ask(db: Database, admin: Admin) -> None:
    """Have the worker reconcile everything. While such a job waits, asking again changes nothing."""
    async with db.transaction() as tx:
        job_id, new = await defer_unless_waiting(tx, TASK, admin.now, lock=LOCK)
        if new:
            await admin.record(tx, ASKED, "job", job_id)


async def tell(db: Database, job_id: int, done: Mapping[str, int], now: datetime) -> None:
    """Write down what the job did, as its asker's. Raises LookupError for a job that no admin asked for."""
    async with db.transaction() as tx:
        asked = await audit_queries.find_audit_entry(tx, ASKED, "job", str(job_id))
        if asked is None:
            raise LookupError("no entry of the audit log asks for this job")
        await record_outcome(tx, asked, DONE, after=done, now=now)


async def last(db: Database, now: datetime) -> ReconciliationReply | None:
    """Where the one that was last asked for stands; None: nobody ever asked."""
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
