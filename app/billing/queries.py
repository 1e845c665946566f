"""Queries of charges and credits: one statement per function. A name that contains `lock` takes a lock."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Text, func, literal, null, select, union_all
from sqlalchemy.dialects.postgresql import JSONB

from app.auth.caller import CallerKind
from app.billing.models import Charge, Credit
from app.db import Database, Session
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, find_many, insert_rows
from app.ledger.models import Account

CHARGE = list(Charge.__table__.columns)
CREDIT = list(Credit.__table__.columns)


class Key(NamedTuple):
    """An idempotency key in its key space: one per account and kind of caller (ADR 21)."""

    account_id: UUID
    caller_kind: CallerKind | None
    idempotency_key: str


_FIND_CHARGE_BY_KEY = PointRead(
    sql(
        """
        SELECT {columns} FROM charges
         WHERE account_id = k.account AND operation = k.operation AND idempotency_key = k.key AND caller_kind = k.kind
        """,
        columns=", ".join(column.name for column in CHARGE),
    ),
    account="uuid",
    operation="text",
    kind="text",
    key="text",
)


async def find_charge_by_key(db: Database, operation: str, key: Key) -> Mapping[str, Any] | None:
    return await db.find(_FIND_CHARGE_BY_KEY, key.account_id, operation, key.caller_kind, key.idempotency_key)


async def find_charges_by_keys(tx: Tx, operation: str, keys: Sequence[Key]) -> dict[Key, Mapping[str, Any]]:
    """Return the charges that already have these keys."""
    rows = await find_many(
        tx, _FIND_CHARGE_BY_KEY, [(key.account_id, operation, key.caller_kind, key.idempotency_key) for key in keys]
    )
    return {Key(row["account_id"], row["caller_kind"], row["idempotency_key"]): row for row in rows}


async def find_charge(db: Session, environment: str, charge_id: UUID) -> Mapping[str, Any] | None:
    query = select(*CHARGE).join(Account).where(Charge.charge_id == charge_id, Account.environment == environment)
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def insert_charges(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    if any("from_grants" in row for row in rows):  # else the statement does not name the columns of grants
        rows = [{"from_grants": 0, "grants_after": 0, **row} for row in rows]
    await insert_rows(tx, Charge, rows)


async def find_credit_by_key(db: Session, key: Key) -> Any | None:
    query = select(*CREDIT).where(
        Credit.account_id == key.account_id,
        Credit.idempotency_key == key.idempotency_key,
        Credit.caller_kind == key.caller_kind,
    )
    return (await db.execute(query)).one_or_none()


async def insert_credit(tx: Session, row: dict[str, Any]) -> None:
    await insert_rows(tx, Credit, [row])


# --- transactions ---------------------------------------------------------------------------------------------


async def list_transactions(db: Session, account_id: UUID, limit: int, offset: int) -> Sequence[Any]:
    """Return charges and credits of an account, newest first. `cost` is in credits, `amount_minor` in hundredths."""
    charges = select(
        Charge.entry_no,
        Charge.charge_id.label("transaction_id"),
        literal("charge").label("type"),
        Charge.amount_minor,
        Charge.cost,
        Charge.currency,
        Charge.description,
        Charge.created_at,
        (Charge.paid_after + Charge.grants_after).label("balance_after"),
        null().cast(Text).label("transaction_type"),
        null().cast(Text).label("external_transaction_id"),
        Charge.details.label("details"),
    ).where(Charge.account_id == account_id)
    credits = select(
        Credit.entry_no,
        Credit.credit_id,
        literal("credit"),
        null(),
        Credit.credits,
        Credit.currency,
        Credit.description,
        Credit.created_at,
        Credit.paid_after + Credit.grants_after,
        Credit.transaction_type,
        Credit.external_transaction_id,
        null().cast(JSONB),
    ).where(Credit.account_id == account_id)
    both = union_all(charges, credits).subquery()
    query = select(both).order_by(both.c.entry_no.desc()).limit(limit).offset(offset)
    return (await db.execute(query)).all()


async def count_transactions(db: Session, account_id: UUID) -> int:
    charges = select(func.count()).select_from(Charge).where(Charge.account_id == account_id).scalar_subquery()
    credits = select(func.count()).select_from(Credit).where(Credit.account_id == account_id).scalar_subquery()
    return int((await db.execute(select(charges + credits))).scalar_one())
