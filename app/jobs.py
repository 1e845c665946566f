"""Background work is a row, written in the transaction that causes it: it exists exactly when its cause does."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Text, bindparam, text

from app.db import Session

QUEUE = "billing"

# The job queue's own function, as of schema version 3 of procrastinate.
_DEFER = text(
    """
    SELECT procrastinate_defer_jobs_v1(
        ARRAY[ROW(:queue, :task, 0, NULL, NULL, CAST(:args AS jsonb), :at)::procrastinate_job_to_defer_v1]
    )
    """
).bindparams(bindparam("queue", type_=Text), bindparam("task", type_=Text), bindparam("at", type_=DateTime(True)))


async def defer(tx: Session, task: str, args: Mapping[str, Any], at: datetime) -> None:
    """Have the worker run `task` (a function's name in app.worker.tasks) with `args` (JSON) at the time `at`.

    It runs at least once, and only if `tx` commits.
    """
    await tx.execute(_DEFER, {"queue": QUEUE, "task": task, "args": json.dumps(args), "at": at})
