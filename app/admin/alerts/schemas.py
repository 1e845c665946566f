"""Wire types of `/admin/alerts` and `/admin/alert-rules`."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.admin.schemas import Person, Reason, ReasonBody
from app.auth.caller import Environment
from app.http.schemas import MAX_INT64, Reply, Timestamp
from app.risk.service import Action, AlertKind, AlertStatus, Rule


class AlertPerson(Person):
    account_id: UUID


class AlertReply(Reply):
    alert_id: UUID
    environment: Environment
    rule: AlertKind
    subject: str = Field(
        description="An API key's id, an account's id, or the digest of a card. For `burn_rate`, what is paused."
    )
    observed: int = Field(
        description="The highest count so far: accounts, purchases, refunds, or credits per day. For `burn_rate`, "
        "credits or minor units of the currency in a minute."
    )
    usual: int | None = Field(description="The account's usual credits per day, for `spend_spike`.")
    threshold: int
    window_h: int
    account_ids: list[UUID] = Field(description="Accounts that can be stopped; none for a key. Later ones are added.")
    exempt_ids: list[UUID] = Field(
        description="Accounts that `stopped` does not cover, because an admin released them.",
    )
    people: list[AlertPerson] = Field(description="The persons of `account_ids`, in the same order.")
    card_brand: str | None = Field(description="Brand of the card in `subject`, if known.")
    card_last4: str | None
    status: AlertStatus
    stopped: Literal["hold", "suspend"] | None = Field(description="How the accounts are stopped, by rule or admin.")
    created_at: Timestamp
    last_seen_at: Timestamp
    decided_at: Timestamp | None
    decided_by: str | None
    reason: str | None = Field(description="Reason of the last decision.")
    reopened_at: Timestamp | None = Field(description="When later accounts reopened the alert after a decision.")


class AlertsReply(Reply):
    alerts: list[AlertReply]
    next_cursor: UUID | None
    open_total: int


class RuleReply(Reply):
    rule: Rule
    action: Action = Field(description="Automatic action on a finding.")
    threshold: int = Field(
        description="Lowest count that raises an alert; for `spend_spike`, a multiple of the usual spending.",
    )
    window_h: int = Field(description="Length of the window in hours; `spend_spike` always looks at one UTC day.")
    minimum: int = Field(description="Credits per day below which `spend_spike` raises no alert.")


class RulesReply(Reply):
    rules: list[RuleReply]


class DecisionBody(ReasonBody):
    seen_status: AlertStatus | None = Field(
        default=None, description="The status that the admin saw: 409 if it has changed."
    )
    seen_stopped: Literal["hold", "suspend"] | None = Field(
        default=None, description="The value of `stopped` that the admin saw; used only with `seen_status`."
    )


class RuleBody(Reply):
    action: Action
    threshold: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
    window_h: Annotated[int, Field(strict=True, ge=1, le=720)]
    minimum: Annotated[int, Field(strict=True, ge=0, le=MAX_INT64)]
    reason: Reason
