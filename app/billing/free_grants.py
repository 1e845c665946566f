"""Free grants: an admin adds credits to the one-time free pool, once for each idempotency key.

A free grant is not a row of `credits`, which are paid credits, nor a lot (`grants`). Its ledger entry names the account
as its cause, like the opening grant of an account, so an older worker's verification accepts it.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select

from app.auth.caller import Actor
from app.billing.models import FreeGrant
from app.db import Session, new_id
from app.ledger.errors import IdempotencyKeyReused
from app.ledger.locked_account import Cause, Kind, lock_account, write


@dataclass(frozen=True, slots=True)
class Granted:
    """`free_after` is the one-time free pool, in credits, right after the grant."""

    grant_id: UUID
    credits: int
    free_after: int
    replayed: bool


async def grant_free_in(
    tx: Session, account_id: UUID, credits: int, *, actor: Actor, now: datetime, idempotency_key: str
) -> Granted:
    """Add credits to the account's one-time free pool. Locks the account until commit. Replaying a key adds nothing.

    Part of the caller's transaction. Raises AccountNotFound, AccountClosed, IdempotencyKeyReused, BalanceLimitExceeded.
    """
    account = await lock_account(tx, account_id)
    query = select(FreeGrant.grant_id, FreeGrant.credits, FreeGrant.free_after).where(
        FreeGrant.account_id == account_id, FreeGrant.idempotency_key == idempotency_key
    )
    existing = (await tx.execute(query)).one_or_none()
    if existing is not None:
        if existing.credits != credits:
            raise IdempotencyKeyReused(idempotency_key)
        return Granted(existing.grant_id, existing.credits, existing.free_after, replayed=True)
    if account.status == "closed":
        account.require_active()
    account.post("free", credits, Kind.GRANT, Cause("account", account_id), actor, now)
    granted = Granted(new_id(), credits, account.balances["free"], replayed=False)
    row = {
        "account_id": account_id,
        "grant_id": granted.grant_id,
        "entry_no": account.last_entry_no,
        "idempotency_key": idempotency_key,
        "credits": credits,
        "free_after": granted.free_after,
        "created_at": now,
    }
    await tx.execute(insert(FreeGrant).values(**row))
    await write(tx, [account], now)
    return granted
