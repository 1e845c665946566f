"""Billing's SQL: one statement a function. A function that takes a lock says so in its name."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Text, delete, func, literal, null, select, text, union_all, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from app.auth.caller import CallerKind
from app.billing.models import (
    Account,
    AccountActivityRefresh,
    AccountIdentity,
    AccountProfile,
    Charge,
    Credit,
    LedgerEntry,
    LedgerVerification,
    LlmUsage,
)
from app.db import Database, Session, Snapshot
from app.db.point_reads import PointRead
from app.db.statements import Tx, arrays_of, fetch, find_many, insert_rows

ACCOUNT = list(Account.__table__.columns)
CHARGE = list(Charge.__table__.columns)
CREDIT = list(Credit.__table__.columns)
PROFILE = list(AccountProfile.__table__.columns)

# --- identities, profiles -------------------------------------------------------------------------------------

_FIND_ACCOUNT_ID = PointRead(
    """
    SELECT account_id FROM account_identities
     WHERE environment = k.environment AND oauth_provider = k.oauth_provider AND external_id = k.external_id
    """,
    environment="text",
    oauth_provider="text",
    external_id="text",
)
_FIND_IDENTITY = """
    SELECT oauth_provider, external_id FROM account_identities WHERE account_id = $1 ORDER BY created_at LIMIT 1
    """
_FIND_PROFILE = PointRead(
    f"SELECT {', '.join(column.name for column in PROFILE)} FROM account_profiles WHERE account_id = k.id",  # noqa: S608  (our own words; what callers say is bound)
    id="uuid",
)
_INSERT_IDENTITIES = """
    INSERT INTO account_identities (environment, oauth_provider, external_id, account_id, created_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[])
        ON CONFLICT DO NOTHING RETURNING account_id
    """


async def find_account_id(db: Database, environment: str, oauth_provider: str, external_id: str) -> UUID | None:
    row = await db.find(_FIND_ACCOUNT_ID, environment, oauth_provider, external_id)
    return None if row is None else row["account_id"]


async def find_identity(db: Database, account_id: UUID) -> tuple[str, str] | None:
    """(oauth_provider, external_id), or None once the person is erased."""
    row = await db.fetch_row(_FIND_IDENTITY, account_id)
    return None if row is None else (row["oauth_provider"], row["external_id"])


async def insert_identities(
    tx: Tx, identities: Sequence[tuple[str, str, str]], account_ids: Sequence[UUID], times: Sequence[datetime]
) -> set[UUID]:
    """Map each (environment, oauth_provider, external_id) to its account, unless it is mapped; the new accounts' ids.

    Waits for a concurrent insert of the same identity to commit. The caller sorts the identities, which keeps two
    batches from deadlocking.
    """
    rows = await fetch(
        tx, _INSERT_IDENTITIES, *map(list, zip(*identities, strict=True)), list(account_ids), list(times)
    )
    return {row["account_id"] for row in rows}


async def find_profile(db: Database, account_id: UUID) -> dict[str, Any] | None:
    row = await db.find(_FIND_PROFILE, account_id)
    return None if row is None else {column.name: row[column.name] for column in PROFILE}


async def insert_profiles(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """For new accounts, which have none. A column that a row lacks stays empty."""
    await insert_rows(tx, AccountProfile, [{column.name: row.get(column.name) for column in PROFILE} for row in rows])


async def upsert_profile(tx: Session, account_id: UUID, values: dict[str, Any], now: datetime) -> None:
    statement = insert(AccountProfile).values(account_id=account_id, updated_at=now, **values)
    changed = {**values, "updated_at": now}
    await tx.execute(statement.on_conflict_do_update(index_elements=["account_id"], set_=changed))


# --- accounts -------------------------------------------------------------------------------------------------

_FIND_ACCOUNT = PointRead(
    f"SELECT {', '.join(column.name for column in ACCOUNT)} FROM accounts WHERE account_id = k.id",  # noqa: S608  (our own words; what callers say is bound)
    id="uuid",
)
_ACCOUNTS_IN_ORDER = f"""
    SELECT {", ".join(column.name for column in ACCOUNT)} FROM accounts
     WHERE account_id = ANY ($1::uuid[]) ORDER BY account_id
    """  # noqa: S608  (the names are our own columns')
# NO KEY: inserts that merely reference the account need not wait
_LOCK_ACCOUNTS = f"{_ACCOUNTS_IN_ORDER} FOR NO KEY UPDATE"
_LOCK_FREE_ACCOUNTS = f"{_ACCOUNTS_IN_ORDER} FOR NO KEY UPDATE SKIP LOCKED"
_MOVED = (
    *("account_id", "daily_free", "daily_free_day", "free", "paid", "debt"),
    *("total_uses", "last_entry_no", "updated_at"),
)
_UPDATE_ACCOUNTS = f"""
    UPDATE accounts a SET {", ".join(f"{name} = n.{name}" for name in _MOVED[1:])}
      FROM unnest({arrays_of(Account, _MOVED)}) AS n ({", ".join(_MOVED)})
     WHERE a.account_id = n.account_id AND a.account_id = ANY ($1)
    """  # noqa: S608  (the names are our own columns')


async def find_account(db: Database, account_id: UUID) -> Mapping[str, Any] | None:
    return await db.find(_FIND_ACCOUNT, account_id)


async def lock_accounts(tx: Tx, account_ids: Sequence[UUID], *, skip_locked: bool) -> Sequence[Mapping[str, Any]]:
    return await fetch(tx, _LOCK_FREE_ACCOUNTS if skip_locked else _LOCK_ACCOUNTS, list(account_ids))


async def insert_accounts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    await insert_rows(tx, Account, rows)


async def update_accounts(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    """The caller holds the locks of these accounts."""
    await fetch(tx, _UPDATE_ACCOUNTS, *([row[name] for row in rows] for name in _MOVED))


async def update_account_status(tx: Session, account_id: UUID, status: str, reason: str | None, now: datetime) -> None:
    """The caller holds the account's lock."""
    await tx.execute(
        update(Account)
        .where(Account.account_id == account_id)
        .values(status=status, status_reason=reason, updated_at=now)
    )


# --- persons, and how they are erased --------------------------------------------------------------------------

_LOCK_PERSON = text("SELECT erased_at FROM accounts WHERE account_id = :account_id FOR KEY SHARE")
_LOCK_ACCOUNT_FOR_ERASURE = text(
    "SELECT environment, erased_at FROM accounts WHERE account_id = :account_id FOR UPDATE"
)


async def lock_person(tx: Session, account_id: UUID) -> bool:
    """Keep the account's person from being erased until commit. False when that has happened. Delays no charge."""
    row = (await tx.execute(_LOCK_PERSON, {"account_id": account_id})).one_or_none()
    return row is not None and row.erased_at is None


async def lock_account_for_erasure(tx: Session, account_id: UUID) -> Any | None:
    """(environment, erased_at). Waits for whoever moves credits or writes about the person, and keeps them waiting."""
    return (await tx.execute(_LOCK_ACCOUNT_FOR_ERASURE, {"account_id": account_id})).one_or_none()


async def delete_identities(tx: Session, account_id: UUID) -> Sequence[tuple[str, str]]:
    """(oauth_provider, external_id) of each."""
    statement = delete(AccountIdentity).where(AccountIdentity.account_id == account_id)
    rows = await tx.execute(statement.returning(AccountIdentity.oauth_provider, AccountIdentity.external_id))
    return [(row.oauth_provider, row.external_id) for row in rows]


async def delete_profile(tx: Session, account_id: UUID) -> None:
    await tx.execute(delete(AccountProfile).where(AccountProfile.account_id == account_id))


async def close_erased_account(tx: Session, account_id: UUID, now: datetime) -> None:
    """The caller holds the account's lock."""
    values = {"status": "closed", "status_reason": None, "erased_at": now, "updated_at": now}
    await tx.execute(update(Account).where(Account.account_id == account_id).values(**values))


# --- what accounts are sorted by --------------------------------------------------------------------------------

_FIND_ACTIVITY_AS_OF = text("SELECT as_of FROM account_activity_refresh")
# Walks the accounts in the order of their ids, so many at a time, and writes those that have changed.
_REFRESH_ACTIVITY = text(
    """
    WITH page AS (
        SELECT account_id, environment, paid, updated_at FROM accounts
         WHERE CAST(:after AS uuid) IS NULL OR account_id > :after ORDER BY account_id LIMIT :limit),
    refreshed AS (
        INSERT INTO account_activity AS a (account_id, environment, paid, last_activity_at)
        SELECT account_id, environment, paid, updated_at FROM page
         WHERE CAST(:since AS timestamptz) IS NULL OR updated_at >= :since
            ON CONFLICT (account_id) DO UPDATE SET paid = excluded.paid, last_activity_at = excluded.last_activity_at
         WHERE (a.paid, a.last_activity_at) IS DISTINCT FROM (excluded.paid, excluded.last_activity_at)
     RETURNING 1)
    SELECT (SELECT account_id FROM page ORDER BY account_id DESC LIMIT 1) AS last,
           (SELECT count(*) FROM refreshed) AS refreshed
    """
)


async def find_activity_as_of(db: Session) -> datetime | None:
    return (await db.execute(_FIND_ACTIVITY_AS_OF)).scalar_one_or_none()


async def refresh_activity(
    tx: Session, *, after: UUID | None, since: datetime | None, limit: int
) -> tuple[UUID | None, int]:
    """Of the next `limit` accounts, write what changed at `since` or later: the last one's id, and how many those were.

    The id is None when there are no more accounts.
    """
    row = (await tx.execute(_REFRESH_ACTIVITY, {"after": after, "since": since, "limit": limit})).one()
    return row.last, row.refreshed


async def upsert_activity_as_of(tx: Session, as_of: datetime) -> None:
    statement = insert(AccountActivityRefresh).values(as_of=as_of)
    await tx.execute(statement.on_conflict_do_update(index_elements=["singleton"], set_={"as_of": as_of}))


# --- ledger, charges, credits ---------------------------------------------------------------------------------


class Key(NamedTuple):
    """An idempotency key in its space: each kind of caller has one of its own per account (ADR 21)."""

    account_id: UUID
    caller_kind: CallerKind | None
    idempotency_key: str


async def insert_ledger_entries(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    await insert_rows(tx, LedgerEntry, rows)


_FIND_CHARGE_BY_KEY = PointRead(
    f"""
    SELECT {", ".join(column.name for column in CHARGE)}
      FROM charges
     WHERE account_id = k.account AND operation = k.operation AND idempotency_key = k.key AND caller_kind = k.kind
    """,  # noqa: S608  (the names are our own columns')
    account="uuid",
    operation="text",
    kind="text",
    key="text",
)


async def find_charge_by_key(db: Database, operation: str, key: Key) -> Mapping[str, Any] | None:
    return await db.find(_FIND_CHARGE_BY_KEY, key.account_id, operation, key.caller_kind, key.idempotency_key)


async def find_charges_by_keys(tx: Tx, operation: str, keys: Sequence[Key]) -> dict[Key, Mapping[str, Any]]:
    """The charges that already carry these keys."""
    rows = await find_many(
        tx, _FIND_CHARGE_BY_KEY, [(key.account_id, operation, key.caller_kind, key.idempotency_key) for key in keys]
    )
    return {Key(row["account_id"], row["caller_kind"], row["idempotency_key"]): row for row in rows}


async def find_charge(db: Session, environment: str, charge_id: UUID) -> Mapping[str, Any] | None:
    query = select(*CHARGE).join(Account).where(Charge.charge_id == charge_id, Account.environment == environment)
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def insert_charges(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
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
    """Charges and credits of an account, newest first. Amounts in credits, negative for charges."""
    charges = select(
        Charge.entry_no,
        Charge.charge_id.label("transaction_id"),
        literal("charge").label("type"),
        Charge.amount_minor,
        Charge.cost,
        Charge.currency,
        Charge.description,
        Charge.created_at,
        Charge.paid_after,
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
        Credit.paid_after,
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


# --- LLM usage ------------------------------------------------------------------------------------------------


async def insert_llm_usage(tx: Session, row: dict[str, Any]) -> bool:
    """False when the interaction's call has been reported. Waits for a concurrent report of it to commit."""
    keys = ["account_id", "interaction_id", "call_id"]
    statement = insert(LlmUsage).values(**row).on_conflict_do_nothing(index_elements=keys)
    return (await tx.execute(statement.returning(LlmUsage.usage_log_id))).scalar_one_or_none() is not None


async def find_llm_usage(tx: Session, account_id: UUID, interaction_id: str, call_id: str) -> UUID:
    query = select(LlmUsage.usage_log_id).where(
        LlmUsage.account_id == account_id, LlmUsage.interaction_id == interaction_id, LlmUsage.call_id == call_id
    )
    usage_log_id: UUID = (await tx.execute(query)).scalar_one()
    return usage_log_id


# --- verification ---------------------------------------------------------------------------------------------

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
