"""Wire format of usage events, checks and quotes (`/v1/usage`). Unknown fields of a request are ignored."""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from app.accounts.directory import Identity
from app.accounts.schemas import OAuthProvider, UserFields, user_identity_of
from app.auth.caller import Caller
from app.currencies import NANO_DIGITS
from app.errors import AppError, InvalidRequest
from app.http.schemas import MAX_INT64, CodedError, ErrorReply, Key255, Label, Reply, Text255, Timestamp
from app.ledger.money import decimal_text, minor_ceil, minor_floor
from app.metering.attribution import FIELDS, Attribution, attribution_of
from app.metering.errors import InsufficientMoney, NegativeCost
from app.metering.events import Check, Record, StatedCost, Status, UsageEvent
from app.metering.json_values import bounded_json
from app.metering.measures import ComputeMeasure, Metric, Quantity
from app.pricing.engine import Line, Priced
from app.refusals.schemas import RefusalReply
from app.timestamps import bounded

MAX_BATCH = 1_000
NANO = Decimal(1).scaleb(-NANO_DIGITS)
Integer = Annotated[int, Field(strict=True, ge=-(2**63), le=MAX_INT64)]
Amount = Annotated[
    Decimal, Field(ge=-(10**10), le=10**10, description="In the currency's major unit, rounded to nine decimal places.")
]
Balance = Annotated[str, Field(examples=["9.999600"], description="Exact, in the currency's major unit.")]
COST = "Decides instead of the price book, 0 included. Needs `usage:set_cost`; the API key has an upper bound."


class EventFields(UserFields):
    """An event without its measure: its user, time, stated cost and attribution."""

    event_id: Key255 = Field(description="Identifies the event for its account and source: a repeat costs nothing.")
    agent_id: Label | None = None
    tool: Label | None = None
    run_id: Label | None = None
    parent_run_id: Label | None = None
    request_id: Label | None = None
    conversation: Label | None = None
    traceparent: Text255 | None = None
    time: Annotated[AwareDatetime, AfterValidator(bounded)] | None = Field(
        default=None, description="The event's own time; its price is the one in force then. Default: now."
    )
    cost_cents: Integer | None = Field(default=None, description=f"In minor units. {COST}")
    cost: Amount | None = Field(default=None, description=COST)
    metadata: Any = Field(default=None, description="Stored with the event.")

    def details(self) -> str | None:
        """Return the metadata as JSON. Raises InvalidRequest if it cannot be stored."""
        if self.metadata is None:
            return None
        try:
            return bounded_json("metadata", self.metadata)
        except ValueError as error:
            raise InvalidRequest(str(error), field="metadata") from None

    def stated(self) -> StatedCost | None:
        """Return the stated cost. Raises NegativeCost, and InvalidRequest for two costs."""
        if self.cost is None and self.cost_cents is None:
            return None
        for field in ("cost_cents", "cost"):
            if (amount := getattr(self, field)) is not None and amount < 0:
                raise NegativeCost(field)
        if self.cost_cents is None:
            assert self.cost is not None, "one of them is given"
            return StatedCost("nanos", nanos_of(self.cost))
        if self.cost is not None:
            raise InvalidRequest("cost and cost_cents exclude each other", field="cost")
        return StatedCost("minor", self.cost_cents)

    def attributed(self, *further: dict[str, Any]) -> Attribution:
        own = {name: value for name in FIELDS if (value := getattr(self, name)) is not None}
        metadata = self.metadata if isinstance(self.metadata, dict) else {}
        return attribution_of(own, metadata, *further)


def nanos_of(amount: Decimal) -> int:
    """Return an amount of the major unit in nanos, rounded once, to the nearest."""
    return int(amount.quantize(NANO, ROUND_HALF_EVEN).scaleb(NANO_DIGITS))


class UsageBody(EventFields):
    metric: Metric

    def event(self, source: str, service_name: str | None, headers: dict[str, str]) -> UsageEvent:
        """Return the event. Raises NegativeCost, InvalidRequest."""
        raw = self.metric.model_extra or {}
        return UsageEvent(
            source=source,
            event_id=self.event_id,
            usage=self.metric.usage(),
            raw=self.metric.raw(),
            stated=self.stated(),
            occurred_at=self.time,
            attribution=self.attributed(raw, headers),
            service_name=service_name,
            details=self.details(),
        )


class ComputeBody(EventFields):
    """Compute, flat: as schedulers report it. `sku` and the price that they state are stored, and do not count."""

    cpu_hours: Quantity
    memory_gb_hours: Quantity
    sku: Text255 | None = None
    hourly_price_cents: Integer | None = Field(default=None, description="Stored only.")

    def as_usage(self) -> UsageBody:
        """Return the same event with a metric."""
        measure = ComputeMeasure.model_validate(
            {
                "type": "compute",
                "cpu_hours": self.cpu_hours,
                "memory_gb_hours": self.memory_gb_hours,
                "sku": self.sku,
                "hourly_price_cents": self.hourly_price_cents,
            }
        )
        given = {name: getattr(self, name) for name in EventFields.model_fields}
        return UsageBody.model_construct(metric=measure, **given)


class UsageReply(Reply):
    """The outcome of an event. Minor units are rounded, the balance down and the cost up; the texts are exact."""

    success: Literal[True] = True
    event_id: str
    transaction_id: str
    status: Status
    currency: str
    cost_cents: int
    cost: Balance
    balance_cents: int
    balance: Balance
    debt: Balance = Field(description="The part of the cost that the account owes.")
    time: Timestamp

    @classmethod
    def of(cls, record: Record, **further: Any) -> Self:
        return cls(
            event_id=record.event_id,
            transaction_id=str(record.usage_id),
            status=record.status,
            currency=record.currency,
            cost_cents=minor_ceil(record.cost_nanos, record.currency),
            cost=decimal_text(record.cost_nanos),
            balance_cents=minor_floor(record.balance_after_nanos, record.currency),
            balance=decimal_text(record.balance_after_nanos),
            debt=decimal_text(record.debt_nanos),
            time=record.occurred_at,
            **further,
        )


class BatchBody(BaseModel):
    events: list[Any] = Field(
        max_length=MAX_BATCH, description="Bodies of `/v1/usage`. A malformed one fails alone, as any other."
    )


class ItemReply(Reply):
    """The outcome of one event of a batch. `error` is a code; `duplicate_event` means that it was counted before."""

    event_id: str
    success: bool
    error: str | None = None
    message: str | None = None
    transaction_id: str | None = None
    status: Status | None = None
    cost_cents: int | None = None
    cost: str | None = None
    balance_cents: int | None = None
    balance: str | None = None

    @classmethod
    def of(cls, record: Record, *, duplicate: bool = False) -> Self:
        reply = UsageReply.of(record)
        return cls(
            event_id=record.event_id,
            success=not duplicate,
            error="duplicate_event" if duplicate else None,
            message=duplicate_message(record.event_id) if duplicate else None,
            **{name: getattr(reply, name) for name in ("transaction_id", "status", "cost_cents", "cost")},
            **{name: getattr(reply, name) for name in ("balance_cents", "balance")},
        )

    @classmethod
    def failed(cls, event_id: str, error: AppError) -> Self:
        code = "insufficient_credits" if isinstance(error, InsufficientMoney) else error.code
        return cls(event_id=event_id, success=False, error=code, message=error.detail)


class BatchReply(Reply):
    results: list[ItemReply] = Field(description="One for each event, in their order.")
    processed: int = Field(description="Events that are recorded now.")
    failed: int


def duplicate_message(event_id: str) -> str:
    return f"Event {event_id} already processed"


class DuplicateReply(UsageReply, ErrorReply):
    """409: the event was recorded before. Clients count it as delivered."""


class CodedDuplicateReply(DuplicateReply):
    """The same in its envelope, which a middleware adds."""

    error: CodedError


class InsufficientMoneyReply(RefusalReply):
    """402: the account's money does not suffice. Nothing was spent."""

    # The figures of `InsufficientMoney` (errors.py), and the attributes of the SDK's `InsufficientMoney`.

    balance: Balance = Field(description="Money that this operation can spend, exact, in the currency's major unit.")
    required: Balance = Field(description="The operation's cost.")
    shortfall: Balance = Field(description="`required` minus `balance`.")
    max_affordable: Balance = Field(
        description="The largest cost that would be accepted now: `balance`, and the debt that the account may make."
    )
    currency: str


class CodedInsufficientMoneyReply(InsufficientMoneyReply):
    """The same in its envelope, which a middleware adds."""

    error: CodedError


class CheckUsageBody(UserFields):
    required_cents: Integer = Field(description="With 0 or less, `provider` and `model` make a reserve for one call.")
    provider: Text255 | None = None
    model: Text255 | None = None


class CheckUsageReply(Reply):
    """Whether the account could pay `required` now. Holds nothing."""

    sufficient: bool
    balance_cents: int
    balance: Balance
    required_cents: int
    required: Balance
    currency: str
    reason: str | None = Field(default=None, description="Why not, if it is not for money: a code.")

    @classmethod
    def of(cls, check: Check, sent_cents: int) -> Self:
        """`sent_cents` is returned as it was sent, unless a reserve replaces it."""
        return cls(
            sufficient=check.sufficient,
            balance_cents=minor_floor(check.balance_nanos, check.currency),
            balance=decimal_text(check.balance_nanos),
            required_cents=minor_ceil(check.required_nanos, check.currency) if check.is_reserve else sent_cents,
            required=decimal_text(check.required_nanos),
            currency=check.currency,
            reason=check.reason,
        )


class QuoteBody(BaseModel):
    metric: Metric
    plan: Text255 | None = Field(default=None, description="The plan whose markup applies. Default: the user's.")
    tool: Text255 | None = None
    time: Annotated[AwareDatetime, AfterValidator(bounded)] | None = None
    oauth_provider: OAuthProvider | None = Field(default=None, description="Of the user, with `external_id`.")
    external_id: Key255 | None = None
    user_id: Key255 | None = Field(
        default=None,
        description="The user, optional: the price then has the currency and the plan of its account, and the terms "
        "that a subscriber keeps.",
    )

    def identity(self, caller: Caller) -> Identity | None:
        """Return the identity of the user, if the quote is for one. Raise IdentityRequired or InvalidRequest."""
        if self.plan is not None or (self.user_id is None and self.external_id is None):
            return None
        return user_identity_of(caller, self.oauth_provider, self.external_id, self.user_id)


class QuoteLine(Reply):
    """A part of the cost, exact. All lines sum to the cost."""

    kind: str
    row: str
    item: str
    quantity: str
    unit_price: str = Field(description="In the major unit, of `per` units.")
    per: int
    amount: str

    @classmethod
    def of(cls, line: Line, **more: Any) -> Self:
        return cls(
            kind=line.kind,
            row=line.row_id,
            item=line.item,
            quantity=f"{line.quantity:f}",
            unit_price=f"{line.unit_price:f}",
            per=line.per,
            amount=f"{line.nanos.scaleb(-NANO_DIGITS):f}",
            **more,
        )


class QuoteReply(Reply):
    """The cost of usage. A charge of the same usage, plan, tool and time costs the same."""

    cost_cents: int
    cost: Balance
    currency: str = Field(examples=["USD_CENTS"], description="The currency and its minor unit, of `cost_cents`.")
    price_version: int
    fallback: bool = Field(description="Whether the book's prices for unknown models apply.")
    lines: list[QuoteLine]

    @classmethod
    def of(cls, priced: Priced) -> Self:
        return cls(
            cost_cents=minor_ceil(priced.cost_nanos, priced.currency),
            cost=decimal_text(priced.cost_nanos),
            currency=f"{priced.currency}_CENTS" if priced.currency == "USD" else priced.currency,
            price_version=priced.version,
            fallback=priced.fallback,
            lines=[QuoteLine.of(line) for line in priced.lines],
        )
