"""What LLM calls cost, interaction by interaction, each counted once: the sums by day and what came since.

Each function takes a session of `Database.consistent_read`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from app.analytics.books import COUNTS, interactions, uses
from app.analytics.days import Days
from app.analytics.usage_reports import MAX_ROWS, rows_of
from app.db import Session
from app.errors import InvalidRequest
from app.timestamps import EARLIEST, LATEST, OUT_OF_BOUNDS

Row = Mapping[str, Any]
Order = Literal["newest", "cost"]
_OF_THE_DAYS = "environment = :environment AND day BETWEEN :first AND :last"
_COLUMNS = ", ".join(COUNTS)
# What was reported anew replaces what the sums hold of the same interaction.
_TOLD = f"""(
    WITH told AS MATERIALIZED ({interactions()})
    SELECT environment, day, currency, model, interactions, {_COLUMNS} FROM llm_days
     UNION ALL
    SELECT environment, day, currency, model, 1, {_COLUMNS} FROM told
     UNION ALL
    SELECT i.environment, i.day, i.currency, i.model, -1, {", ".join(f"-i.{name}" for name in COUNTS)}
      FROM told t JOIN llm_interactions i ON i.account_id = t.account_id AND i.interaction_id = t.interaction_id)
"""  # noqa: S608  (our own words, here and below)
_SUMS = f"sum(interactions) AS interactions, {', '.join(f'sum({name}) AS {name}' for name in COUNTS)}"
_SPENT_AND_COST = f"""(
    SELECT environment, day, currency, paid AS paid_spent, 0 AS interactions, 0 AS cost_cents FROM usage_days
     UNION ALL
    SELECT environment, day, currency, paid, 0, 0 FROM ({uses()}) u
     UNION ALL
    SELECT environment, day, currency, 0, interactions, cost_cents FROM {_TOLD} l)
"""  # noqa: S608  (our own words; what callers say is bound)
_MARGIN = "sum(paid_spent) AS paid_spent, sum(interactions) AS interactions, sum(cost_cents) AS cost_cents"
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_CURSORS: dict[Order, re.Pattern[str]] = {
    "newest": re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})_({_ID})"),
    "cost": re.compile(rf"([0-9]{{1,40}}(?:\.[0-9]{{1,10}})?)_({_ID})"),
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last interaction of a page: what it is ordered by, and its id."""

    value: date | Decimal
    first_usage_log_id: UUID

    @classmethod
    def parse(cls, order: Order, told: str) -> "Cursor":
        """Raises InvalidRequest."""
        match = _CURSORS[order].fullmatch(told)
        if match is None:
            raise InvalidRequest("cursor is not one that this list gave for this order")
        try:
            value = date.fromisoformat(match[1]) if order == "newest" else Decimal(match[1])
        except ValueError:
            raise InvalidRequest("cursor names a day that does not exist") from None
        if isinstance(value, date) and not EARLIEST.date() <= value <= LATEST.date():
            raise InvalidRequest(f"cursor {OUT_OF_BOUNDS}")
        return cls(value, UUID(match[2]))

    @classmethod
    def of(cls, order: Order, row: Row) -> "Cursor":
        return cls(row["day"] if order == "newest" else row["cost_cents"], row["first_usage_log_id"])

    def __str__(self) -> str:
        value = f"{self.value:f}" if isinstance(self.value, Decimal) else self.value.isoformat()
        return f"{value}_{self.first_usage_log_id}"


async def list_models(db: Session, days: Days) -> Sequence[Row]:
    """The most expensive first."""
    statement = f"""
        SELECT model, {_SUMS} FROM {_TOLD} told WHERE {_OF_THE_DAYS}
         GROUP BY model HAVING sum(interactions) <> 0 ORDER BY sum(cost_cents) DESC, model LIMIT {MAX_ROWS}
    """  # noqa: S608  (our own words; what callers say is bound)
    return await rows_of(db, statement, days)


async def list_models_by_currency(db: Session, days: Days) -> Sequence[Row]:
    statement = f"""
        SELECT model, currency, {_SUMS} FROM {_TOLD} told WHERE {_OF_THE_DAYS}
         GROUP BY model, currency HAVING sum(interactions) <> 0
         ORDER BY sum(cost_cents) DESC, model, currency LIMIT {MAX_ROWS}
    """  # noqa: S608  (our own words; what callers say is bound)
    return await rows_of(db, statement, days)


async def list_margins(db: Session, days: Days) -> Sequence[Row]:
    """Paid credits spent and LLM cost, by the currency of the accounts."""
    statement = f"""
        SELECT currency, {_MARGIN} FROM {_SPENT_AND_COST} told WHERE {_OF_THE_DAYS} GROUP BY currency ORDER BY currency
    """  # noqa: S608  (our own words; what callers say is bound)
    return await rows_of(db, statement, days)


async def list_margin_days(db: Session, days: Days) -> Sequence[Row]:
    statement = f"""
        SELECT day, currency, {_MARGIN} FROM {_SPENT_AND_COST} told
         WHERE {_OF_THE_DAYS} GROUP BY day, currency ORDER BY day, currency
    """  # noqa: S608  (our own words; what callers say is bound)
    return await rows_of(db, statement, days)


async def list_interactions(
    db: Session, days: Days, *, order: Order, after: Cursor | None, limit: int
) -> Sequence[Row]:
    """A page, with the paid credits of the API key's charge whose idempotency key is the interaction's id."""
    column, kind = ("day", "date") if order == "newest" else ("cost_cents", "numeric")
    ordered = f"ORDER BY {column} DESC, first_usage_log_id DESC LIMIT :limit"
    wanted = _OF_THE_DAYS
    values: dict[str, Any] = {"limit": limit}
    if after is not None:
        wanted += f" AND ({column}, first_usage_log_id) < (CAST(:value AS {kind}), CAST(:id AS uuid))"
        values |= {"value": after.value, "id": after.first_usage_log_id}
    columns = f"""account_id, interaction_id, model, currency, day, started_at, first_usage_log_id, {_COLUMNS}"""
    statement = f"""
        WITH told AS MATERIALIZED ({interactions()})
        SELECT page.*, (SELECT c.from_paid FROM charges c
                         WHERE c.account_id = page.account_id AND c.operation = 'charge'
                           AND c.idempotency_key = page.interaction_id AND c.caller_kind = 'key') AS paid_spent
          FROM (SELECT * FROM (
                    (SELECT {columns} FROM llm_interactions
                      WHERE {wanted}
                        AND (account_id, interaction_id) NOT IN (SELECT account_id, interaction_id FROM told)
                      {ordered})
                     UNION ALL
                    (SELECT {columns} FROM told WHERE {wanted} {ordered})) both_of_them
                {ordered}) page
         ORDER BY page.{column} DESC, page.first_usage_log_id DESC
    """  # noqa: S608  (our own words; what callers say is bound)
    return await rows_of(db, statement, days, **values)
