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
    pack: str = Field(description="`Money` for a purchase of money.")
    credits: int
    amount_minor: int
    currency: str
    status: PurchaseStatus
    received_minor: int | None
    received_currency: str | None = Field(
        description="Currency of the received and refunded money; if it is not the agreed one, the purchase is for "
        "review.",
    )
    refunded_minor: int
    credits_refunded: int
    credits_disputed: int
    credited: bool
    review_reason: str | None
    state: PurchaseState = Field(
        description="The status; for a succeeded purchase also whether it was refunded, in part or in full.",
    )
    card_brand: str | None = Field(description="Stripe's name of the brand; without a card, the payment method.")
    card_last4: str | None
    created_at: Timestamp
    updated_at: Timestamp
    unit: str = Field(description="`credit`, or the currency of the money that is sold.")
    money: str | None = Field(description="The money that the account receives, exact; null for a pack of credits.")
    money_refunded: str | None = Field(description="Money taken back by refunds.")
    money_disputed: str | None = Field(description="Money taken back by disputes.")
    discount_percent: str = Field(description="The plan's discount on the price of money.")
    session_id: str | None = Field(description="Of Stripe's page that takes the payment.")
    receipt_url: str | None


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
    asked_by: str | None = Field(description="The admin who requested it here, or System; null: requested at Stripe.")
    reason: str | None = Field(description="The admin's reason; for a refund requested at Stripe, Stripe's.")


class PurchaseDetails(PurchaseRow):
    events: list[PaymentEventReply]
    disputes: list[DisputeReply]
    refunds: list[RefundReply] = Field(
        description="Refunds that are known by id, oldest first. Failed ones returned no money.",
    )


class RefundBody(Reply):
    amount_minor: Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)] | None = Field(
        default=None, description="Minor units of the currency; absent: the whole remainder."
    )
    seen_refunded_minor: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] | None = Field(
        default=None, description="The refunded amount that the admin saw: 409 if it has changed."
    )
    reason: Reason
    idempotency_key: Key255


class BookedReply(Reply):
    booked: bool = Field(description="True if a payment was found and booked.")
    purchase: PurchaseRow


class ReconciledFigures(Reply):
    events: int = Field(description="Stripe events that had been missed and were applied.")
    payments: int = Field(description="Payments that had been missed and were booked.")
    failed: int = Field(description="Failures; the worker retries in a few minutes.")


class ReconciliationReply(Reply):
    job_id: int
    state: Literal["queued", "running", "finished", "failed"] = Field(
        description="queued: not started yet. failed: retry the job in /admin/system/jobs."
    )
    asked_at: Timestamp
    asked_by: str
    finished_at: Timestamp | None
    outcome: ReconciledFigures | None
    worker_seen_at: Timestamp | None = Field(
        description="Last heartbeat of any worker. Queued work waits while no worker runs.",
    )
    now: Timestamp
