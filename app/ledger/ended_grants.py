"""The end of a grant of which nothing remains, while open holds may return something to it."""

from datetime import datetime
from uuid import UUID

from app.db.statements import Tx, write

_END = """
    UPDATE grants g SET ended_at = $3
     WHERE g.account_id = $1 AND g.grant_id = $2 AND g.ended_at IS NULL AND g.remaining = 0
       AND EXISTS (SELECT FROM holds h JOIN hold_parts p USING (account_id, hold_id)
                    WHERE h.account_id = g.account_id AND h.status = 'held' AND p.grant_id = g.grant_id)
    """


async def end_held_grant(tx: Tx, account_id: UUID, grant_id: UUID, now: datetime) -> None:
    """End the grant of a locked account, so that it loses what holds return. No effect on one that has ended."""
    await write(tx, _END, account_id, grant_id, now)
