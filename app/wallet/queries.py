"""Queries of grants and of money: one statement per function. The ledger stores grants; this package reads them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.auth.caller import CallerKind
from app.db import Session
from app.db.sql import sql
from app.db.statements import Tx, fetch, insert_rows
from app.wallet.models import MoneyCredit

Row = Mapping[str, Any]
_GRANT = (
    "g.grant_id, g.account_id, g.unit, g.amount, g.remaining, g.priority, g.category, g.source, g.expires_at,"
    " g.created_at, g.closed_at"
)
_FIND_GRANT = sql(
    """
    SELECT {columns} FROM grants g JOIN accounts a USING (account_id)
     WHERE g.grant_id = $1 AND a.environment = $2
    """,
    columns=_GRANT,
)
_FIND_GRANT_BY_KEY = sql(
    "SELECT {columns} FROM grants g WHERE account_id = $1 AND caller_kind = $2 AND idempotency_key = $3",
    columns=_GRANT,
)
# Ids are UUIDv7: the newest first.
_LIST_GRANTS = sql(
    """
    SELECT {columns} FROM grants g
     WHERE account_id = $1 AND (NOT $2 OR closed_at IS NULL AND (expires_at IS NULL OR expires_at > $3))
     ORDER BY grant_id DESC LIMIT $4 OFFSET $5
    """,
    columns=_GRANT,
)
_COUNT_GRANTS = """
    SELECT count(*) AS grants FROM grants
     WHERE account_id = $1 AND (NOT $2 OR closed_at IS NULL AND (expires_at IS NULL OR expires_at > $3))
    """
# DISTINCT after LIMIT: the index gives the oldest first, and an account has at most 1,000 open grants.
_FIND_DUE = """
    SELECT DISTINCT account_id
      FROM (SELECT account_id FROM grants
             WHERE closed_at IS NULL AND expires_at <= $1 AND account_id <> ALL ($3::uuid[])
             ORDER BY expires_at LIMIT $2) due
    """
_FIND_MONEY_CREDIT_BY_KEY = """
    SELECT money_credit_id, account_id, amount_nanos, currency, transaction_type, balance_after_nanos,
           external_transaction_id, description, created_at
      FROM money_credits WHERE account_id = $1 AND caller_kind = $2 AND idempotency_key = $3
    """

_FIND_BY_IDS = """
    SELECT money_credit_id, description, created_at, external_transaction_id FROM money_credits
     WHERE account_id = $1 AND money_credit_id = ANY ($2::uuid[])
    """
_FIND_BY_PREFIX = """
    SELECT idempotency_key, amount_nanos FROM money_credits
     WHERE account_id = $1 AND caller_kind = 'admin' AND starts_with(idempotency_key, $2)
    """


async def find_grant(tx: Tx, environment: str, grant_id: UUID) -> Row | None:
    rows = await fetch(tx, _FIND_GRANT, grant_id, environment)
    return rows[0] if rows else None


async def find_grant_by_key(tx: Tx, account_id: UUID, kind: CallerKind | None, idempotency_key: str) -> Row | None:
    rows = await fetch(tx, _FIND_GRANT_BY_KEY, account_id, kind, idempotency_key)
    return rows[0] if rows else None


async def list_grants(
    db: Session, account_id: UUID, only_open: bool, now: datetime, limit: int, offset: int
) -> Sequence[Row]:
    """Return the account's grants, newest first. `only_open`: those that can pay at `now`."""
    return await fetch(db, _LIST_GRANTS, account_id, only_open, now, limit, offset)


async def count_grants(db: Session, account_id: UUID, only_open: bool, now: datetime) -> int:
    (row,) = await fetch(db, _COUNT_GRANTS, account_id, only_open, now)
    return int(row["grants"])


async def find_accounts_with_due_grants(tx: Tx, now: datetime, limit: int, without: Collection[UUID]) -> Sequence[UUID]:
    """Return accounts of the grants that have been due for the longest time, except accounts in `without`."""
    return [row["account_id"] for row in await fetch(tx, _FIND_DUE, now, limit, list(without))]


async def insert_money_credit(tx: Session, row: Mapping[str, Any]) -> None:
    await insert_rows(tx, MoneyCredit, [row])


async def find_by_ids(db: Session, account_id: UUID, money_credit_ids: Sequence[UUID]) -> Mapping[UUID, Row]:
    """Return what money credits of one account say beside their amounts, by their ids."""
    rows = await fetch(db, _FIND_BY_IDS, account_id, list(money_credit_ids)) if money_credit_ids else []
    return {row["money_credit_id"]: row for row in rows}


async def find_amounts_by_prefix(db: Session, account_id: UUID, prefix: str) -> Mapping[str, int]:
    """Return the nanos of an account's money credits, by idempotency key, of keys that begin with `prefix`."""
    rows = await fetch(db, _FIND_BY_PREFIX, account_id, prefix)
    return {row["idempotency_key"]: row["amount_nanos"] for row in rows}


async def insert_money_credits(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await insert_rows(tx, MoneyCredit, rows)


async def find_money_credit_by_key(
    tx: Session, account_id: UUID, kind: CallerKind | None, idempotency_key: str
) -> Row | None:
    rows = await fetch(tx, _FIND_MONEY_CREDIT_BY_KEY, account_id, kind, idempotency_key)
    return rows[0] if rows else None
