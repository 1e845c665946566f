"""Search for people, and for accounts that may be the same person's. One statement per function; none writes.

The worker indexes the words of most accounts (app/accounts/search.py). The newest rows, which it may not have read yet,
are matched here, so a new account is found at once.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.accounts.search import LATEST_COMMIT, begins_words, spelling_digest, words_of
from app.db import Session, first_id_at
from app.db.sql import sql

MAX_MATCHES = 500
"""The most accounts that the words of a search find."""
MAX_PROBED = 10_000
"""The most matches of a search's rarest word that are read."""
MAX_RECENT = 2_000
"""The most new accounts and changed profiles that a search reads itself, newest first."""
MAX_SEARCH_WORDS = 8
MAX_GROUPS = 200
_WORDS = "account_search_words"
_REFRESH = text("SELECT as_of, walked_to FROM account_search_refresh")
_RECENT = text(
    """
    (SELECT account_id, environment, oauth_provider, external_id, CAST(NULL AS text) AS display_name,
            CAST(NULL AS text) AS customer_email
       FROM account_identities WHERE account_id >= :first_id ORDER BY account_id DESC LIMIT :limit)
    UNION ALL
    (SELECT account_id, NULL, NULL, NULL, display_name, customer_email
       FROM account_profiles WHERE updated_at >= :since ORDER BY updated_at DESC LIMIT :limit)
    """
)
_TEXTS = text(
    """
    SELECT account_id, external_id, NULL AS display_name, NULL AS customer_email
      FROM account_identities WHERE account_id = ANY (:account_ids)
    UNION ALL
    SELECT account_id, NULL, display_name, customer_email FROM account_profiles WHERE account_id = ANY (:account_ids)
    """
)
_EPOCH = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
Rows = Sequence[Mapping[str, Any]]


async def find_by_words(db: Session, search: str) -> tuple[Collection[UUID], bool]:
    """Return the accounts that match a search, unordered, and whether there may be more.

    An account matches if each word of the search begins a word of its external id, display name or e-mail address. The
    index gives at most MAX_MATCHES + 1 accounts, from the first MAX_PROBED rows of the rarest word; to them come the
    matches among the MAX_RECENT newest rows. A search without a letter or digit matches none.
    """
    words = sorted(words_of([search]), key=len, reverse=True)[:MAX_SEARCH_WORDS]
    if not words:
        return [], False
    counts = await _count(db, words)
    rarest_first = [word for _, word in sorted(zip(counts, words, strict=True))]
    candidates = await _match(db, rarest_first)
    rows = [*await _list_recent(db), *await _list_texts(db, candidates)]
    return _matching(rows, search), len(candidates) > MAX_MATCHES or min(counts) > MAX_PROBED


async def _count(db: Session, words: Sequence[str]) -> Sequence[int]:
    """Count the rows that begin with each word, up to one more than are read."""
    parts = (
        sql(
            "SELECT {i} AS nr, count(*) AS n FROM (SELECT FROM {words} WHERE word LIKE :word_{i} LIMIT :limit) m",
            i=i,
            words=_WORDS,
        )
        for i in range(len(words))
    )
    values = {**_patterns(words), "limit": MAX_PROBED + 1}
    rows = await db.execute(text(" UNION ALL ".join(parts) + " ORDER BY nr"), values)
    return [row.n for row in rows]


async def _match(db: Session, words: Sequence[str]) -> Sequence[UUID]:
    others = "".join(
        f" AND EXISTS (SELECT FROM {_WORDS} w WHERE w.account_id = m.account_id AND w.word LIKE :word_{i})"
        for i in range(1, len(words))
    )
    statement = sql(
        """
        SELECT DISTINCT account_id FROM (
            SELECT m.account_id FROM (SELECT account_id FROM {words} WHERE word LIKE :word_0 LIMIT :probed) m
             WHERE true{others} LIMIT :limit) found
        """,
        words=_WORDS,
        others=others,
    )
    values = {**_patterns(words), "probed": MAX_PROBED, "limit": MAX_MATCHES + 1}
    return (await db.execute(text(statement), values)).scalars().all()


def _patterns(words: Sequence[str]) -> dict[str, str]:
    """Return LIKE patterns for the beginnings of words: a word has letters and digits only, and no wildcard."""
    return {f"word_{i}": f"{word}%" for i, word in enumerate(words)}


async def _list_recent(db: Session) -> Rows:
    """Return the newest identities and profiles, which the worker may not have read yet."""
    state = (await db.execute(_REFRESH)).one_or_none()
    since = _EPOCH if state is None or state.walked_to is not None else state.as_of - LATEST_COMMIT
    values = {"first_id": first_id_at(since), "since": since, "limit": MAX_RECENT}
    return [dict(row) for row in (await db.execute(_RECENT, values)).mappings()]


async def _list_texts(db: Session, account_ids: Sequence[UUID]) -> Rows:
    rows = await db.execute(_TEXTS, {"account_ids": account_ids}) if account_ids else None
    return [] if rows is None else [dict(row) for row in rows.mappings()]


def _matching(rows: Rows, search: str) -> Collection[UUID]:
    texts: dict[UUID, list[str | None]] = {}
    for row in rows:
        names = (row["external_id"], row["display_name"], row["customer_email"])
        texts.setdefault(row["account_id"], []).extend(names)
    return [account_id for account_id, of_account in texts.items() if begins_words(search, of_account)]


_SHARED = """
    SELECT s.digest, array_agg(s.account_id ORDER BY s.account_id) AS account_ids
      FROM account_spellings s JOIN accounts a ON a.account_id = s.account_id AND a.status <> 'closed'
     WHERE {condition}
     GROUP BY s.digest
"""
_LIST_SHARED = text(sql(_SHARED, condition="s.shared") + " HAVING count(*) > 1 ORDER BY s.digest LIMIT :limit")
_LIST_ALIKE = text(sql(_SHARED, condition="s.digest = ANY (CAST(:digests AS bytea[]))"))
_LIST_OPEN = text("SELECT account_id FROM accounts WHERE account_id = ANY (:account_ids) AND status <> 'closed'")


async def list_spelling_groups(db: Session) -> Sequence[Sequence[UUID]]:
    """Return groups of open accounts whose identities differ only in case or Unicode form.

    Reads a partial index of such accounts, and the newest identities.
    """
    groups: dict[bytes, set[UUID]] = {}
    for shared in await db.execute(_LIST_SHARED, {"limit": MAX_GROUPS + 1}):
        groups[shared.digest] = set(shared.account_ids)
    new: dict[bytes, set[UUID]] = {}
    for row in await _list_recent(db):
        if row["external_id"] is not None:
            digest = spelling_digest(row["environment"], row["oauth_provider"], row["external_id"])
            new.setdefault(digest, set()).add(row["account_id"])
    ids = [account_id for group in new.values() for account_id in group]
    still_open = set((await db.execute(_LIST_OPEN, {"account_ids": ids})).scalars()) if ids else set()
    for digest, group in new.items():
        groups.setdefault(digest, set()).update(group & still_open)
    if new:
        for alike in await db.execute(_LIST_ALIKE, {"digests": list(new)}):
            groups[alike.digest].update(alike.account_ids)
    return [sorted(group) for _, group in sorted(groups.items()) if len(group) > 1]
