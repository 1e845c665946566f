"""Wire types of purchases, refunds, disputes and reconciliation."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.admin.purchases.queries import PurchaseState
from app.admin.schemas import Person, Reason
from app.auth.caller import Environment
from app.http.schemas import Key255, Reply, Timestamp
from app.payments.facts import DisputeStatus, PurchaseStatus, RefundStatus
from app.payments.settlement import Outcome


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


class PurchaseDetails(PurchaseRow):
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
