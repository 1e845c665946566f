"""Token classes: each token of a provider's usage object counts once."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metering.tokens import InvalidTokens, default_basis, mode_of, token_classes
from app.pricing.usage import TOKEN_CLASSES, TokenClass

NO_COUNTS: list[Any] = [-1, 1.5, "1", True, [], 2**63, float("inf"), float("nan"), 1e300]
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "Z-Billing": ({"input_tokens": 10, "output_tokens": 5}, {"input_uncached": 10, "output_text": 5}),
    "a picture": ({"input_tokens": 0, "output_tokens": 0}, {}),
    "OpenAI chat completion": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 20, "rejected_prediction_tokens": 0},
        },
        {"input_uncached": 60, "cache_read": 40, "output_text": 30, "reasoning": 20},
    ),
    "OpenAI response": (
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 100},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 7},
        },
        {"cache_read": 100, "reasoning": 7},
    ),
    "OpenAI embedding": ({"prompt_tokens": 8, "total_tokens": 8}, {"input_uncached": 8}),
    "OpenAI realtime, cached audio": (
        {
            "input_tokens": 132,
            "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 52,
                "audio_tokens": 80,
                "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 24, "audio_tokens": 40},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        },
        {"input_uncached": 28, "cache_read": 64, "audio_in": 40, "output_text": 30, "audio_out": 91},
    ),
    "Anthropic": (
        {
            "input_tokens": 3,
            "output_tokens": 9,
            "cache_read_input_tokens": 500,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
        },
        {"input_uncached": 3, "cache_read": 500, "cache_write_5m": 20, "cache_write_1h": 10, "output_text": 9},
    ),
    "Anthropic without the split": (
        {"input_tokens": 3, "output_tokens": 9, "cache_creation_input_tokens": 30, "cache_read_input_tokens": None},
        {"input_uncached": 3, "cache_write_5m": 30, "output_text": 9},
    ),
    "OpenTelemetry": (
        {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.cache_read.input_tokens": 40,
            "gen_ai.usage.cache_creation.input_tokens": 10,
            "gen_ai.usage.reasoning.output_tokens": 50,
        },
        {"input_uncached": 50, "cache_read": 40, "cache_write_5m": 10, "reasoning": 50},
    ),
    "OpenTelemetry, older names": (
        {"gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 50},
        {"input_uncached": 100, "output_text": 50},
    ),
    "LiteLLM, which says it twice": (
        {
            "prompt_tokens": 533,
            "completion_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 500, "cache_creation_tokens": 30},
            "cache_read_input_tokens": 500,
            "cache_creation_input_tokens": 30,
        },
        {"input_uncached": 3, "cache_read": 500, "cache_write_5m": 30, "output_text": 9},
    ),
    "whole floats": ({"input_tokens": 10.0, "output_tokens": 5.0}, {"input_uncached": 10, "output_text": 5}),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_usage_object_of(example: str) -> None:
    raw, expected = EXAMPLES[example]
    assert token_classes(raw) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({}, "no token counts"),
        ({"tokens": 5}, "no token counts"),
        ({"total_tokens": 5}, "no token counts"),
        ({"input_tokens": None, "output_tokens": None}, "no token counts"),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 11}}, "prompt_tokens .* 11, but it is 10"),
        ({"completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2}}, "completion_tokens"),
        ({"gen_ai.usage.cache_read.input_tokens": 1}, "input_tokens .* missing"),
        (
            {
                "input_tokens": 1,
                "output_tokens": 1,
                "cache_creation_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 2},
            },
            "cache_creation_input_tokens are 6, more than 5",
        ),
        ({"prompt_tokens": 1, "input_tokens": 2}, "prompt_tokens is 1, but input_tokens is 2"),
        (
            {
                "input_tokens": 9,
                "input_token_details": {"cached_tokens": 3, "cached_tokens_details": {"audio_tokens": 3}},
            },
            "cached_tokens_details.audio_tokens is 3",
        ),
        *(({"input_tokens": value, "output_tokens": 1}, "input_tokens must be a whole number") for value in NO_COUNTS),
    ],
)
def test_a_contradiction_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTokens, match=message):
        token_classes(raw)


def test_the_sender_may_state_the_basis() -> None:
    """As for providers that report reasoning beside the completion, or Anthropic's names by way of a converter."""
    beside = {"prompt_tokens": 10, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 300}}
    with pytest.raises(InvalidTokens, match="state basis: disjoint"):
        token_classes(beside)
    assert token_classes(beside, "disjoint") == {"input_uncached": 10, "output_text": 1, "reasoning": 300}
    within = {"input_tokens": 100, "output_tokens": 1, "cache_read_input_tokens": 90}
    assert token_classes(within, "inclusive") == {"input_uncached": 10, "cache_read": 90, "output_text": 1}
    assert (default_basis(beside), default_basis(within)) == ("inclusive", "disjoint")


@given(st.dictionaries(st.sampled_from(TOKEN_CLASSES), st.integers(0, 10**9)))
def test_both_bases_count_each_token_once(classes: dict[TokenClass, int]) -> None:
    """The same call, written inclusive and disjoint, has the same classes."""
    count = {name: classes.get(name, 0) for name in TOKEN_CLASSES}
    inputs: tuple[TokenClass, ...] = ("cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in")
    outputs: tuple[TokenClass, ...] = ("reasoning", "audio_out", "image_out")
    details_in = {
        "cached_tokens": count["cache_read"],
        "cache_write_tokens": count["cache_write_5m"] + count["cache_write_1h"],
        "audio_tokens": count["audio_in"],
        "image_tokens": count["image_in"],
    }
    raw: dict[str, Any] = {
        "prompt_tokens": count["input_uncached"],
        "completion_tokens": count["output_text"],
        "prompt_tokens_details": details_in,
        "cache_creation": {"ephemeral_1h_input_tokens": count["cache_write_1h"]},
        "completion_tokens_details": {f"{name.partition('_')[0]}_tokens": count[name] for name in outputs},
    }
    expected = {name: number for name, number in count.items() if number}
    assert token_classes(raw, "disjoint") == expected
    raw["prompt_tokens"] += sum(count[name] for name in inputs)
    raw["completion_tokens"] += sum(count[name] for name in outputs)
    assert token_classes(raw) == token_classes(raw, "inclusive") == expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    "input_tokens",
                    "output_tokens",
                    "prompt_tokens",
                    "cache_creation",
                    "prompt_tokens_details",
                    "cached_tokens",
                    "gen_ai.usage.input_tokens",
                    "ephemeral_1h_input_tokens",
                ]
            ),
            inner,
        ),
    )
)
def test_any_object_has_classes_or_is_refused(raw: Any) -> None:
    if not isinstance(raw, dict):
        return
    try:
        classes = token_classes(raw)
    except InvalidTokens:
        return
    assert all(count > 0 for count in classes.values())


@pytest.mark.parametrize(
    ("tier", "mode"), [("batch", "batch"), ("priority", "priority"), ("default", "standard"), (None, "standard")]
)
def test_the_service_tier_names_the_mode(tier: str | None, mode: str) -> None:
    assert mode_of({"service_tier": tier}) == mode
