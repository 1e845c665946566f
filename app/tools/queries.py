"""The tools' SQL: one statement a function."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from app.db import Database, Session
from app.db.point_reads import PointRead
from app.db.statements import Tx, arrays_of, find_many, insert_rows, write
from app.tools.models import ProductInventory, ProductUsage

_COLUMNS = "account_id, product_type, free, free_day, paid, total_uses"
_FIND_INVENTORY = PointRead(
    f"SELECT {_COLUMNS} FROM product_inventory WHERE account_id = k.account AND product_type = k.product",  # noqa: S608  (our own words; callers' values are bound)
    account="uuid",
    product="text",
)
_USAGE_COLUMNS = "account_id, idempotency_key, product_type, usage_log_id, result"
_FIND_USAGE_BY_KEY = PointRead(
    f"SELECT {_USAGE_COLUMNS} FROM product_usage_log WHERE account_id = k.account AND idempotency_key = k.key",  # noqa: S608  (our own words; callers' values are bound)
    account="uuid",
    key="text",
)
_STORED = ("account_id", "product_type", "free", "free_day", "paid", "total_uses", "updated_at")
_UPSERT_INVENTORIES = f"""
    INSERT INTO product_inventory ({", ".join(_STORED)}) SELECT * FROM unnest({arrays_of(ProductInventory, _STORED)})
        ON CONFLICT (account_id, product_type) DO UPDATE
       SET {", ".join(f"{name} = excluded.{name}" for name in _STORED[2:])}
    """  # noqa: S608  (the names are our own columns')

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
    await insert_rows(tx, ProductUsage, rows)
