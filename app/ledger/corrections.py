"""Corrections: usage that costs less now gives money back on a locked account, as part of the caller's transaction.

The order is the reverse of the one in which usage is paid.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from app.auth.caller import Actor
from app.db.statements import Tx
from app.ledger import queries
from app.ledger.entries import Cause, Kind
from app.ledger.errors import BalanceLimitExceeded
from app.ledger.locked_account import LockedAccount
from app.ledger.lots import MAX_OPEN_LOTS, Lot, in_burn_order
from app.ledger.money import MAX_NANOS


def give_back(
    account: LockedAccount,
    nanos: int,
    paid_by_lots: Mapping[UUID, int],
    lots: Sequence[Lot],
    paid_otherwise: int,
    cause: Cause,
    actor: Actor,
    now: datetime,
) -> None:
    """Give back the amount that usage cost too much.

    First at most `paid_otherwise`, which no grant paid: it reduces the debt, and the rest is money. Then to the grants
    that paid, the last one first, each at most what it paid, if it can still be spent. The rest is given back like
    the first part, so a correction never gives back less than the difference. Raises BalanceLimitExceeded past 64 bits:
    then nothing was posted.
    """
    account.expire_lots(now)
    spendable = account.balances["money"] + account.grants_money_nanos + account.held_money_nanos
    if spendable + nanos > MAX_NANOS:
        raise BalanceLimitExceeded
    first = min(nanos, paid_otherwise)
    left = nanos - first
    open_lots = len(account.lots)
    for lot in reversed(in_burn_order(lots, account.currency)):
        lot = account.lots.get(lot.grant_id, lot)
        amount = min(left, paid_by_lots.get(lot.grant_id, 0), lot.amount - lot.remaining)
        if amount <= 0 or (lot.expires_at is not None and lot.expires_at <= now):
            continue
        if lot.grant_id not in account.lots:
            if open_lots >= MAX_OPEN_LOTS:
                continue
            open_lots += 1
        account.return_to_lot(lot, amount, Kind.CORRECTION, cause, actor, now)
        left -= amount
    money = first + left
    repaid = min(money, account.balances["money_debt"])
    account.post("money_debt", -repaid, Kind.CORRECTION, cause, actor, now)
    account.post("money", money - repaid, Kind.CORRECTION, cause, actor, now)


async def find_lots(tx: Tx, account_id: UUID, grant_ids: Sequence[UUID]) -> list[Lot]:
    """Return grants of a locked account, open or used up, but none that a caller ended."""
    return [Lot(**row) for row in await queries.find_lots_not_ended(tx, account_id, grant_ids)] if grant_ids else []
