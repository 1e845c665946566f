"""The ends of grants: of one of which nothing remains while holds may return something, and what expired unspent."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.db.sql import sql
from app.db.statements import Tx, fetch, write
from app.ledger.entries import WALLET_ENTRIES

_END = """
    UPDATE grants g SET ended_at = $3
     WHERE g.account_id = $1 AND g.grant_id = $2 AND g.ended_at IS NULL AND g.remaining = 0
       AND EXISTS (SELECT FROM holds h JOIN hold_parts p USING (account_id, hold_id)
                    WHERE h.account_id = g.account_id AND h.status = 'held' AND p.grant_id = g.grant_id)
    """

_FIND_FIRST_EXPIRY = "SELECT min(expires_at) AS at FROM grants WHERE account_id = $1 AND grant_id = ANY ($2)"
_FIND_EXPIRED = sql(
    """
    SELECT coalesce(-sum(delta), 0)::bigint AS expired FROM ledger_entries
     WHERE account_id = $1 AND grant_id = ANY ($2) AND kind = 'grant_expiry' AND created_at >= $3 AND {wallet}
    """,
    wallet=WALLET_ENTRIES,
)


async def end_held_grant(tx: Tx, account_id: UUID, grant_id: UUID, now: datetime) -> None:
    """End the grant of a locked account, so that it loses what holds return. No effect on one that has ended."""
    await write(tx, _END, account_id, grant_id, now)


async def find_expired_rest(tx: Tx, account_id: UUID, grant_ids: Sequence[UUID]) -> int:
    """Return what some grants of a locked account had left at their expiry. The caller has recorded their expiry."""
    [first] = await fetch(tx, _FIND_FIRST_EXPIRY, account_id, list(grant_ids))
    if first["at"] is None:
        return 0
    # The time lets the index of wallet entries find the rows, however much the account has used.
    [row] = await fetch(tx, _FIND_EXPIRED, account_id, list(grant_ids), first["at"])
    expired: int = row["expired"]
    return expired
