"""Remedies as pure functions: which one is proposed for which state of an account."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.packs import Pack
from app.refusals.remedies import MAX_PURCHASES, packs_for, spendable_tomorrow

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)
PACKS = {
    "standard": Pack(price_minor=500, credits=20),
    "dear": Pack(price_minor=900, credits=25),
    "large": Pack(price_minor=2_000, credits=100),
    "euro": Pack(price_minor=100, credits=1_000, currency="EUR"),
}


@pytest.mark.parametrize(
    ("credits", "packs", "expected"),
    [
        (1, PACKS, ("standard", 1)),
        (20, PACKS, ("standard", 1)),
        (21, PACKS, ("dear", 1)),
        (26, PACKS, ("large", 1)),
        (100, PACKS, ("large", 1)),
        (101, PACKS, ("large", 2)),
        (100 * MAX_PURCHASES, PACKS, ("large", MAX_PURCHASES)),
        (100 * MAX_PURCHASES + 1, PACKS, None),
        (10**17, PACKS, None),
        (1, {"euro": PACKS["euro"]}, None),
        (1, {}, None),
        (25, {"a": Pack(price_minor=700, credits=30), "b": Pack(price_minor=600, credits=40)}, ("b", 1)),
    ],
)
def test_the_cheapest_pack_that_covers_the_credits(
    credits: int, packs: dict[str, Pack], expected: tuple[str, int] | None
) -> None:
    found: list[Any] = packs_for(credits, packs, "USD")
    assert [(offer.pack, offer.count) for offer in found] == ([] if expected is None else [expected])
    assert all(offer.count * offer.credits >= credits for offer in found)


@pytest.mark.parametrize(
    ("columns", "available", "expected"),
    [
        ({}, 0, 5),  # today's five are spent
        ({"daily_free": 2}, 2, 5),  # the two of today are lost, five come
        ({"daily_free": 2}, 9, 12),
        ({"daily_free_day": None}, 5, 5),  # never used: today's allowance is still there
        ({"grants_credits": 4, "grants_expire_at": MIDNIGHT}, 6, 7),  # the grant ends before
        ({"grants_credits": 4, "grants_expire_at": MIDNIGHT.replace(hour=1)}, 6, 11),
        ({"grants_credits": 4}, 6, 11),
        ({"grants_credits": 9, "grants_expire_at": NOON}, 1, 5),  # never less than the allowance
    ],
)
def test_what_an_account_can_spend_after_midnight(columns: dict[str, Any], available: int, expected: int) -> None:
    account = {"daily_free": 0, "daily_free_day": NOON.date(), "grants_credits": 0, "grants_expire_at": None} | columns
    assert spendable_tomorrow(account, available, 5, NOON) == expected
