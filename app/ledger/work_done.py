"""Payment for work that is done: it is never refused, and the part that the account cannot pay becomes debt."""

from datetime import datetime

from app.auth.caller import Actor
from app.ledger.entries import Cause, Kind
from app.ledger.locked_account import LockedAccount
from app.ledger.pools import Shortfall, pay


def spend_or_owe(account: LockedAccount, nanos: int, kind: Kind, cause: Cause, actor: Actor, now: datetime) -> int:
    """Spend grants of money, then the plain balance, and owe the rest without a limit. Return the owed part.

    Raises BalanceLimitExceeded past 64 bits: then nothing was posted.
    """
    account.require_room_for_usage(nanos)
    account.expire_lots(now)
    buckets = account.money_buckets(now)
    owed = max(0, nanos - sum(bucket.available for bucket in buckets))
    debits = pay(buckets, nanos - owed, unit=account.currency, now=now)
    assert not isinstance(debits, Shortfall), "the buckets hold what is available"
    account.post_debits(debits, kind, cause, actor, now)
    account.owe_money(owed, cause, actor, now)
    return owed
