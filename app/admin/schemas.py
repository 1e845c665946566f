"""The wire format of the back office. Credits are whole credits here, never hundredths; prices are minor units."""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, IPvAnyNetwork, StringConstraints

from app.admin.reports import PurchaseState
from app.admin.timeline import TimelineKind
from app.auth.admins import MAX_EMAIL_CHARS, Role
from app.auth.caller import Environment, Permission
from app.auth.keys import MAX_NAME_CHARS, MAX_SUBJECT_CHARS, KeyFacts, KeyStatus
from app.auth.service import MAX_ALLOWED_NETWORKS, MAX_RATE_LIMIT_PER_MINUTE
from app.http.schemas import Key255, Reply, Timestamp
from app.payments.booking import Outcome
from app.payments.facts import DisputeStatus, PurchaseStatus, RefundStatus
from app.timestamps import FIRST_YEAR, LAST_YEAR, bounded

Reason = Annotated[str, StringConstraints(min_length=3, max_length=500, strip_whitespace=True, pattern=r"^[^\x00]+$")]
KeyName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=r"^[^\x00]+$")]
ClientSubject = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SUBJECT_CHARS)]
CLIENT_SUBJECT = "Subject of the client certificate that requests must come with; null: none is needed."


Moment = Annotated[Timestamp, AfterValidator(bounded), Field(description=f"Of the years {FIRST_YEAR} to {LAST_YEAR}.")]
"""A time in a request."""

_INVISIBLE = ("Cc", "Cf", "Zl", "Zp", "Zs")


def _trimmed(text: str) -> str:
    """The text without the blanks, line breaks and invisible signs around it."""
    kept = [i for i, sign in enumerate(text) if not sign.isspace() and unicodedata.category(sign) not in _INVISIBLE]
    if not kept:
        raise ValueError("holds nothing but blanks")
    return text[kept[0] : kept[-1] + 1]


Pasted = Annotated[Key255, AfterValidator(_trimmed)]
"""A text to look for, which may have been pasted with blanks around it."""

PAGE = {"sort", "limit", "cursor"}
"""Of what a list is asked for, all that is no filter."""


class WhoAmI(Reply):
    admin_id: UUID
    email: str
    role: Role
    expires_at: Timestamp
    credit_limit: int | None = Field(description="How many credits the admin may give or take at once; null: any.")
    csrf_token: str = Field(description="To be sent as X-CSRF-Token with every write by cookie.")


# --- admins ---


class AdminBody(Reply):
    email: Annotated[str, StringConstraints(max_length=MAX_EMAIL_CHARS)]
    role: Role


class AdminChange(Reply):
    role: Role | None = None
    disabled: bool | None = None


class AdminReply(Reply):
    admin_id: UUID
    email: str
    role: Role
    created_at: Timestamp
    disabled_at: Timestamp | None


class AdminsReply(Reply):
    admins: list[AdminReply]


class SessionReply(Reply):
    session_id: UUID
    address: str
    user_agent: str
    created_at: Timestamp
    expires_at: Timestamp
    current: bool = Field(description="The session of this request.")


class SessionsReply(Reply):
    sessions: list[SessionReply]


class RevokedReply(Reply):
    revoked: int


# --- API keys ---


class KeyBody(Reply):
    environment: Environment
    name: KeyName
    permissions: Annotated[set[Permission], Field(min_length=1)]
    expires_at: Moment | None = None
    ip_allow_list: Annotated[list[IPvAnyNetwork], Field(max_length=MAX_ALLOWED_NETWORKS)] = Field(default=[])
    client_subject: ClientSubject | None = Field(default=None, description=CLIENT_SUBJECT)
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT_PER_MINUTE)] | None = None


class KeyChange(Reply):
    """Only what is given changes; null takes an expiry, a certificate or a rate limit away."""

    name: KeyName | None = None
    permissions: Annotated[set[Permission], Field(min_length=1)] | None = None
    expires_at: Moment | None = None
    ip_allow_list: Annotated[list[IPvAnyNetwork], Field(max_length=MAX_ALLOWED_NETWORKS)] | None = None
    client_subject: ClientSubject | None = Field(default=None, description=CLIENT_SUBJECT)
    rate_limit_per_minute: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT_PER_MINUTE)] | None = None


class KeyReply(Reply):
    key_id: str
    environment: Environment
    name: str
    status: KeyStatus
    permissions: list[Permission]
    ip_allow_list: list[str]
    client_subject: str | None = Field(description=CLIENT_SUBJECT)
    rate_limit_per_minute: int | None
    created_at: Timestamp
    expires_at: Timestamp | None
    revoked_at: Timestamp | None
    rotated_to: str | None
    grace_ends_at: Timestamp | None
    last_used_at: Timestamp | None
    requests_total: int = Field(description="Requests that it authenticated; those of the last minute may be missing.")
    credits_charged: int = Field(
        description="Credits that its charges and tool uses took from main pools, free ones too."
    )

    @classmethod
    def of(cls, key: KeyFacts, credits_charged: int, now: datetime) -> "KeyReply":
        return cls(**key_facts(key), credits_charged=credits_charged, status=key.status(now))


class KeysReply(Reply):
    api_keys: list[KeyReply]
    rotation_grace_s: int = Field(description="How long a key works on after it is rotated.")


class NewKeyReply(Reply):
    key_id: str
    api_key: str = Field(description="The whole key. It is shown this once and stored nowhere.")


def key_facts(key: KeyFacts) -> dict[str, Any]:
    """Everything about a key as texts and times: nothing of it is secret."""
    facts = {name: getattr(key, name) for name in KeyFacts.__slots__}
    return {
        **facts,
        "permissions": sorted(permission.value for permission in key.permissions),
        "ip_allow_list": [str(network) for network in key.ip_allow_list],
    }


# --- audit log ---


class AuditEntryReply(Reply):
    audit_id: UUID
    created_at: Timestamp
    admin_id: UUID
    admin_email: str
    address: str
    request_id: str
    action: str
    environment: Environment | None
    target_type: str
    target_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None


class AuditRow(AuditEntryReply):
    person: "Person | None" = Field(description="Whom an account or a purchase belongs to; null for everything else.")


class AuditLogReply(Reply):
    entries: list[AuditRow]
    next_cursor: UUID | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


# --- users ---

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


class SpellingGroup(Reply):
    users: list[UserRow]


class SpellingsReply(Reply):
    groups: list[SpellingGroup]
    truncated: bool = Field(description="There are more groups: act on these first.")


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


class GrantBody(Reply):
    credits: Annotated[int, Field(strict=True, ge=1, le=10**9, description="One-time free credits to add.")]
    reason: Reason
    idempotency_key: Key255 = Field(description="The same key again changes nothing.")


class GrantReply(Reply):
    grant_id: UUID
    credits: int
    free_after: int
    replayed: bool


class ReasonBody(Reply):
    reason: Reason


class StatusBody(ReasonBody):
    seen_status: AccountStatus | None = Field(
        default=None, description="The status that the admin saw: 409 if it is another one by now."
    )


class EraseBody(Reply):
    confirm: Key255 = Field(description="The account's external id, or its account id: what is about to be erased.")
    reason: Reason


# --- purchases ---


class Person(Reply):
    """Who an account belongs to, as far as it is known. Of an erased person nothing is."""

    customer_email: str | None
    display_name: str | None
    external_id: str | None
    erased: bool

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Person":
        return cls(**{name: row[name] for name in cls.model_fields})


class PurchaseRow(Reply):
    account_id: UUID
    buyer: Person
    purchase_id: UUID
    environment: Environment
    payment_id: str | None
    pack: str
    credits: int
    amount_minor: int
    currency: str
    status: PurchaseStatus
    received_minor: int | None
    received_currency: str | None = Field(description="Of what arrived and went back; another than agreed: for review.")
    refunded_minor: int
    credits_refunded: int
    credits_disputed: int
    credited: bool
    review_reason: str | None
    state: PurchaseState = Field(description="The status, or how much of the money of a succeeded one went back.")
    card_brand: str | None = Field(description="As Stripe names it; of what is no card, the kind of payment.")
    card_last4: str | None
    created_at: Timestamp
    updated_at: Timestamp


class PurchasesReply(Reply):
    purchases: list[PurchaseRow]
    next_cursor: UUID | None


class PaymentEventReply(Reply):
    event_id: str
    type: str
    outcome: Outcome
    created_at: Timestamp
    received_at: Timestamp


class DisputeReply(Reply):
    dispute_id: str
    amount_minor: int
    status: DisputeStatus
    updated_at: Timestamp


class RefundReply(Reply):
    refund_id: str
    amount_minor: int
    status: RefundStatus
    created_at: Timestamp
    asked_by: str | None = Field(
        description="The admin who asked for it here, or System; null: it was asked for at Stripe."
    )
    reason: str | None = Field(description="The admin's; of one asked for at Stripe, Stripe's.")


class PurchaseReply(PurchaseRow):
    events: list[PaymentEventReply]
    disputes: list[DisputeReply]
    refunds: list[RefundReply] = Field(description="Known by id, oldest first. Those that failed gave nothing back.")


class RefundBody(Reply):
    amount_minor: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)] | None = Field(
        default=None, description="Minor units of the currency; absent: all that is left."
    )
    seen_refunded_minor: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] | None = Field(
        default=None, description="What the admin saw as refunded so far: 409 if it is another sum by now."
    )
    reason: Reason
    idempotency_key: Key255


class BookedReply(Reply):
    booked: bool = Field(description="Whether money turned out to have arrived.")
    purchase: PurchaseRow


class ReconciledFigures(Reply):
    events: int = Field(description="Of Stripe's that were caught up on.")
    payments: int = Field(description="That were caught up on.")
    failed: int = Field(description="What could not be done; the worker tries again in a few minutes.")


class ReconciliationReply(Reply):
    job_id: int
    state: Literal["queued", "running", "finished", "failed"] = Field(
        description="queued: nothing has happened yet. failed: /admin/system/jobs has it, to be retried."
    )
    asked_at: Timestamp
    asked_by: str
    finished_at: Timestamp | None
    outcome: ReconciledFigures | None
    worker_seen_at: Timestamp | None = Field(description="While it is silent, what is queued waits.")
    now: Timestamp
