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
    next_cursor: str | None = Field(
        description="Value of `cursor` for the next page, with the same `sort` and filters.",
    )
    as_of: Timestamp | None = Field(description="Time of the activities and balances that sorting and filters used.")
    truncated: bool = Field(description="The search has more matches than were read: use a longer search text.")


class InventoryReply(Reply):
    product_type: str
    free: int
    paid: int
    main_pool: int = Field(description="Uses that the main pool can pay.")
    total_uses: int = Field(description="Uses of this product.")


class BillingBody(ReasonBody):
    billing_enabled: bool = Field(strict=True)


class BillingReply(Reply):
    account_id: UUID
    billing_enabled: bool


class UserReply(UserRow):
    status_reason: str | None
    erased_at: Timestamp | None = Field(description="When the person was erased and the account closed permanently.")
    currency: str
    billing_enabled: bool = Field(description="false: metered usage is recorded and priced, and never charged.")
    uses: int = Field(description="Charges and tool uses; each counts once, at any cost.")
    wa_id: str | None
    tenant_id: str | None
    user_role: str | None
    agent_id: str | None
    marketing_opt_in: bool | None
    marketing_opt_in_at: Timestamp | None
    marketing_opt_in_source: str | None
    products: list[InventoryReply]


class Move(Reply):
    """The change of one pool by an event. A tool's own pools are named `tool/free` and `tool/paid`, and count uses."""

    pool: str = Field(description="`money`: the plain balance and the grants of money together.")
    unit: str = Field(description="`credit`, or a currency: then the numbers are nanos of it.")
    delta: int = Field(description="Negative when spent.")
    balance_after: int
    amount: str | None = Field(description="`delta` as exact decimal text; null: not money.")
    balance: str | None = Field(description="`balance_after` as exact decimal text; null: not money.")


class TimelineEntry(Reply):
    kind: TimelineKind
    id: UUID
    at: Timestamp
    credits: int | None = Field(
        description="Change of paid credits: negative when spent, 0 for a free use, null if no pool changed."
    )
    title: str
    details: dict[str, Any]
    moves: list[Move] = Field(description="Every pool that changed, with its balance after the event.")


class TimelineReply(Reply):
    entries: list[TimelineEntry]
    next_cursor: UUID | None


class AdjustBody(Reply):
    credits: Annotated[int, Field(strict=True, ge=-(10**12), le=10**12, description="Negative: taken.")]
    seen_paid: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] | None = Field(
        default=None, description="The paid credits that the admin saw: 409 if the number has changed."
    )
    reason: Reason
    idempotency_key: Key255 = Field(description="A repeated key changes nothing.")


class AdjustReply(Reply):
    credit_id: UUID
    credits: int
    paid_after: int
    replayed: bool


class EraseBody(Reply):
    confirm: Key255 = Field(description="The account's external id or account id, to confirm the erasure.")
    reason: Reason


class SpellingGroup(Reply):
    users: list[UserRow]


class SpellingsReply(Reply):
    groups: list[SpellingGroup]
    truncated: bool = Field(description="There are more groups: handle these first.")


class GrantBody(Reply):
    credits: Annotated[int, Field(strict=True, ge=1, le=10**9, description="One-time free credits to add.")]
    reason: Reason
    idempotency_key: Key255 = Field(description="A repeated key changes nothing.")


class GrantReply(Reply):
    grant_id: UUID
    credits: int
    free_after: int
    replayed: bool


class StatusBody(ReasonBody):
    seen_status: AccountStatus | None = Field(
        default=None, description="The status that the admin saw: 409 if it has changed."
    )
