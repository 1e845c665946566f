"""Wire types of measured quantities: tokens, compute, calls, storage, or a meter that an admin defined."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from app.http.schemas import MAX_INT64, Key255, Text255
from app.metering.json_values import bounded_json
from app.metering.tokens import Basis, mode_of, token_classes, without_zeros
from app.pricing.usage import ApiCalls, Compute, LlmTokens, Metered, Mode, TokenClass, ToolCalls, Usage
from app.setting_values import Slug

DIGITS = 12
MAX_QUANTITY = 10**12

Count = Annotated[int, Field(strict=True, ge=0, le=MAX_INT64)]
Quantity = Annotated[
    Decimal,
    Field(ge=0, le=MAX_QUANTITY, description=f"Rounded to {DIGITS} decimal places."),
    AfterValidator(lambda quantity: round(quantity, DIGITS)),
]
PLAIN = ("input_tokens", "output_tokens")


class Measure(BaseModel):
    """A measured quantity. Members that this service does not know are kept in the raw object."""

    model_config = ConfigDict(extra="allow")

    _raw: str = PrivateAttr("")

    @model_validator(mode="after")
    def _raw_is_bounded(self) -> Self:
        self._raw = bounded_json("metric", self.model_dump(mode="json", exclude_unset=True))
        return self

    @property
    def raw(self) -> str:
        """The object as it was sent, as JSON."""
        return self._raw

    def usage(self) -> Usage:
        """Return the quantities in the form that the price book prices."""
        raise NotImplementedError


class LlmTokensMeasure(Measure):
    """Tokens of a call of a model: `input_tokens` and `output_tokens`, the provider's own `usage` object, or `tokens`
    by class. Names of OpenAI, Anthropic and OpenTelemetry are known, here or in `usage`."""

    type: Literal["llm_tokens"]
    provider: Text255
    model: Text255
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    usage_object: dict[str, Any] | None = Field(default=None, alias="usage", description="As the provider returned it.")
    tokens: dict[TokenClass, Count] | None = Field(default=None, description="Disjoint classes.")
    basis: Basis | None = Field(
        default=None,
        description="Whether the totals contain cached tokens and reasoning. Default: as the names' owner counts.",
    )
    mode: Mode | None = Field(default=None, description="Default: the usage's `service_tier`, else standard.")

    _classes: dict[TokenClass, int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _tokens_are_disjoint(self) -> Self:
        flat = {**(self.model_extra or {}), **self.model_dump(include=set(PLAIN), exclude_none=True)}
        if self.tokens is not None and self.usage_object is not None:
            raise ValueError("tokens and usage exclude each other")
        if self.tokens is not None:
            self._classes = without_zeros(self.tokens)
        elif self.usage_object is not None:
            self._classes = token_classes(self.usage_object, self.basis)
        elif (self.input_tokens is None) != (self.output_tokens is None):
            missing = PLAIN[self.input_tokens is not None]
            raise ValueError(f"{missing} is required")
        else:
            self._classes = token_classes(flat, self.basis)
        return self

    def usage(self) -> LlmTokens:
        mode = self.mode or mode_of(self.usage_object or self.model_extra or {})
        return LlmTokens(self.provider, self.model, self._classes, mode)


class ComputeMeasure(Measure):
    """Hours of processors, and gigabytes of memory times hours."""

    type: Literal["compute"]
    cpu_hours: Quantity
    memory_gb_hours: Quantity

    def usage(self) -> Compute:
        return Compute(self.cpu_hours, self.memory_gb_hours)


class ApiCallsMeasure(Measure):
    """Calls of one endpoint."""

    type: Literal["api_calls"]
    endpoint: Text255
    count: Count

    def usage(self) -> ApiCalls:
        return ApiCalls(self.endpoint, self.count)


class ToolCallsMeasure(Measure):
    """Calls of one tool."""

    type: Literal["tool_calls"]
    tool: Key255
    count: Count = 1

    def usage(self) -> ToolCalls:
        return ToolCalls(self.tool, self.count)


class StorageMeasure(Measure):
    """Storage, in the unit of the price book's row `storage`."""

    type: Literal["storage"]
    quantity: Quantity

    def usage(self) -> Metered:
        return Metered("storage", self.quantity)


class CustomMeasure(Measure):
    """A quantity of a meter that an admin defined in the price book."""

    type: Literal["custom"]
    meter: Slug
    quantity: Quantity

    def usage(self) -> Metered:
        return Metered(self.meter, self.quantity)


Metric: TypeAlias = Annotated[
    LlmTokensMeasure | ComputeMeasure | ApiCallsMeasure | ToolCallsMeasure | StorageMeasure | CustomMeasure,
    Field(discriminator="type"),
]
