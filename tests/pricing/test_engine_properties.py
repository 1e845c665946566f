"""Properties of every price: not negative, monotone, exact sums, independent of order and of how usage is split."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.pricing.book import BookDocument
from app.pricing.compiled import PriceBook
from app.pricing.engine import Priced, price
from app.pricing.usage import TOKEN_CLASSES, ApiCalls, Compute, LlmTokens, Metered, ToolCalls, Usage

START = datetime(2026, 11, 1, tzinfo=UTC)
FEW = settings(max_examples=30)
prices = st.integers(0, 10**15).map(lambda number: str(Decimal(number).scaleb(-12)))
whole_nano_prices = st.integers(0, 10**6).map(lambda number: str(Decimal(number).scaleb(-3)))
counts = st.integers(0, 10**6)
hours = st.integers(0, 10**10).map(lambda number: Decimal(number).scaleb(-6))
modes = st.sampled_from(("standard", "batch", "priority"))
classes = st.sampled_from(TOKEN_CLASSES)
moments = st.timedeltas(timedelta(0), timedelta(days=30)).map(lambda since: START + since)


@st.composite
def rates(draw: st.DrawFn, amounts: st.SearchStrategy[str] = prices) -> dict[str, Any]:
    """Rates with at least the two classes that have no other to fall back on; longer contexts cost a multiple."""
    drawn = draw(st.dictionaries(classes, amounts, max_size=3)) | {
        "input_uncached": draw(amounts),
        "output_text": draw(amounts),
    }
    bounds = sorted(draw(st.sets(st.integers(1, 10**6), max_size=1)))
    steps = [
        {"above": above, "prices": {name: str(Decimal(value) * (2 + place)) for name, value in drawn.items()}}
        for place, above in enumerate(bounds)
    ]
    return {"prices": drawn, "steps": steps}


@st.composite
def tiers(draw: st.DrawFn) -> dict[str, Any]:
    bounds = sorted(draw(st.sets(st.integers(1, 10**6), max_size=2)))
    return {"price": draw(prices), "tiers": [{"above": above, "price": draw(prices)} for above in bounds]}


@st.composite
def books(draw: st.DrawFn) -> PriceBook:
    rule = draw(
        st.none()
        | st.fixed_dictionaries({"percent": st.integers(-100, 500).map(str)})
        | st.fixed_dictionaries({"fixed": prices})
    )
    document = {
        "name": "drawn",
        "currency": draw(st.sampled_from(("USD", "JPY", "KWD"))),
        "rounding": draw(st.sampled_from(("exact", "up_to_minor"))),
        "minimum_charge": draw(prices),
        "llm": [
            {
                "id": "model",
                "provider": "p",
                "model": "m",
                "modes": {"batch": draw(rates()), "priority": draw(rates())},
                "hours": [{"start": "08:00", "end": "20:00"} | draw(rates())],
            }
            | draw(rates())
        ],
        "compute": {"id": "compute", "cpu_hour": draw(prices), "memory_gb_hour": draw(prices)},
        "api_calls": [{"id": "calls"} | draw(tiers())],
        "tool_calls": [{"id": "tools"} | draw(tiers())],
        "meters": [{"id": "storage", "meter": "storage", "unit": "GB month"} | draw(tiers())],
        "markups": [] if rule is None else [{"id": "rule"} | rule],
    }
    return PriceBook.of(BookDocument.model_validate(document))


usages: st.SearchStrategy[Usage] = st.one_of(
    st.builds(LlmTokens, st.just("p"), st.just("m"), st.dictionaries(classes, counts), modes),
    st.builds(Compute, hours, hours),
    st.builds(ApiCalls, st.just("/x"), counts),
    st.builds(ToolCalls, st.just("t"), counts),
    st.builds(Metered, st.just("storage"), hours),
)


def priced(book: PriceBook, usage: Usage, at: datetime = START, before: int = 0) -> Priced:
    found = price(book, usage, at=at, month_quantity=before)
    assert isinstance(found, Priced)
    return found


def more(usage: Usage, what: int, amount: int) -> Usage:
    """Return the usage with more of one of its quantities."""
    match usage:
        case LlmTokens(provider, model, tokens, mode):
            name = TOKEN_CLASSES[what]
            return LlmTokens(provider, model, {**tokens, name: tokens.get(name, 0) + amount}, mode)
        case Compute(cpu, memory):
            return Compute(cpu + amount, memory) if what % 2 else Compute(cpu, memory + amount)
        case ApiCalls(endpoint, count):
            return ApiCalls(endpoint, count + amount)
        case ToolCalls(tool, count):
            return ToolCalls(tool, count + amount)
        case Metered(meter, quantity):
            return Metered(meter, quantity + amount)


@FEW
@given(books(), usages, moments, counts)
def test_a_cost_is_never_negative_and_its_lines_sum_to_it(
    book: PriceBook, usage: Usage, at: datetime, before: int
) -> None:
    found = priced(book, usage, at, before)
    usage_lines = sum((line.nanos for line in found.lines if line.kind == "usage"), Decimal(0))
    assert found.cost_nanos >= 0
    assert sum((line.nanos for line in found.lines), Decimal(0)) == found.cost_nanos
    assert 0 <= found.provider_cost_nanos - usage_lines < 1
    assert found == priced(book, usage, at, before)  # a quote and a charge


@FEW
@given(books(), usages, moments, st.integers(0, len(TOKEN_CLASSES) - 1), counts)
def test_more_of_any_quantity_never_costs_less(
    book: PriceBook, usage: Usage, at: datetime, what: int, amount: int
) -> None:
    assert priced(book, more(usage, what, amount), at).cost_nanos >= priced(book, usage, at).cost_nanos


@FEW
@given(tiers(), st.lists(counts, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_month_s_calls_cost_the_same_in_any_order_and_in_any_parts(
    row: dict[str, Any], parts: list[int], random: Any
) -> None:
    """Whole nanos per call, so that no part is rounded."""
    in_tiers = [tier | {"price": int(Decimal(tier["price"]))} for tier in row["tiers"]]
    whole = {"price": int(Decimal(row["price"])), "tiers": in_tiers}
    document = {"name": "n", "currency": "USD", "api_calls": [{"id": "calls"} | whole]}
    book = PriceBook.of(BookDocument.model_validate(document))

    def total(counts: list[int]) -> int:
        return sum(priced(book, ApiCalls("/x", n), before=sum(counts[:i])).cost_nanos for i, n in enumerate(counts))

    shuffled = random.sample(parts, len(parts))
    assert total(parts) == total(shuffled) == priced(book, ApiCalls("/x", sum(parts))).cost_nanos


@FEW
@given(rates(whole_nano_prices), st.lists(st.dictionaries(classes, st.integers(0, 10**6)), max_size=5))
def test_tokens_in_parts_cost_their_sum_where_the_context_has_no_steps(
    drawn: dict[str, Any], parts: list[dict[Any, int]]
) -> None:
    """Prices of at most three decimals a million tokens are whole nanos a token: exact."""
    document = {"name": "n", "currency": "USD", "unknown_models": {"prices": drawn["prices"]}}
    book = PriceBook.of(BookDocument.model_validate(document))
    sums = {name: sum(part.get(name, 0) for part in parts) for name in TOKEN_CLASSES}
    in_parts = sum(priced(book, LlmTokens("", "", part)).cost_nanos for part in parts)
    assert in_parts == priced(book, LlmTokens("", "", sums)).cost_nanos


@FEW
@given(books(), st.lists(st.tuples(usages, moments), max_size=4))
def test_the_order_of_events_changes_no_cost(book: PriceBook, events: list[tuple[Usage, datetime]]) -> None:
    forwards = [priced(book, usage, at) for usage, at in events]
    backwards = [priced(book, usage, at) for usage, at in reversed(events)]
    assert forwards == backwards[::-1]


@FEW
@given(books(), usages, moments)
def test_a_stored_document_prices_as_the_one_that_was_put_in_force(book: PriceBook, usage: Usage, at: datetime) -> None:
    stored = BookDocument.model_validate_json(book.document.model_dump_json())
    assert priced(PriceBook.of(stored), usage, at) == priced(book, usage, at)
