"""Values of usage events: their fingerprints, and quantities as JSON and back."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidRequest
from app.metering.attribution import Attribution
from app.metering.events import StatedCost, UsageEvent, names_of, plain, quantities_of, usage_of
from app.metering.measures import MAX_QUANTITY, Metric
from app.pricing.usage import TOKEN_CLASSES, ApiCalls, Compute, LlmTokens, Metered, ToolCalls, Usage

CACHED = {"input_tokens": 100, "output_tokens": 1, "cache_read_input_tokens": 90}
METRIC: TypeAdapter[Any] = TypeAdapter(Metric)
COUNTS = st.integers(0, 2**63 - 1)
AMOUNTS = st.decimals(0, 10**12, places=12)
TOKENS = st.dictionaries(st.sampled_from(TOKEN_CLASSES), st.integers(1, 2**63 - 1))
USAGES: st.SearchStrategy[Usage] = st.one_of(
    st.builds(LlmTokens, st.text(), st.text(), TOKENS, st.sampled_from(["standard", "batch", "priority"])),
    st.builds(Compute, AMOUNTS, AMOUNTS),
    st.builds(ApiCalls, st.text(), COUNTS),
    st.builds(ToolCalls, st.text(), COUNTS),
    st.builds(Metered, st.sampled_from(["storage", "sms"]), AMOUNTS),
)
EVENT = UsageEvent("s", "e", LlmTokens("p", "m", {"output_text": 5}))


def usage(**metric: Any) -> Usage:
    found: Usage = METRIC.validate_python(metric).usage()
    return found


@given(USAGES)
def test_stored_quantities_are_the_usage(usage: Usage) -> None:
    assert usage_of(usage.meter, *names_of(usage), quantities_of(usage)) == usage


@given(USAGES, USAGES)
def test_equal_usages_have_equal_fingerprints_and_others_have_not(one: Usage, other: Usage) -> None:
    prints = [EVENT._replace(usage=usage).fingerprint() for usage in (one, other)]
    assert (prints[0] == prints[1]) == (one == other)


def test_a_fingerprint_covers_the_stated_cost_and_neither_time_nor_attribution() -> None:
    costs = [None, StatedCost("minor", 0), StatedCost("minor", 5), StatedCost("nanos", 5)]
    assert len({EVENT._replace(stated=cost).fingerprint() for cost in costs}) == len(costs)
    same = EVENT._replace(event_id="other", raw="{}", details="5", attribution=Attribution(run_id="r"))
    assert same.fingerprint() == EVENT.fingerprint()


@pytest.mark.parametrize(
    ("quantity", "text"),
    [("0", "0"), ("10", "10"), ("100.0", "100"), ("0.500", "0.5"), ("1E-12", "0.000000000001"), ("1E+3", "1000")],
)
def test_decimals_are_plain_text(quantity: str, text: str) -> None:
    assert plain(Decimal(quantity)) == text


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (
            {"type": "llm_tokens", "provider": "", "model": "unknown", "input_tokens": 1, "output_tokens": 2},
            LlmTokens("", "unknown", {"input_uncached": 1, "output_text": 2}),
        ),
        (
            {
                "type": "llm_tokens",
                "provider": "p",
                "model": "m",
                "gen_ai.usage.input_tokens": 1,
                "service_tier": "batch",
            },
            LlmTokens("p", "m", {"input_uncached": 1}, "batch"),
        ),
        (
            {
                "type": "llm_tokens",
                "provider": "p",
                "model": "m",
                "usage": {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3},
                "mode": "priority",
            },
            LlmTokens("p", "m", {"input_uncached": 1, "cache_read": 3, "output_text": 2}, "priority"),
        ),
        *(
            (
                {"type": "llm_tokens", "provider": "p", "model": "m", "basis": "inclusive", **counts},
                LlmTokens("p", "m", {"input_uncached": 10, "cache_read": 90, "output_text": 1}),
            )
            for counts in (CACHED, {"usage": CACHED})  # Anthropic's names, which are disjoint unless stated otherwise
        ),
        (
            {"type": "llm_tokens", "provider": "p", "model": "m", "tokens": {"reasoning": 2}},
            LlmTokens("p", "m", {"reasoning": 2}),
        ),
        (
            {"type": "compute", "cpu_hours": 0.1, "memory_gb_hours": 2, "sku": "small"},
            Compute(Decimal("0.1"), Decimal(2)),
        ),
        (
            {"type": "compute", "cpu_hours": 0.1 + 0.2, "memory_gb_hours": 0},
            Compute(Decimal("0.3"), Decimal(0)),
        ),
        ({"type": "api_calls", "endpoint": "/v1/x", "count": 0}, ApiCalls("/v1/x", 0)),
        ({"type": "tool_calls", "tool": "search"}, ToolCalls("search", 1)),
        ({"type": "storage", "quantity": "2.5"}, Metered("storage", Decimal("2.5"))),
        ({"type": "custom", "meter": "sms", "quantity": 3}, Metered("sms", Decimal(3))),
    ],
)
def test_a_metric_is_usage(metric: dict[str, Any], expected: Usage) -> None:
    assert usage(**metric) == expected


def accepted(metric: dict[str, Any]) -> None:
    measure = METRIC.validate_python(metric)
    measure.usage()
    measure.raw()


LLM = {"type": "llm_tokens", "provider": "p", "model": "m", "input_tokens": 1, "output_tokens": 1}


@pytest.mark.parametrize(
    "metric",
    [
        {},
        {"type": "minutes"},
        {"type": "LlmTokens"},
        *(
            {**LLM, field: value}
            for field in ("input_tokens", "output_tokens")
            for value in (-1, 1.5, "1", True, 2**63)
        ),
        *({name: value for name, value in LLM.items() if name != left_out} for left_out in LLM),
        {**LLM, "provider": None},
        {**LLM, "model": "x" * 256},
        {**LLM, "model": "a\0b"},
        {**LLM, "basis": "both"},
        {**LLM, "mode": "fast"},
        {**LLM, "tokens": {}, "usage": {}},
        {**LLM, "tokens": {"thoughts": 1}},
        {**LLM, "extra": "a\0b"},
        {**LLM, "extra": "x" * 20_000},
        {"type": "compute", "cpu_hours": -0.1, "memory_gb_hours": 0},
        {"type": "compute", "cpu_hours": 1},
        {"type": "compute", "cpu_hours": float("nan"), "memory_gb_hours": 0},
        {"type": "compute", "cpu_hours": MAX_QUANTITY + 1, "memory_gb_hours": 0},
        {"type": "api_calls", "endpoint": "x", "count": -1},
        {"type": "api_calls", "count": 1},
        {"type": "tool_calls", "tool": ""},
        {"type": "custom", "meter": "Not A Name", "quantity": 1},
        {"type": "storage"},
    ],
)
def test_anything_else_is_refused(metric: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, InvalidRequest)):
        accepted(metric)
