"""Pricing stored usage again, as pure code: what was stored with the event decides, and today's book."""

import uuid
from typing import Any

import pytest

from app.pricing.book import BookDocument
from app.pricing.compiled import PriceBook
from app.rerating.pricing import OneBook, Repricer
from tests.metering.conftest import BEGINNING, BOOK

DEARER = {**BOOK, "compute": {"id": "compute", "cpu_hour": "0.12", "memory_gb_hour": "0.04"}}


@pytest.mark.parametrize(
    ("plan_name", "stored", "nanos"),
    [
        ("free", {}, 120_000_000),
        ("free", {"plan_markup": "20.5"}, 144_600_000),
        ("gone", {"plan_markup": "-100"}, 0),
        ("pro", {"plan_markup": "20.5"}, 240_000_000),  # the book has a rule for the plan
        ("pro", {}, 240_000_000),
    ],
)
def test_the_markup_with_which_an_event_was_charged_applies_again(
    plan_name: str, stored: dict[str, Any], nanos: int
) -> None:
    row = {
        "usage_id": uuid.uuid4(),
        "occurred_at": BEGINNING,
        "meter": "compute",
        "provider": None,
        "model": None,
        "quantities": {"cpu_hours": "1", "memory_gb_hours": "0"},
        "plan_name": plan_name,
        "tool": None,
        "price_version": 1,
        "price": {"rows": ["compute"], **stored},
        "cost_nanos": 1,
        "provider_cost_nanos": 1,
    }
    book = PriceBook.of(BookDocument.model_validate(DEARER), version=2)
    priced = Repricer(OneBook(book), "USD", {}).event(row)
    assert priced is not None
    assert (priced.cost_nanos, priced.provider_cost_nanos) == (nanos, 120_000_000)
    assert priced.price is not None
    assert (stored.get("plan_markup", "no markup") in priced.price) is bool(stored)
