"""The tools' SQL: one statement a function."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.db import Database, Session, insert_rows
from app.tools.models import ProductInventory, ProductUsage

_COLUMNS = "product_type, free, free_day, paid, total_uses"
_FIND_INVENTORY = f"SELECT {_COLUMNS} FROM product_inventory WHERE account_id = $1 AND product_type = $2"  # noqa: S608
_FIND_USAGE_BY_KEY = (
    "SELECT product_type, usage_log_id, result FROM product_usage_log WHERE account_id = $1 AND idempotency_key = $2"
)


async def find_inventory(db: Database, account_id: UUID, product_type: str) -> Mapping[str, Any] | None:
    return await db.fetch_row(_FIND_INVENTORY, account_id, product_type)


async def list_inventory(db: Session, account_id: UUID) -> Sequence[Mapping[str, Any]]:
    query = select(*ProductInventory.__table__.columns).where(ProductInventory.account_id == account_id).limit(1000)
    return [dict(row) for row in (await db.execute(query)).mappings()]


async def find_inventory_in(tx: Session, account_id: UUID, product_type: str) -> Mapping[str, Any] | None:
    """The caller holds the account's lock, which guards this row as well."""
    query = select(*ProductInventory.__table__.columns).where(
        ProductInventory.account_id == account_id, ProductInventory.product_type == product_type
    )
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def upsert_inventory(tx: Session, row: Mapping[str, Any]) -> None:
    statement = insert(ProductInventory).values(**row)
    changed = {name: value for name, value in row.items() if name not in ("account_id", "product_type")}
    await tx.execute(statement.on_conflict_do_update(index_elements=["account_id", "product_type"], set_=changed))


async def find_usage_by_key(db: Database, account_id: UUID, idempotency_key: str) -> Mapping[str, Any] | None:
    return await db.fetch_row(_FIND_USAGE_BY_KEY, account_id, idempotency_key)


async def find_usage_by_key_in(tx: Session, account_id: UUID, idempotency_key: str) -> Mapping[str, Any] | None:
    query = select(ProductUsage.product_type, ProductUsage.usage_log_id, ProductUsage.result).where(
        ProductUsage.account_id == account_id, ProductUsage.idempotency_key == idempotency_key
    )
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def insert_usage(tx: Session, row: Mapping[str, Any]) -> None:
    await insert_rows(tx, ProductUsage, [row])
