"""Wire types of the usage explorer: filters, events and sums. Amounts are exact decimal text."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field

from app.admin.analytics.range import FIRST_DAY, LAST_DAY, days_of
from app.admin.schemas import Pasted, Person
from app.auth.caller import Environment
from app.http.schemas import Reply
from app.ledger.money import decimal_text
from app.metering.events import Status
from app.metering.report_queries import Grouping, Interval, Scope
from app.metering.report_schemas import DIMENSIONS, Cursor, EventDetailReply, EventReply, GroupReply

FILTERS: tuple[Grouping, ...] = (*DIMENSIONS, "plan")
GROUPINGS: tuple[Grouping, ...] = (*FILTERS, "user")


class UsageFilters(BaseModel):
    """Events of UTC days, both included, of one environment."""

    environment: Environment = "live"
    first: date | None = Field(
        default=None, alias="from", ge=FIRST_DAY, le=LAST_DAY, description="Default: a range of 30 days."
    )
    last: date | None = Field(default=None, alias="to", ge=FIRST_DAY, le=LAST_DAY, description="Default: today.")
    account_id: UUID | None = None
    meter: Pasted | None = None
    provider: Pasted | None = None
    model: Pasted | None = None
    agent: Pasted | None = None
    tool: Pasted | None = None
    key: Pasted | None = Field(default=None, description="Id of the reporting API key.")
    run: Pasted | None = None
    source: Pasted | None = None
    plan: Pasted | None = None
    status: Status | None = None

    def scope(self, now: datetime) -> Scope:
        """Return the events of the report. Raise InvalidRequest for a wrong range of days."""
        days = days_of(self.environment, self.first, self.last, now)
        since, until = (datetime.combine(day, time(), UTC) for day in (days.first, days.last + timedelta(days=1)))
        filters: dict[Grouping, str] = {name: value for name in FILTERS if (value := getattr(self, name)) is not None}
        return Scope(self.environment, since, until, self.account_id, filters)


class EventsPage(UsageFilters):
    limit: int = Field(default=50, ge=1, le=200)
    cursor: Cursor | None = None


class SumsPage(UsageFilters):
    group_by: list[Grouping] = Field(default=[], max_length=len(GROUPINGS))
    interval: Interval | None = Field(default=None, description="Sums by hour, day or month (UTC).")
    order: Literal["group", "cost"] = Field(
        default="group", description="`cost`: the highest cost first; not with an interval."
    )
    limit: int = Field(default=50, ge=1, le=1000)
    cursor: Cursor | None = None


class UsageEventRow(EventReply):
    """An event and its user."""

    account_id: UUID
    person: Person | None = Field(description="null: the person was erased.")


class UsageEventsReply(Reply):
    events: list[UsageEventRow] = Field(description="Newest first, by their own time.")
    next_cursor: str | None


class UsageEventDetail(EventDetailReply):
    """An event, its user, the usage object as it was sent, and the breakdown of its cost, computed again."""

    account_id: UUID
    person: Person | None
    margin: str | None = Field(
        description="Charged less the cost at list prices, as corrected; null: the latter is unknown."
    )

    @classmethod
    def detail(cls, row: Mapping[str, Any], **further: Any) -> Self:
        provider_cost, cost = row["provider_cost_nanos"], row["cost_nanos"]
        if (last := row["correction"]) is not None:
            provider_cost, cost = last["provider_cost_after_nanos"], last["cost_after_nanos"]
        charged = cost if row["status"] in ("charged", "debt") else 0
        margin = None if provider_cost is None or row["status"] == "refused" else decimal_text(charged - provider_cost)
        return cls.of(
            row, account_id=row["account_id"], raw=row["raw"], attempts=row["attempts"], margin=margin, **further
        )


class UsageSum(GroupReply):
    """Sums of a group's events, with the margin."""

    margin: str = Field(
        description="Charged, with corrections, less the cost at list prices, of the events whose cost at list prices"
        " is known."
    )
    without_provider_cost: int = Field(description="Events that the margin leaves out.")
    person: Person | None = Field(description="Of a group's user.")

    @classmethod
    def sums(
        cls, row: Mapping[str, Any], dimensions: Sequence[Grouping], interval: Interval | None, person: Person | None
    ) -> Self:
        return cls.of(
            row,
            dimensions,
            interval,
            margin=decimal_text(int(row["margin_nanos"])),
            without_provider_cost=row["without_provider_cost"],
            person=person,
        )


class UsageSumsReply(Reply):
    sums: list[UsageSum]
    next_cursor: str | None
