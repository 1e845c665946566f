"""The wire format of `litellm/usage`. It is lenient where proxies differ: a report that is refused is lost."""

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from app.accounts.schemas import IdentityFields, OAuthProvider
from app.http.schemas import MAX_INT64, Key255, Reply, Text255

PREFIX = "oauth:"


def _zero_for_none(value: Any) -> Any:
    return 0 if value is None else value


def _whole_ms(value: Any) -> Any:
    """Round milliseconds to a whole number. Leave other values to the validation, which refuses them."""
    return round(value) if isinstance(value, float) and 0 <= value <= MAX_INT64 else value


def _with_prefix(value: Any) -> Any:
    return f"{PREFIX}{value}" if isinstance(value, str) and not value.startswith(PREFIX) else value


_COUNT = {"type": "integer", "minimum": 0, "maximum": MAX_INT64}
Count = Annotated[int, Field(ge=0, le=MAX_INT64)]
CountOrNull = Annotated[
    Count,
    BeforeValidator(_zero_for_none),
    WithJsonSchema({"anyOf": [_COUNT, {"type": "null"}], "description": "null counts as 0."}),
]
DurationMs = Annotated[
    Count,
    BeforeValidator(_whole_ms),
    WithJsonSchema({**_COUNT, "type": "number", "description": "Rounded to whole milliseconds."}),
]
CostCents = Annotated[
    Decimal,
    Field(ge=0, le=10**9, description="Fractions of a cent are kept, to ten decimal places."),
    AfterValidator(lambda cents: round(cents, 10)),  # sums of floats have more
]
AnyProvider = Annotated[
    OAuthProvider,
    BeforeValidator(_with_prefix),
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "examples": ["oauth:google", "google"],
            "description": "A provider; `oauth:` may be missing here.",
        }
    ),
]


class LlmUsageBody(IdentityFields):
    oauth_provider: AnyProvider | None = None
    interaction_id: Key255
    call_id: Key255 | None = Field(
        default=None, description="Of this report within the interaction: the same one again is not counted again."
    )
    total_llm_calls: Count
    total_prompt_tokens: CountOrNull
    total_completion_tokens: CountOrNull
    models_used: list[Text255] = Field(max_length=100)
    actual_cost_cents: CostCents
    duration_ms: DurationMs
    error_count: CountOrNull = 0
    fallback_count: CountOrNull = 0


class LlmUsageReply(Reply):
    logged: bool
    usage_log_id: UUID
