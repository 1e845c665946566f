"""The cheaper model of a refusal: which one, and within which bounds."""

from typing import Any

import pytest

from app.pricing import alternatives
from app.pricing.alternatives import Alternative, cheaper_model
from app.pricing.compiled import PriceBook
from app.pricing.engine import Priced, price
from app.pricing.usage import LlmTokens
from tests.pricing.books import NOON, book, row, tokens

THOUSAND = 1_000
DEAR, MIDDLE, SMALL = (
    row(id=name, model=name, prices={"input_uncached": str(dollars), "output_text": str(dollars)})
    for name, dollars in (("dear", 10), ("middle", 4), ("small", 1))
)


def asked(model: str = "dear", **more: Any) -> LlmTokens:
    return tokens(THOUSAND, 0, provider="openai", model=model, **more)


def found(rows: list[dict[str, Any]], most_nanos: int, usage: LlmTokens | None = None, **fields: Any) -> Any:
    prices = book(llm=rows, **fields)
    return cheaper_model(prices, usage or asked(), at=NOON, plan=None, tool=None, most_nanos=most_nanos)


@pytest.mark.parametrize(
    ("most_nanos", "expected"),
    [
        (10_000_000, None),  # the requested model fits
        (9_999_999, "middle"),
        (4_000_000, "middle"),
        (3_999_999, "small"),
        (1_000_000, "small"),
        (999_999, None),
        (0, None),
    ],
)
def test_the_nearest_model_that_fits(most_nanos: int, expected: str | None) -> None:
    alternative: Alternative | None = found([SMALL, DEAR, MIDDLE], most_nanos)
    assert (None if alternative is None else alternative.model) == expected
    assert alternative is None or alternative.cost_nanos <= most_nanos


def test_the_cost_is_what_the_engine_charges() -> None:
    markups = [{"id": "plus", "percent": "20"}]
    prices: PriceBook = book(llm=[DEAR, SMALL], markups=markups)
    alternative = cheaper_model(prices, asked(), at=NOON, plan=None, tool=None, most_nanos=2_000_000)
    priced = price(prices, asked("small"), at=NOON)
    assert isinstance(priced, Priced)
    assert alternative == Alternative("small", priced.cost_nanos, priced.version)
    assert priced.cost_nanos == 1_200_000


PICTURES = {"input_uncached": "1", "output_text": "1", "image_in": "1"}
UNFIT: dict[str, dict[str, Any]] = {
    "of another provider": {"provider": "anthropic"},
    "of any provider": {"provider": "*"},
    "without output": {"prices": {"input_uncached": "1"}},
    "not yet valid": {"valid_from": "2027-01-01T00:00:00Z"},
    "disputed": {"status": "disputed"},
    "without a name": {"model": ""},
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_other_models_are_not_proposed(unfit: str) -> None:
    assert found([DEAR, SMALL | UNFIT[unfit]], 5_000_000) is None


def test_a_model_needs_the_content_of_the_requested_one() -> None:
    seeing = DEAR | {"prices": {"input_uncached": "10", "output_text": "10", "image_in": "10"}}
    assert found([seeing, SMALL], 5_000_000) is None
    assert found([seeing, SMALL | {"prices": PICTURES}], 5_000_000).model == "small"
    assert found([DEAR, SMALL | {"prices": PICTURES}], 5_000_000).model == "small"
    embedding = DEAR | {"prices": {"input_uncached": "10"}}
    assert found([embedding, SMALL], 5_000_000) is None


def test_models_without_a_row_and_modes_without_a_price() -> None:
    unknown = {"prices": {"input_uncached": "10", "output_text": "10"}}
    assert found([SMALL], 5_000_000, asked("no such model"), unknown_models=unknown) is None
    priority = {"modes": {"priority": {"prices": {"input_uncached": "20", "output_text": "20"}}}}
    assert found([DEAR | priority, SMALL], 5_000_000, asked(mode="priority"), unknown_models=unknown) is None


def test_few_models_are_priced_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fixed markup makes every model too dear, which the order by list price cannot foresee."""
    many = [row(id=f"m{n}", model=f"m{n}", prices={"input_uncached": "1", "output_text": "1"}) for n in range(200)]
    prices = book(llm=[DEAR, *many], markups=[{"id": "fee", "fixed": "1"}])
    calls = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return price(*args, **kwargs)

    monkeypatch.setattr(alternatives, "price", counted)
    dear = price(prices, asked(), at=NOON)
    assert isinstance(dear, Priced)
    most = dear.cost_nanos - 9_000_001
    assert cheaper_model(prices, asked(), at=NOON, plan=None, tool=None, most_nanos=most) is None
    assert len(calls) == 1 + alternatives.MAX_PRICED
