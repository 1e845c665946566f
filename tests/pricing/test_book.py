"""The document of a price book: its rules, and its stored form."""

from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from app.pricing.book import BookDocument
from tests.databases import ROOT
from tests.pricing.books import SONNET, document, row


def test_prices_are_stored_as_text_exactly_as_written() -> None:
    stored = document(llm=[row(prices={"input_uncached": "0.002800", "output_text": 1})]).model_dump(mode="json")
    assert stored["llm"][0]["prices"] == {"input_uncached": "0.002800", "output_text": "1"}
    assert BookDocument.model_validate(stored).llm[0].prices["input_uncached"] == Decimal("0.0028")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"currency": "XTS"}, "not a currency"),
        ({"name": ""}, "at least 1 character"),
        ({"name": "a\x00"}, "pattern"),
        ({"rounding": "down"}, "exact"),
        ({"minimum_charge": "-1"}, "greater than or equal to 0"),
        ({"minimum_charge": 0.1}, "a float is not exact"),
        ({"minimum_charge": "NaN"}, "finite"),
        ({"minimum_charge": "0.0000000000001"}, "12 decimal places"),
        ({"surprise": 1}, "Extra inputs"),
        ({"llm": [row(prices={})]}, "at least 1 item"),
        ({"llm": [row(prices={"words": "1"})]}, "input_uncached"),
        ({"llm": [row(prices={"input_uncached": "-1"})]}, "greater than or equal to 0"),
        ({"llm": [row(modes={"standard": {"prices": {"input_uncached": "1"}}})]}, "batch"),
        ({"llm": [row(valid_from="2026-01-01T00:00:00")]}, "needs a time zone"),
        ({"llm": [row(valid_from="1999-01-01T00:00:00Z")]}, "must lie in the years"),
        ({"llm": [row(), row()]}, "id row is there twice"),
        ({"llm": [row(id="unknown_models")]}, "unknown_models is there twice"),
        ({"llm": [row(), row(id="b", model="GPT")]}, "model at one time"),
        ({"llm": [row(), row(id="b", model="other", aliases=["gpt"])]}, "model at one time"),
        ({"llm": [row(steps=[{"above": 0, "prices": {"input_uncached": "2"}}])]}, "greater than 0"),
        ({"llm": [row(steps=[{"above": 5, "prices": {"input_uncached": "0.5"}}])]}, "costs less above 5"),
        ({"llm": [row(steps=[{"above": 5, "prices": {"cache_read": "0.5"}}])]}, "cache_read costs less"),
        ({"llm": [row(prices={"input_uncached": "1"}, steps=[{"above": 5, "prices": {"output_text": "1"}}])]}, "less"),
        (
            {
                "llm": [
                    row(
                        steps=[
                            {"above": 5, "prices": {"input_uncached": "2"}},
                            {"above": 5, "prices": {"input_uncached": "3"}},
                        ]
                    )
                ]
            },
            "not longer than the one before",
        ),
        ({"llm": [row(hours=[{"start": "08:00+02:00", "end": "09:00", "prices": {"input_uncached": "1"}}])]}, "zone"),
        (
            {"llm": [row(hours=[{"start": "08:00", "end": "09:00", "weekdays": [7], "prices": {"reasoning": "1"}}])]},
            "6",
        ),
        ({"markups": [{"id": "m"}]}, "either percent or fixed"),
        ({"markups": [{"id": "m", "percent": "1", "fixed": "1"}]}, "either percent or fixed"),
        ({"markups": [{"id": "m", "percent": "-100.1"}]}, "greater than or equal to -100"),
        ({"markups": [{"id": "m", "percent": "1"}, {"id": "n", "percent": "2"}]}, "markup rule for"),
        ({"markups": [{"id": n, "plan": p, "percent": "1"} for n, p in (("a", "Pro"), ("b", "pro"))]}, "markup rule"),
        ({"api_calls": [{"id": "a", "price": "1"}, {"id": "b", "price": "1"}]}, "endpoint None is there twice"),
        ({"tool_calls": [{"id": i, "tool": "t", "price": "1"} for i in "ab"]}, "tool t is there twice"),
        (
            {
                "api_calls": [
                    {"id": "a", "price": "1", "tiers": [{"above": 2, "price": "1"}, {"above": 2, "price": "1"}]}
                ]
            },
            "do not ascend",
        ),
        ({"meters": [{"id": "m", "meter": "compute", "unit": "h", "price": "1"}]}, "separate kind of row"),
        ({"meters": [{"id": "m", "meter": "No Slug", "unit": "h", "price": "1"}]}, "pattern"),
        ({"provider_aliases": {"A": "b", "a": "c"}}, "provider alias a is there twice"),
    ],
)
def test_a_document_that_could_price_wrongly_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        document(**fields)


def test_a_model_may_have_rows_of_different_times_and_providers() -> None:
    later = SONNET | {"id": "later", "valid_from": "2026-12-01T00:00:00Z"}
    elsewhere = SONNET | {"id": "elsewhere", "provider": "aws"}
    assert len(document(llm=[SONNET, later, elsewhere]).llm) == 3


def test_the_documentation_s_example_is_a_price_book() -> None:
    page = (ROOT / "docs" / "prices.md").read_text(encoding="utf-8")
    example = page.split("```json\n")[1].split("```")[0]
    assert len(BookDocument.model_validate_json(example).markups) == 2
