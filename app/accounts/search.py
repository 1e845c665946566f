"""Search words and spellings: the back office's index of persons, beside their identities and profiles.

A table of words lets a search match any word inside a name, an e-mail address or an external id, ignoring case and
Unicode form. A digest of each identity's folded spelling finds accounts that may belong to one person. The worker
maintains both (ADR 23), so no charge and no new account waits for them. A trigger deletes them with the person.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from app.accounts import search_queries as queries
from app.db import Database, first_id_at

ACCOUNTS_AT_ONCE = 2_000
LATEST_COMMIT = timedelta(minutes=5)
"""Upper bound between the time that a change carries and its commit, including differences between clocks."""
MAX_WORD_CHARS = 64
MAX_WORDS = 64
"""Limit per account."""
_BREAKS = re.compile(r"[\W_]+")


def fold(text: str) -> str:
    """Return the text without differences of case, width and Unicode form, for comparison only."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def words_of(texts: Iterable[str | None]) -> list[str]:
    """Return the distinct words of the texts in order, folded and cut to `MAX_WORD_CHARS`. At most `MAX_WORDS`."""
    words = (word[:MAX_WORD_CHARS] for text in texts if text for word in _BREAKS.split(fold(text)) if word)
    return list(dict.fromkeys(words))[:MAX_WORDS]


def begins_words(search: str, texts: Iterable[str | None]) -> bool:
    """Return whether each blank-separated part of the search occurs in one of the texts, at the beginning of a word.

    Case, width and Unicode form make no difference. Every other character counts.
    """
    folded = [fold(text) for text in texts if text]
    parts = fold(search).split()
    return bool(parts) and all(any(_begins_word(part, text) for text in folded) for part in parts)


def _begins_word(part: str, text: str) -> bool:
    if _BREAKS.match(part):
        return part in text
    return re.search(rf"(?<![^\W_]){re.escape(part)}", text) is not None


def spelling_digest(environment: str, oauth_provider: str, external_id: str) -> bytes:
    """Return a digest that ignores case, width, Unicode form and outer blanks of an identity."""
    return hashlib.sha256(folded_identity(environment, oauth_provider, external_id)).digest()


def folded_identity(environment: str, oauth_provider: str, external_id: str) -> bytes:
    """Return an identity without case, width, Unicode form and outer blanks, for digests only."""
    parts = (environment, fold(oauth_provider).strip(), fold(external_id).strip())
    return "\0".join(parts).encode("utf-8", "surrogatepass")


async def refresh_search(db: Database, now: datetime) -> int:
    """Bring the words and spellings up to `now`, and return how many accounts were read.

    The first runs walk all accounts, `ACCOUNTS_AT_ONCE` in a transaction, and store their progress. Later runs read
    accounts that are new or whose profile changed. Concurrent runs are harmless. Only an erasure of the same person
    waits for a run.
    """
    async with db.read() as session:
        state = await queries.find_search_refresh(session)
    if state is None or state.walked_to is not None:
        return await _walk(db, None if state is None else state.walked_to, state.as_of if state else now)
    since, read = state.as_of - LATEST_COMMIT, 0
    async with db.read() as session:
        account_ids = await queries.list_changed_persons(session, first_id_at(since), since)
    for first in range(0, len(account_ids), ACCOUNTS_AT_ONCE):
        read += await _refresh(db, account_ids[first : first + ACCOUNTS_AT_ONCE])
    async with db.transaction() as tx:
        await queries.upsert_search_refresh(tx, as_of=now, walked_to=None)
    return read


async def _walk(db: Database, after: UUID | None, began: datetime) -> int:
    """Read all accounts after `after`, in the order of their ids. Changes during the walk are later than `began`."""
    read = 0
    while True:
        async with db.read() as session:
            account_ids = await queries.list_persons_after(session, after or UUID(int=0), ACCOUNTS_AT_ONCE)
        read += await _refresh(db, account_ids)
        after = account_ids[-1] if len(account_ids) == ACCOUNTS_AT_ONCE else None
        async with db.transaction() as tx:
            await queries.upsert_search_refresh(tx, as_of=began, walked_to=after)
        if after is None:
            return read


async def _refresh(db: Database, account_ids: Sequence[UUID]) -> int:
    """Write these accounts' words and spellings. Locks only their persons, against erasure."""
    if not account_ids:
        return 0
    async with db.transaction() as tx:
        persons = await queries.lock_persons(tx, account_ids)
        words, spellings = [], []
        for account_id, (texts, identities) in persons.items():
            words += [(account_id, word) for word in words_of(texts)]
            spellings += [(account_id, spelling_digest(*identity)) for identity in identities]
        await queries.replace_search(tx, list(account_ids), words, spellings)
    return len(account_ids)
