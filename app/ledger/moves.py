"""Moves: the ledger entries of one charge, hold or event, with the grants that they moved. For explanations.

No index leads from a cause to its entries, because it would cost every charge. Entries of an account are numbered in
about the order of their times, so a search by halves finds the time, and the primary key reads the entries around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.auth.caller import Actor
from app.db import Database
from app.db.sql import sql
from app.db.statements import fetch
from app.ledger.lots import MAX_OPEN_LOTS

MOST_ENTRIES = MAX_OPEN_LOTS + 5
"""The most entries of one charge: one for each grant, a day's expiry and allowance, and three pools."""
SLACK = timedelta(seconds=60)
"""An entry has the time of its request. A later one may be decided first, and the clocks of two processes differ."""


@dataclass(frozen=True, slots=True)
class GrantFacts:
    grant_id: UUID
    source: str
    category: str
    priority: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Move:
    """An entry. Amounts are in `unit`: credits, or nanos of a currency."""

    entry_no: int
    pool: str
    unit: str
    delta: int
    balance_after: int
    kind: str
    actor: Actor
    created_at: datetime
    grant: GrantFacts | None

    @property
    def balance_before(self) -> int:
        return self.balance_after - self.delta


_MOVE = """
    SELECT e.entry_no, e.pool, e.unit, e.delta, e.balance_after, e.kind, e.actor_type, e.actor_id, e.created_at,
           e.grant_id, g.source, g.category, g.priority, g.expires_at
      FROM ledger_entries e
      LEFT JOIN grants g ON g.account_id = e.account_id AND g.grant_id = e.grant_id
     WHERE e.account_id = $1 AND e.cause_id = ANY ($2)
    """
_UP_TO = sql(
    "{move} AND e.entry_no > $3 - {most} AND e.entry_no <= $3 ORDER BY e.entry_no", move=_MOVE, most=MOST_ENTRIES
)
_AROUND = sql(
    """
    WITH RECURSIVE search (moment, low, high) AS (
        SELECT moment, 1::bigint, (SELECT last_entry_no + 1 FROM accounts WHERE account_id = $1)
          FROM unnest(ARRAY[$3::timestamptz, $4]) AS moment
         UNION ALL
        SELECT s.moment, CASE WHEN e.created_at < s.moment THEN s.middle + 1 ELSE s.low END,
               CASE WHEN e.created_at < s.moment THEN s.high ELSE s.middle END
          FROM (SELECT moment, low, high, (low + high) / 2 AS middle FROM search WHERE low < high) s
          JOIN ledger_entries e ON e.account_id = $1 AND e.entry_no = s.middle)
    {move}
       AND e.entry_no >= (SELECT min(low) FROM search WHERE low = high)
       AND e.entry_no <= (SELECT max(low) FROM search WHERE low = high)
     ORDER BY e.entry_no
    """,
    move=_MOVE,
)


async def moves_up_to(db: Database, account_id: UUID, cause_id: UUID, entry_no: int) -> list[Move]:
    """Return the entries of a cause, of which `entry_no` is the last one."""
    async with db.read() as session:
        return [_move(row) for row in await fetch(session, _UP_TO, account_id, [cause_id], entry_no)]


async def moves_at(db: Database, account_id: UUID, causes: Sequence[UUID], at: datetime) -> list[Move]:
    """Return the entries of causes that were decided at a time."""
    async with db.read() as session:
        rows = await fetch(session, _AROUND, account_id, list(causes), at - SLACK, at + SLACK)
    return [_move(row) for row in rows]


def _move(row: Any) -> Move:
    grant = None
    if row["grant_id"] is not None:
        grant = GrantFacts(row["grant_id"], row["source"], row["category"], row["priority"], row["expires_at"])
    return Move(
        entry_no=row["entry_no"],
        pool=row["pool"],
        unit=row["unit"],
        delta=row["delta"],
        balance_after=row["balance_after"],
        kind=row["kind"],
        actor=Actor(row["actor_type"], row["actor_id"]),
        created_at=row["created_at"],
        grant=grant,
    )
