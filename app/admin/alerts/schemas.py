"""What `/admin/alerts` and `/admin/alert-rules` take and answer."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.admin.schemas import Person, Reason, ReasonBody
from app.auth.caller import Environment
from app.http.schemas import MAX_INT64, Reply, Timestamp
from app.risk.service import Action, AlertStatus, Rule


class AlertPerson(Person):
    account_id: UUID


class AlertReply(Reply):
    alert_id: UUID
    environment: Environment
    rule: Rule
    subject: str = Field(description="An API key's id, an account's id, or a digest that stands for a card.")
    observed: int = Field(description="The most that was seen: accounts, purchases, refunds, or credits of a day.")
    usual: int | None = Field(description="Credits that the account spends on a day, for `spend_spike`.")
    threshold: int
    window_h: int
    account_ids: list[UUID] = Field(description="Accounts that can be stopped for it; none for a key. Later ones join.")
    exempt_ids: list[UUID] = Field(description="Accounts that `stopped` does not cover: a person let them go on.")
    people: list[AlertPerson] = Field(description="Whom `account_ids` belong to, in their order.")
    card_brand: str | None = Field(description="Of the card that `subject` stands for, as far as it is known.")
    card_last4: str | None
    status: AlertStatus
    stopped: Literal["hold", "suspend"] | None = Field(description="What its accounts are under, by rule or by hand.")
    created_at: Timestamp
    last_seen_at: Timestamp
    decided_at: Timestamp | None
    decided_by: str | None
    reason: str | None = Field(description="Of the last decision.")
    reopened_at: Timestamp | None = Field(description="When later accounts opened it again after the decision.")


class AlertsReply(Reply):
    alerts: list[AlertReply]
    next_cursor: UUID | None
    open_total: int


class RuleReply(Reply):
    rule: Rule
    action: Action = Field(description="What is done by itself with what is found.")
    threshold: int = Field(description="From how many on; for `spend_spike`, how many times the usual spending.")
    window_h: int = Field(description="Of how many hours; `spend_spike` is always about a UTC day.")
    minimum: int = Field(description="Credits of a day below which `spend_spike` finds nothing.")


class RulesReply(Reply):
    rules: list[RuleReply]


class DecisionBody(ReasonBody):
    seen_status: AlertStatus | None = Field(
        default=None, description="The status that the admin saw: 409 if it is another one by now."
    )
    seen_stopped: Literal["hold", "suspend"] | None = Field(
        default=None, description="What the accounts were under; counts with `seen_status` alone."
    )


class RuleBody(Reply):
    action: Action
    threshold: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
    window_h: Annotated[int, Field(strict=True, ge=1, le=720)]
    minimum: Annotated[int, Field(strict=True, ge=0, le=MAX_INT64)]
    reason: Reason
