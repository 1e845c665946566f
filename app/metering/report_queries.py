"""Queries of usage reports: events and sums of them, by pages. For the pool of lists, never for money."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, text

from app.auth.caller import Environment
from app.db import Database, Session
from app.db.sql import sql
from app.metering.attribution import normalized_uuid

Interval = Literal["hour", "day", "month"]
Dimension = Literal["meter", "provider", "model", "agent", "tool", "key", "run", "status", "source"]
Grouping = Dimension | Literal["plan", "user"]
"""The dimensions of the back office, which reads the usage of all users."""
COLUMN_OF: Mapping[str, str] = {
    "meter": "meter",
    "provider": "provider",
    "model": "model",
    "agent": "agent_id",
    "tool": "tool",
    "key": "key_id",
    "run": "run_id",
    "status": "status",
    "source": "source",
    "plan": "plan_name",
    "user": "CAST(account_id AS text)",
}
"""By dimension."""
QUANTITIES = (
    *("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "output_text", "reasoning"),
    *("audio_in", "audio_out", "image_in", "image_out"),
    *("cpu_hours", "memory_gb_hours", "count", "quantity"),
)
EVENT = """
    account_id, usage_id, environment, source, event_id, meter, provider, model, quantities, raw, metadata, status,
    refusal, currency, cost_nanos, stated_nanos, provider_cost_nanos, debt_nanos, balance_after_nanos, price_version,
    price, plan_name, agent_id, tool, run_id, attribution, key_id, occurred_at, created_at
    """


@dataclass(frozen=True, slots=True)
class Scope:
    """The events of a report: half-open in time, of one account or of the whole environment."""

    environment: Environment
    since: datetime
    until: datetime
    account_id: UUID | None
    filters: Mapping[Grouping, str]

    @property
    def condition(self) -> str:
        conditions = ["environment = :environment", "occurred_at >= :since", "occurred_at < :until"]
        if self.account_id is not None:
            conditions.append("account_id = :account_id")
        conditions += [_equals(dimension) for dimension in self.filters]
        return " AND ".join(conditions)

    @property
    def values(self) -> dict[str, Any]:
        account = {} if self.account_id is None else {"account_id": self.account_id}
        times = {"since": self.since, "until": self.until}
        agent = {"uuid": normalized_uuid(self.filters["agent"])} if "agent" in self.filters else {}
        return {"environment": self.environment, **times, **account, **dict(self.filters.items()), **agent}


def _equals(dimension: Grouping) -> str:
    """Return SQL for the condition of a filter. Events store an agent's UUID in one spelling, settled work as sent."""
    return "agent_id IN (:agent, :uuid)" if dimension == "agent" else f"{COLUMN_OF[dimension]} = :{dimension}"


async def list_events(
    db: Session, scope: Scope, before: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Mapping[str, Any]]:
    """Return a page of events, newest first, by their own time."""
    statement = sql(
        """
        SELECT {columns} FROM usage_events
         WHERE {condition}{page}
         ORDER BY occurred_at DESC, usage_id DESC LIMIT :limit
        """,
        columns=EVENT,
        condition=scope.condition,
        page="" if before is None else " AND (occurred_at, usage_id) < (:before_at, :before_id)",
    )
    values = {**scope.values, "limit": limit}
    if before is not None:
        values |= {"before_at": before[0], "before_id": before[1]}
    return [dict(row) for row in (await db.execute(text(statement), values)).mappings()]


async def sum_events(
    db: Session,
    scope: Scope,
    dimensions: Sequence[Grouping],
    interval: Interval | None,
    after: Sequence[str] | None,
    limit: int,
) -> Sequence[Mapping[str, Any]]:
    """Return a page of sums in the order of their groups, always by currency too. Refused events are only counted.

    A group that lacks an attribute has "". A recorded cost is one of an account that is not billed.
    """
    keys = _keys(dimensions, interval)
    page = "" if after is None else f" AND ({', '.join(keys)}) > ({_bound(keys)})"
    values = {**scope.values, **_values(keys, after or ()), "limit": limit}
    statement = sql(
        "{sums} ORDER BY {numbers} LIMIT :limit", sums=_sums(scope, keys, page), numbers=_numbers(len(keys))
    )
    return [dict(row) for row in (await db.execute(text(statement), values)).mappings()]


async def largest_sums(
    db: Session, scope: Scope, dimensions: Sequence[Grouping], after: Sequence[str] | None, limit: int
) -> Sequence[Mapping[str, Any]]:
    """Return a page of sums like `sum_events`, the highest cost first. `after`: cost in nanos and keys of a row."""
    keys = _keys(dimensions, None)
    names = ", ".join(f"key_{number}" for number in range(len(keys)))
    statement = sql(
        "SELECT * FROM ({sums}) sums{page} ORDER BY cost_nanos DESC, {names} LIMIT :limit",
        sums=_sums(scope, keys, ""),
        page="" if after is None else f" WHERE (-cost_nanos, {names}) > (-CAST(:cost AS numeric), {_bound(keys)})",
        names=names,
    )
    values = {**scope.values, "limit": limit}
    if after is not None:
        values |= {"cost": after[0], **_values(keys, after[1:])}
    return [dict(row) for row in (await db.execute(text(statement), values)).mappings()]


def _keys(dimensions: Sequence[Grouping], interval: Interval | None) -> list[str]:
    keys = [f"coalesce({COLUMN_OF[dimension]}, '') COLLATE \"C\"" for dimension in dimensions]
    if interval is not None:
        start = f"date_trunc('{interval}', occurred_at AT TIME ZONE 'UTC')"
        keys.insert(0, f"""to_char({start}, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') COLLATE "C\"""")
    return [*keys, 'currency COLLATE "C"']


def _sums(scope: Scope, keys: Sequence[str], page: str) -> str:
    """Return SQL for the sums of the groups, unordered.

    Corrections count in the group and at the time of their events. The margin is what was charged, with corrections,
    less the cost at list prices, of the events whose cost at list prices is known.
    """
    parts = {
        "keys": ", ".join(f"{key} AS key_{number}" for number, key in enumerate(keys)),
        "condition": scope.condition + page,
        "numbers": _numbers(len(keys)),
    }
    return sql(
        "SELECT {names}, {sums} FROM ({events} UNION ALL {corrections}) parts GROUP BY {numbers}",
        names=", ".join(f"key_{number}" for number in range(len(keys))),
        sums=", ".join(
            (
                *(f"CAST(sum({name}) AS bigint) AS {name}" for name in _COUNTS),
                *(f"sum({name}) AS {name}" for name in (*_AMOUNTS, *QUANTITIES)),
            )
        ),
        events=sql(_EVENTS, **parts),
        corrections=sql(_CORRECTIONS, **parts),
        numbers=parts["numbers"],
    )


_COUNTS = ("events", "refused", "without_provider_cost")
_AMOUNTS = (*("cost_nanos", "correction_nanos", "recorded_nanos", "provider_cost_nanos", "margin_nanos", "debt_nanos"),)
_ACCEPTED = "FILTER (WHERE status <> 'refused')"
_EVENTS = sql(
    """
    SELECT {{keys}}, count(*) {accepted} AS events, count(*) FILTER (WHERE status = 'refused') AS refused,
           coalesce(sum(cost_nanos) FILTER (WHERE status IN ('charged', 'debt')), 0) AS cost_nanos,
           CAST(0 AS numeric) AS correction_nanos,
           coalesce(sum(cost_nanos) FILTER (WHERE status = 'recorded'), 0) AS recorded_nanos,
           coalesce(sum(provider_cost_nanos) {accepted}, 0) AS provider_cost_nanos,
           coalesce(sum(CASE WHEN status = 'recorded' THEN 0 ELSE cost_nanos END - provider_cost_nanos) {accepted}, 0)
           AS margin_nanos,
           count(*) FILTER (WHERE status <> 'refused' AND provider_cost_nanos IS NULL) AS without_provider_cost,
           coalesce(sum(debt_nanos), 0) AS debt_nanos,
           {quantities}
      FROM usage_events
     WHERE {{condition}}
     GROUP BY {{numbers}}
    """,
    accepted=_ACCEPTED,
    quantities=", ".join(f"sum(CAST(quantities ->> '{name}' AS numeric)) {_ACCEPTED} AS {name}" for name in QUANTITIES),
)
_CORRECTIONS = sql(
    """
    SELECT {{keys}}, 0, 0, 0,
           coalesce(sum(after_nanos - before_nanos) FILTER (WHERE status <> 'recorded'), 0),
           coalesce(sum(after_nanos - before_nanos) FILTER (WHERE status = 'recorded'), 0),
           sum(coalesce(provider_after_nanos, 0) - coalesce(provider_before_nanos, 0)),
           sum(coalesce(CASE WHEN status = 'recorded' THEN 0 ELSE after_nanos END - provider_after_nanos, 0)
               - coalesce(CASE WHEN status = 'recorded' THEN 0 ELSE before_nanos END - provider_before_nanos, 0)),
           sum(CAST(provider_after_nanos IS NULL AS int) - CAST(provider_before_nanos IS NULL AS int)), 0,
           {quantities}
      FROM (SELECT u.*, c.cost_before_nanos AS before_nanos, c.cost_after_nanos AS after_nanos,
                   c.provider_cost_before_nanos AS provider_before_nanos,
                   c.provider_cost_after_nanos AS provider_after_nanos
              FROM usage_corrections c JOIN usage_events u ON u.account_id = c.account_id AND u.usage_id = c.usage_id)
           corrected
     WHERE {{condition}}
     GROUP BY {{numbers}}
    """,
    quantities=", ".join("CAST(NULL AS numeric)" for _ in QUANTITIES),
)


def _bound(keys: Sequence[str]) -> str:
    return ", ".join(f":key_{number}" for number in range(len(keys)))


def _values(keys: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    return {f"key_{number}": value for number, (_, value) in enumerate(zip(keys, after, strict=False))}


def _numbers(count: int) -> str:
    return ", ".join(str(number) for number in range(1, count + 1))


_CORRECTED = """
    (SELECT to_jsonb(c) FROM usage_corrections c WHERE c.account_id = $1 AND c.usage_id = usage_events.usage_id
      ORDER BY correction_no DESC LIMIT 1) AS correction
    """
_FIND_EVENT = sql(
    """
    SELECT {columns}, {corrected}, attempts FROM (
        SELECT 0 AS rank, usage_id AS found, 0 AS attempts, source = $3 AS is_own
          FROM usage_keys WHERE account_id = $1 AND event_id = $2
         UNION ALL
        SELECT 1, usage_id, attempts, source = $3 FROM usage_attempts WHERE account_id = $1 AND event_id = $2) f
      JOIN usage_events ON account_id = $1 AND usage_id = found
     ORDER BY is_own DESC, rank LIMIT 1
    """,
    columns=EVENT,
    corrected=_CORRECTED,
)


async def find_event(db: Database, account_id: UUID, event_id: str, source: str) -> Mapping[str, Any] | None:
    """Return an event by its id, of the source if it has one with this id. A refused one only if none is recorded."""
    return await db.fetch_row(_FIND_EVENT, account_id, event_id, source)


_LIST_EVENTS_BY_ID = text(
    """
    SELECT usage_id, event_id, meter, provider, model, quantities, tool, attribution, metadata FROM usage_events
     WHERE account_id = :account_id AND usage_id = ANY (:ids)
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid)))


async def list_events_by_id(
    db: Session, account_id: UUID, usage_ids: Sequence[UUID]
) -> Mapping[UUID, Mapping[str, Any]]:
    """Return what events of one account were about, by their ids."""
    if not usage_ids:
        return {}
    rows = await db.execute(_LIST_EVENTS_BY_ID, {"account_id": account_id, "ids": list(usage_ids)})
    return {row["usage_id"]: dict(row) for row in rows.mappings()}


_SUM_ACCOUNT = """
    SELECT (SELECT count(*) FROM usage_keys WHERE account_id = $1) AS events,
           coalesce(sum(cost_nanos) FILTER (WHERE occurred_at >= $2), 0)::bigint AS today_nanos,
           coalesce(sum(cost_nanos), 0)::bigint AS month_nanos,
           (SELECT occurred_at FROM usage_events
             WHERE account_id = $1 AND status <> 'refused' ORDER BY occurred_at DESC, usage_id DESC LIMIT 1) AS last_at
      FROM usage_events
     WHERE account_id = $1 AND occurred_at >= $3 AND status IN ('charged', 'debt')
    """


async def sum_account(db: Database, account_id: UUID, day: datetime, month: datetime) -> Mapping[str, Any]:
    """Return the number of an account's recorded events, the cost of those since two times, and the newest's time."""
    row = await db.fetch_row(_SUM_ACCOUNT, account_id, day, month)
    assert row is not None, "an aggregate has a row"
    return row


_FIND_EVENT_BY_USAGE_ID = sql(
    """
    SELECT {columns}, {corrected},
           coalesce((SELECT max(t.attempts) FROM usage_attempts t
                      WHERE t.account_id = usage_events.account_id AND t.event_id = usage_events.event_id
                        AND t.usage_id = usage_events.usage_id), 0)
           AS attempts
      FROM usage_events WHERE account_id = $1 AND usage_id = $2
    """,
    columns=EVENT,
    corrected=_CORRECTED,
)


async def find_event_by_usage_id(db: Database, account_id: UUID, usage_id: UUID) -> Mapping[str, Any] | None:
    """Return an event by the id of its record."""
    return await db.fetch_row(_FIND_EVENT_BY_USAGE_ID, account_id, usage_id)
