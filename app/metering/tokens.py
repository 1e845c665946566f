"""Token classes: a provider's usage object as disjoint classes, in which each token counts once. Pure.

Providers disagree on whether the input includes cached tokens and the output includes reasoning. So the sender may
state the basis. `inclusive`: the totals contain their parts. `disjoint`: the parts come on top. Without a statement it
is inclusive for OpenTelemetry's and OpenAI's names, and disjoint for Anthropic's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from app.pricing.usage import TOKEN_CLASSES, Mode, TokenClass

Basis = Literal["inclusive", "disjoint"]
MAX_COUNT = 2**63 - 1
MODES: tuple[Mode, ...] = get_args(Mode)

OTEL = "gen_ai.usage."
DETAILS_IN = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
DETAILS_OUT = ("completion_tokens_details", "output_tokens_details", "output_token_details")

INPUT = (f"{OTEL}input_tokens", f"{OTEL}prompt_tokens", "prompt_tokens", "input_tokens")
OUTPUT = (f"{OTEL}output_tokens", f"{OTEL}completion_tokens", "completion_tokens", "output_tokens")


def _details(parents: Iterable[str], *names: str) -> tuple[str, ...]:
    return tuple(f"{parent}.{name}" for parent in parents for name in names)


CACHE_READ = (
    f"{OTEL}cache_read.input_tokens",
    f"{OTEL}cache_read_input_tokens",
    f"{OTEL}input_tokens.cached",
    "cache_read_input_tokens",
    *_details(DETAILS_IN, "cached_tokens"),
)
CACHE_WRITE = (
    f"{OTEL}cache_creation.input_tokens",
    f"{OTEL}cache_creation_input_tokens",
    f"{OTEL}input_tokens.cache_write",
    "cache_creation_input_tokens",
    *_details(DETAILS_IN, "cache_creation_tokens", "cache_write_tokens"),
)
CACHE_WRITE_5M = ("cache_creation.ephemeral_5m_input_tokens",)
CACHE_WRITE_1H = ("cache_creation.ephemeral_1h_input_tokens",)
AUDIO_IN = _details(DETAILS_IN, "audio_tokens")
IMAGE_IN = _details(DETAILS_IN, "image_tokens")
CACHED_AUDIO = _details(DETAILS_IN, "cached_tokens_details.audio_tokens")
CACHED_IMAGE = _details(DETAILS_IN, "cached_tokens_details.image_tokens")
REASONING = (
    f"{OTEL}reasoning.output_tokens",
    f"{OTEL}output_tokens.reasoning",
    f"{OTEL}reasoning_tokens",
    *_details(DETAILS_OUT, "reasoning_tokens"),
)
AUDIO_OUT = _details(DETAILS_OUT, "audio_tokens")
IMAGE_OUT = _details(DETAILS_OUT, "image_tokens")
KNOWN = (*INPUT, *OUTPUT, *CACHE_READ, *CACHE_WRITE, *CACHE_WRITE_5M, *CACHE_WRITE_1H, *REASONING)
ANTHROPIC = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation")
OPENAI = ("prompt_tokens", "completion_tokens", *DETAILS_IN, *DETAILS_OUT)


_STEPS = {
    name: tuple(name.split("."))
    for name in (
        *(*CACHE_READ, *CACHE_WRITE, *CACHE_WRITE_5M, *CACHE_WRITE_1H, *AUDIO_IN, *IMAGE_IN, *CACHED_AUDIO),
        *(*CACHED_IMAGE, *REASONING, *AUDIO_OUT, *IMAGE_OUT),
    )
    if "." in name and not name.startswith(OTEL)
}


class InvalidTokens(ValueError):
    """The usage object contradicts itself, or has no token counts. The message names the field."""


@dataclass(frozen=True, slots=True)
class _Count:
    """A stated number and the name under which it was found."""

    name: str
    value: int


def token_classes(raw: Mapping[str, Any], basis: Basis | None = None) -> dict[TokenClass, int]:
    """Return the tokens of a provider's usage object by class, without empty classes.

    Raises InvalidTokens for an object without known token counts, a part that is larger than its total, a number that
    is stated twice with different values, and a value that is not a count of 64 bits.
    """
    if all(_value(raw, name) is None for name in KNOWN):
        raise InvalidTokens("usage has no token counts, such as input_tokens and output_tokens")
    basis = basis or default_basis(raw)
    return without_zeros(_input_classes(raw, basis) | _output_classes(raw, basis))


def default_basis(raw: Mapping[str, Any]) -> Basis:
    """Return the basis of a usage object whose sender has stated none."""
    if any(name.startswith(OTEL) for name in raw) or any(raw.get(name) is not None for name in OPENAI):
        return "inclusive"
    return "disjoint" if any(raw.get(name) is not None for name in ANTHROPIC) else "inclusive"


def mode_of(raw: Mapping[str, Any]) -> Mode:
    """Return the mode that a provider's `service_tier` names. Other tiers are standard."""
    tier = raw.get("service_tier")
    return next((mode for mode in MODES if mode == tier), "standard")


def _input_classes(raw: Mapping[str, Any], basis: Basis) -> dict[TokenClass, int]:
    read, write_5m, write_1h = _find(raw, CACHE_READ), *_cache_writes(raw)
    audio = _without_cached(_find(raw, AUDIO_IN), _find(raw, CACHED_AUDIO))
    image = _without_cached(_find(raw, IMAGE_IN), _find(raw, CACHED_IMAGE))
    parts: dict[TokenClass, int] = {
        "cache_read": _amount(read),
        "cache_write_5m": write_5m,
        "cache_write_1h": write_1h,
        "audio_in": audio,
        "image_in": image,
    }
    return {**parts, "input_uncached": _rest(_find(raw, INPUT), parts, basis, "input_tokens")}


def _output_classes(raw: Mapping[str, Any], basis: Basis) -> dict[TokenClass, int]:
    parts: dict[TokenClass, int] = {
        "reasoning": _amount(_find(raw, REASONING)),
        "audio_out": _amount(_find(raw, AUDIO_OUT)),
        "image_out": _amount(_find(raw, IMAGE_OUT)),
    }
    return {**parts, "output_text": _rest(_find(raw, OUTPUT), parts, basis, "output_tokens")}


def _cache_writes(raw: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens written to the 5 minute and the 1 hour cache. A total without its parts is of 5 minutes."""
    total, short, long = _find(raw, CACHE_WRITE), _find(raw, CACHE_WRITE_5M), _find(raw, CACHE_WRITE_1H)
    split = _amount(short) + _amount(long)
    if total is None:
        return _amount(short), _amount(long)
    if split > total.value:
        raise InvalidTokens(f"the parts of {total.name} are {split}, more than {total.value}")
    return total.value - _amount(long), _amount(long)


def _without_cached(count: _Count | None, cached: _Count | None) -> int:
    """Return the tokens of a kind that no cache served: cached ones count as `cache_read` already."""
    if _amount(cached) > _amount(count):
        assert cached is not None
        raise InvalidTokens(f"{cached.name} is {cached.value}, more than the {_amount(count)} tokens of its kind")
    return _amount(count) - _amount(cached)


def _rest(total: _Count | None, parts: Mapping[TokenClass, int], basis: Basis, name: str) -> int:
    """Return the tokens of a total that are in none of its parts."""
    if basis == "disjoint":
        return _amount(total)
    rest = _amount(total) - sum(parts.values())
    if rest < 0:
        known = "is missing" if total is None else f"is {total.value}"
        raise InvalidTokens(
            f"the parts of {name if total is None else total.name} are {sum(parts.values())}, but it {known};"
            " if the parts come on top of it, state basis: disjoint"
        )
    return rest


def _find(raw: Mapping[str, Any], names: Iterable[str]) -> _Count | None:
    """Return the count under the names that `raw` has; None if it has none. A zero yields to any other count.

    Raises InvalidTokens if two names have different counts.
    """
    found: _Count | None = None
    for name in names:
        value = _value(raw, name)
        if value is None:
            continue
        count = _Count(name, _count(name, value))
        if found is None or found.value == 0:
            found = count
        elif count.value not in (0, found.value):
            raise InvalidTokens(f"{found.name} is {found.value}, but {count.name} is {count.value}")
    return found


def _value(raw: Mapping[str, Any], name: str) -> Any:
    """Return the value under a name, in which dots lead into nested objects where no member has the whole name."""
    value = raw.get(name)
    if value is not None or name not in _STEPS:
        return value
    parent: Any = raw
    for step in _STEPS[name]:
        if not isinstance(parent, dict):
            return None
        parent = parent.get(step)
    return parent


def _count(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_COUNT:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise InvalidTokens(f"{name} must be a whole number from 0 to {MAX_COUNT}")
    return value


def _amount(count: _Count | None) -> int:
    return 0 if count is None else count.value


def without_zeros(classes: Mapping[TokenClass, int]) -> dict[TokenClass, int]:
    """Return the classes that have tokens, in the order of TOKEN_CLASSES."""
    return {name: classes[name] for name in TOKEN_CLASSES if classes.get(name)}
