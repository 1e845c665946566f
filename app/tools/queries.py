"""The tools' SQL: one statement a function."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from app.db import Database, Session
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, arrays_of, find_many, insert_rows, with_optional, write
from app.tools.models import ProductInventory, ProductUsage

_COLUMNS = "account_id, product_type, free, free_day, paid, total_uses"
_FIND_INVENTORY = PointRead(
    sql(
        "SELECT {columns} FROM product_inventory WHERE account_id = k.account AND product_type = k.product",
        columns=_COLUMNS,
    ),
    account="uuid",
    product="text",
)
_USAGE_COLUMNS = "account_id, idempotency_key, product_type, usage_log_id, result"
_FIND_USAGE_BY_KEY = PointRead(
    sql(
        "SELECT {columns} FROM product_usage_log WHERE account_id = k.account AND idempotency_key = k.key",
        columns=_USAGE_COLUMNS,
    ),
    account="uuid",
    key="text",
)
_STORED = ("account_id", "product_type", "free", "free_day", "paid", "total_uses", "updated_at")
_UPSERT_INVENTORIES = sql(
    """
    INSERT INTO product_inventory ({names}) SELECT * FROM unnest({arrays})
        ON CONFLICT (account_id, product_type) DO UPDATE SET {changes}
    """,
    names=", ".join(_STORED),
    arrays=arrays_of(ProductInventory, _STORED),
    changes=", ".join(f"{name} = excluded.{name}" for name in _STORED[2:]),
)

Pair = tuple[UUID, str]
"""An account and one of its products, or one of its idempotency keys."""


async def find_inventory(db: Database, account_id: UUID, product_type: str) -> Mapping[str, Any] | None:
    return await db.find(_FIND_INVENTORY, account_id, product_type)


async def list_inventory(db: Session, account_id: UUID) -> Sequence[Mapping[str, Any]]:
    query = select(*ProductInventory.__table__.columns).where(ProductInventory.account_id == account_id).limit(1000)
    return [dict(row) for row in (await db.execute(query)).mappings()]


async def find_inventories(tx: Tx, pairs: Sequence[Pair]) -> dict[Pair, Mapping[str, Any]]:
    """Return the inventories of (account_id, product_type) pairs. The caller holds the accounts' locks."""
    return {(row["account_id"], row["product_type"]): row for row in await find_many(tx, _FIND_INVENTORY, pairs)}


async def upsert_inventories(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store inventories. The caller holds the accounts' locks."""
    await write(tx, _UPSERT_INVENTORIES, *([row[name] for row in rows] for name in _STORED))


async def find_usage_by_key(db: Database, account_id: UUID, idempotency_key: str) -> Mapping[str, Any] | None:
    return await db.find(_FIND_USAGE_BY_KEY, account_id, idempotency_key)


async def find_usages_by_keys(tx: Tx, pairs: Sequence[Pair]) -> dict[Pair, Mapping[str, Any]]:
    """Return the uses that already have these (account_id, idempotency_key) pairs."""
    return {(row["account_id"], row["idempotency_key"]): row for row in await find_many(tx, _FIND_USAGE_BY_KEY, pairs)}


async def insert_usages(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await insert_rows(tx, ProductUsage, with_optional(rows, run_id=None))
