"""Moved money: balances and history from another system, as money credits of a locked account.

Each has a separate idempotency key, so an import can be repeated. The ledger's entries have the time of the import;
the money credits have their original times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.auth.caller import Actor
from app.db import Database, new_id
from app.db.statements import Tx
from app.ledger.entries import Cause, Kind
from app.ledger.locked_account import LockedAccount
from app.wallet import queries


@dataclass(frozen=True, slots=True)
class MovedMoney:
    """A movement of an earlier system. `nanos` is negative for usage and for money that was taken."""

    key: str
    nanos: int
    kind: Kind
    description: str
    created_at: datetime
    external_transaction_id: str | None = None


async def find_moved_money(db: Database, account_id: UUID, prefix: str) -> Mapping[str, int]:
    """Return the nanos of an account's money credits whose idempotency keys begin with `prefix`, by key."""
    async with db.read() as session:
        return await queries.find_amounts_by_prefix(session, account_id, prefix)


async def post_moved_money(
    tx: Tx, account: LockedAccount, moved: Sequence[MovedMoney], *, actor: Actor, now: datetime
) -> None:
    """Post movements in their order. The balance must never be negative in between. The caller calls `write`."""
    rows = []
    for movement in moved:
        credit_id = new_id()
        account.post("money", movement.nanos, movement.kind, Cause("money_credit", credit_id), actor, now)
        rows.append(
            {
                "account_id": account.account_id,
                "money_credit_id": credit_id,
                "entry_no": account.last_entry_no,
                "transaction_type": movement.kind.value,
                "amount_nanos": movement.nanos,
                "currency": account.currency,
                "balance_after_nanos": account.money_remaining(now),
                "idempotency_key": movement.key,
                "caller_kind": actor.kind,
                "external_transaction_id": movement.external_transaction_id,
                "description": movement.description,
                "created_at": movement.created_at,
            }
        )
    if rows:
        await queries.insert_money_credits(tx, rows)
