"""Queries of what runs did: their newest calls of each kind, in groups. One statement per kind, by the run's index."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from app.db import Session
from app.db.sql import sql
from app.db.statements import fetch
from app.metering.events import HOLD_METER, RECORD_METER

Row: TypeAlias = Mapping[str, Any]
MAX_CALLS = 1000
"""Calls of a run that are read, of each kind."""
MAX_FETCHED = 5000
"""Groups of calls that are returned, of each kind."""
# A row without a kind is listed as another kind. It is read, so it counts in what may be missing.
_CALLS = """
    SELECT n.run_id, {kind} AS kind, {agent} AS agent_id, {tool} AS tool, {model} AS model, {outcome} AS outcome,
           count(*) AS calls, coalesce(sum({attempts}), 0) AS attempts, coalesce(sum({credits}), 0) AS credits,
           coalesce(sum({nanos}), 0) AS nanos, coalesce(sum({returned_credits}), 0) AS returned_credits,
           coalesce(sum({returned_nanos}), 0) AS returned_nanos, max(t.read) > {most} AS is_partial
      FROM unnest($2::text[]) AS n (run_id),
           LATERAL (SELECT *, count(*) OVER () AS read
                      FROM (SELECT * FROM {table} WHERE account_id = $1 AND run_id = n.run_id
                             ORDER BY {key} DESC LIMIT {most} + 1) newest) t
           {also}
     GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6 LIMIT {fetched}
    """
DEFAULTS = {
    **dict.fromkeys(("agent", "tool", "model"), "NULL::text"),
    "outcome": "t.status",
    **dict.fromkeys(("attempts", "credits", "nanos", "returned_credits", "returned_nanos"), "0"),
    "also": "",
}


def _calls(table: str, key: str, kind: str, **parts: str) -> str:
    """Return the statement of a table's calls. `key` orders them."""
    filled = {**DEFAULTS, **parts}
    return sql(_CALLS, table=table, key=key, kind=kind, **filled, most=MAX_CALLS, fetched=MAX_FETCHED)


_CHARGES = _calls(
    "charges",
    "charge_id",
    "CASE t.operation WHEN 'charge' THEN 'charge' END",
    agent="t.metadata ->> 'agent_id'",
    outcome="'charged'",
    credits="t.cost",
)
_TOOL_USES = _calls(
    "product_usage_log",
    "usage_log_id",
    "'tool_charge'",
    tool="t.product_type",
    outcome="'charged'",
    credits="CASE t.source WHEN 'main_pool' THEN (t.result ->> 'cost_minor')::bigint / 100 END",
)
_EVENTS = _calls(
    "usage_events",
    "usage_id",
    f"CASE WHEN t.meter NOT IN ('{HOLD_METER}', '{RECORD_METER}') THEN 'usage' END",
    agent="t.agent_id",
    tool="t.tool",
    model="coalesce(t.model, t.meter)",
    attempts="a.attempts",
    nanos="CASE WHEN t.status IN ('charged', 'debt') THEN t.cost_nanos END",
    also="LEFT JOIN usage_attempts a ON a.account_id = t.account_id AND a.event_id = t.event_id"
    " AND a.source = t.source AND a.usage_id = t.usage_id",
)
# An open hold counts with its amount.
_SPENT = "CASE t.status WHEN 'held' THEN t.amount ELSE t.captured + t.overage END"
_RETURNED = "CASE t.status WHEN 'held' THEN 0 ELSE t.amount - t.captured END"
_HOLDS = _calls(
    "holds",
    "hold_id",
    "'hold'",
    agent="t.metadata ->> 'agent_id'",
    tool="t.product_type",
    credits=f"CASE WHEN t.unit = 'credit' THEN {_SPENT} END",
    nanos=f"CASE WHEN t.unit <> 'credit' THEN {_SPENT} END",
    returned_credits=f"CASE WHEN t.unit = 'credit' THEN {_RETURNED} END",
    returned_nanos=f"CASE WHEN t.unit <> 'credit' THEN {_RETURNED} END",
)
# An open record counts with its estimate, or with its sum so far if that is larger.
_RECORDS = _calls(
    "cost_records",
    "record_id",
    "'cost_record'",
    agent="t.agent_id",
    tool="t.tool",
    model="nullif(t.model, '')",
    nanos="CASE WHEN t.status = 'open' THEN greatest(t.estimate_nanos, t.cost_nanos)"
    " WHEN e.status IN ('charged', 'debt') THEN t.cost_nanos END",
    returned_nanos="CASE WHEN t.status <> 'open' AND t.usage_id IS NULL THEN t.cost_nanos END",
    also="LEFT JOIN usage_events e ON e.account_id = t.account_id AND e.usage_id = t.usage_id",
)
_KINDS = (_CHARGES, _TOOL_USES, _EVENTS, _HOLDS, _RECORDS)


async def find_calls(db: Session, account_id: UUID, run_ids: Sequence[str]) -> list[Row]:
    """Return what each of the runs did itself: groups of its newest MAX_CALLS calls of each kind.

    `is_partial`: the run did more.
    """
    found: list[Row] = []
    for statement in _KINDS:
        rows = [dict(row) for row in await fetch(db, statement, account_id, list(run_ids))]
        if len(rows) == MAX_FETCHED:
            rows[-1]["is_partial"] = True
        found += rows
    return found
