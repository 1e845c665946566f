"""Usage events, and what the service answers about usage, prices and money.

Costs and balances come twice: as an exact `Decimal` in the currency's major unit (dollars), and in cents. Cents round a
balance down, and a cost or required amount up. Decisions use exact amounts. Nothing here is a float.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Protocol, Self, TypeAlias

from pydantic import ValidationInfo, WithJsonSchema, model_validator

from ciris_billing.models import Reply, User, without_none

Basis = Literal["inclusive", "disjoint"]
Mode = Literal["standard", "batch", "priority"]
Quantity: TypeAlias = Decimal | int
Amount = Annotated[Decimal, WithJsonSchema({"type": "string"})]
"""An exact amount, as text in JSON."""
DUPLICATE = "duplicate_event"


@dataclass(frozen=True, slots=True)
class LlmTokens:
    """The tokens of one call of a model.

    Give `input_tokens` and `output_tokens`, or the provider's own `usage` object, or `tokens`: disjoint counts by class
    (`input_uncached`, `cache_read`, `cache_write_5m`, `cache_write_1h`, `output_text`, `reasoning`, `audio_in`,
    `audio_out`, `image_in`, `image_out`). `basis` states whether the totals of a `usage` object include their parts;
    by default, the service decides by the names in it.
    """

    provider: str
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    usage: Mapping[str, Any] | None = None
    tokens: Mapping[str, int] | None = None
    basis: Basis | None = None
    mode: Mode | None = None

    def metric(self) -> dict[str, Any]:
        counts = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        if self.usage is None and self.tokens is None:
            counts = {name: count or 0 for name, count in counts.items()}
        given = {**counts, "usage": self.usage, "tokens": self.tokens, "basis": self.basis, "mode": self.mode}
        named = {"type": "llm_tokens", "provider": self.provider, "model": self.model}
        return {**named, **without_none(given)}


@dataclass(frozen=True, slots=True)
class Compute:
    """Hours of processors, and gigabytes of memory times hours."""

    cpu_hours: Quantity = 0
    memory_gb_hours: Quantity = 0

    def metric(self) -> dict[str, Any]:
        hours = {"cpu_hours": self.cpu_hours, "memory_gb_hours": self.memory_gb_hours}
        return {"type": "compute", **{name: exact(name, value) for name, value in hours.items()}}


@dataclass(frozen=True, slots=True)
class ApiCalls:
    """Calls of one endpoint."""

    endpoint: str
    count: int = 1

    def metric(self) -> dict[str, Any]:
        return {"type": "api_calls", "endpoint": self.endpoint, "count": self.count}


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Calls of one tool."""

    tool: str
    count: int = 1

    def metric(self) -> dict[str, Any]:
        return {"type": "tool_calls", "tool": self.tool, "count": self.count}


@dataclass(frozen=True, slots=True)
class Metered:
    """A quantity of `storage`, or of a meter that an admin has defined, in the meter's unit."""

    meter: str
    quantity: Quantity

    def metric(self) -> dict[str, Any]:
        named = {"type": "storage"} if self.meter == "storage" else {"type": "custom", "meter": self.meter}
        return {**named, "quantity": exact("quantity", self.quantity)}


Usage: TypeAlias = LlmTokens | Compute | ApiCalls | ToolCalls | Metered


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageEvent:
    """One measured use, of one user. The user is a `User`, or a `user_id`: the external id under the identity provider
    of the API key.

    The service counts an `event_id` once per user and key, also if an answer is lost. Without one, the event gets
    a random id, which is the same each time this object is sent. `time` is when the use took place; without it, the
    service's own time.

    `cost` (exact, in the major unit) or `cost_cents` states the price instead of the price book; that needs a key with
    the permission `usage:set_cost`. `metadata` is any JSON object, which the service stores with the event.
    """

    usage: Usage
    user: User | None = None
    user_id: str | None = None
    event_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: datetime | None = None
    cost: Decimal | str | None = None
    cost_cents: int | None = None
    agent_id: str | None = None
    tool: str | None = None
    run_id: str | None = None
    parent_run_id: str | None = None
    request_id: str | None = None
    conversation: str | None = None
    traceparent: str | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.user is None) == (self.user_id is None):
            raise TypeError("pass either user or user_id, one of the two")
        if self.cost is not None and self.cost_cents is not None:
            raise TypeError("pass either cost or cost_cents, not both")
        if not self.event_id:
            raise ValueError("event_id is empty: pass the id of the work, or none")
        if self.time is not None and self.time.tzinfo is None:
            raise ValueError("time has no time zone: pass an aware datetime")

    def body(self) -> dict[str, Any]:
        """Return the event as the service reads it."""
        fields = {
            **payer(self.user, self.user_id),
            "event_id": self.event_id,
            "metric": self.usage.metric(),
            "time": None if self.time is None else self.time.isoformat(),
            "cost": None if self.cost is None else exact("cost", self.cost),
            "cost_cents": self.cost_cents,
            **{name: getattr(self, name) for name in ATTRIBUTION},
            "metadata": self.metadata,
        }
        return without_none(fields)


class UsageSink(Protocol):
    """Takes usage events and delivers them in the background: a `UsageReporter`."""

    def report(self, event: UsageEvent) -> str: ...


ATTRIBUTION = ("agent_id", "tool", "run_id", "parent_run_id", "request_id", "conversation", "traceparent")


def payer(user: User | None, user_id: str | None) -> dict[str, Any]:
    """Return the request fields that name a user. Raises TypeError unless one of the two is given."""
    if (user is None) == (user_id is None):
        raise TypeError("pass either user or user_id, one of the two")
    return {"user_id": user_id} if user is None else user.request_fields()


def exact(name: str, value: Quantity | str) -> str:
    """Return a quantity or amount as exact text. Raises TypeError for a float, which is not exact."""
    if isinstance(value, float):
        raise TypeError(f"{name} is a float, which is not exact: pass a Decimal, an int or a text")
    return str(value)


class UsageRecorded(Reply):
    """A usage event that is recorded, and paid from the user's money."""

    success: bool
    event_id: str
    transaction_id: str
    status: str
    """`charged`, `debt` if the account owes a part, `recorded` if the account is not billed."""
    currency: str
    cost_cents: int
    cost: Amount
    balance_cents: int
    balance: Amount
    debt: Amount
    """The part of the cost that the account owes."""
    time: datetime
    replayed: bool = False
    """The event was recorded before; this request cost nothing."""


class UsageItem(Reply):
    """The result of one event of a batch."""

    event_id: str
    success: bool
    error: str | None = None
    """The code of the refusal; `duplicate_event` if the event was recorded before."""
    message: str | None = None
    transaction_id: str | None = None
    status: str | None = None
    cost_cents: int | None = None
    cost: Amount | None = None
    balance_cents: int | None = None
    balance: Amount | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the event is recorded, by this request or an earlier one."""
        return self.success or self.error == DUPLICATE


class UsageBatch(Reply):
    """The results of a batch, in the order of its events."""

    results: list[UsageItem]
    processed: int
    failed: int

    @model_validator(mode="after")
    def _answers_what_was_sent(self, info: ValidationInfo) -> Self:
        """Compare the ids with the sent ones, which the caller passes as the context."""
        if info.context is not None and [result.event_id for result in self.results] != info.context:
            raise ValueError("the results are not those of the sent events")
        return self


class UsageCheck(Reply):
    """Whether the user's money covers `required`. Nothing is held."""

    sufficient: bool
    balance_cents: int
    balance: Amount
    required_cents: int
    required: Amount
    currency: str
    reason: str | None
    """The reason, if it is not for money: a code, such as `account_suspended`."""
    assumed: bool = False
    """The service was unavailable and the policy is `fail_open`: the other fields are unknown."""

    @classmethod
    def assume(cls) -> Self:
        """Return the result of a check with the policy `fail_open` while the service is unavailable."""
        nothing = Decimal(0)
        return cls(
            sufficient=True,
            balance_cents=0,
            balance=nothing,
            required_cents=0,
            required=nothing,
            currency="unknown",
            reason="Billing service unavailable",
            assumed=True,
        )


class QuoteLine(Reply):
    """A part of a cost: `quantity` at `unit_price` for each `per` units."""

    kind: str
    row: str
    """The row of the price book."""
    item: str
    quantity: Amount
    unit_price: Amount
    per: int
    amount: Amount


class Quote(Reply):
    """The cost of a use by the price book. A charge of the same use, plan, tool and time costs the same."""

    cost_cents: int
    cost: Amount
    currency: str
    price_version: int
    fallback: bool
    """The model has no price: the book's prices for unknown models apply."""
    lines: list[QuoteLine]
    """All amounts together are the cost."""
