"""Queries of identities, profiles and activity."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects.postgresql import insert

from app.accounts.models import AccountActivityRefresh, AccountIdentity, AccountProfile, ErasedIdentity
from app.db import Database, Session
from app.db.point_reads import PointRead
from app.db.sql import sql
from app.db.statements import Tx, fetch, insert_rows
from app.ledger.models import Account

PROFILE = list(AccountProfile.__table__.columns)

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
    sql(
        "SELECT {columns} FROM account_profiles WHERE account_id = k.id",
        columns=", ".join(column.name for column in PROFILE),
    ),
    id="uuid",
)

_FIND_WITHOUT_LIMITS = """
    SELECT i.account_id FROM account_identities i JOIN accounts a ON a.account_id = i.account_id
     WHERE i.oauth_provider = $1 AND i.account_id > $3 AND a.status <> 'closed'
       AND NOT $2::text[] <@ ARRAY(SELECT l.time_window FROM limits l
                                    WHERE l.account_id = i.account_id AND l.scope = 'account'
                                      AND l.owner = 'operator' AND l.unit = a.currency AND l.action <> 'notify')
     ORDER BY i.account_id LIMIT $4
    """
_INSERT_IDENTITIES = """
    INSERT INTO account_identities (environment, oauth_provider, external_id, account_id, created_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[])
        ON CONFLICT DO NOTHING RETURNING account_id
    """


async def find_account_id(db: Database, environment: str, oauth_provider: str, external_id: str) -> UUID | None:
    row = await db.find(_FIND_ACCOUNT_ID, environment, oauth_provider, external_id)
    return None if row is None else row["account_id"]


async def find_identity(db: Database, account_id: UUID) -> tuple[str, str] | None:
    """Return (oauth_provider, external_id), or None once the person is erased."""
    row = await db.fetch_row(_FIND_IDENTITY, account_id)
    return None if row is None else (row["oauth_provider"], row["external_id"])


async def insert_identities(
    tx: Tx, identities: Sequence[tuple[str, str, str]], account_ids: Sequence[UUID], times: Sequence[datetime]
) -> set[UUID]:
    """Map each (environment, oauth_provider, external_id) to its account, unless it is mapped. Return the new ids.

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


async def find_without_limits(
    db: Session, provider: str, windows: Sequence[str], after: UUID, most: int
) -> Sequence[UUID]:
    """Return open accounts of a provider that lack, and never had, a limit of the operator for one of the windows.

    Limits are those of all money that the account spends. In the order of ids, after one.
    """
    rows = await fetch(db, _FIND_WITHOUT_LIMITS, provider, list(windows), after, most)
    return [row["account_id"] for row in rows]


async def insert_profiles(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the profiles of new accounts, which have none. A column that a row lacks stays empty."""
    await insert_rows(tx, AccountProfile, [{column.name: row.get(column.name) for column in PROFILE} for row in rows])


async def upsert_profile(tx: Session, account_id: UUID, values: dict[str, Any], now: datetime) -> None:
    statement = insert(AccountProfile).values(account_id=account_id, updated_at=now, **values)
    changed = {**values, "updated_at": now}
    await tx.execute(statement.on_conflict_do_update(index_elements=["account_id"], set_=changed))


_LOCK_PERSON = text("SELECT erased_at FROM accounts WHERE account_id = :account_id FOR KEY SHARE")

_LOCK_ACCOUNT_FOR_ERASURE = text(
    "SELECT environment, erased_at FROM accounts WHERE account_id = :account_id FOR UPDATE"
)


async def lock_person(tx: Session, account_id: UUID) -> bool:
    """Block the erasure of the account's person until commit. Return False if they were erased. Delays no charge."""
    row = (await tx.execute(_LOCK_PERSON, {"account_id": account_id})).one_or_none()
    return row is not None and row.erased_at is None


async def lock_account_for_erasure(tx: Session, account_id: UUID) -> Any | None:
    """Return (environment, erased_at). Locks out all that move the account's credits or write about its person."""
    return (await tx.execute(_LOCK_ACCOUNT_FOR_ERASURE, {"account_id": account_id})).one_or_none()


async def list_identities(tx: Session, account_id: UUID) -> Sequence[tuple[str, str]]:
    """Return the account's identities as (oauth_provider, external_id)."""
    columns = AccountIdentity.oauth_provider, AccountIdentity.external_id
    rows = await tx.execute(select(*columns).where(AccountIdentity.account_id == account_id))
    return [(row.oauth_provider, row.external_id) for row in rows]


async def delete_identities(tx: Session, account_id: UUID) -> Sequence[tuple[str, str]]:
    """Delete the account's identities, and return their (oauth_provider, external_id)."""
    statement = delete(AccountIdentity).where(AccountIdentity.account_id == account_id)
    rows = await tx.execute(statement.returning(AccountIdentity.oauth_provider, AccountIdentity.external_id))
    return [(row.oauth_provider, row.external_id) for row in rows]


async def delete_profile(tx: Session, account_id: UUID) -> None:
    await tx.execute(delete(AccountProfile).where(AccountProfile.account_id == account_id))


_FIND_ERASED_IDENTITIES = "SELECT digest FROM erased_identities WHERE digest = ANY ($1::bytea[])"


async def insert_erased_identities(tx: Session, digests: Sequence[bytes], now: datetime) -> None:
    """Store digests of identities, where they are not stored."""
    if digests:
        rows = [{"digest": digest, "erased_at": now} for digest in digests]
        await tx.execute(insert(ErasedIdentity).on_conflict_do_nothing(), rows)


async def find_erased_identities(tx: Tx, digests: Sequence[bytes]) -> Sequence[bytes]:
    """Return those of the digests that are stored."""
    return [row["digest"] for row in await fetch(tx, _FIND_ERASED_IDENTITIES, list(digests))]


async def close_erased_account(tx: Session, account_id: UUID, now: datetime) -> None:
    """Close an account whose person was erased. The caller holds the account's lock."""
    values = {"status": "closed", "status_reason": None, "erased_at": now, "updated_at": now}
    await tx.execute(update(Account).where(Account.account_id == account_id).values(**values))


_FIND_ACTIVITY_AS_OF = text("SELECT as_of FROM account_activity_refresh")

# Reads one page of accounts in the order of their ids, and writes those that have changed.
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
    """Write those of the next `limit` accounts that changed at `since` or later.

    Return the id of the page's last account (None after the last page) and the number of rows written.
    """
    row = (await tx.execute(_REFRESH_ACTIVITY, {"after": after, "since": since, "limit": limit})).one()
    return row.last, row.refreshed


async def upsert_activity_as_of(tx: Session, as_of: datetime) -> None:
    statement = insert(AccountActivityRefresh).values(as_of=as_of)
    await tx.execute(statement.on_conflict_do_update(index_elements=["singleton"], set_={"as_of": as_of}))
