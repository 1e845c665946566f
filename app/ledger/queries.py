"""Queries of accounts and ledger entries. The name of a function that locks rows contains `lock`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert

from app.db import Database, Session, Snapshot
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, arrays_of, fetch, insert_rows, rows_of, values_of, write
from app.ledger.models import Account, Grant, LedgerEntry, LedgerVerification

_COLUMNS = ", ".join(column.name for column in Account.__table__.columns)

_FIND_ACCOUNT = PointRead(
    sql("SELECT {columns} FROM accounts WHERE account_id = k.id", columns=_COLUMNS),
    id="uuid",
)

_ACCOUNTS_IN_ORDER = sql(
    "SELECT {columns} FROM accounts WHERE account_id = ANY ($1::uuid[]) ORDER BY account_id", columns=_COLUMNS
)

# NO KEY: inserts that only reference the account do not wait
_LOCK_ACCOUNTS = f"{_ACCOUNTS_IN_ORDER} FOR NO KEY UPDATE"
_LOCK_FREE_ACCOUNTS = f"{_ACCOUNTS_IN_ORDER} FOR NO KEY UPDATE SKIP LOCKED"

_MOVED = (
    *("account_id", "daily_free", "daily_free_day", "free", "paid", "debt"),
    *("total_uses", "last_entry_no", "updated_at"),
)

HELD = ("held_credits", "held_money_nanos", "holds_expire_at")
"""Columns that are written only for accounts whose holds, grants or money moved."""
WALLET = (
    *("money_nanos", "money_debt_nanos", "grants_credits", "grants_money_nanos", "grants_expire_at"),
    *("money_purchased_nanos", "money_granted_nanos", "money_used_nanos"),
    *HELD,
)
"""Columns that are written only for accounts whose grants or money moved, with their holds."""
_MOVED_WITH_HOLDS = (*_MOVED, *HELD)
_MOVED_WITH_WALLET = (*_MOVED, *WALLET)


@cache
def _update_accounts(names: tuple[str, ...], *, is_single: bool) -> str:
    return sql(
        """
        UPDATE accounts a SET {changes} FROM {rows}
         WHERE a.account_id = n.account_id AND a.account_id = {ids}
        """,
        changes=", ".join(f"{name} = n.{name}" for name in names[1:]),
        rows=rows_of(Account, names, is_single=is_single),
        ids="$1" if is_single else "ANY ($1)",
    )


GRANT_COLUMNS = (
    *("account_id", "grant_id", "unit", "amount", "remaining", "priority", "category", "source"),
    *("expires_at", "created_at", "closed_at", "idempotency_key", "caller_kind", "ended_at"),
)

_LOT = "account_id, grant_id, unit, amount, remaining, priority, category, expires_at, created_at, closed_at, ended_at"
_FIND_OPEN_LOTS = sql(
    "SELECT {columns} FROM grants WHERE account_id = ANY ($1::uuid[]) AND closed_at IS NULL", columns=_LOT
)
_FIND_LOTS = sql(
    """
    SELECT {columns} FROM grants g JOIN unnest($1::uuid[], $2::uuid[]) AS k (account, lot)
        ON g.account_id = k.account AND g.grant_id = k.lot
    """,
    columns=_LOT,
)

_FIND_LOTS_NOT_ENDED = """
    SELECT grant_id, unit, amount, remaining, priority, category, expires_at, created_at, closed_at
      FROM grants g
     WHERE account_id = $1 AND grant_id = ANY ($2) AND ended_at IS NULL
       AND NOT EXISTS (SELECT FROM ledger_entries e
                        WHERE e.account_id = g.account_id AND e.grant_id = g.grant_id AND e.kind = 'grant_ended')
    """

_CHANGED_LOT = ("account_id", "grant_id", "remaining", "closed_at", "ended_at")

_UPDATE_GRANTS = sql(
    """
    UPDATE grants g SET remaining = n.remaining, closed_at = n.closed_at, ended_at = n.ended_at
      FROM unnest({arrays}) AS n ({names})
     WHERE g.account_id = n.account_id AND g.grant_id = n.grant_id
       AND g.account_id = ANY ($1) AND g.grant_id = ANY ($2)
    """,
    arrays=arrays_of(Grant, _CHANGED_LOT),
    names=", ".join(_CHANGED_LOT),
)

_FIND_LIVE_SUMS = PointRead(
    """
    SELECT coalesce(sum(remaining) FILTER (WHERE unit = 'credit'), 0)::bigint AS credits,
           coalesce(sum(remaining) FILTER (WHERE unit <> 'credit'), 0)::bigint AS money_nanos
      FROM grants
     WHERE account_id = k.id AND closed_at IS NULL AND (expires_at IS NULL OR expires_at > k.now)
    """,
    id="uuid",
    now="timestamptz",
)


async def find_account(db: Database, account_id: UUID) -> Mapping[str, Any] | None:
    return await db.find(_FIND_ACCOUNT, account_id)


async def lock_accounts(tx: Tx, account_ids: Sequence[UUID], *, skip_locked: bool) -> Sequence[Mapping[str, Any]]:
    return await fetch(tx, _LOCK_FREE_ACCOUNTS if skip_locked else _LOCK_ACCOUNTS, list(account_ids))


async def insert_accounts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await insert_rows(tx, Account, rows)


async def update_accounts(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Store the balances of accounts. The caller holds their locks."""
    await _store(tx, _MOVED, rows)


async def update_accounts_with_holds(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Store the balances of accounts whose holds moved as well, but no grants and no money."""
    await _store(tx, _MOVED_WITH_HOLDS, rows)


async def update_accounts_with_wallets(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Store the balances of accounts whose grants or money moved as well. The caller holds their locks."""
    await _store(tx, _MOVED_WITH_WALLET, rows)


async def _store(tx: Tx, names: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> None:
    await write(tx, _update_accounts(names, is_single=len(rows) == 1), *values_of(rows, names))


async def update_account_status(tx: Session, account_id: UUID, status: str, reason: str | None, now: datetime) -> None:
    """Set an account's status. The caller holds its lock."""
    await tx.execute(
        update(Account)
        .where(Account.account_id == account_id)
        .values(status=status, status_reason=reason, updated_at=now)
    )


async def update_plan(tx: Session, account_id: UUID, plan: Mapping[str, Any], now: datetime) -> None:
    """Set an account's plan and the terms of it. The caller holds its lock."""
    await tx.execute(update(Account).where(Account.account_id == account_id).values(**plan, updated_at=now))


async def update_billing_enabled(tx: Session, account_id: UUID, enabled: bool, now: datetime) -> None:
    """Set whether an account's usage is charged. The caller holds its lock."""
    await tx.execute(
        update(Account).where(Account.account_id == account_id).values(billing_enabled=enabled, updated_at=now)
    )


async def insert_ledger_entries(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    await insert_rows(tx, LedgerEntry, rows)


async def find_open_lots(tx: Tx, account_ids: Sequence[UUID]) -> Sequence[Mapping[str, Any]]:
    """Return the open grants of locked accounts."""
    return await fetch(tx, _FIND_OPEN_LOTS, list(account_ids))


async def find_lots_not_ended(tx: Tx, account_id: UUID, grant_ids: Sequence[UUID]) -> Sequence[Mapping[str, Any]]:
    """Return grants of a locked account, open or not, but none that a caller ended. Reads all of its entries."""
    return await fetch(tx, _FIND_LOTS_NOT_ENDED, account_id, list(grant_ids))


async def find_lots(tx: Tx, keys: Sequence[tuple[UUID, UUID]]) -> Sequence[Mapping[str, Any]]:
    """Return grants of locked accounts by (account, grant), open or not."""
    return await fetch(tx, _FIND_LOTS, *map(list, zip(*keys, strict=True))) if keys else []


async def find_live_sums(db: Database, account_id: UUID, now: datetime) -> Mapping[str, Any]:
    """Return what the account's grants can pay at `now`: `credits` and `money_nanos`."""
    row = await db.find(_FIND_LIVE_SUMS, account_id, now)
    assert row is not None, "an aggregate has a row"
    return row


async def insert_grants(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    await insert_rows(tx, Grant, rows)


async def update_grants(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """Store what remains of grants. The caller holds their accounts' locks."""
    await write(tx, _UPDATE_GRANTS, *([row[name] for row in rows] for name in _CHANGED_LOT))


_CONSTRAINTS = """
    SELECT t.relname, c.conname AS name
      FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
     WHERE t.relnamespace = 'public'::regnamespace AND c.convalidated
     UNION ALL
    SELECT t.relname, g.tgname
      FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid
     WHERE t.relnamespace = 'public'::regnamespace AND g.tgenabled IN ('O', 'A') AND NOT g.tgisinternal
    """

_FIND_LAST_VERIFICATION = """
    SELECT started_at, finished_at, accounts, entries, problem
      FROM ledger_verifications ORDER BY finished_at DESC LIMIT 1
    """


async def count_ledger(snapshot: Snapshot) -> tuple[int, int]:
    row = await snapshot.fetchrow(
        "SELECT (SELECT count(*) FROM accounts) AS accounts, (SELECT count(*) FROM ledger_entries) AS entries"
    )
    assert row is not None
    return row["accounts"], row["entries"]


async def first_missing_constraint(snapshot: Snapshot, expected: Sequence[tuple[str, str]]) -> str | None:
    present = {(row["relname"], row["name"]) for row in await snapshot.fetch(_CONSTRAINTS)}
    missing = sorted(set(expected) - present)
    return " on ".join(reversed(missing[0])) if missing else None


async def first_culprit(snapshot: Snapshot, check: str) -> str | None:
    culprit: str | None = await snapshot.fetchval(check)
    return culprit


async def insert_verification(tx: Session, row: dict[str, Any]) -> None:
    await tx.execute(insert(LedgerVerification).values(**row))


async def find_last_verification(db: Database) -> Mapping[str, Any] | None:
    return await db.fetch_row(_FIND_LAST_VERIFICATION)
