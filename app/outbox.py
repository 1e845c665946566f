"""The outbox (the transactional outbox pattern): background work as rows of the job queue in PostgreSQL.

`defer` writes a job in the transaction that causes it, so a job exists if and only if its cause was committed. The
worker runs it at least once (app/worker/app.py; the periodic jobs are beside it). The second half of this module reads
the queue for monitoring and for admins.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import DateTime, Text, bindparam, text
from sqlalchemy.exc import IntegrityError

from app.db import Database, Session
from app.db.sql import sql
from app.db.statements import Tx, fetch
from app.errors import AppError
from app.observability import tracing

QUEUE = "billing"
Row = Mapping[str, Any]

# A function of procrastinate, as of its schema version 3.
_DEFER = text(
    """
    SELECT procrastinate_defer_jobs_v1(
        ARRAY[ROW(:queue, :task, 0, :lock, :queueing_lock, CAST(:args AS jsonb), :at)::procrastinate_job_to_defer_v1]
    )
    """
).bindparams(
    *(bindparam(name, type_=Text) for name in ("queue", "task", "lock", "queueing_lock")),
    bindparam("at", type_=DateTime(True)),
)
_DEFER_IN_BATCH = """
    SELECT procrastinate_defer_jobs_v1(
        ARRAY[ROW($1::text, $2::text, 0, NULL, NULL, $3::jsonb, $4::timestamptz)::procrastinate_job_to_defer_v1]
    )
    """
_FIND_LAST = text("SELECT id FROM procrastinate_jobs WHERE queueing_lock = :queueing_lock ORDER BY id DESC LIMIT 1")


async def defer(tx: Session, task: str, args: Mapping[str, Any], at: datetime) -> None:
    """Schedule `task` (by its name in app/worker/app.py) with `args` (JSON) for the time `at`.

    The worker runs it at least once, and only if `tx` commits; in the current trace, if there is one.
    """
    await _defer(tx, task, args, at)


async def defer_in_batch(tx: Tx, task: str, args: Mapping[str, Any], at: datetime) -> None:
    """Schedule a task as `defer` does, also in a transaction of the batcher."""
    await fetch(tx, _DEFER_IN_BATCH, QUEUE, task, json.dumps({**args, **tracing.headers()}), at)


async def defer_unless_waiting(tx: Session, task: str, at: datetime, *, lock: str) -> tuple[int, bool]:
    """Schedule a job unless one of its task is waiting already. Return the job's id, and whether it is new.

    Only one job with this `lock` runs at a time. Of two concurrent callers, the second waits for the first to commit.
    """
    try:
        async with tx.begin_nested():
            return await _defer(tx, task, {}, at, lock=lock, queueing_lock=task), True
    except IntegrityError:
        # It was waiting a moment ago. If it has started since, it started after this call.
        return (await tx.execute(_FIND_LAST, {"queueing_lock": task})).scalar_one(), False


async def _defer(
    tx: Session,
    task: str,
    args: Mapping[str, Any],
    at: datetime,
    *,
    lock: str | None = None,
    queueing_lock: str | None = None,
) -> int:
    traced = json.dumps({**args, **tracing.headers()})
    values = {"queue": QUEUE, "task": task, "args": traced, "at": at, "lock": lock, "queueing_lock": queueing_lock}
    job_id: int = (await tx.execute(_DEFER, values)).scalar_one()[0]
    return job_id


# --- for monitoring ----------------------------------------------------------------------------------------------

MAX_COUNTED = 10_000
# Reads the queue's partial indexes up to MAX_COUNTED rows, because it runs often. A periodic job has no scheduled time;
# its event's time is used.
_FIND_QUEUE = sql(
    """
    SELECT (SELECT count(*) FROM (SELECT FROM procrastinate_jobs WHERE status = 'todo' LIMIT {most}) w) todo,
           (SELECT count(*) FROM (SELECT FROM procrastinate_jobs WHERE status = 'doing' LIMIT {most}) r) doing,
           (SELECT min(coalesce(j.scheduled_at, (SELECT min(at) FROM procrastinate_events WHERE job_id = j.id)))
              FROM (SELECT id, scheduled_at FROM procrastinate_jobs
                     WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= $1) LIMIT {most}) j)
               AS due_since,
           (SELECT max(last_heartbeat) FROM procrastinate_workers) AS worker_seen_at
""",
    most=MAX_COUNTED,
)
_COUNT_FAILED = "SELECT count(*) AS failed FROM procrastinate_jobs WHERE status = 'failed'"


async def find_queue(db: Database, now: datetime) -> Row:
    """Return counts of jobs (MAX_COUNTED at most), the due time of the oldest, and the last heartbeat of a worker."""
    row = await db.fetch_row(_FIND_QUEUE, now)
    assert row is not None
    return row


async def count_failed(db: Database) -> int:
    """Count the failed jobs. Reads the whole queue."""
    row = await db.fetch_row(_COUNT_FAILED)
    assert row is not None
    return int(row["failed"])


# --- for admins ------------------------------------------------------------------------------------------------

JobStatus = Literal["todo", "doing", "failed"]


class JobNotFound(AppError):
    status, code = 404, "job_not_found"

    def __init__(self) -> None:
        super().__init__("Job not found")


class JobNotRetriable(AppError):
    """The job did not fail, is being retried already, or another job of its kind waits, of which one is enough."""

    status, code = 409, "job_not_retriable"

    def __init__(self, why: str) -> None:
        super().__init__(f"The job cannot be retried: {why}")


# The queue stores events with their times, but no errors; those are in the worker's log, under the job's id.
_LIST = text(
    """
    SELECT j.id AS job_id, j.task_name AS task, CAST(j.status AS text) AS status, j.args, j.attempts, j.scheduled_at,
           e.created_at, e.changed_at
      FROM procrastinate_jobs j
      LEFT JOIN LATERAL (SELECT min(at) AS created_at, max(at) AS changed_at
                           FROM procrastinate_events WHERE job_id = j.id) e ON true
     WHERE j.status = CAST(CAST(:status AS text) AS procrastinate_job_status)
           AND (CAST(:before AS bigint) IS NULL OR j.id < :before)
     ORDER BY j.id DESC LIMIT :limit
    """
)
_LOCK = text(
    """
    SELECT task_name AS task, CAST(status AS text) AS status, args, attempts FROM procrastinate_jobs
     WHERE id = :job_id FOR UPDATE
    """
)
_RETRY = text("SELECT procrastinate_retry_job_v2(:job_id, :at, NULL, NULL, NULL)")


async def list_jobs(db: Session, status: JobStatus, *, before: int | None, limit: int) -> Sequence[Row]:
    """Return jobs, newest first, that are older than the job `before`."""
    values = {"status": status, "before": before, "limit": limit}
    return [dict(row) for row in (await db.execute(_LIST, values)).mappings()]


async def retry_failed(tx: Session, job_id: int, at: datetime) -> Row:
    """Schedule a failed job again for the time `at`, and return it as it was. Lock it until commit.

    Raise JobNotFound or JobNotRetriable.
    """
    job = (await tx.execute(_LOCK, {"job_id": job_id})).mappings().one_or_none()
    if job is None:
        raise JobNotFound
    if job["status"] != "failed":
        raise JobNotRetriable("it has not failed")
    try:
        await tx.execute(_RETRY, {"job_id": job_id, "at": at})
    except IntegrityError:
        raise JobNotRetriable("another one of its kind is waiting already") from None
    return dict(job)
