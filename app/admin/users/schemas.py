"""Wire types of users, their timeline and their balances."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from app.admin.schemas import Reason, ReasonBody
from app.admin.users.timeline import TimelineKind
from app.auth.caller import Environment
from app.http.schemas import Key255, Reply, Timestamp

AccountStatus = Literal["active", "suspended", "closed"]


class UserRow(Reply):
    account_id: UUID
    environment: Environment
    oauth_provider: str | None
    external_id: str | None
    customer_email: str | None
    display_name: str | None
    status: AccountStatus
    plan_name: str
    daily_free: int
    free: int
    paid: int
    debt: int
    total_uses: int = Field(description="Credits spent from the main pools, free ones included.")
    created_at: Timestamp
    last_activity_at: Timestamp


class UsersReply(Reply):
    users: list[UserRow]
    next_cursor: str | None = Field(description="Send it as `cursor`, with the same `sort` and filters.")
    as_of: Timestamp | None = Field(description="What was sorted or filtered by activity or balance is of this time.")
    truncated: bool = Field(description="The search has more matches than were looked at: type more letters.")


class InventoryReply(Reply):
    product_type: str
    free: int
    paid: int
    main_pool: int = Field(description="Uses that the main pool would pay.")
    total_uses: int = Field(description="Uses of this product.")


class UserReply(UserRow):
    status_reason: str | None
    erased_at: Timestamp | None = Field(description="When its person was erased; it is closed for ever then.")
    currency: str
    uses: int = Field(description="Charges and tool uses: each counts once, whatever it cost.")
    wa_id: str | None
    tenant_id: str | None
    user_role: str | None
    agent_id: str | None
    marketing_opt_in: bool | None
    marketing_opt_in_at: Timestamp | None
    marketing_opt_in_source: str | None
    products: list[InventoryReply]


class Move(Reply):
    """What an event did to one pool. A tool's own pools are named `tool/free` and `tool/paid`, and count uses."""

    pool: str
    delta: int = Field(description="Negative when spent.")
    balance_after: int


class TimelineEntry(Reply):
    kind: TimelineKind
    id: UUID
    at: Timestamp
    credits: int | None = Field(
        description="Paid credits that moved: negative when spent, 0 for a free use, null where no pool moved."
    )
    title: str
    details: dict[str, Any]
    moves: list[Move] = Field(description="Every pool that moved, with its balance right after.")


class TimelineReply(Reply):
    entries: list[TimelineEntry]
    next_cursor: UUID | None


class AdjustBody(Reply):
    credits: Annotated[int, Field(strict=True, ge=-(10**12), le=10**12, description="Negative: taken away.")]
    seen_paid: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] | None = Field(
        default=None, description="The paid credits that the admin saw: 409 if there are more or fewer by now."
    )
    reason: Reason
    idempotency_key: Key255 = Field(description="The same key again changes nothing.")


class AdjustReply(Reply):
    credit_id: UUID
    credits: int
    paid_after: int
    replayed: bool


class EraseBody(Reply):
    confirm: Key255 = Field(description="The account's external id, or its account id: what is about to be erased.")
    reason: Reason


class SpellingGroup(Reply):
    users: list[UserRow]


class SpellingsReply(Reply):
    groups: list[SpellingGroup]
    truncated: bool = Field(description="There are more groups: act on these first.")


class GrantBody(Reply):
    credits: Annotated[int, Field(strict=True, ge=1, le=10**9, description="One-time free credits to add.")]
    reason: Reason
    idempotency_key: Key255 = Field(description="The same key again changes nothing.")


class GrantReply(Reply):
    grant_id: UUID
    credits: int
    free_after: int
    replayed: bool


class StatusBody(ReasonBody):
    seen_status: AccountStatus | None = Field(
        default=None, description="The status that the admin saw: 409 if it is another one by now."
    )
