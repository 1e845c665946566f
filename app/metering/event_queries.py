"""Queries of usage events and their ids: the reads of a report under its account's lock, and its writes."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from app.db import Database, new_id
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, arrays_of, fetch, flush, insert_rows, write
from app.metering.models import UsageAttempt, UsageEvent, UsageKey, UsageVolume

VolumeKey: TypeAlias = tuple[UUID, date, str]
"""Account, month, row of the price book."""
RESULT = ("status", "currency", "cost_nanos", "debt_nanos", "balance_after_nanos", "occurred_at", "created_at")
"""The columns of a stored event from which its answer is made, beside its ids."""


class EventKey(NamedTuple):
    account_id: UUID
    event_id: str
    source: str


_KEYED = sql(
    """
    SELECT u.account_id, u.event_id, u.source, u.fingerprint, u.usage_id, {columns}
      FROM usage_keys u LEFT JOIN usage_events e ON e.account_id = u.account_id AND e.usage_id = u.usage_id
    """,
    columns=", ".join(f"e.{name}" for name in RESULT),
)
_FIND_KEY = PointRead(
    sql(
        "{keyed} WHERE u.account_id = k.account AND u.event_id = k.event AND u.source = k.source",
        keyed=_KEYED,
    ),
    account="uuid",
    event="text",
    source="text",
)
_FIND_MANY = sql(
    """
    SELECT k.ordinal, u.*, t.attempts, t.usage_id AS refused_usage_id
      FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS k (account, event, source, ordinal)
      LEFT JOIN LATERAL (
           {keyed} WHERE u.account_id = k.account AND u.event_id = k.event AND u.source = k.source LIMIT 1) u ON true
      LEFT JOIN LATERAL (
           SELECT attempts, usage_id FROM usage_attempts
            WHERE account_id = k.account AND event_id = k.event AND source = k.source LIMIT 1) t ON true
     WHERE u.usage_id IS NOT NULL OR t.attempts IS NOT NULL
    """,
    keyed=_KEYED,
)
_FIND_VOLUME = PointRead(
    """
    SELECT account_id, month, row_id, quantity FROM usage_volumes
     WHERE account_id = k.account AND month = k.month AND row_id = k.row
    """,
    account="uuid",
    month="date",
    row="text",
)
_ATTEMPT = ("account_id", "event_id", "source", "usage_id", "attempts", "last_attempt_at")
_VOLUME = ("account_id", "month", "row_id", "quantity")


def _upsert(model: type[UsageAttempt] | type[UsageVolume], names: tuple[str, ...], keys: int, *changed: str) -> str:
    return sql(
        """
        INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays})
            ON CONFLICT ({keys}) DO UPDATE SET {changes}
        """,
        table=model.__tablename__,
        names=", ".join(names),
        arrays=arrays_of(model, names),
        keys=", ".join(names[:keys]),
        changes=", ".join(f"{name} = excluded.{name}" for name in changed),
    )


_UPSERT_ATTEMPTS = _upsert(UsageAttempt, _ATTEMPT, 3, "attempts", "last_attempt_at")
_UPSERT_VOLUMES = _upsert(UsageVolume, _VOLUME, 3, "quantity")


async def find_key(db: Database, key: EventKey) -> Mapping[str, Any] | None:
    """Return an id that is used up, with the result of its event. Without a lock."""
    return await db.find(_FIND_KEY, *key)


async def find_keys(tx: Tx, keys: Sequence[EventKey]) -> dict[EventKey, Mapping[str, Any]]:
    """Return, of these ids, the used ones with the results of their events, and those of refused events.

    A row of an id that was only refused has no `usage_id`; `attempts` and `refused_usage_id` are of its refusals.
    """
    rows = await fetch(tx, _FIND_MANY, *map(list, zip(*keys, strict=True))) if keys else []
    return {keys[row["ordinal"] - 1]: row for row in rows}


async def find_volumes(tx: Tx, keys: Sequence[VolumeKey]) -> dict[VolumeKey, Any]:
    """Return the quantities of price rows in months, where there are any.

    Usage events and items of cost records both move them, and may share a transaction: the second reads what the first
    has written, and no statement changes a row twice.
    """
    if not keys:
        return {}
    await flush(tx)
    rows = await fetch(tx, _FIND_VOLUME.sql, *map(list, zip(*keys, strict=True)))
    return {(row["account_id"], row["month"], row["row_id"]): row["quantity"] for row in rows}


_INSERT_IMPORTED_KEYS = """
    INSERT INTO usage_keys (account_id, event_id, source, fingerprint, usage_id)
    SELECT $1, event_id, source, ''::bytea, usage_id FROM unnest($2::text[], $3::text[], $4::uuid[])
                                                            AS k (event_id, source, usage_id)
        ON CONFLICT DO NOTHING RETURNING usage_id
    """


async def insert_imported_keys(tx: Tx, account_id: UUID, ids: Sequence[tuple[str, str]]) -> int:
    """Store ids of events (event id, source) that another system has recorded. Return the number of new ones.

    Every event with such an id is a repeat. The caller holds the account's lock.
    """
    event_ids, sources = map(list, zip(*ids, strict=True))
    return len(await fetch(tx, _INSERT_IMPORTED_KEYS, account_id, event_ids, sources, [new_id() for _ in ids]))


async def insert_events(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    await insert_rows(tx, UsageEvent, rows)


async def insert_keys(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    await insert_rows(tx, UsageKey, rows)


async def upsert_attempts(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Store the numbers of refusals. The caller holds the accounts' locks."""
    await write(tx, _UPSERT_ATTEMPTS, *([row[name] for row in rows] for name in _ATTEMPT))


async def upsert_volumes(tx: Tx, volumes: Mapping[VolumeKey, Any]) -> None:
    """Store the quantities of price rows in months. The caller holds the accounts' locks."""
    rows = [(*key, quantity) for key, quantity in volumes.items()]
    await write(tx, _UPSERT_VOLUMES, *map(list, zip(*rows, strict=True)))
