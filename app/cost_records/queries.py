"""Queries of cost records: the reads of a transaction under its locks, its writes, and reads without locks."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from app.cost_records.ids import Place
from app.cost_records.models import CostRecord, CostRecordItem
from app.db import Database, Session
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, arrays_of, fetch, find_many, insert_rows, write

Row: TypeAlias = Mapping[str, Any]
RequestKey: TypeAlias = tuple[UUID, bytes, str]
"""Account, digest of the client, request id."""
ItemKey: TypeAlias = tuple[UUID, UUID, str]
"""Account, record, item id."""
_RECORD = sql(
    """
    SELECT {columns}, e.status AS charge, coalesce(e.debt_nanos, 0) AS debt_nanos
      FROM cost_records c LEFT JOIN usage_events e ON e.account_id = c.account_id AND e.usage_id = c.usage_id
    """,
    columns=", ".join(f"c.{column.name}" for column in CostRecord.__table__.columns),
)
_FIND = PointRead(
    sql("{record} WHERE c.account_id = k.account AND c.record_id = k.record", record=_RECORD),
    account="uuid",
    record="uuid",
)
_FIND_BY_REQUEST = PointRead(
    sql(
        "{record} WHERE c.account_id = k.account AND c.client_key = k.client AND c.request_id = k.request",
        record=_RECORD,
    ),
    account="uuid",
    client="bytea",
    request="text",
)
_LOCK_CLIENT = "SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex') || $2, 0))"
_LOCK_RECORD = "SELECT FROM cost_records WHERE account_id = $1 AND record_id = $2 FOR NO KEY UPDATE"

ITEM = tuple(column.name for column in CostRecordItem.__table__.columns)
_FIND_COUNTED_ITEMS = """
    SELECT i.record_id, i.model, i.cost_nanos, i.created_at
      FROM unnest($1::uuid[], $2::uuid[]) AS k (account_id, record_id),
           LATERAL (SELECT * FROM cost_record_items
                     WHERE account_id = k.account_id AND record_id = k.record_id AND is_counted) AS i
    """
_FIND_ITEM = PointRead(
    sql(
        """
        SELECT {columns} FROM cost_record_items
         WHERE account_id = k.account AND record_id = k.record AND item_id = k.item
        """,
        columns=", ".join(ITEM),
    ),
    account="uuid",
    record="uuid",
    item="text",
)
_LIST_ITEMS = sql(
    "SELECT {columns} FROM cost_record_items WHERE account_id = $1 AND record_id = $2 ORDER BY item_no",
    columns=", ".join(ITEM),
)
CHANGED = (
    *("account_id", "record_id", "status", "items", "cost_nanos", "provider_cost_nanos", "tokens", "provider", "model"),
    *("usage_id", "execution_time_ms", "error_message", "closed_at"),
)
"""The key of a record, and the columns that change until it is settled."""
_UPDATE = sql(
    """
    UPDATE cost_records c SET {changes} FROM unnest({arrays}) AS n ({names})
     WHERE c.account_id = n.account_id AND c.record_id = n.record_id
    """,
    changes=", ".join(f"{name} = n.{name}" for name in CHANGED[2:]),
    arrays=arrays_of(CostRecord, CHANGED),
    names=", ".join(CHANGED),
)
_FIND_OPEN_AMOUNT = """
    SELECT coalesce(sum(greatest(coalesce(estimate_nanos, 0), cost_nanos)), 0) AS nanos
      FROM cost_records WHERE account_id = $1 AND status = 'open'
    """
_FIND_OPEN_OF_RUN = """
    SELECT coalesce(sum(greatest(coalesce(estimate_nanos, 0), cost_nanos)), 0) AS nanos, count(*) AS records
      FROM cost_records WHERE account_id = $1 AND run_id = $2 AND status = 'open'
    """
_FIND_DUE = """
    SELECT account_id, record_id, expires_at FROM cost_records
     WHERE status = 'open' AND expires_at <= $1 AND (expires_at, record_id) > ($2, $3)
     ORDER BY expires_at, record_id LIMIT $4
    """
_FIND_CHARGED = """
    SELECT record_id, usage_id, request_id, tool, query FROM cost_records
     WHERE account_id = $1 AND record_id = ANY ($2::uuid[]) AND usage_id IS NOT NULL
    """


async def find_record(db: Database, place: Place) -> Row | None:
    """Return a record with its charge. Without a lock."""
    return await db.find(_FIND, *place)


async def find_by_request(db: Database, key: RequestKey) -> Row | None:
    """Return the record of a request. Without a lock."""
    return await db.find(_FIND_BY_REQUEST, *key)


async def find_item(db: Database, key: ItemKey) -> Row | None:
    """Return an item by the caller's id. Without a lock."""
    return await db.find(_FIND_ITEM, *key)


async def list_items(db: Session, place: Place) -> Sequence[Row]:
    """Return a record's items in the order in which they were added."""
    return await fetch(db, _LIST_ITEMS, *place)


async def find_charged(db: Session, account_id: UUID, record_ids: Sequence[UUID]) -> Sequence[Row]:
    """Return what charged records of one account were about."""
    return await fetch(db, _FIND_CHARGED, account_id, list(record_ids))


async def find_open_amount(tx: Tx, account_id: UUID) -> int:
    """Return what the account's open records count against limits, in nanos: of each the larger of estimate and sum.

    Exact while the caller holds the account's lock.
    """
    [row] = await fetch(tx, _FIND_OPEN_AMOUNT, account_id)
    return int(row["nanos"])


async def find_open_of_run(tx: Tx, account_id: UUID, run_id: str) -> tuple[int, int]:
    """Return what a run's open records count, as `find_open_amount` does, and their number."""
    [row] = await fetch(tx, _FIND_OPEN_OF_RUN, account_id, run_id)
    return int(row["nanos"]), int(row["records"])


async def find_records(tx: Tx, places: Sequence[Place]) -> Sequence[Row]:
    """Return records with their charges."""
    return await find_many(tx, _FIND, places)


async def find_by_requests(tx: Tx, keys: Sequence[RequestKey]) -> Sequence[Row]:
    """Return the records of requests."""
    return await find_many(tx, _FIND_BY_REQUEST, keys)


async def find_items(tx: Tx, keys: Sequence[ItemKey]) -> Sequence[Row]:
    """Return items by their records and the callers' ids."""
    return await find_many(tx, _FIND_ITEM, keys)


async def find_counted_items(tx: Tx, places: Sequence[Place]) -> Sequence[Row]:
    """Return the items of records that limits of their models have counted."""
    if not places:
        return []
    accounts, records = zip(*places, strict=True)
    return await fetch(tx, _FIND_COUNTED_ITEMS, list(accounts), list(records))


async def lock_client(tx: Tx, client_key: bytes, request_id: str) -> None:
    """Let one transaction at a time open the client's record of a request."""
    await fetch(tx, _LOCK_CLIENT, client_key, request_id)


async def lock_record(tx: Tx, place: Place) -> None:
    """Lock a record of work without a user until commit."""
    await fetch(tx, _LOCK_RECORD, *place)


async def insert_records(tx: Tx, rows: Sequence[Row]) -> None:
    await insert_rows(tx, CostRecord, rows)


async def update_records(tx: Tx, rows: Sequence[Row]) -> None:
    """Store what changed of records. The caller holds their locks."""
    await write(tx, _UPDATE, *([row[name] for row in rows] for name in CHANGED))


async def insert_items(tx: Tx, rows: Sequence[Row]) -> None:
    await insert_rows(tx, CostRecordItem, rows)


async def find_due(db: Session, now: datetime, after: tuple[datetime, UUID], limit: int) -> Sequence[Row]:
    """Return open records that are due, after a position, in order."""
    return await fetch(db, _FIND_DUE, now, *after, limit)
