"""Queries of corrections: stored events with the cost that is in force, and the rows that a rerating adds."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from app.auth.caller import Environment
from app.db import Session
from app.db.sql import sql
from app.db.statements import Tx, fetch, insert_rows
from app.metering.events import HOLD_METER, RECORD_METER
from app.metering.models import AccountCorrection, Rerating, UsageCorrection

Row: TypeAlias = Mapping[str, Any]
START = UUID(int=0)
NO_VOLUME = ("llm_tokens", "compute", RECORD_METER, HOLD_METER)
"""Meters whose prices have no volume tiers."""
_LIST_ACCOUNTS = """
    SELECT account_id, currency, billing_enabled, erased_at,
           EXISTS (SELECT FROM usage_events e
                    WHERE e.account_id = a.account_id AND e.occurred_at >= $3 AND e.occurred_at < $4) AS has_events
      FROM accounts a
     WHERE environment = $1 AND account_id > $2 ORDER BY account_id LIMIT $5
    """
_IN_FORCE = """
           coalesce(c.correction_no, 0) AS correction_no, coalesce(c.cost_after_nanos, e.cost_nanos) AS cost_nanos,
           CASE WHEN c.correction_no IS NULL THEN e.provider_cost_nanos ELSE c.provider_cost_after_nanos END
           AS provider_cost_nanos"""
_EVENTS = """
      FROM usage_events e
      LEFT JOIN LATERAL (
            SELECT correction_no, cost_after_nanos, provider_cost_after_nanos, price_version, price
              FROM usage_corrections c
             WHERE c.account_id = e.account_id AND c.usage_id = e.usage_id
             ORDER BY correction_no DESC LIMIT 1) c ON true"""
_LIST_EVENTS = sql(
    """
    SELECT e.usage_id, e.meter, e.provider, e.model, e.quantities, e.status, e.stated_nanos, e.plan_name, e.tool,
           e.occurred_at, {in_force},
           CASE WHEN c.correction_no IS NULL THEN e.price_version ELSE c.price_version END AS price_version,
           CASE WHEN c.correction_no IS NULL THEN e.price ELSE c.price END AS price
      {events}
     WHERE e.account_id = $1 AND e.occurred_at >= $2 AND e.occurred_at < $3 AND (e.occurred_at, e.usage_id) > ($4, $5)
     ORDER BY e.occurred_at, e.usage_id LIMIT $6
    """,
    in_force=_IN_FORCE,
    events=_EVENTS,
)
_LIST_VOLUMES = """
    SELECT usage_id AS id, occurred_at AS at, meter, quantities FROM usage_events
     WHERE account_id = $1 AND occurred_at >= $2 AND occurred_at < $3 AND status <> 'refused' AND meter <> ALL ($4)
    """
_FIND_COSTS = sql(
    "SELECT e.usage_id, {in_force} {events} WHERE e.account_id = $1 AND e.usage_id = ANY ($2)",
    in_force=_IN_FORCE,
    events=_EVENTS,
)
_SUM_PAID_BY_LOTS = """
    SELECT grant_id, CAST(-sum(delta) AS bigint) AS nanos
      FROM ledger_entries
     WHERE account_id = $1 AND pool = 'grant' AND unit <> 'credit' AND kind = 'usage' AND cause_id = ANY ($2)
     GROUP BY grant_id
    """


async def list_accounts(
    db: Session, environment: Environment, since: datetime, until: datetime, after: UUID, limit: int
) -> Sequence[Row]:
    """Return a page of accounts, and whether each has usage events in the period."""
    return await fetch(db, _LIST_ACCOUNTS, environment, after, since, until, limit)


async def list_corrected_events(
    db: Session, account_id: UUID, since: datetime, until: datetime, after: tuple[datetime, UUID], limit: int
) -> Sequence[Row]:
    """Return a page of an account's events with the costs and the prices that are in force, corrected or not."""
    return await fetch(db, _LIST_EVENTS, account_id, since, until, *after, limit)


async def list_volumes(db: Session, account_id: UUID, since: datetime, until: datetime) -> Sequence[Row]:
    """Return the quantities of recorded events that count in monthly volumes."""
    return await fetch(db, _LIST_VOLUMES, account_id, since, until, list(NO_VOLUME))


async def find_costs(tx: Tx, account_id: UUID, usage_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """Return the costs of events that are in force. Exact while the caller holds the account's lock."""
    return {row["usage_id"]: row for row in await fetch(tx, _FIND_COSTS, account_id, list(usage_ids))}


async def sum_paid_by_lots(db: Session, account_id: UUID, cause_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return what each grant of money paid for these causes: usage events or cost records."""
    rows = await fetch(db, _SUM_PAID_BY_LOTS, account_id, list(cause_ids)) if cause_ids else []
    return {row["grant_id"]: row["nanos"] for row in rows}


async def insert_rerating(tx: Tx, row: Row) -> None:
    await insert_rows(tx, Rerating, [row])


async def insert_account_correction(tx: Tx, row: Row) -> None:
    await insert_rows(tx, AccountCorrection, [row])


async def insert_usage_corrections(tx: Tx, rows: Sequence[Row]) -> None:
    await insert_rows(tx, UsageCorrection, rows)
