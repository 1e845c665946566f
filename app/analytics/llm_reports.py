"""Interactions, each counted once, with their cost and the paid credits of their charges.

Each function takes a session of `Database.consistent_read`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from app.analytics.attribution import keys_of
from app.analytics.days import OF_THE_DAYS, Days
from app.analytics.sources import COUNTS, interactions
from app.analytics.usage_reports import rows_of
from app.db import Session
from app.db.sql import sql
from app.errors import InvalidRequest
from app.timestamps import EARLIEST, LATEST, OUT_OF_BOUNDS

Row = Mapping[str, Any]
Order = Literal["newest", "cost"]
_COLUMNS = ", ".join(COUNTS)
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_CURSORS: dict[Order, re.Pattern[str]] = {
    "newest": re.compile(rf"([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})_({_ID})"),
    "cost": re.compile(rf"([0-9]{{1,40}}(?:\.[0-9]{{1,10}})?)_({_ID})"),
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """A keyset position: the sort value of a page's last interaction, and its id."""

    value: date | Decimal
    first_usage_log_id: UUID

    @classmethod
    def parse(cls, order: Order, cursor: str) -> "Cursor":
        """Return the position of a cursor. Raise InvalidRequest."""
        match = _CURSORS[order].fullmatch(cursor)
        if match is None:
            raise InvalidRequest("cursor is not from this list and order", field="cursor")
        try:
            value = date.fromisoformat(match[1]) if order == "newest" else Decimal(match[1])
        except ValueError:
            raise InvalidRequest("cursor names a day that does not exist", field="cursor") from None
        if isinstance(value, date) and not EARLIEST.date() <= value <= LATEST.date():
            raise InvalidRequest(f"cursor {OUT_OF_BOUNDS}", field="cursor")
        return cls(value, UUID(match[2]))

    @classmethod
    def of(cls, order: Order, row: Row) -> "Cursor":
        return cls(row["day"] if order == "newest" else row["cost_cents"], row["first_usage_log_id"])

    def __str__(self) -> str:
        value = f"{self.value:f}" if isinstance(self.value, Decimal) else self.value.isoformat()
        return f"{value}_{self.first_usage_log_id}"


async def list_interactions(
    db: Session, days: Days, *, order: Order, after: Cursor | None, limit: int
) -> Sequence[Row]:
    """Return a page, with the paid credits of the API keys' charges that name the interaction (see attribution.py)."""
    column, kind = ("day", "date") if order == "newest" else ("cost_cents", "numeric")
    ordered = f"ORDER BY {column} DESC, first_usage_log_id DESC LIMIT :limit"
    conditions = OF_THE_DAYS
    values: dict[str, Any] = {"limit": limit}
    if after is not None:
        conditions += f" AND ({column}, first_usage_log_id) < (CAST(:value AS {kind}), CAST(:id AS uuid))"
        values |= {"value": after.value, "id": after.first_usage_log_id}
    columns = f"""account_id, interaction_id, model, currency, day, started_at, first_usage_log_id, {_COLUMNS}"""
    statement = sql(
        """
        WITH recent AS MATERIALIZED ({interactions})
        SELECT page.*, (SELECT sum(c.from_paid) FROM {keys_of} k JOIN charges c
                            ON c.account_id = page.account_id AND c.operation = 'charge'
                               AND c.idempotency_key = k.key AND c.caller_kind = 'key') AS paid_spent
          FROM (SELECT * FROM (
                    (SELECT {columns} FROM llm_interactions
                      WHERE {conditions}
                        AND (account_id, interaction_id) NOT IN (SELECT account_id, interaction_id FROM recent)
                      {ordered})
                     UNION ALL
                    (SELECT {columns} FROM recent WHERE {conditions} {ordered})) both_of_them
                {ordered}) page
         ORDER BY page.{column} DESC, page.first_usage_log_id DESC
    """,
        interactions=interactions(),
        keys_of=keys_of("page.interaction_id"),
        columns=columns,
        conditions=conditions,
        ordered=ordered,
        column=column,
    )
    return await rows_of(db, statement, days, **values)
