"""Wire format of cost records (`/v1/cost-records`). Unknown fields of a request are ignored."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from app.accounts.schemas import UserFields
from app.auth.caller import Environment
from app.cost_records.ids import text_of
from app.cost_records.records import Item, OnExpiry, Record, Result, Status, digest
from app.errors import InvalidRequest
from app.http.schemas import MAX_INT64, Key255, Label, Reply, Timestamp
from app.ledger.money import decimal_text, minor_ceil
from app.metering.errors import NegativeCost
from app.metering.events import StatedCost
from app.metering.measures import Metric
from app.metering.usage_schemas import COST, Amount, Balance, Integer, nanos_of

MAX_TEXT = 1000
MAX_EXPIRY_S = 86_400


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain NUL")
    return value


LongText = Annotated[str, StringConstraints(max_length=MAX_TEXT), AfterValidator(_no_nul)]
Milliseconds = Annotated[int, Field(strict=True, ge=0, le=MAX_INT64)]


def _stated(body: BaseModel, minor: str, major: str) -> StatedCost | None:
    """Return the amount of either field. Raises NegativeCost."""
    for field in (minor, major):
        if (amount := getattr(body, field)) is not None and amount < 0:
            raise NegativeCost(field)
    if (cents := getattr(body, minor)) is not None:
        return StatedCost("minor", cents)
    return None if (amount := getattr(body, major)) is None else StatedCost("nanos", nanos_of(amount))


class OpenBody(UserFields):
    """A record to open: of a user's work, or with `client_key` of work without a user."""

    request_id: Key255 = Field(description="Identifies the record for its account, or for its client.")
    tool: Key255
    query: LongText | None = Field(default=None, description="The question to the tool, for people to read.")
    client_key: Key255 | None = Field(
        default=None, description="Instead of the user. Only a digest of it is stored. Such a record is never charged."
    )
    run_id: Label | None = None
    estimate_cents: Integer | None = Field(default=None, description="In minor units.")
    estimate: Amount | None = Field(default=None, description="The expected cost of the work. Charges nothing.")
    expires_in_s: Annotated[int, Field(strict=True, ge=1, le=MAX_EXPIRY_S)] | None = Field(
        default=None, description="When a record that is left open is settled. Default: `COST_RECORD_EXPIRES_S`."
    )
    on_expiry: OnExpiry | None = Field(default=None, description="How. Default: `COST_RECORD_ON_EXPIRY`.")

    @model_validator(mode="after")
    def _one_estimate(self) -> Self:
        if self.estimate is not None and self.estimate_cents is not None:
            raise ValueError("estimate and estimate_cents exclude each other")
        return self

    def estimated(self) -> StatedCost | None:
        return _stated(self, "estimate_cents", "estimate")

    def client(self, environment: Environment) -> bytes:
        """Return the digest of the client; empty for work of a user. Raises InvalidRequest if both are named."""
        if self.client_key is None:
            return b""
        if any(name is not None for name in (self.user_id, self.oauth_provider, self.external_id)):
            raise InvalidRequest("client_key is for work without a user: send one of them", field="client_key")
        return digest(environment, self.client_key)

    def lifetime(self, default_s: int) -> timedelta:
        return timedelta(seconds=default_s if self.expires_in_s is None else self.expires_in_s)

    def fingerprint(self) -> bytes:
        """Return a digest of what makes the record: equal for a repeat of the request."""
        estimate = self.estimated()
        amount = None if estimate is None else [estimate.unit, estimate.amount]
        return digest(self.tool, self.query, self.agent_id, self.run_id, amount, self.expires_in_s, self.on_expiry)


class ItemBody(BaseModel):
    """A part of the cost: a metric that the price book prices now, or a stated cost, or both."""

    item_id: Key255 = Field(description="Identifies the item in its record: a repeat adds nothing.")
    metric: Metric | None = None
    cost_cents: Integer | None = Field(default=None, description=f"In minor units. {COST}")
    cost: Amount | None = Field(default=None, description=COST)

    @model_validator(mode="after")
    def _has_one_cost(self) -> Self:
        if self.cost is not None and self.cost_cents is not None:
            raise ValueError("cost and cost_cents exclude each other")
        if self.metric is None and self.cost is None and self.cost_cents is None:
            raise ValueError("metric is required without cost")
        return self

    def item(self) -> Item:
        """Return the item. Raises NegativeCost."""
        metric = self.metric
        return Item(
            item_id=self.item_id,
            usage=None if metric is None else metric.usage(),
            stated=_stated(self, "cost_cents", "cost"),
            raw=None if metric is None else metric.raw(),
        )


class CompletionBody(BaseModel):
    status: Result
    execution_time_ms: Milliseconds | None = None
    error_message: LongText | None = None


class ItemReply(Reply):
    """An item. Minor units are rounded up; the text is exact."""

    item_id: str | None = Field(description="null: the person was erased.")
    type: str | None = Field(description="Of the metric; null: only a cost was stated.")
    provider: str | None
    model: str | None
    quantities: dict[str, Any]
    cost_cents: int
    cost: Balance
    stated: bool = Field(description="Whether the caller stated the cost.")
    created_at: Timestamp

    @classmethod
    def of(cls, row: Mapping[str, Any], quantities: dict[str, Any], currency: str) -> Self:
        return cls(
            item_id=row["item_id"],
            type=row["meter"],
            provider=row["provider"],
            model=row["model"],
            quantities=quantities,
            cost_cents=minor_ceil(row["cost_nanos"], currency),
            cost=decimal_text(row["cost_nanos"]),
            stated=row["stated_nanos"] is not None,
            created_at=row["created_at"],
        )


class RecordReply(Reply):
    """A cost record. `cost` is the sum of its items so far; `charged` is the amount that the account paid and owes."""

    record_id: str
    request_id: str | None = Field(description="null: the person was erased.")
    status: Status
    tool: str
    query: str | None
    agent_id: str | None
    run_id: str | None
    currency: str
    estimate: Balance | None
    item_count: int
    cost_cents: int
    cost: Balance
    charged_cents: int
    charged: Balance
    debt: Balance = Field(description="The part of `charged` that the account owes.")
    transaction_id: str | None = Field(description="The usage event of the charge.")
    execution_time_ms: int | None
    error_message: str | None
    on_expiry: OnExpiry
    expires_at: Timestamp
    created_at: Timestamp
    closed_at: Timestamp | None

    @classmethod
    def of(cls, record: Record, **further: Any) -> Self:
        same = (
            *("request_id", "status", "tool", "query", "agent_id", "run_id", "currency", "execution_time_ms"),
            *("error_message", "on_expiry", "expires_at", "created_at", "closed_at"),
        )
        return cls(
            **{name: getattr(record, name) for name in same},
            record_id=text_of(record.account_id, record.record_id),
            estimate=None if record.estimate_nanos is None else decimal_text(record.estimate_nanos),
            item_count=record.items,
            cost_cents=minor_ceil(record.cost_nanos, record.currency),
            cost=decimal_text(record.cost_nanos),
            charged_cents=minor_ceil(record.charged_nanos, record.currency),
            charged=decimal_text(record.charged_nanos),
            debt=decimal_text(record.debt_nanos),
            transaction_id=None if record.usage_id is None else str(record.usage_id),
            **further,
        )


class RecordDetailReply(RecordReply):
    items: list[ItemReply]

    @classmethod
    def with_items(cls, record: Record, rows: Iterable[Mapping[str, Any]]) -> Self:
        return cls.of(record, items=[ItemReply.of(row, row["quantities"], record.currency) for row in rows])


class AddedReply(Reply):
    """The item, and the sum of the record's items so far."""

    record_id: str
    item: ItemReply
    item_count: int
    cost_cents: int
    cost: Balance
