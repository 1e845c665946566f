"""Queries of charges and credits: one statement per function. A name that contains `lock` takes a lock."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Text, func, literal, null, select, union_all
from sqlalchemy.dialects.postgresql import JSONB

from app.auth.caller import CallerKind
from app.billing.models import Charge, ChargePurpose, Credit
from app.db import Database, Session
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, find_many, insert_rows, with_optional
from app.ledger.models import Account

CHARGE = [column for column in Charge.__table__.columns if column.name != "run_id"]
"""The columns of a charge's answer."""
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
    """Return all columns of a charge."""
    query = (
        select(*Charge.__table__.columns)
        .join(Account)
        .where(Charge.charge_id == charge_id, Account.environment == environment)
    )
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def insert_charges(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    rows = with_optional(rows, from_grants=0, grants_after=0)
    await insert_rows(tx, Charge, with_optional(rows, run_id=None))


_FIND_FIRST_CHARGE = PointRead(
    sql(
        """
        SELECT p.purpose, {columns} FROM charge_purposes p JOIN charges c USING (account_id, charge_id)
         WHERE p.account_id = k.account AND p.purpose = k.purpose
        """,
        columns=", ".join(f"c.{column.name}" for column in CHARGE),
    ),
    account="uuid",
    purpose="bytea",
)


async def find_first_charges(tx: Tx, purposes: Sequence[tuple[UUID, bytes]]) -> Sequence[Mapping[str, Any]]:
    """Return the first charges with these purposes of accounts."""
    return await find_many(tx, _FIND_FIRST_CHARGE, purposes)


async def insert_purposes(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await insert_rows(tx, ChargePurpose, rows)


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
