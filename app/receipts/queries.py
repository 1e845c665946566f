"""Queries of the ledger chain. None of them locks an account, so no charge waits for one."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from app.db import Database, Session
from app.db.sql import sql
from app.db.statements import Tx, fetch
from app.receipts.canonical import NO_HASH, SPAN, hash_of, newest_of_pools, time_text

# The subquery with max() is evaluated by one look into the index for each account, and never for the chain as a whole.
_FIND_BEHIND = """
    SELECT a.account_id FROM accounts a
     WHERE a.account_id > $1
       AND a.last_entry_no > coalesce((SELECT max(c.entry_no) FROM ledger_chain c WHERE c.account_id = a.account_id), 0)
     ORDER BY a.account_id LIMIT $2
    """

# Each step looks up the next entry by its key; LIMIT keeps the planner from reading whole tables for it.
_EXTEND = sql(
    """
    WITH RECURSIVE heads AS (
        SELECT k.account_id, coalesce(h.entry_no, 0) AS entry_no, coalesce(h.hash, '{no_hash}'::bytea) AS hash
          FROM unnest($1::uuid[]) AS k (account_id)
          LEFT JOIN LATERAL (SELECT entry_no, hash FROM ledger_chain c WHERE c.account_id = k.account_id
                              ORDER BY c.entry_no DESC LIMIT 1) h ON true),
    chain AS (
        SELECT account_id, entry_no, hash, true AS is_head FROM heads
         UNION ALL
        SELECT c.account_id, e.entry_no, {hash}, false
          FROM chain c
         CROSS JOIN LATERAL (SELECT * FROM ledger_entries n
                              WHERE n.account_id = c.account_id AND n.entry_no = c.entry_no + 1 LIMIT 1) e
         WHERE c.is_head OR c.entry_no % {span} <> 0),
    added AS (
        INSERT INTO ledger_chain (account_id, entry_no, hash, latest)
        SELECT c.account_id, c.entry_no, c.hash,
               CASE WHEN c.entry_no % {span} = 0 THEN coalesce(
                   (SELECT array_agg(n.entry_no ORDER BY n.entry_no) FROM ({newest}) n), '{{}}') END
          FROM chain c WHERE NOT c.is_head
         ORDER BY c.account_id, c.entry_no
            ON CONFLICT (account_id, entry_no) DO NOTHING
        RETURNING account_id)
    SELECT account_id, max(entry_no) AS reached, (SELECT count(*) FROM added) AS added
      FROM chain WHERE NOT is_head GROUP BY account_id ORDER BY account_id
    """,
    no_hash=NO_HASH,
    hash=hash_of("c.hash"),
    span=SPAN,
    newest=newest_of_pools("c.account_id", span=f"c.entry_no - {SPAN}", upto="c.entry_no"),
)

_FIND_LINK = sql(
    """
    SELECT encode(c.hash, 'hex') AS hash, {time} AS created_at
      FROM ledger_chain c JOIN ledger_entries e USING (account_id, entry_no)
     WHERE account_id = $1 AND entry_no = $2
    """,
    time=time_text("e.created_at"),
)

_FIND_BALANCES = sql(
    """
    SELECT pool, unit, CAST(grant_id AS text) AS grant_id, balance_after AS balance FROM ({newest}) n
     ORDER BY pool, unit, grant_id
    """,
    newest=newest_of_pools("$1", span=f"$2::bigint / {SPAN} * {SPAN}", upto="$2"),
)


async def find_accounts_behind(session: Session, after: UUID, limit: int) -> Sequence[UUID]:
    """Return accounts with entries that are not in the chain, in the order of their ids after `after`."""
    return [row["account_id"] for row in await fetch(session, _FIND_BEHIND, after, limit)]


async def extend(tx: Tx, account_ids: Sequence[UUID]) -> tuple[Mapping[UUID, int], int]:
    """Chain the next entries of each account, up to the next multiple of SPAN.

    Return the entry that each account has reached, of those that had any, and the number of chained entries. Two
    transactions may extend one account: both compute the same hashes, and the second one adds what the first did not.
    """
    rows = await fetch(tx, _EXTEND, sorted(account_ids))
    return {row["account_id"]: row["reached"] for row in rows}, rows[0]["added"] if rows else 0


def may_have_more(reached: int) -> bool:
    """Return whether an account that `extend` left at this entry may have more: a step ends there in any case."""
    return reached % SPAN == 0


async def find_link(db: Database, account_id: UUID, entry_no: int) -> Mapping[str, Any] | None:
    """Return the `hash` and the `created_at` of a chained entry as texts; None while it is not chained."""
    return await db.fetch_row(_FIND_LINK, account_id, entry_no)


async def find_balances(session: Session, account_id: UUID, entry_no: int) -> Sequence[Mapping[str, Any]]:
    """Return the balance of each pool after a chained entry, without empty pools. Reads at most SPAN entries."""
    return await fetch(session, _FIND_BALANCES, account_id, entry_no)
