"""Remedies: the ways on for a caller whose request was refused. Pure: no database, no framework and no clock.

A service builds them after its transaction, only for a refused request (ADR 36):

    remedies = [*smaller(CREDIT, affordable), *wait_for_tomorrow(...), *packs_for(credits, packs, currency)]
    raise InsufficientCredits(available=3, required=5, remedies=remedies)

Each function returns one remedy, or none if it would not help. The order is the one in which to try them: first what
the caller can do alone, then what takes time, then what a person has to do.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from app.currencies import info_of
from app.ledger.pools import daily_free_on
from app.ledger.remedies import smaller_amount
from app.packs import Pack
from app.refusals.schemas import Purchase, Remedy, SmallerAmount, Wait

MAX_PURCHASES = 100
"""The most purchases that a remedy proposes. Beyond that, the amount is a mistake."""


def advice(remedies: Sequence[Remedy]) -> dict[str, Any]:
    """Return the members that the body of every refusal has beside its figures."""
    return {"retryable": False, "remedies": [remedy.model_dump(mode="json") for remedy in remedies]}


def smaller(unit: str, affordable: int) -> list[Remedy]:
    """Return the most credits, or nanos of money, that the same operation could spend; nothing if it is 0."""
    return [SmallerAmount.model_validate(smaller_amount(unit, affordable))] if affordable > 0 else []


def spendable_tomorrow(account: Mapping[str, Any], available: int, allowance: int, now: datetime) -> int:
    """Return the credits that an account (its columns) can spend after the next UTC midnight, at the least.

    `available` is what it can spend now. Grants count only if none of them expires before.
    """
    left = daily_free_on(now.date(), left=account["daily_free"], day=account["daily_free_day"], allowance=allowance)
    expiry = account["grants_expire_at"]
    lost = account["grants_credits"] if expiry is not None and expiry <= _midnight_after(now) else 0
    return max(0, available - left - lost) + allowance


def _midnight_after(now: datetime) -> datetime:
    return datetime.combine(now.date() + timedelta(days=1), time(), UTC)


def wait_for_tomorrow(now: datetime, *, helps: bool) -> list[Remedy]:
    """Return a wait until the next UTC midnight, when free uses renew; nothing unless it helps."""
    if not helps:
        return []
    return [Wait(until=_midnight_after(now), reason="daily_free_uses")]


def packs_for(credits: int, packs: Mapping[str, Pack], currency: str) -> list[Remedy]:
    """Return a purchase that adds at least `credits`: of the packs in the currency that suffice, the cheapest.

    If none suffices, several of the largest. Nothing if no pack is sold in the currency, or too many would be needed.
    """
    offered = {name: pack for name, pack in packs.items() if pack.currency == currency}
    if not offered:
        return []
    largest = max(pack.credits for pack in offered.values())
    enough = {name: pack for name, pack in offered.items() if pack.credits >= min(credits, largest)}
    name, pack = min(enough.items(), key=lambda offer: offer[1].price_minor)
    count = max(1, -(-credits // pack.credits))
    if count > MAX_PURCHASES:
        return []
    return [
        Purchase(
            pack=name,
            count=count,
            credits=pack.credits,
            price_minor=pack.price_minor,
            currency=pack.currency,
            currency_digits=info_of(pack.currency).digits,
        )
    ]
