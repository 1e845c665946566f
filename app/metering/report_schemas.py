"""Wire format of usage reports (`GET /v1/usage`)."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Self, get_args
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from app.accounts.directory import Identity
from app.accounts.schemas import USER_ID, OAuthProvider, user_identity_of
from app.auth.caller import Caller
from app.errors import InvalidRequest
from app.http.schemas import Key255, Reply, Text255, Timestamp
from app.http.service_name import UNKNOWN
from app.ledger.limit_schemas import EvaluatedLimitReply
from app.ledger.money import decimal_text, minor_ceil, minor_floor
from app.ledger.move_schemas import MoveReply
from app.metering.events import Status, plain
from app.metering.report_queries import QUANTITIES, Dimension, Grouping, Interval
from app.metering.usage_schemas import Balance, QuoteLine
from app.timestamps import bounded

DEFAULT_DAYS = 30
Moment = Annotated[AwareDatetime, AfterValidator(bounded)]
Cursor = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,16000}$")]
"""Long enough for a group by all attributes, with names of 255 characters that JSON escapes one by one."""


class OwnUsageQuery(BaseModel):
    """Filters, groups and page of a report."""

    since: Moment | None = Field(default=None, alias="from", description="Included. Default: 30 days before `to`.")
    until: Moment | None = Field(default=None, alias="to", description="Excluded. Default: now, and later events.")
    meter: Key255 | None = None
    provider: Text255 | None = None
    model: Text255 | None = None
    agent: Key255 | None = None
    tool: Key255 | None = None
    key: Key255 | None = Field(default=None, description="Id of the reporting API key.")
    run: Key255 | None = None
    status: Status | None = None
    source: Key255 | None = None
    group_by: list[Dimension] = Field(
        default=[], max_length=len(get_args(Dimension)), description="Sums instead of events."
    )
    interval: Interval | None = Field(default=None, description="Sums by hour, day or month (UTC).")
    limit: int = Field(default=50, ge=1, le=500)
    cursor: Cursor | None = None

    def filters(self) -> dict[Grouping, str]:
        return {name: value for name in DIMENSIONS if (value := getattr(self, name)) is not None}


class UsageQuery(OwnUsageQuery):
    """A report of one user, or without one of the whole environment."""

    oauth_provider: OAuthProvider | None = None
    external_id: Key255 | None = None
    user_id: Key255 | None = Field(default=None, description=USER_ID)

    def identity(self, caller: Caller) -> Identity | None:
        """Return the named user, or None."""
        if self.oauth_provider is self.external_id is self.user_id is None:
            return None
        return user_identity_of(caller, self.oauth_provider, self.external_id, self.user_id)


DIMENSIONS: tuple[Dimension, ...] = (
    *("meter", "provider", "model", "agent", "tool"),
    *("key", "run", "status", "source"),
)


class EventReply(Reply):
    """An event. Rounded fields round the cost up and the balance down; the texts beside them are exact."""

    transaction_id: str
    event_id: str | None
    source: str
    status: Status
    refusal: str | None
    meter: str
    provider: str | None
    model: str | None
    quantities: dict[str, Any]
    currency: str
    cost_cents: int
    cost: Balance
    stated: bool = Field(description="Whether the caller stated the cost.")
    provider_cost: str | None
    debt: Balance
    balance_cents: int
    balance: Balance
    price_version: int | None
    plan: str
    agent_id: str | None
    tool: str | None
    run_id: str | None
    parent_run_id: str | None
    request_id: str | None
    conversation: str | None
    traceparent: str | None
    service_name: str
    key_id: str | None
    metadata: Any
    time: Timestamp
    created_at: Timestamp

    @classmethod
    def of(cls, row: Mapping[str, Any], **further: Any) -> Self:
        currency = row["currency"]
        provider_cost = row["provider_cost_nanos"]
        attribution = row["attribution"] or {}
        same = ("event_id", "source", "status", "refusal", "meter", "provider", "model", "quantities", "currency")
        also = ("price_version", "agent_id", "tool", "run_id", "key_id", "metadata", "created_at")
        rest = ("parent_run_id", "request_id", "conversation", "traceparent")
        return cls(
            **{name: row[name] for name in (*same, *also)},
            **{name: attribution.get(name) for name in rest},
            service_name=attribution.get("service_name", UNKNOWN),
            transaction_id=str(row["usage_id"]),
            cost_cents=minor_ceil(row["cost_nanos"], currency),
            cost=decimal_text(row["cost_nanos"]),
            stated=row["stated_nanos"] is not None,
            provider_cost=None if provider_cost is None else decimal_text(provider_cost),
            debt=decimal_text(row["debt_nanos"]),
            balance_cents=minor_floor(row["balance_after_nanos"], currency),
            balance=decimal_text(row["balance_after_nanos"]),
            plan=row["plan_name"],
            time=row["occurred_at"],
            **further,
        )


class CorrectedReply(Reply):
    """The cost of an event that was priced again, and its breakdown."""

    cost: Balance
    provider_cost: str | None
    price_version: int | None = Field(description="null: a cost record, which is the sum of its items.")
    lines: list[QuoteLine]


class EventDetailReply(EventReply):
    """An event with the usage object as it was sent, and the breakdown of its cost, computed again."""

    raw: Any
    attempts: int = Field(description="Refused attempts, of an event that is not recorded.")
    lines: list[QuoteLine]
    corrected: CorrectedReply | None = Field(description="The cost in force; null: the event was not priced again.")


class EventExplanationReply(EventDetailReply):
    """An event with all that decided about it."""

    moves: list[MoveReply] = Field(
        description="The balances and grants that paid or owe, in their order. Captured money was in the pool `held`."
    )
    limits: list[EvaluatedLimitReply] = Field(
        description="The limits that allowed it, or the opening of its hold or cost record. Kept for 93 days."
    )
    key_name: str | None = Field(description="Of the API key that reported it.")
    hold_id: str | None = Field(description="The hold whose captured money it records.")
    record_id: str | None = Field(description="The cost record that it charges.")


class GroupReply(Reply):
    """Sums of a group's events. An attribute that the group lacks is empty."""

    group: dict[str, str]
    period: str | None = Field(description="Start of the hour, day or month, UTC.")
    currency: str
    events: int
    refused: int
    cost: Balance = Field(description="Charged or owed.")
    correction: Balance = Field(
        description="Charged later, or given back if it is negative, because the events were priced again."
    )
    recorded_cost: Balance = Field(description="Of accounts that are not billed, as corrected.")
    provider_cost: Balance = Field(description="At list prices, as corrected.")
    debt: Balance
    quantities: dict[str, str]

    @classmethod
    def of(cls, row: Mapping[str, Any], dimensions: Sequence[str], interval: Interval | None, **more: Any) -> Self:
        keys = list(group_keys(row))
        period = keys.pop(0) if interval is not None else None
        sums = {name: row[name] for name in QUANTITIES if row[name]}
        return cls(
            group=dict(zip(dimensions, keys, strict=False)),
            period=period,
            currency=keys[-1],
            events=row["events"],
            refused=row["refused"],
            cost=decimal_text(int(row["cost_nanos"])),
            correction=decimal_text(int(row["correction_nanos"])),
            recorded_cost=decimal_text(int(row["recorded_nanos"])),
            provider_cost=decimal_text(int(row["provider_cost_nanos"])),
            debt=decimal_text(int(row["debt_nanos"])),
            quantities={name: plain(Decimal(value)) for name, value in sums.items()},
            **more,
        )


class UsageReportReply(Reply):
    """Events, newest first; or sums, in the order of their groups."""

    events: list[EventReply] | None = Field(description="null for sums.")
    groups: list[GroupReply] | None = Field(description="null for events.")
    next_cursor: str | None = Field(description="Value of `cursor` for the next page; null on the last page.")


def group_keys(row: Mapping[str, Any]) -> list[str]:
    return [row[name] for name in row if name.startswith("key_")]


def cursor_of(values: Sequence[str]) -> str:
    text = json.dumps(list(values), ensure_ascii=False)  # shorter, where callers name things in other scripts
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def cursor_values(cursor: str, number: int) -> list[str]:
    """Return the values of a cursor. Raises InvalidRequest if it is not one of this service, or of another report."""
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or len(values) != number or not all(map(_is_text, values)):
        raise InvalidRequest("cursor is not one of this report", field="cursor")
    return values


def _is_text(value: object) -> bool:
    """Return whether a value is text that PostgreSQL can compare: names of groups may contain any other character."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def event_cursor(row: Mapping[str, Any]) -> str:
    return cursor_of([row["occurred_at"].astimezone(UTC).isoformat(), str(row["usage_id"])])


def event_position(cursor: str) -> tuple[datetime, UUID]:
    moment, usage_id = cursor_values(cursor, 2)
    try:
        return bounded(datetime.fromisoformat(moment)), UUID(usage_id)
    except (ValueError, TypeError):
        raise InvalidRequest("cursor is not one of this report", field="cursor") from None
