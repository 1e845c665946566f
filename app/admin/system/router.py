"""`/admin/system`: the state of database, worker, queue, webhooks and ledger."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, status
from pydantic import StringConstraints

from app.admin.dependencies import Administrator, Db, Viewer
from app.admin.system import queries
from app.admin.system.schemas import (
    InboxEvent,
    InboxReply,
    JobReply,
    JobsReply,
    LedgerReply,
    QueueReply,
    ReplicaReply,
    SystemReply,
    WebhooksReply,
)
from app.auth.guarded_route import GuardedRoute
from app.http.schemas import ERRORS, MAX_INT64, ErrorReply
from app.ledger.verification import last_verification
from app.outbox import JobStatus, list_jobs, retry_failed
from app.payments.settlement import Outcome

SECRET = re.compile("secret|token|password|credential|key", re.IGNORECASE)
JobId = Annotated[int, Path(ge=1, le=MAX_INT64)]
EventCursor = Annotated[str, StringConstraints(pattern=r"^(live|test)\.[^\x00]{1,255}$")]
router = APIRouter(prefix="/admin/system", tags=["admin: system"], responses=ERRORS, route_class=GuardedRoute)


@router.get("")
async def get_system(request: Request, admin: Viewer, db: Db) -> SystemReply:
    """Return the state of database, replica, worker, job queue, webhooks and the last ledger verification."""
    async with db.read() as session:
        row = await queries.find_system(session, admin.now)
        webhooks = await queries.list_webhooks(session, admin.now - timedelta(days=1))
    last = await last_verification(db)
    ledger = None
    if last is not None:
        names = ("finished_at", "ok", "accounts", "entries", "problem")
        ledger = LedgerReply(**{name: getattr(last, name) for name in names})
    state = request.app.state.replica.state
    return SystemReply(
        version=request.app.version,
        now=admin.now,
        database=row["database"],
        migration=row["migration"],
        worker_seen_at=row["worker_seen_at"],
        queue=QueueReply(waiting=row["waiting"], failed=row["failed"], oldest_waiting_at=row["oldest_waiting_at"]),
        webhooks=[WebhooksReply(**webhook) for webhook in webhooks],
        ledger=ledger,
        replica=None if state is None else ReplicaReply(in_use=state.in_use, lag_s=state.lag_s),
        paid_but_not_credited=row["paid_but_not_credited"],
        for_review=row["for_review"],
    )


@router.get("/jobs")
async def list_background_jobs(
    admin: Viewer,
    db: Db,
    job_status: Annotated[JobStatus, Query(alias="status")] = "failed",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[int, Query(ge=1, le=MAX_INT64)] | None = None,
) -> JobsReply:
    """List jobs, newest first. Failed jobs stay until an admin retries them; their errors are in the worker's log."""
    async with db.read() as session:
        rows = await list_jobs(session, job_status, before=cursor, limit=limit + 1)
    jobs = [JobReply(**{**row, "args": _without_secrets(row["args"])}) for row in rows[:limit]]
    return JobsReply(jobs=jobs, next_cursor=jobs[-1].job_id if len(rows) > limit else None)


@router.post(
    "/jobs/{job_id}/retry",
    status_code=status.HTTP_204_NO_CONTENT,
    responses={404: {"model": ErrorReply}, 409: {"model": ErrorReply}},
)
async def retry_job(job_id: JobId, admin: Administrator, db: Db) -> None:
    """Retry a failed job, as soon as the worker is free."""
    async with db.transaction() as tx:
        job = await retry_failed(tx, job_id, admin.now)
        was = {"status": "failed", "task": job["task"], "attempts": job["attempts"]}
        await admin.record(tx, "job.retry", "job", job_id, before=was, after={"status": "todo"})


@router.get("/events")
async def list_payment_events(
    admin: Viewer,
    db: Db,
    outcome: Outcome | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: EventCursor | None = None,
) -> InboxReply:
    """List Stripe's webhook events, newest first; those with the outcome `review` need an admin."""
    before = None
    if cursor is not None:
        environment, _, event_id = cursor.partition(".")
        before = (environment, event_id)
    async with db.read() as session:
        rows = await queries.list_inbox(session, outcome, before=before, limit=limit + 1)
    events = [InboxEvent(**row) for row in rows[:limit]]
    last = f"{events[-1].environment}.{events[-1].event_id}" if len(rows) > limit else None
    return InboxReply(events=events, next_cursor=last)


def _without_secrets(args: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in args.items() if SECRET.search(name) is None}
