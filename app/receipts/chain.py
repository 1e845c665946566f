"""Ledger chain: the worker's job that hashes new entries. Spending writes nothing for it.

A transaction extends some accounts by at most SPAN entries each, so it is short, and an interrupted job continues where
the last commit ended. Concurrent jobs and requests are harmless: hashes follow from the entries, and each is stored
once. An account's entries are committed in the order of their numbers, under its lock: no entry below a visible one is
missing.
"""

import time
from collections.abc import Sequence
from uuid import UUID

import structlog

from app.db import Database
from app.receipts import queries

ACCOUNTS_AT_ONCE = 100
ROUNDS = 50
"""The most transactions for one page of accounts: an account with a long backlog leaves time for others."""
RUN_S = 200.0
"""Longest run. The next one continues."""
log = structlog.get_logger()
FIRST = UUID(int=0)


async def extend_chains(db: Database, *, run_s: float = RUN_S) -> int:
    """Hash the entries of all accounts that are not in the chain. Return their number.

    `db` must allow its statements longer than a request may take. Ends with the page of accounts
    that is current after `run_s`.
    """
    ends_s, total, is_complete = time.monotonic() + run_s, 0, False
    while not is_complete:
        added, is_complete = await _sweep(db, ends_s)
        total += added
        if time.monotonic() >= ends_s:
            break
    if total:
        log.info("ledger_chain_extended", entries=total, is_complete=is_complete)
    return total


async def _sweep(db: Database, ends_s: float) -> tuple[int, bool]:
    """Extend every account once, in the order of their ids. Return the number of entries, and whether none is left."""
    after, total, is_complete = FIRST, 0, True
    while page := await _find_behind(db, after):
        added, has_more = await _extend_page(db, page)
        total += added
        is_complete = is_complete and not has_more
        if time.monotonic() >= ends_s:
            return total, False
        after = page[-1]
    return total, is_complete


async def _find_behind(db: Database, after: UUID) -> Sequence[UUID]:
    async with db.read() as session:
        return await queries.find_accounts_behind(session, after, ACCOUNTS_AT_ONCE)


async def _extend_page(db: Database, page: Sequence[UUID]) -> tuple[int, bool]:
    """Extend these accounts. Return the number of chained entries, and whether some account may have more."""
    total = 0
    for _ in range(ROUNDS):
        async with db.transaction() as tx:
            reached, added = await queries.extend(tx, page)
        total += added
        page = [account_id for account_id, entry_no in reached.items() if queries.may_have_more(entry_no)]
        if not page:
            return total, False
    return total, True
