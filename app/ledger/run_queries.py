"""Queries of runs. Those that change a run expect its account to be locked."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from app.db import Database, Session
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, arrays_of, fetch, find_many, insert_rows, write
from app.ledger import run_models
from app.ledger.brake import KeyUse
from app.ledger.key_lines import KEYS_OF_LINE
from app.ledger.runs import Run

Row: TypeAlias = Mapping[str, Any]


class RunName(NamedTuple):
    """A run as callers name it."""

    account_id: UUID
    run_id: str


RUN_COLUMNS = tuple(name for name in Run.__slots__ if name != "is_changed")
# LIMIT makes the planner use one index lookup per key, even if it believes that the table is small.
RUNS_WITH_ANCESTORS = sql(
    """
    SELECT {columns} FROM unnest({{accounts}}::uuid[], {{runs}}::text[]) AS n (account_id, run_id),
           LATERAL (SELECT account_id, array_append(ancestors, run_uuid) AS chain FROM runs
                     WHERE account_id = n.account_id AND run_id = n.run_id LIMIT 1) AS named,
           LATERAL unnest(named.chain) AS c (run_uuid),
           LATERAL (SELECT * FROM runs WHERE account_id = named.account_id AND run_uuid = c.run_uuid LIMIT 1) AS r
    """,
    columns=", ".join(f"r.{name}" for name in RUN_COLUMNS),
)
"""The rows of runs, by arrays of accounts and run ids, and of their ancestors."""
_FIND_WITH_ANCESTORS = sql(RUNS_WITH_ANCESTORS, accounts="$1", runs="$2")
_RUN = sql(
    """
    SELECT {columns}, p.run_id AS parent_run_id FROM runs r
      LEFT JOIN runs p ON p.account_id = r.account_id AND p.run_uuid = r.parent_uuid
    """,
    columns=", ".join(f"r.{column.name}" for column in run_models.Run.__table__.columns),
)
_FIND = PointRead(
    sql("{run} WHERE r.account_id = k.account AND r.run_id = k.run", run=_RUN), account="uuid", run="text"
)
_SPENT = ("account_id", "run_uuid", "spent_credits", "spent_nanos", "uses", "updated_at")
_BRAKED = (*_SPENT, "status", "pause_reason", "minute_start", "minute_credits", "minute_nanos")
"""Columns that are written only while a burn rate is configured."""
_UPDATE_SPENT, _UPDATE_BRAKED = (
    sql(
        """
        UPDATE runs r SET {changes} FROM unnest({arrays}) AS n ({names})
         WHERE r.account_id = n.account_id AND r.run_uuid = n.run_uuid
        """,
        changes=", ".join(f"{name} = n.{name}" for name in columns[2:]),
        arrays=arrays_of(run_models.Run, columns),
        names=", ".join(columns),
    )
    for columns in (_SPENT, _BRAKED)
)
_KEY_USE = tuple(name for name in KeyUse.__slots__ if name not in ("keys", "is_changed"))
# Few of an account's keys have spent in this minute or are paused.
_FIND_KEY_USES = sql(
    """
    SELECT {columns}, {keys} AS keys FROM unnest($1::uuid[]) AS a (account_id),
           LATERAL (SELECT * FROM key_uses WHERE account_id = a.account_id
                       AND (minute_start >= $2 OR paused_at IS NOT NULL) LIMIT 1000) AS u
    """,
    columns=", ".join(f"u.{name}" for name in _KEY_USE),
    keys=sql(KEYS_OF_LINE, key="u.key_id"),
)
_UPSERT_KEY_USES = sql(
    """
    INSERT INTO key_uses ({names}) SELECT * FROM unnest({arrays})
        ON CONFLICT (account_id, key_id) DO UPDATE SET {changes}
    """,
    names=", ".join(_KEY_USE),
    arrays=arrays_of(run_models.KeyUse, _KEY_USE),
    changes=", ".join(f"{name} = excluded.{name}" for name in _KEY_USE[2:]),
)
_LIST_PAUSED_KEYS = """
    SELECT key_id, paused_at FROM key_uses WHERE account_id = $1 AND paused_at IS NOT NULL ORDER BY key_id LIMIT 1000
    """
# The counts restart, so spending before the pause does not pause the key again.
_RESUME_KEY = sql(
    """
    UPDATE key_uses SET paused_at = NULL, minute_start = $3, minute_credits = 0, minute_nanos = 0
     WHERE account_id = $1 AND key_id = ANY ($2::text || {keys}) AND paused_at IS NOT NULL RETURNING paused_at
    """,
    keys=sql(KEYS_OF_LINE, key="$2"),
)
_UPDATE_TERMS = sql(
    """
    UPDATE runs SET unit = $3, budget = $4, status = $5, pause_reason = $6, closed_at = $7, updated_at = $8,
                    minute_start = CASE WHEN {resumed} THEN $8 ELSE minute_start END,
                    minute_credits = CASE WHEN {resumed} THEN 0 ELSE minute_credits END,
                    minute_nanos = CASE WHEN {resumed} THEN 0 ELSE minute_nanos END
     WHERE account_id = $1 AND run_uuid = $2
    """,
    resumed="status = 'paused' AND $5 = 'open'",
)
_MARK_LIMITED = "UPDATE accounts SET has_limits = true WHERE account_id = $1 AND NOT has_limits"
_COUNT_OPEN = """
    SELECT count(*) AS open FROM (SELECT FROM runs WHERE account_id = $1 AND status <> 'closed' LIMIT $2) r
    """
_FIND_HELD = """
    SELECT unit, sum(amount)::bigint AS amount, count(*) AS uses FROM holds
     WHERE account_id = $1 AND run_id = $2 AND status = 'held' GROUP BY unit
    """
_LIST = sql("{run} WHERE r.account_id = $1 AND r.run_uuid < $2 ORDER BY r.run_uuid DESC LIMIT $3", run=_RUN)
# A level after the other, so that a limit keeps the upper levels.
_FIND_TREE = sql(
    """
    WITH RECURSIVE tree AS (
        SELECT account_id, run_uuid, 1 AS place FROM runs WHERE account_id = $1 AND run_uuid = $2
        UNION ALL
        SELECT t.account_id, c.run_uuid, t.place + 1 FROM tree t,
               LATERAL (SELECT run_uuid FROM runs WHERE account_id = t.account_id AND parent_uuid = t.run_uuid
                         ORDER BY run_uuid LIMIT $3) c),
    kept AS (SELECT * FROM tree LIMIT $3)
    {run} JOIN kept k ON k.account_id = r.account_id AND k.run_uuid = r.run_uuid ORDER BY k.place, r.run_uuid
    """,
    run=_RUN,
)


async def find_with_ancestors(tx: Tx, names: Sequence[RunName]) -> list[Run]:
    """Return registered runs and their ancestors. An ancestor of several runs is returned several times."""
    rows = await fetch(tx, _FIND_WITH_ANCESTORS, *(list(column) for column in zip(*names, strict=True)))
    return [Run(*row.values()) for row in rows]


async def store_spent(tx: Tx, runs: Sequence[Run], now: datetime, *, is_braked: bool) -> None:
    """Store what changed of runs in a batch: their counters, and with a burn rate also its counts and their status."""
    columns, statement = (_BRAKED, _UPDATE_BRAKED) if is_braked else (_SPENT, _UPDATE_SPENT)
    values = ([now for _ in runs] if name == "updated_at" else [getattr(run, name) for run in runs] for name in columns)
    await write(tx, statement, *values)


async def find_run(db: Database, name: RunName) -> Row | None:
    """Return a run with the id of its parent."""
    return await db.find(_FIND, *name)


async def find_locked(tx: Tx, name: RunName) -> Row | None:
    """Return a run of a locked account, as `find_run` does."""
    rows = await find_many(tx, _FIND, [name])
    return rows[0] if rows else None


async def find_tree(db: Session, account_id: UUID, run_uuid: UUID, most: int) -> Sequence[Row]:
    """Return a run and the runs below it, upper levels first, `most` at most."""
    return await fetch(db, _FIND_TREE, account_id, run_uuid, most)


async def insert_run(tx: Tx, row: Mapping[str, Any]) -> None:
    """Store a new run, and let the batcher read the limits and runs of its account from now on."""
    await insert_rows(tx, run_models.Run, [{**row, "metadata": json.dumps(row["metadata"])}])
    await write(tx, _MARK_LIMITED, row["account_id"])


async def update_terms(tx: Tx, run: Row, now: datetime) -> None:
    """Store the budget and the status of a run."""
    values = (run["unit"], run["budget"], run["status"], run["pause_reason"], run["closed_at"])
    await write(tx, _UPDATE_TERMS, run["account_id"], run["run_uuid"], *values, now)


async def count_open(tx: Tx, account_id: UUID, most: int) -> int:
    """Return the number of an account's runs that are not closed, up to `most`."""
    [row] = await fetch(tx, _COUNT_OPEN, account_id, most)
    return int(row["open"])


async def find_held(tx: Tx, name: RunName) -> Sequence[Row]:
    """Return the amounts of the run's open holds by unit, and their number."""
    return await fetch(tx, _FIND_HELD, *name)


async def list_runs(db: Session, account_id: UUID, before: UUID, limit: int) -> Sequence[Row]:
    """Return an account's runs with the ids of their parents, newest first, before a position."""
    return await fetch(db, _LIST, account_id, before, limit)


async def find_by_uuid(tx: Tx, account_id: UUID, run_uuid: UUID) -> Row | None:
    """Return a run by the table's own id."""
    rows = await fetch(tx, _FIND_TREE, account_id, run_uuid, 1)
    return rows[0] if rows else None


# --- uses of keys outside of runs ---


async def find_key_uses(tx: Tx, account_ids: Sequence[UUID], minute: datetime) -> list[KeyUse]:
    """Return the uses of keys by locked accounts that have spent in a minute, or are paused."""
    return [KeyUse(**row) for row in await fetch(tx, _FIND_KEY_USES, list(account_ids), minute)]


async def store_key_uses(tx: Tx, uses: Sequence[KeyUse]) -> None:
    await write(tx, _UPSERT_KEY_USES, *([getattr(use, name) for use in uses] for name in _KEY_USE))


async def list_paused_keys(db: Session, account_id: UUID) -> Sequence[Row]:
    """Return the keys whose use by an account is paused."""
    return await fetch(db, _LIST_PAUSED_KEYS, account_id)


async def resume_key(tx: Tx, account_id: UUID, key_id: str, now: datetime) -> bool:
    """End the pause of a locked account's use of a key and its line. Return False if it is not paused."""
    return bool(await fetch(tx, _RESUME_KEY, account_id, key_id, now))
