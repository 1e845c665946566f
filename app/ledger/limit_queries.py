"""Queries of limits and their counters."""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from uuid import UUID

import structlog

from app.clock import utc_now
from app.db import first_id_at
from app.db.sql import sql
from app.db.statements import Tx, arrays_of, fetch, insert_rows, write
from app.ledger import approval_queries
from app.ledger.batching import AccountRequest, Accounts, Batcher
from app.ledger.key_lines import KEYS_OF_LINE
from app.ledger.limits import WINDOWS, AccountLimits, Limit, Window, window_start
from app.ledger.locked_account import LockedAccount
from app.ledger.models import EvaluatedLimits, LimitCounter, SpendingLimit
from app.ledger.pools import CREDIT
from app.ledger.run_hooks import add_runs, take_unknown_runs
from app.ledger.run_queries import RUN_COLUMNS, RUNS_WITH_ANCESTORS, RunName
from app.ledger.runs import Run
from app.ledger.units import USE
from app.observability.metrics import LIMITS_CROSSED

log = structlog.get_logger()
ID_LAG = timedelta(minutes=1)
"""The most by which the ids of rows lag behind the time of their requests."""
LONGEST_HOLD = timedelta(days=31)
"""A new limit does not count a hold that was extended for longer."""

_IN_FORCE = sql(
    """
    SELECT l.account_id, l.limit_id, l.scope, l.scope_value, l.time_window AS "window", l.unit, l.amount, l.action,
           l.owner, l.created_at, w.window_start, coalesce(c.counted, 0) AS counted, c.crossed_at,
           CASE WHEN l.scope = 'key' THEN {keys} ELSE '{{}}' END AS keys
      FROM limits l
      JOIN unnest($2::text[], $3::timestamptz[]) AS w ("window", window_start) ON w."window" = l.time_window
      LEFT JOIN limit_counters c
        ON c.account_id = l.account_id AND c.limit_id = l.limit_id AND c.window_start = w.window_start
     WHERE l.account_id = ANY ($1::uuid[]) AND l.removed_at IS NULL
    """,
    keys=sql(KEYS_OF_LINE, key="l.scope_value"),
)
_LIMIT_COLUMNS = 14
_ORDER = 'ORDER BY array_position($2, "window"), limit_id'
_FIND_IN_FORCE = sql("SELECT * FROM ({limits}) l {order}", limits=_IN_FORCE, order=_ORDER)
# A round trip less than two statements. The rows of runs come last, since their windows are NULL.
_FIND_IN_FORCE_WITH_RUNS = sql(
    """
    SELECT * FROM (SELECT l.*, {no_run} FROM ({limits}) l UNION ALL SELECT {no_limit}, r.* FROM ({runs}) r) found
    {order}
    """,
    limits=_IN_FORCE,
    no_run=", ".join(f"NULL AS run_{number}" for number in range(len(RUN_COLUMNS))),
    no_limit=", ".join(["NULL"] * _LIMIT_COLUMNS),
    runs=sql(RUNS_WITH_ANCESTORS, accounts="$4", runs="$5"),
    order=_ORDER,
)
_COUNTER = ("account_id", "limit_id", "window_start", "counted", "crossed_at")
_UPSERT_COUNTERS = sql(
    """
    INSERT INTO limit_counters AS c ({names}) SELECT * FROM unnest({arrays})
        ON CONFLICT (account_id, limit_id, window_start)
        DO UPDATE SET counted = excluded.counted, crossed_at = excluded.crossed_at
    """,
    names=", ".join(_COUNTER),
    arrays=arrays_of(LimitCounter, _COUNTER),
)
_FIND_WINDOWS_EVER = """
    SELECT DISTINCT time_window FROM limits
     WHERE account_id = $1 AND scope = 'account' AND owner = 'operator' AND unit = $2 AND action <> 'notify'
    """
_UPDATE_AMOUNT = "UPDATE limits SET amount = $3, updated_at = $4 WHERE account_id = $1 AND limit_id = $2"
_REMOVE = "UPDATE limits SET removed_at = $3, updated_at = $3 WHERE account_id = $1 AND limit_id = $2"
_SET_HAS_LIMITS = """
    UPDATE accounts SET has_limits = $2 OR EXISTS (SELECT FROM runs WHERE account_id = $1)
     WHERE account_id = $1 AND has_limits <> $2
    """
_PURGE_COUNTERS = """
    DELETE FROM limit_counters
     WHERE (account_id, limit_id, window_start) IN (
           SELECT account_id, limit_id, window_start FROM limit_counters
            WHERE window_start > '1970-01-01T00:00:00Z' AND window_start < $1 ORDER BY window_start LIMIT $2)
    RETURNING 1
    """

_PURGE_EVALUATED = """
    DELETE FROM evaluated_limits
     WHERE (account_id, cause_id) IN (
           SELECT account_id, cause_id FROM evaluated_limits WHERE cause_id < $1 ORDER BY cause_id LIMIT $2)
    RETURNING 1
    """

_OF_HOLD = """key_id AS "key", metadata ->> 'agent_id' AS agent, NULL AS model, product_type AS tool"""
_OF_RECORD = "r.key_id, r.agent_id, NULL, r.tool"
# $1 account, $2 first id of the window, $3 its start, $4 first id of a hold that may be captured in it
_IN_WINDOW = sql(
    """
    SELECT CASE unit WHEN 'credit' THEN amount ELSE 0 END AS credits,
           CASE unit WHEN 'credit' THEN 0 ELSE amount END AS nanos, uses, "key", agent, model, tool
      FROM (SELECT unit, CASE WHEN created_at < $3 THEN 0 WHEN status = 'held' THEN amount ELSE captured END
                         + CASE WHEN settled_at >= $3 THEN overage ELSE 0 END AS amount,
                   (created_at >= $3 AND (status = 'held' OR spending_id IS NOT NULL))::int AS uses, {hold}
              FROM holds WHERE account_id = $1 AND hold_id >= $4) h
     UNION ALL
    SELECT c.cost, 0, 1, CASE e.actor_type WHEN 'api_key' THEN e.actor_id END, c.metadata ->> 'agent_id', NULL, NULL
      FROM charges c JOIN ledger_entries e ON e.account_id = c.account_id AND e.entry_no = c.entry_no
     WHERE c.account_id = $1 AND c.charge_id >= $2 AND c.created_at >= $3
       AND c.operation = 'charge' AND NOT c.metadata ? 'hold_id'
     UNION ALL
    SELECT coalesce(c.cost, 0), 0, 1, CASE t.actor_type WHEN 'api_key' THEN t.actor_id END, NULL, NULL, t.product_type
      FROM product_usage_log t LEFT JOIN charges c ON c.account_id = t.account_id AND c.charge_id = t.charge_id
     WHERE t.account_id = $1 AND t.usage_log_id >= $2 AND t.created_at >= $3
     UNION ALL
    SELECT 0, u.cost_nanos, 1, u.key_id, u.agent_id, u.model, u.tool
      FROM usage_events u
     WHERE u.account_id = $1 AND u.usage_id >= $2 AND u.created_at >= $3
       AND u.status IN ('charged', 'debt') AND u.meter NOT IN ('cost-record', 'captured-hold')
     UNION ALL
    SELECT 0, CASE WHEN r.status = 'open' THEN greatest(r.estimate_nanos, r.cost_nanos)
                   WHEN u.status IN ('charged', 'debt') THEN r.cost_nanos ELSE 0 END,
           (r.status = 'open' OR r.usage_id IS NOT NULL)::int, {record}
      FROM cost_records r LEFT JOIN usage_events u ON u.account_id = r.account_id AND u.usage_id = r.usage_id
     WHERE r.account_id = $1 AND r.record_id >= $2 AND r.created_at >= $3
    """,
    hold=_OF_HOLD,
    record=_OF_RECORD,
)
_OPEN = sql(
    """
    SELECT CASE unit WHEN 'credit' THEN amount ELSE 0 END AS credits,
           CASE unit WHEN 'credit' THEN 0 ELSE amount END AS nanos, 1 AS uses, {hold}
      FROM holds WHERE account_id = $1 AND status = 'held'
     UNION ALL
    SELECT 0, greatest(r.estimate_nanos, r.cost_nanos), 1, {record}
      FROM cost_records r WHERE r.account_id = $1 AND r.status = 'open'
    """,
    hold=_OF_HOLD,
    record=_OF_RECORD,
)
# Of cost records, their items name models. Items of versions before 0044 are not counted.
_ITEMS = """
    SELECT 0, CASE WHEN r.status = 'open' OR u.status IN ('charged', 'debt') THEN i.cost_nanos ELSE 0 END,
           (r.status = 'open' OR r.usage_id IS NOT NULL)::int, NULL, NULL, i.model, NULL
      FROM cost_records r
      JOIN cost_record_items i ON i.account_id = r.account_id AND i.record_id = r.record_id AND i.is_counted
      LEFT JOIN usage_events u ON u.account_id = r.account_id AND u.usage_id = r.usage_id
     WHERE {which}
    """
_OF_MODEL_IN_WINDOW = sql(
    "{spent} UNION ALL {items}",
    spent=_IN_WINDOW,
    items=sql(_ITEMS, which="i.account_id = $1 AND i.addition_id >= $2 AND i.created_at >= $3"),
)
_OPEN_OF_MODEL = sql(
    "{spent} UNION ALL {items}", spent=_OPEN, items=sql(_ITEMS, which="r.account_id = $1 AND r.status = 'open'")
)
_SUM = """
    SELECT least(coalesce(sum({amount}), 0), 9223372036854775807)::bigint AS counted FROM ({spent}) spent
     WHERE {scope}
    """


async def find_in_force(tx: Tx, account_ids: Sequence[UUID], now: datetime, zone: tzinfo) -> list[Limit]:
    """Return the limits of accounts with the counters of the windows that `now` is in, shorter windows first."""
    starts = [window_start(window, now, zone) for window in WINDOWS]
    return [Limit(*row.values()) for row in await fetch(tx, _FIND_IN_FORCE, list(account_ids), list(WINDOWS), starts)]


async def find_in_force_with_runs(
    tx: Tx, account_ids: Sequence[UUID], now: datetime, zone: tzinfo, names: Sequence[RunName]
) -> tuple[list[Limit], list[Run]]:
    """Return what `find_in_force` does, and what `find_with_ancestors` of runs does, by one statement."""
    starts = [window_start(window, now, zone) for window in WINDOWS]
    runs = [list(column) for column in zip(*names, strict=True)]
    rows = await fetch(tx, _FIND_IN_FORCE_WITH_RUNS, list(account_ids), list(WINDOWS), starts, *runs)
    found = [tuple(row.values()) for row in rows]
    return (
        [Limit(*values[:_LIMIT_COLUMNS]) for values in found if values[0] is not None],
        [Run(*values[_LIMIT_COLUMNS:]) for values in found if values[0] is None],
    )


async def find_limits(tx: Tx, account_id: UUID, now: datetime, zone: tzinfo) -> AccountLimits:
    """Return the limits of one account, and its approvals if a limit asks for any."""
    limits = AccountLimits(now, zone, await find_in_force(tx, [account_id], now, zone))
    if any(limit.action == "ask" for limit in limits.limits):
        limits.approvals += await approval_queries.find_of_limits(tx, [account_id], now)
    return limits


async def store_counters(tx: Tx, limits: Sequence[Limit]) -> None:
    """Store changed counters. The caller has locked their accounts."""
    await write(tx, _UPSERT_COUNTERS, *([getattr(limit, name) for limit in limits] for name in _COUNTER))


async def insert_limits(tx: Tx, limits: Sequence[Limit]) -> None:
    """Store new limits. The caller has locked, or created, their accounts."""
    same = ("account_id", "limit_id", "scope", "scope_value", "unit", "amount", "action", "owner", "created_at")
    rows = [
        {**{name: getattr(limit, name) for name in same}, "time_window": limit.window, "updated_at": limit.created_at}
        for limit in limits
    ]
    await insert_rows(tx, SpendingLimit, rows)


async def update_amount(tx: Tx, limit: Limit, now: datetime) -> None:
    await write(tx, _UPDATE_AMOUNT, limit.account_id, limit.limit_id, limit.amount, now)


async def remove_limit(tx: Tx, limit: Limit, now: datetime) -> None:
    await write(tx, _REMOVE, limit.account_id, limit.limit_id, now)


async def find_windows_ever(tx: Tx, account_id: UUID, unit: str) -> set[Window]:
    """Return the windows for which the operator has limited, or once limited, all that an account spends of a unit.

    A limit of action `notify` bounds nothing, so it is none of them.
    """
    return {row["time_window"] for row in await fetch(tx, _FIND_WINDOWS_EVER, account_id, unit)}


async def set_has_limits(tx: Tx, account_id: UUID, value: bool) -> None:
    """Store whether the account's limits have to be read. An account with runs keeps the mark: they are read with it.

    The caller has locked the account.
    """
    await write(tx, _SET_HAS_LIMITS, account_id, value)


async def sum_spent(tx: Tx, limit: Limit, now: datetime) -> int:
    """Return what the limit's window has counted until now: spending, open holds and open cost records.

    Of the window `lifetime`, only what is open. The caller has locked the account.
    """
    parts = {"amount": {CREDIT: "credits", USE: "uses"}.get(limit.unit, "nanos")}
    values: list[object] = [limit.account_id]
    if limit.window != "lifetime":
        lag = max(ID_LAG, now - utc_now())
        since = limit.window_start - lag
        values += [first_id_at(since), limit.window_start, first_id_at(since - LONGEST_HOLD)]
    is_of_model = limit.scope == "model"
    spent = _OPEN_OF_MODEL if is_of_model else _OPEN
    if limit.window != "lifetime":
        spent = _OF_MODEL_IN_WINDOW if is_of_model else _IN_WINDOW
    scope = "true" if limit.scope == "account" else f'spent."{limit.scope}" = ANY (${len(values) + 1}::text[])'
    if limit.scope != "account":
        values.append([limit.scope_value, *limit.keys])
    [row] = await fetch(tx, sql(_SUM, spent=spent, scope=scope, **parts), *values)
    counted: int = row["counted"]
    return counted


async def purge_evaluated(tx: Tx, before: datetime, most: int) -> int:
    """Delete up to `most` notes about requests before a moment. Return their number."""
    return len(await fetch(tx, _PURGE_EVALUATED, first_id_at(before), most))


async def purge_counters(tx: Tx, before: datetime, most: int) -> int:
    """Delete up to `most` counters of windows that began before a moment. Return their number."""
    return len(await fetch(tx, _PURGE_COUNTERS, before, most))


class LimitHooks:
    """Reads the limits of a batch's accounts before it decides, and stores their counters after it."""

    def __init__(self, batcher: Batcher, zone: tzinfo) -> None:
        self._zone = zone
        batcher.before_deciding(self._load)
        batcher.after_deciding(self._store)
        batcher.after_commit(_count_crossed)

    async def _load(self, tx: Tx, accounts: Accounts, requests: Sequence[AccountRequest]) -> None:
        limited = [account_id for account_id, account in accounts.items() if account.has_limits]
        if not limited:
            return
        now = max((request.at for request in requests), default=utc_now())
        for account_id in limited:
            accounts[account_id].limits = AccountLimits(now, self._zone, [])
        named = ((request.account_id, run_id) for request in requests for run_id in request.run_ids)
        if names := take_unknown_runs(accounts, named):
            found, runs = await find_in_force_with_runs(tx, limited, now, self._zone, names)
            add_runs(accounts, runs)
        else:
            found = await find_in_force(tx, limited, now, self._zone)
        for limit in found:
            _limits(accounts[limit.account_id]).limits.append(limit)
        asking = [id_ for id_ in limited if any(limit.action == "ask" for limit in _limits(accounts[id_]).limits)]
        if asking:
            for approval in await approval_queries.find_of_limits(tx, asking, now):
                _limits(accounts[approval.account_id]).approvals.append(approval)

    async def _store(self, tx: Tx, accounts: Accounts) -> None:
        if not (loaded := _loaded(accounts)):
            return
        if changed := _changed(loaded):
            await store_counters(tx, changed)
        evaluated = [
            {"account_id": account_id, "cause_id": cause_id, "limits": limits}
            for account_id, account in accounts.items()
            if account.limits is not None
            for cause_id, limits in account.limits.evaluated
        ]
        if evaluated:
            await insert_rows(tx, EvaluatedLimits, evaluated)
        await approval_queries.store(tx, [approval for limits in loaded for approval in limits.approvals])


def _loaded(accounts: Accounts) -> list[AccountLimits]:
    return [account.limits for account in accounts.values() if account.limits is not None]


def _changed(loaded: Sequence[AccountLimits]) -> list[Limit]:
    return [limit for limits in loaded for limit in limits.limits if limit.is_changed]


def _limits(account: LockedAccount) -> AccountLimits:
    assert account.limits is not None
    return account.limits


def _count_crossed(accounts: Accounts) -> None:
    """Report the limits that a transaction counted beyond their amounts, once for each window."""
    for limit in _changed(_loaded(accounts)):
        if limit.is_crossed:
            report_crossed(limit)


def report_crossed(limit: Limit) -> None:
    LIMITS_CROSSED.labels(limit.action).inc()
    log.warning(
        "limit_crossed",
        account_id=str(limit.account_id),
        limit_id=limit.wire_id,
        action=limit.action,
        window=limit.window,
        unit=limit.unit,
    )
