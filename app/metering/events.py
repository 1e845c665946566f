"""Values of usage events: a report, the terms on which it is decided, and its outcomes."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias
from uuid import UUID

from app.auth.caller import Actor, UsagePolicy
from app.errors import AppError
from app.ledger.money import nanos_of_minor
from app.metering.attribution import NOTHING, Attribution
from app.pricing.compiled import PriceBook, UnknownModel
from app.pricing.usage import TOKEN_CLASSES, ApiCalls, Compute, LlmTokens, Metered, ToolCalls, Usage

Status = Literal["charged", "debt", "recorded", "refused"]
"""charged: paid whole. debt: the account owes a part. recorded: priced, but billing is off. refused: not paid."""
FINGERPRINT_BYTES = 16
RECORD_METER = "cost-record"
"""The meter of events that represent a whole cost record. No meter of a price book can have this name."""
HOLD_METER = "captured-hold"
"""The meter of events that represent the captured money of a hold."""
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
"""Stored fingerprints depend on it."""


class Books(Protocol):
    """The price books in force, in memory."""

    def at(self, currency: str, moment: datetime) -> PriceBook | None:
        """Return the book that is in force for a currency at a time."""
        ...


@dataclass(frozen=True, slots=True)
class StatedCost:
    """A cost that the caller states, in minor units or in nanos of the account's currency."""

    unit: Literal["minor", "nanos"]
    amount: int

    def nanos(self, currency: str) -> int:
        return self.amount if self.unit == "nanos" else nanos_of_minor(self.amount, currency)


class UsageEvent(NamedTuple):
    """A reported event. `raw` and `details` are JSON texts. `occurred_at` None: when it arrived."""

    source: str
    event_id: str
    usage: Usage
    raw: str | None = None
    stated: StatedCost | None = None
    occurred_at: datetime | None = None
    attribution: Attribution = NOTHING
    service_name: str | None = None
    details: str | None = None

    def fingerprint(self) -> bytes:
        """Return a digest of meter, provider, model, quantities and stated cost: equal for a repeat of the event."""
        stated = None if self.stated is None else [self.stated.unit, self.stated.amount]
        facts = [self.usage.meter, *names_of(self.usage), quantities_of(self.usage), stated]
        return blake2b(_CANONICAL.encode(facts).encode(), digest_size=FINGERPRINT_BYTES).digest()


class Terms(NamedTuple):
    """The terms on which usage of one request is decided.

    `policy` applies where money does not suffice; `debt_limit_nanos` is the most debt that an account may have then.
    `max_stated_nanos` bounds a stated cost.
    """

    actor: Actor
    at: datetime
    policy: UsagePolicy = "refuse"
    debt_limit_nanos: int = 0
    max_stated_nanos: int = 0

    @property
    def key_id(self) -> str | None:
        return self.actor.key_id


class Report(NamedTuple):
    """Events of one account, decided in their order in one transaction."""

    account_id: UUID
    events: Sequence[UsageEvent]
    terms: Terms
    books: Books
    markups: Mapping[str, Decimal]
    """Of the plans on sale, in percent."""

    @property
    def key(self) -> Hashable:
        """Identifies the report: none of its events is recorded twice, so it may run again."""
        return (self.account_id, *((event.event_id, event.source) for event in self.events))

    @property
    def at(self) -> datetime:
        return self.terms.at

    @property
    def run_ids(self) -> Sequence[str]:
        return [run_id for event in self.events if (run_id := event.attribution.run_id) is not None]


class Record(NamedTuple):
    """A stored event. Amounts are nanos of `currency`; `balance_after_nanos` is the spendable money right after it."""

    account_id: UUID
    usage_id: UUID
    event_id: str
    status: Status
    currency: str
    cost_nanos: int
    debt_nanos: int
    balance_after_nanos: int
    occurred_at: datetime
    created_at: datetime


class Accepted(NamedTuple):
    """The event is recorded now."""

    record: Record
    meter: str
    unknown: UnknownModel | None = None
    """The model without a row, if the book's prices for unknown models applied."""


@dataclass(frozen=True, slots=True)
class Repeated:
    """The event was recorded before. This report changed nothing."""

    record: Record


@dataclass(frozen=True, slots=True)
class Unpaid:
    """The account cannot pay. The attempt is recorded; the same event may be sent again. Amounts are nanos.

    `affordable` is the largest cost that would be accepted now: the money, and the debt that the account may make.
    """

    event_id: str
    currency: str
    available: int
    required: int
    affordable: int
    plan_name: str
    plan_markup: Decimal | None = None
    debt_limit_reached: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """The event cannot be accepted."""

    error: AppError


Outcome: TypeAlias = Accepted | Repeated | Unpaid | Rejected


@dataclass(frozen=True, slots=True)
class Check:
    """Whether an account could pay `required_nanos` now.

    `is_reserve`: the amount is the price of a model's call. `reason`: why not, if it is not for money.
    """

    sufficient: bool
    balance_nanos: int
    required_nanos: int
    is_reserve: bool
    currency: str
    reason: str | None


def plain(quantity: Decimal) -> str:
    """Return a decimal as digits without an exponent and trailing zeros."""
    text = f"{quantity:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quantities_of(usage: Usage) -> dict[str, Any]:
    """Return the quantities as JSON values; decimals as text, so that they stay exact."""
    match usage:
        case LlmTokens(tokens=tokens, mode=mode):
            quantities: dict[str, Any] = dict(tokens.items())
            return quantities if mode == "standard" else {**quantities, "mode": mode}
        case Compute(cpu_hours=cpu_hours, memory_gb_hours=memory_gb_hours):
            return {"cpu_hours": plain(cpu_hours), "memory_gb_hours": plain(memory_gb_hours)}
        case ApiCalls(endpoint=endpoint, count=count):
            return {"count": count, "endpoint": endpoint}
        case ToolCalls(tool=tool, count=count):
            return {"count": count, "tool": tool}
        case Metered(quantity=quantity):
            return {"quantity": plain(quantity)}


def usage_of(meter: str, provider: str | None, model: str | None, quantities: dict[str, Any]) -> Usage:
    """Return the usage whose `quantities_of` these are: the inverse, for stored events."""
    match meter:
        case "llm_tokens":
            tokens = {name: quantities[name] for name in TOKEN_CLASSES if name in quantities}
            return LlmTokens(provider or "", model or "", tokens, quantities.get("mode", "standard"))
        case "compute":
            return Compute(Decimal(quantities["cpu_hours"]), Decimal(quantities["memory_gb_hours"]))
        case "api_calls":
            return ApiCalls(quantities.get("endpoint", ""), quantities["count"])
        case "tool_calls":
            return ToolCalls(quantities.get("tool", ""), quantities["count"])
        case _:
            return Metered(meter, Decimal(quantities["quantity"]))


def names_of(usage: Usage) -> tuple[str | None, str | None]:
    """Return the provider and the model, None for usage without a model."""
    return (usage.provider, usage.model) if isinstance(usage, LlmTokens) else (None, None)
