"""Reports of money by currency: usage events, on the day when they occurred, and other movements. Exact.

The sums of usage events are the sums by day plus newer events. Money that was bought, given, taken back or that expired
is read from the books by index: it grows with customers, not with usage. A credit of money that another system
recorded counts on its original day.

Each function takes a session of `Database.consistent_read`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import text

from app.analytics.days import OF_THE_DAYS, Days
from app.analytics.sources import METERED_SUMS, metered
from app.analytics.usage_reports import MAX_ROWS, rows_of
from app.auth.caller import Environment
from app.db import Session
from app.db.sql import sql
from app.ledger.entries import PAYS_DEBT, WALLET_ENTRIES, Kind

Row = Mapping[str, Any]
MeteredBy = Literal["meter", "model", "agent_id", "key_id"]
MOVEMENTS = ("purchased", "granted", "taken_back", "ended", "other_usage", "other_debt", "debt_paid")
"""Sums of money that moved without usage events, in nanos."""
_COLUMNS = ", ".join(METERED_SUMS)
_METERED = sql(
    """(
    SELECT day, currency, meter, provider, model, agent_id, key_id, {columns}
      FROM metered_days WHERE {of_the_days}
     UNION ALL
    SELECT day, currency, meter, provider, model, agent_id, key_id, {columns}
      FROM ({metered}) m WHERE {of_the_days})""",
    columns=_COLUMNS,
    of_the_days=OF_THE_DAYS,
    metered=metered(),
)
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in METERED_SUMS)
_WITHIN = """
    created_at >= CAST(CAST(:first AS date) AS timestamp) AT TIME ZONE 'UTC'
    AND created_at < CAST(CAST(:last AS date) + 1 AS timestamp) AT TIME ZONE 'UTC'"""
# Debts that a credit of money made or paid are part of its amount, and counted beside it. A correction of usage, with
# all of its entries, is usage without an event.
_MOVED = sql(
    """(
    SELECT account_id, created_at, currency, transaction_type AS kind, amount_nanos AS gained, 0 AS owed
      FROM money_credits WHERE {within}
     UNION ALL
    SELECT account_id, created_at, unit, CASE cause_type WHEN 'correction' THEN 'usage' ELSE kind END,
           CASE WHEN cause_type = 'money_credit' THEN 0 WHEN pool = 'money_debt' THEN -delta ELSE delta END,
           CASE pool WHEN 'money_debt' THEN delta ELSE 0 END
      FROM ledger_entries WHERE {wallet_entries} AND unit <> 'credit' AND {within})""",
    within=_WITHIN,
    wallet_entries=WALLET_ENTRIES,
)


def _quoted(*kinds: str) -> str:
    return ", ".join(f"'{kind}'" for kind in sorted(kinds))


_BACK = _quoted(*(PAYS_DEBT - {Kind.PURCHASE}), Kind.DISPUTE_REVERSAL, Kind.DEBT_INCURRED)
_ENDED = _quoted(Kind.GRANT_EXPIRY, Kind.GRANT_ENDED)
_MOVEMENTS = f"""
    CASE kind WHEN 'purchase' THEN gained ELSE 0 END AS purchased,
    CASE WHEN kind IN ('purchase', 'usage', 'debt_repayment', {_BACK}, {_ENDED}) THEN 0 ELSE gained END AS granted,
    CASE WHEN kind IN ({_BACK}) THEN -gained ELSE 0 END AS taken_back,
    CASE WHEN kind IN ({_ENDED}) THEN -gained ELSE 0 END AS ended,
    CASE kind WHEN 'usage' THEN -gained ELSE 0 END AS other_usage,
    greatest(owed, 0) AS other_debt, greatest(-owed, 0) AS debt_paid"""
_MONEY = sql(
    """(
    SELECT day, currency, {metered_sums}, {no_movements} FROM {metered} m
     UNION ALL
    SELECT CAST(created_at AT TIME ZONE 'UTC' AS date), currency, {no_metered}, {movements} FROM {moved} m
     WHERE EXISTS (SELECT FROM accounts a WHERE a.account_id = m.account_id AND a.environment = :environment))""",
    metered_sums=_COLUMNS,
    no_movements=", ".join(f"0 AS {name}" for name in MOVEMENTS),
    metered=_METERED,
    no_metered=", ".join("0" for _ in METERED_SUMS),
    movements=_MOVEMENTS,
    moved=_MOVED,
)
_ALL_SUMS = ", ".join(f"sum({name}) AS {name}" for name in (*METERED_SUMS, *MOVEMENTS))
_BALANCES = text(
    """
    SELECT currency, sum(money_nanos) AS money_nanos, sum(grants_money_nanos) AS grants_nanos,
           sum(money_debt_nanos) AS debt_nanos
      FROM accounts
     WHERE environment = :environment
     GROUP BY currency
    HAVING sum(money_nanos) <> 0 OR sum(grants_money_nanos) <> 0 OR sum(money_debt_nanos) <> 0
     ORDER BY currency
    """
)


async def list_balances(db: Session, environment: Environment) -> Sequence[Row]:
    """Return the money that accounts hold now, in plain balances and in grants, and their debt, by currency."""
    return [dict(row) for row in (await db.execute(_BALANCES, {"environment": environment})).mappings()]


async def list_money(db: Session, days: Days) -> Sequence[Row]:
    """Return the sums of a range by currency: METERED_SUMS and MOVEMENTS."""
    return await _money(db, days, "currency")


async def list_money_days(db: Session, days: Days) -> Sequence[Row]:
    """Return the sums by day and currency, without days on which nothing happened."""
    return await _money(db, days, "day, currency")


async def _money(db: Session, days: Days, key: str) -> Sequence[Row]:
    statement = sql(
        "SELECT {key}, {sums} FROM {money} parts GROUP BY {key} ORDER BY {key}", key=key, sums=_ALL_SUMS, money=_MONEY
    )
    return await rows_of(db, statement, days)


async def list_metered_by(db: Session, days: Days, dimension: MeteredBy) -> Sequence[Row]:
    """Return the sums of usage events by an attribute and currency, the highest cost first. Models with provider."""
    key = f"{'provider, model' if dimension == 'model' else dimension}, currency"
    statement = sql(
        """
        SELECT {key}, {sums} FROM {metered} m
         GROUP BY {key} ORDER BY sum(cost_nanos) DESC, sum(events) DESC, {key} LIMIT {max_rows}
    """,
        key=key,
        sums=_SUMS,
        metered=_METERED,
        max_rows=MAX_ROWS,
    )
    return await rows_of(db, statement, days)
