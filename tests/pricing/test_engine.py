"""The engine: which price applies to which usage, to the nano."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.pricing.compiled import UnknownModel
from app.pricing.engine import CostTooLarge, Priced, UnknownMeter, price
from app.pricing.usage import ApiCalls, Compute, LlmTokens, Metered, ToolCalls, Usage
from tests.pricing.books import NOON, book, row, tokens

MILLION = 1_000_000
DOLLAR = 1_000_000_000
CENT = 10_000_000


def cost(usage: Usage, /, *, at: datetime = NOON, **fields: Any) -> int:
    """Return the cost in nanos in the book of these fields."""
    conditions = {name: fields.pop(name) for name in ("plan", "tool", "month_quantity") if name in fields}
    priced = price(book(**fields), usage, at=at, **conditions)
    assert isinstance(priced, Priced), priced
    assert sum(line.nanos for line in priced.lines) == priced.cost_nanos
    return priced.cost_nanos


@pytest.mark.parametrize(
    ("usage", "nanos"),
    [
        (tokens(1), 3_000),
        (tokens(0, 1), 15_000),
        (tokens(MILLION, MILLION, cache_read=MILLION), 6 * DOLLAR + 22_500_000_000 + 300_000_000),
        (tokens(100_000, 10, cache_read=50_000), 300_000_000 + 150_000 + 15_000_000),
        (tokens(model="claude-sonnet-20261001", input_uncached=1), 3_000),
        (tokens(model="Claude-Sonnet", provider="ANTHROPIC", input_uncached=1), 3_000),
        (tokens(0, reasoning=2), 30_000),
        (tokens(0, audio_in=2, image_out=1), 6_000 + 15_000),
        (tokens(0, cache_write_1h=1), 3_000),
        (tokens(0, cache_write_5m=1), 3_000),
        (tokens(0), 0),
        (tokens(200_000), 600_000_000),
        (tokens(200_001), 200_001 * 6_000),
        (tokens(150_000, 1, cache_read=50_001), 150_000 * 6_000 + 50_001 * 300 + 22_500),
        (tokens(1_000, 250_000), 3_000_000 + 250_000 * 15_000),  # the output is no part of the context
        (tokens(1, 1, mode="batch"), 1_500 + 7_500),
        (tokens(300_000, mode="batch"), 300_000 * 1_500),  # a mode states its steps, too
    ],
)
def test_tokens_cost_their_class_s_price(usage: LlmTokens, nanos: int) -> None:
    assert cost(usage) == nanos


def test_the_provider_s_cost_is_the_list_price_and_the_lines_say_where_it_comes_from() -> None:
    priced = price(book(markups=[{"id": "plus", "percent": "20"}]), tokens(10, 1), at=NOON)
    assert isinstance(priced, Priced)
    assert (priced.cost_nanos, priced.provider_cost_nanos) == (54_000, 45_000)
    assert (priced.version, priced.currency, priced.markup_rule_id, priced.row_ids) == (7, "USD", "plus", ("sonnet",))
    assert [(line.kind, line.row_id, line.item) for line in priced.lines] == [
        ("usage", "sonnet", "input_uncached"),
        ("usage", "sonnet", "output_text"),
        ("markup", "plus", "markup"),
    ]
    assert [(line.quantity, line.unit_price, line.per, line.nanos) for line in priced.lines] == [
        (Decimal(10), Decimal(3), MILLION, Decimal(30_000)),
        (Decimal(1), Decimal(15), MILLION, Decimal(15_000)),
        (Decimal(1), Decimal("0.000009"), 1, Decimal(9_000)),
    ]


@pytest.mark.parametrize(
    ("usage", "reason", "missing"),
    [
        (tokens(1, model="claude-sonnet-4"), "no_row", None),  # no prefix matches
        (tokens(1, model="claude-sonnet-20261001-v2"), "no_row", None),
        (tokens(1, provider="openai"), "no_row", None),
        (tokens(1, provider="", model=""), "no_row", None),
        (tokens(1, mode="priority"), "no_price_for_mode", "priority"),
        (tokens(1, provider="openai", model="embedding"), None, None),
        (tokens(0, 1, provider="openai", model="embedding"), "no_price_for_class", "output_text"),
        (tokens(0, reasoning=1, provider="openai", model="embedding"), "no_price_for_class", "reasoning"),
        (tokens(1, provider="openai", model="new"), "not_yet_valid", None),
        (tokens(1, provider="openai", model="disputed"), "disputed", None),
        (tokens(0, provider="openai", model="disputed"), "disputed", None),
    ],
)
def test_tokens_without_a_price_are_refused_or_have_the_stated_price(
    usage: LlmTokens, reason: str | None, missing: str | None
) -> None:
    rows: dict[str, Any] = {
        "llm": [
            row(id="s", provider="anthropic", model="claude-sonnet", aliases=["claude-sonnet-20261001"]),
            row(id="e", model="embedding", prices={"input_uncached": "0.02"}),
            row(id="n", model="new", valid_from="2026-12-01T00:00:00Z"),
            row(id="d1", model="disputed", prices={"input_uncached": "9"}),
            row(id="d2", model="disputed", status="disputed", valid_from="2026-11-01T00:00:00Z"),
        ]
    }
    refusal = price(book(**rows), usage, at=NOON)
    with_prices = book(**rows, unknown_models={"prices": {"input_uncached": "100", "output_text": "300"}})
    stated = price(with_prices, usage, at=NOON)
    assert isinstance(stated, Priced)
    if reason is None:
        assert isinstance(refusal, Priced)
        assert not stated.fallback
        return
    assert refusal == UnknownModel(usage.provider, usage.model, reason, missing)  # type: ignore[arg-type]  # a reason
    assert stated.unknown == refusal
    assert stated.cost_nanos == 100_000 * usage.tokens["input_uncached"] + 300_000 * (
        usage.tokens["output_text"] + usage.tokens.get("reasoning", 0)
    )


def test_a_stated_price_for_unknown_models_never_covers_a_class_that_it_lacks() -> None:
    only_input = book(unknown_models={"prices": {"input_uncached": "1"}})
    assert price(only_input, tokens(0, 1, model="new"), at=NOON) == UnknownModel(
        "anthropic", "new", "no_price_for_class", "output_text"
    )


@pytest.mark.parametrize(
    ("at", "nanos"),
    [("2026-10-31T23:59:59Z", 1_000), ("2026-11-01T00:00:00Z", 2_000), ("2026-11-30T12:00:00Z", 3_000)],
)
def test_the_row_that_is_valid_at_the_event_s_time_applies(at: str, nanos: int) -> None:
    rows = [
        row(id="b", prices={"input_uncached": "2"}, valid_from="2026-11-01T01:00:00+01:00"),
        row(id="c", prices={"input_uncached": "3"}, valid_from="2026-11-30T12:00:00Z"),
        row(id="a"),
    ]
    assert cost(tokens(1, provider="openai", model="gpt"), at=datetime.fromisoformat(at), llm=rows) == nanos


@pytest.mark.parametrize(
    ("at", "nanos"),
    [
        ("2026-11-30T00:59:59.999999Z", 1_000),
        ("2026-11-30T01:00:00Z", 2_000),
        ("2026-11-30T04:59:00+01:00", 2_000),
        ("2026-11-30T04:00:00Z", 1_000),
        ("2026-11-28T02:00:00Z", 1_000),  # a Saturday
        ("2026-12-01T02:00:00Z", 1_000),  # an exception
        ("2026-11-30T22:00:00Z", 500),
        ("2026-12-05T00:29:00Z", 500),
        ("2026-12-05T00:30:00Z", 1_000),
    ],
)
def test_hours_of_the_day_have_prices_of_their_own(at: str, nanos: int) -> None:
    peak = {"start": "01:00", "end": "04:00", "weekdays": [0, 1, 2, 3, 4], "except_dates": ["2026-12-01"]}
    night = {"start": "22:00", "end": "00:30", "prices": {"input_uncached": "0.5"}}
    rows = [row(hours=[peak | {"prices": {"input_uncached": "2"}}, night])]
    assert cost(tokens(1, provider="openai", model="gpt"), at=datetime.fromisoformat(at), llm=rows) == nanos


def test_a_batch_without_prices_costs_the_standard_price_and_hours_of_a_mode_are_that_mode_s() -> None:
    hours = [{"start": "00:00", "end": "00:00", "mode": "batch", "prices": {"input_uncached": "0.25"}}]
    batch = tokens(1, provider="openai", model="gpt", mode="batch")
    assert cost(batch, llm=[row()]) == 1_000
    assert cost(batch, llm=[row(hours=hours)]) == 250
    assert cost(tokens(1, provider="openai", model="gpt"), llm=[row(hours=hours)]) == 1_000


def test_a_row_of_any_provider_prices_its_model_unless_the_provider_has_one() -> None:
    rows = [row(provider="*"), row(id="own", provider="azure", prices={"input_uncached": "2"})]
    for provider, nanos in (("", 1_000), ("unknown", 1_000), ("azure", 2_000), ("az.ai.openai", 2_000)):
        usage = tokens(1, provider=provider, model="gpt")
        assert cost(usage, llm=rows, provider_aliases={"az.ai.OpenAI": "Azure"}) == nanos


@pytest.mark.parametrize(
    ("usage", "month_quantity", "nanos"),
    [
        (Compute(Decimal("1.5"), Decimal("0.25")), 0, 9 * CENT + CENT // 2),
        (Compute(Decimal(0), Decimal(0)), 0, 0),
        (ApiCalls("/search", 1), 0, 7_140_000),
        (ApiCalls("/search", 3), 9_998, 2 * 7_140_000 + 5_000_000),
        (ApiCalls("/search", 200_000), 0, 10_000 * 7_140_000 + 90_000 * 5_000_000 + 100_000 * 1_000_000),
        (ApiCalls("/search", 1), 100_000, 1_000_000),
        (ApiCalls("/other", 1), 0, 10_000),
        (ToolCalls("summarize", 3), 0, 3 * CENT),
        (ToolCalls("draw"), 0, 50 * CENT),
        (Metered("storage", Decimal("2.5")), 0, 250_000_000),
        (Metered("pages", Decimal("0.000000001")), 0, 1),  # a part of a nano costs a nano
    ],
)
def test_other_meters_cost_their_row_s_price(usage: Usage, month_quantity: int, nanos: int) -> None:
    tiers = [{"above": 10_000, "price": "5"}, {"above": 100_000, "price": "1"}]
    found = cost(
        usage,
        month_quantity=month_quantity,
        compute={"id": "compute", "cpu_hour": "0.06", "memory_gb_hour": "0.02"},
        api_calls=[{"id": "any", "price": "0.01"}, {"id": "s", "endpoint": "/search", "price": "7.14", "tiers": tiers}],
        tool_calls=[{"id": "tools", "price": "0.01"}, {"id": "draw", "tool": "draw", "price": "0.5"}],
        meters=[
            {"id": "storage", "meter": "storage", "unit": "GB month", "price": "0.1"},
            {"id": "pages", "meter": "pages", "unit": "page", "price": "0.4"},
        ],
    )
    assert found == nanos


@pytest.mark.parametrize(
    ("usage", "refusal"),
    [
        (Compute(Decimal(1), Decimal(1)), UnknownMeter("compute")),
        (ApiCalls("/search", 1), UnknownMeter("api_calls", "/search")),
        (ToolCalls("draw"), UnknownMeter("tool_calls", "draw")),
        (Metered("storage", Decimal(1)), UnknownMeter("storage", "storage")),
    ],
)
def test_a_meter_without_a_row_is_refused(usage: Usage, refusal: UnknownMeter) -> None:
    assert price(book(), usage, at=NOON) == refusal


RULES = {
    "all": {"percent": "1"},
    "meter": {"meter": "llm_tokens", "percent": "2"},
    "plan": {"plan": "Pro", "percent": "3"},
    "provider": {"provider": "anthropic", "percent": "4"},
    "tool": {"tool": "search", "percent": "5"},
    "both": {"plan": "pro", "meter": "llm_tokens", "percent": "6"},
}


@pytest.mark.parametrize(
    ("rules", "attributes", "winner"),
    [
        ((), {"plan": "pro", "plan_markup": Decimal(50)}, "plan_markup"),
        ((), {"plan": "pro", "plan_markup": Decimal(0)}, None),
        ((), {"plan": "pro", "plan_markup": None}, None),
        ((), {"plan": None, "plan_markup": Decimal(50)}, None),
        (("all", "meter"), {"plan": "pro", "plan_markup": Decimal(50)}, "plan_markup"),
        (("all", "meter"), {"plan": "pro", "plan_markup": Decimal(0)}, "meter"),
        (("all", "plan"), {"plan": "pro", "plan_markup": Decimal(50)}, "plan"),  # the book replaces it
        (("all", "plan"), {"plan": "basic", "plan_markup": Decimal(50)}, "plan_markup"),
        (("provider",), {"plan": "pro", "plan_markup": Decimal(50)}, "provider"),  # more specific
        (("tool",), {"plan": "pro", "plan_markup": Decimal(50), "tool": "search"}, "tool"),
        (("tool",), {"plan": "pro", "plan_markup": Decimal(50), "tool": "draw"}, "plan_markup"),
        (("both",), {"plan": "pro", "plan_markup": Decimal(50)}, "both"),
    ],
)
def test_the_plans_own_markup_is_a_rule_for_the_plan(
    rules: tuple[str, ...], attributes: dict[str, Any], winner: str | None
) -> None:
    made = book(markups=[{"id": rule, **RULES[rule]} for rule in rules])
    priced = price(made, tokens(MILLION // 10), at=NOON, **attributes)
    assert isinstance(priced, Priced)
    assert priced.markup_rule_id == winner
    percent = {"plan_markup": 50, None: 0}.get(winner) if winner in ("plan_markup", None) else RULES[winner]["percent"]
    assert priced.cost_nanos == 3_000_000 * (100 + int(percent or 0))


@pytest.mark.parametrize(
    ("attributes", "percent"),
    [
        ({}, 0),
        ({"plan": "pro"}, 2),
        ({"plan": "Pro"}, 2),
        ({"tool": "search"}, 3),
        ({"tool": "search", "plan": "pro"}, 3),  # one attribute each: the tool is more specific than the plan
        ({"tool": "draw", "plan": "pro"}, 4),  # two attributes
        ({"plan": "basic"}, 5),  # the meter is the least specific
    ],
)
def test_the_most_specific_markup_wins(attributes: dict[str, Any], percent: int) -> None:
    rules = [
        {"id": "all", "percent": "1"},
        {"id": "plan", "plan": "pro", "percent": "2"},
        {"id": "tool", "tool": "search", "percent": "3"},
        {"id": "both", "tool": "draw", "plan": "pro", "percent": "4"},
        {"id": "meter", "meter": "llm_tokens", "percent": "0"},
        {"id": "other plan", "plan": "basic", "percent": "5"},
        {"id": "other model", "model": "gpt", "plan": "pro", "tool": "draw", "percent": "9"},
    ]
    assert cost(tokens(MILLION // 10), markups=rules, **attributes) == 3_000_000 * (100 + percent)


@pytest.mark.parametrize(
    ("rule", "nanos"),
    [
        ({"percent": "-100"}, 0),
        ({"percent": "-25"}, 2_250),
        ({"percent": "0.0001"}, 3_001),
        ({"fixed": "0.001"}, 1_003_000),
        ({"model": "claude-sonnet", "percent": "100"}, 6_000),
        ({"provider": "Anthropic", "percent": "100"}, 6_000),
        ({"meter": "llm_tokens", "percent": "100"}, 6_000),
        ({"meter": "compute", "percent": "100"}, 3_000),
        ({"provider": "openai", "percent": "100"}, 3_000),
    ],
)
def test_a_markup_changes_the_cost_but_not_the_provider_s(rule: dict[str, str], nanos: int) -> None:
    priced = price(book(markups=[{"id": "rule"} | rule]), tokens(1, model="claude-sonnet-20261001"), at=NOON)
    assert isinstance(priced, Priced)
    assert (priced.cost_nanos, priced.provider_cost_nanos) == (nanos, 3_000)


@pytest.mark.parametrize(
    ("policy", "count", "nanos"),
    [
        ({}, 1, 3_000),
        ({"rounding": "up_to_minor"}, 1, CENT),
        ({"rounding": "up_to_minor"}, 3_334, 2 * CENT),
        ({"rounding": "up_to_minor", "currency": "JPY"}, 1, DOLLAR),
        ({"rounding": "up_to_minor", "currency": "KWD"}, 1, CENT // 10),
        ({"minimum_charge": "0.005"}, 1, CENT // 2),
        ({"minimum_charge": "0.005"}, 0, 0),
        ({"minimum_charge": "0.005"}, 2_000, 6_000_000),
        ({"minimum_charge": "0.005", "rounding": "up_to_minor"}, 1, CENT),
        ({"minimum_charge": "0.005", "markups": [{"id": "free", "percent": "-100"}]}, 1, 0),
    ],
)
def test_rounding_and_minimum_are_the_book_s(policy: dict[str, Any], count: int, nanos: int) -> None:
    assert cost(tokens(count), **policy) == nanos


@pytest.mark.parametrize(("count", "nanos"), [(1, 1), (2, 1), (3, 2), (1_000, 500)])
def test_a_price_below_one_nano_a_token_rounds_each_event_up_once(count: int, nanos: int) -> None:
    rows = [row(prices={"input_uncached": "0.0005"})]
    assert cost(tokens(count, provider="openai", model="gpt"), llm=rows) == nanos


def test_a_thousand_events_of_4_hundredths_of_a_cent_cost_40_cents() -> None:
    rows = [row(prices={"input_uncached": "0.4"})]
    assert 1_000 * cost(tokens(1_000, provider="openai", model="gpt"), llm=rows) == 40 * CENT


def test_a_cost_beyond_64_bits_is_refused() -> None:
    assert price(book(), tokens(2**63 - 1), at=NOON) == CostTooLarge()


@pytest.mark.parametrize(
    "usage",
    [
        lambda: tokens(-1),
        lambda: Compute(Decimal(-1), Decimal(0)),
        lambda: Compute(Decimal(0), Decimal("NaN")),
        lambda: Metered("storage", Decimal("Infinity")),
        lambda: ApiCalls("x", -1),
        lambda: ToolCalls("x", -1),
    ],
)
def test_usage_has_no_negative_quantity(usage: Any) -> None:
    with pytest.raises(ValueError, match="is negative or no number"):
        usage()


def test_a_time_far_from_any_row_is_no_error() -> None:
    assert cost(tokens(1), at=datetime.max.replace(tzinfo=UTC) - timedelta(days=2)) == 3_000
