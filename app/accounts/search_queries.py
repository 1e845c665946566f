"""Queries of search words and of identities' spellings: one statement per function."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.dialects.postgresql import insert

from app.accounts.models import SearchRefresh
from app.db import Session

_FIND_SEARCH_REFRESH = text("SELECT as_of, walked_to FROM account_search_refresh")
_LIST_CHANGED_PERSONS = text(
    """
    SELECT account_id FROM account_identities WHERE account_id >= :first_id
    UNION SELECT account_id FROM account_profiles WHERE updated_at >= :since
    ORDER BY account_id
    """
)
_LIST_PERSONS_AFTER = text(
    "SELECT DISTINCT account_id FROM account_identities WHERE account_id > :after ORDER BY account_id LIMIT :limit"
)
_LOCK_IDENTITIES = text(
    """
    SELECT account_id, environment, oauth_provider, external_id FROM account_identities
     WHERE account_id = ANY (:account_ids) ORDER BY account_id FOR KEY SHARE
    """
)
_LOCK_PROFILES = text(
    """
    SELECT account_id, customer_email, display_name FROM account_profiles
     WHERE account_id = ANY (:account_ids) ORDER BY account_id FOR KEY SHARE
    """
)
# One statement per table: it leaves existing rows in place, and deletes the rows that no longer apply.
_REPLACE_WORDS = text(
    """
    WITH now AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:words AS text[])) AS n (account_id, word)),
    gone AS (
        DELETE FROM account_search_words w WHERE w.account_id = ANY (CAST(:account_ids AS uuid[]))
           AND NOT EXISTS (SELECT FROM now WHERE now.account_id = w.account_id AND now.word = w.word))
    INSERT INTO account_search_words (account_id, word) SELECT account_id, word FROM now
    ON CONFLICT DO NOTHING
    """
)
_REPLACE_SPELLINGS = text(
    """
    WITH now AS (
        SELECT DISTINCT * FROM unnest(CAST(:ids AS uuid[]), CAST(:digests AS bytea[])) AS n (account_id, digest)),
    gone AS (
        DELETE FROM account_spellings s WHERE s.account_id = ANY (CAST(:account_ids AS uuid[]))
           AND NOT EXISTS (SELECT FROM now WHERE now.account_id = s.account_id AND now.digest = s.digest))
    INSERT INTO account_spellings (account_id, digest) SELECT account_id, digest FROM now
    ON CONFLICT DO NOTHING
    """
)
_SHARE_SPELLINGS = text(
    """
    UPDATE account_spellings SET shared = true
     WHERE NOT shared AND digest IN (
           SELECT digest FROM account_spellings WHERE digest = ANY (CAST(:digests AS bytea[]))
            GROUP BY digest HAVING count(*) > 1)
    """
)


async def find_search_refresh(db: Session) -> Row[Any] | None:
    return (await db.execute(_FIND_SEARCH_REFRESH)).one_or_none()


async def upsert_search_refresh(tx: Session, *, as_of: datetime, walked_to: UUID | None) -> None:
    values = {"as_of": as_of, "walked_to": walked_to}
    await tx.execute(
        insert(SearchRefresh).values(**values).on_conflict_do_update(index_elements=["singleton"], set_=values)
    )


async def list_changed_persons(db: Session, first_id: UUID, since: datetime) -> Sequence[UUID]:
    """Return accounts that are not older than `first_id`, or whose profile changed at `since` or later."""
    return (await db.execute(_LIST_CHANGED_PERSONS, {"first_id": first_id, "since": since})).scalars().all()


async def list_persons_after(db: Session, after: UUID, limit: int) -> Sequence[UUID]:
    return (await db.execute(_LIST_PERSONS_AFTER, {"after": after, "limit": limit})).scalars().all()


async def lock_persons(
    tx: Session, account_ids: Sequence[UUID]
) -> Mapping[UUID, tuple[list[str | None], list[tuple[str, str, str]]]]:
    """Return the texts that name each person, and their identities. Locks them only against erasure, until commit."""
    values = {"account_ids": account_ids}
    persons: dict[UUID, tuple[list[str | None], list[tuple[str, str, str]]]] = {}
    for row in await tx.execute(_LOCK_IDENTITIES, values):
        texts, identities = persons.setdefault(row.account_id, ([], []))
        texts.append(row.external_id)
        identities.append((row.environment, row.oauth_provider, row.external_id))
    for row in await tx.execute(_LOCK_PROFILES, values):
        persons.setdefault(row.account_id, ([], []))[0].extend((row.display_name, row.customer_email))
    return persons


async def replace_search(
    tx: Session,
    account_ids: Sequence[UUID],
    words: Sequence[tuple[UUID, str]],
    spellings: Sequence[tuple[UUID, bytes]],
) -> None:
    """Replace the words and spellings of the accounts. The caller holds the locks of their persons."""
    parts = {"ids": [one[0] for one in words], "words": [one[1] for one in words]}
    await tx.execute(_REPLACE_WORDS, {"account_ids": account_ids, **parts})
    digests = [one[1] for one in spellings]
    ids = [one[0] for one in spellings]
    await tx.execute(_REPLACE_SPELLINGS, {"account_ids": account_ids, "ids": ids, "digests": digests})
    await tx.execute(_SHARE_SPELLINGS, {"digests": digests})
