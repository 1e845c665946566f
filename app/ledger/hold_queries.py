"""Queries of holds and their parts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from app.db import Database, Session
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, arrays_of, fetch, find_many, insert_rows, write
from app.ledger import models
from app.ledger.holds import Hold, Part
from app.ledger.locked_account import LockedAccount
from app.ledger.lots import lots_of
from app.ledger.queries import find_lots

Row: TypeAlias = Mapping[str, Any]


class Place(NamedTuple):
    """The place of a hold."""

    account_id: UUID
    hold_id: UUID


class Key(NamedTuple):
    """The idempotency key of a hold, in its key space: one per account and kind of caller (ADR 21)."""

    account_id: UUID
    caller_kind: str
    idempotency_key: str


_COLUMNS = tuple(column.name for column in models.Hold.__table__.columns)
_STORED = tuple(name for name in _COLUMNS if name != "metadata")
"""Columns that are attributes of a hold. Its `details` are stored as `metadata`."""
_PARTS = """
    (SELECT jsonb_agg(jsonb_build_array(p.pool, p.grant_id, p.amount::text) ORDER BY p.part_no)
       FROM hold_parts p WHERE p.account_id = h.account_id AND p.hold_id = h.hold_id) AS parts
    """
_HOLD = sql(
    "SELECT {columns}, a.environment, {parts} FROM holds h JOIN accounts a USING (account_id)",
    columns=", ".join(f"h.{name}" for name in _COLUMNS),
    parts=_PARTS,
)
_BY_PLACE = sql("{hold} WHERE h.account_id = k.account AND h.hold_id = k.hold", hold=_HOLD)
_BY_KEY = sql(
    "{hold} WHERE h.account_id = k.account AND h.caller_kind = k.kind AND h.idempotency_key = k.key", hold=_HOLD
)
_FIND = PointRead(_BY_PLACE, account="uuid", hold="uuid")
_FIND_BY_KEY = PointRead(_BY_KEY, account="uuid", kind="text", key="text")
_FIND_ANY = sql(
    """
    SELECT r.* FROM unnest($1::uuid[], $2::uuid[]) AS k (account, hold), LATERAL ({by_place} LIMIT 1) AS r
     UNION ALL
    SELECT r.* FROM unnest($3::uuid[], $4::text[], $5::text[]) AS k (account, kind, key),
           LATERAL ({by_key} LIMIT 1) AS r
    """,
    by_place=_BY_PLACE,
    by_key=_BY_KEY,
)
_FIND_OPEN_OF = sql(
    "{hold} WHERE h.account_id = ANY ($1::uuid[]) AND h.status = 'held' AND h.expires_at <= $2"
    " ORDER BY h.expires_at, h.hold_id LIMIT $3",
    hold=_HOLD,
)
_LIST = """
    {hold} WHERE h.account_id = $1 AND h.hold_id < coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) {which}
     ORDER BY h.hold_id DESC LIMIT $3
    """
_LIST_ALL, _LIST_OPEN = (sql(_LIST, hold=_HOLD, which=which) for which in ("", "AND h.status = 'held'"))
_FIND_DUE = """
    SELECT account_id, hold_id, expires_at FROM holds
     WHERE status = 'held' AND expires_at <= $1 AND (expires_at, hold_id) > ($2, $3)
     ORDER BY expires_at, hold_id LIMIT $4
    """
_NEXT_EXPIRY = """
    SELECT account_id, min(expires_at) AS expires_at FROM holds
     WHERE account_id = ANY ($1::uuid[]) AND status = 'held' AND hold_id <> ALL ($2::uuid[]) GROUP BY account_id
    """
CHANGED = (
    *("account_id", "hold_id", "status", "reported", "captured", "overage", "expires_at", "outcome", "settled_at"),
    *("spending_id",),
)
_UPDATE = sql(
    """
    UPDATE holds h SET {changes} FROM unnest({arrays}) AS n ({names})
     WHERE h.account_id = n.account_id AND h.hold_id = n.hold_id
    """,
    changes=", ".join(f"{name} = n.{name}" for name in CHANGED[2:]),
    arrays=arrays_of(models.Hold, CHANGED),
    names=", ".join(CHANGED),
)


async def find_hold(db: Database, place: Place) -> Hold | None:
    """Return a hold with its parts. Without a lock."""
    row = await db.find(_FIND, *place)
    return None if row is None else _hold(row)


async def find_hold_by_key(db: Database, key: Key) -> Hold | None:
    """Return the hold with a key. Without a lock."""
    row = await db.find(_FIND_BY_KEY, key.account_id, key.caller_kind, key.idempotency_key)
    return None if row is None else _hold(row)


async def find_holds(tx: Tx, places: Sequence[Place], keys: Sequence[Key]) -> list[Hold]:
    """Return the holds at places or with keys, in one statement. A hold may be there twice."""
    if places and keys:
        columns = [*zip(*places, strict=True), *zip(*keys, strict=True)]
        rows = await fetch(tx, _FIND_ANY, *map(list, columns))
    else:
        rows = await find_many(tx, _FIND, places) or await find_many(tx, _FIND_BY_KEY, keys)
    return [_hold(row) for row in rows]


async def list_holds(db: Session, account_id: UUID, before: UUID | None, limit: int, *, only_open: bool) -> list[Hold]:
    """Return the holds of an account, newest first; those older than the hold `before`."""
    statement = _LIST_OPEN if only_open else _LIST_ALL
    return [_hold(row) for row in await fetch(db, statement, account_id, before, limit)]


async def find_due_of(tx: Tx, account_ids: Sequence[UUID], now: datetime, limit: int) -> list[Hold]:
    """Return the open holds of locked accounts that are due at `now`."""
    return [_hold(row) for row in await fetch(tx, _FIND_OPEN_OF, list(account_ids), now, limit)]


async def find_due(db: Session, now: datetime, after: tuple[datetime, UUID], limit: int) -> Sequence[Row]:
    """Return the places of open holds that are due, after a position, in order."""
    return await fetch(db, _FIND_DUE, now, *after, limit)


async def find_next_expiries(tx: Tx, account_ids: Sequence[UUID], without: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return the earliest expiry of the open holds of locked accounts, but of those that are settled now."""
    rows = await fetch(tx, _NEXT_EXPIRY, list(account_ids), list(without))
    return {row["account_id"]: row["expires_at"] for row in rows}


async def insert_holds(tx: Tx, holds: Sequence[Hold]) -> None:
    """Store new holds with their parts."""
    await insert_rows(tx, models.Hold, [_row(hold) for hold in holds])
    parts = [
        {
            "account_id": hold.account_id,
            "hold_id": hold.hold_id,
            "part_no": number,
            "pool": part.pool,
            "grant_id": part.grant_id,
            "amount": part.amount,
        }
        for hold in holds
        for number, part in enumerate(hold.parts, 1)
    ]
    await insert_rows(tx, models.HoldPart, parts)


async def update_holds(tx: Tx, holds: Sequence[Hold]) -> None:
    """Store what changed of holds. The caller holds their accounts' locks."""
    await write(tx, _UPDATE, *([getattr(hold, name) for hold in holds] for name in CHANGED))


async def load_lots(tx: Tx, accounts: Mapping[UUID, LockedAccount], keys: Iterable[tuple[UUID, UUID]]) -> None:
    """Add grants (account, grant) to the lots of locked accounts, open or not: a hold may return something to them."""
    missing = sorted({key for key in keys if key[0] in accounts and key[1] not in accounts[key[0]].lots})
    for account_id, lot in lots_of(await find_lots(tx, missing)):
        accounts[account_id].lots[lot.grant_id] = lot


_values_of = attrgetter(*_STORED)


def _row(hold: Hold) -> dict[str, Any]:
    return {**dict(zip(_STORED, _values_of(hold), strict=True)), "metadata": json.dumps(hold.details)}


def _hold(row: Row) -> Hold:
    columns = {name: row[name] for name in _STORED}
    parts = [
        Part(pool, None if grant_id is None else UUID(grant_id), int(amount)) for pool, grant_id, amount in row["parts"]
    ]
    return Hold(**columns, environment=row["environment"], details=row["metadata"], parts=parts)
