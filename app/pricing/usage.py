"""Usage: the quantities of one event, in the form that the engine prices. Pure values."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Literal, TypeAlias, get_args

TokenClass = Literal[
    "input_uncached",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "output_text",
    "reasoning",
    "audio_in",
    "audio_out",
    "image_in",
    "image_out",
]
"""Disjoint: each token of a call counts in one class."""
Mode = Literal["standard", "batch", "priority"]

TOKEN_CLASSES: tuple[TokenClass, ...] = get_args(TokenClass)
PROMPT_CLASSES: frozenset[TokenClass] = frozenset(
    ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_in", "image_in")
)
"""Their sum is the length of the context, which selects a step of the prices."""
PRICED_AS: Mapping[TokenClass, TokenClass] = {
    "cache_read": "input_uncached",
    "cache_write_5m": "input_uncached",
    "cache_write_1h": "cache_write_5m",
    "reasoning": "output_text",
    "audio_in": "input_uncached",
    "audio_out": "output_text",
    "image_in": "input_uncached",
    "image_out": "output_text",
}
"""The class whose price applies where a row has none for this class."""


@dataclass(frozen=True, slots=True)
class LlmTokens:
    """The tokens of one call of a model. Raises ValueError for a negative number."""

    provider: str
    model: str
    tokens: Mapping[TokenClass, int]
    mode: Mode = "standard"
    meter: ClassVar[str] = "llm_tokens"

    def __post_init__(self) -> None:
        _require_not_negative(*self.tokens.values())


@dataclass(frozen=True, slots=True)
class Compute:
    """Hours of processors, and gigabytes of memory times hours."""

    cpu_hours: Decimal
    memory_gb_hours: Decimal
    meter: ClassVar[str] = "compute"

    def __post_init__(self) -> None:
        _require_not_negative(self.cpu_hours, self.memory_gb_hours)


@dataclass(frozen=True, slots=True)
class ApiCalls:
    """Calls of one endpoint."""

    endpoint: str
    count: int
    meter: ClassVar[str] = "api_calls"

    def __post_init__(self) -> None:
        _require_not_negative(self.count)


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Calls of one tool."""

    tool: str
    count: int = 1
    meter: ClassVar[str] = "tool_calls"

    def __post_init__(self) -> None:
        _require_not_negative(self.count)


@dataclass(frozen=True, slots=True)
class Metered:
    """A quantity of `storage` or of a meter that an admin defined, in the unit of the meter's row."""

    meter: str
    quantity: Decimal

    def __post_init__(self) -> None:
        _require_not_negative(self.quantity)


Usage: TypeAlias = LlmTokens | Compute | ApiCalls | ToolCalls | Metered


def _require_not_negative(*quantities: Decimal | int) -> None:
    for quantity in quantities:
        if (isinstance(quantity, Decimal) and not quantity.is_finite()) or quantity < 0:
            raise ValueError(f"quantity {quantity} is negative or no number")
