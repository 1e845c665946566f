"""Wire types of measured quantities: tokens, compute, calls, storage, or a meter that an admin defined."""

from abc import abstractmethod
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.errors import InvalidRequest
from app.http.schemas import MAX_INT64, Key255, Text255
from app.metering.json_values import bounded_json
from app.metering.tokens import Basis, InvalidTokens, mode_of, token_classes, without_zeros
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


class Measure(BaseModel):
    """A measured quantity. Members that this service does not know are kept in the raw object."""

    model_config = ConfigDict(extra="allow")

    def raw(self) -> str:
        """Return the object as it was sent, as JSON. Raises InvalidRequest for members that cannot be stored."""
        if not self.model_extra:
            return self.model_dump_json(exclude_unset=True)
        return self._bounded()

    def _bounded(self) -> str:
        try:
            return bounded_json("metric", self.model_dump(mode="json", exclude_unset=True, by_alias=True))
        except ValueError as error:
            raise InvalidRequest(str(error), field="metric") from None

    @abstractmethod
    def usage(self) -> Usage:
        """Return the quantities in the form that the price book prices. Raises InvalidRequest."""


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

    def raw(self) -> str:
        return super().raw() if self.usage_object is None else self._bounded()

    def usage(self) -> LlmTokens:
        mode = self.mode or mode_of(self.usage_object or self.model_extra or {})
        try:
            return LlmTokens(self.provider, self.model, self._classes(), mode)
        except InvalidTokens as error:
            raise InvalidRequest(f"metric: {error}", field="metric") from None

    def _classes(self) -> dict[TokenClass, int]:
        if self.tokens is not None:
            if self.usage_object is not None:
                raise InvalidTokens("tokens and usage exclude each other")
            return without_zeros(self.tokens)
        if self.usage_object is not None:
            return token_classes(self.usage_object, self.basis)
        plain = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        given = [name for name, count in plain.items() if count is not None]
        if len(given) == 1:
            raise InvalidTokens(f"{given[0]} is there alone: input_tokens and output_tokens are required")
        if given and not self.model_extra:  # nearly all events
            return without_zeros({"input_uncached": self.input_tokens or 0, "output_text": self.output_tokens or 0})
        return token_classes({**(self.model_extra or {}), **plain}, self.basis)


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
