"""Purchases as typed values: one frozen dataclass for each row shape that the package's code reads."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.auth.caller import CallerKind, Environment
from app.payments.facts import Provider, PurchaseStatus


@dataclass(frozen=True, slots=True)
class PurchaseKey:
    """The primary key of a purchase."""

    account_id: UUID
    purchase_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One sale of a pack, as its row stores it. Amounts are minor units of a currency; the rest is in credits.

    The account's lock guards the row. Code under the lock derives the next state with `dataclasses.replace` and stores
    it with `queries.update_purchase`.
    """

    account_id: UUID
    purchase_id: UUID
    environment: Environment
    pack: str
    credits: int
    amount_minor: int
    currency: str
    caller_kind: CallerKind | None
    """None: written by a version that did not store it. Such a purchase matches every kind of caller."""
    idempotency_key: str | None
    provider: Provider
    provider_payment_id: str | None = None
    """None: not opened at the provider yet, or opened and not noted. The column is `payment_intent_id` (ADR 25)."""
    attempt: int = 1
    """Part of the idempotency key at the provider; grows when the provider fails."""
    status: PurchaseStatus = "pending"
    status_at: datetime
    next_action: str | None = None
    received_minor: int | None = None
    """None: not paid."""
    received_currency: str | None = None
    review_reason: str | None = None
    card_fingerprint: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    credit_id: UUID | None = None
    """The credit that the purchase became. None: its credits are not booked."""
    refunded_minor: int = 0
    refunds_reported_minor: int | None = None
    credits_refunded: int = 0
    credits_disputed: int = 0
    created_at: datetime
    updated_at: datetime

    @property
    def key(self) -> PurchaseKey:
        return PurchaseKey(self.account_id, self.purchase_id)

    @property
    def is_booked(self) -> bool:
        """Whether the purchase's credits are in the ledger."""
        return self.credit_id is not None

    @property
    def as_job(self) -> dict[str, str]:
        """The arguments of a job about this purchase."""
        return {"account_id": str(self.account_id), "purchase_id": str(self.purchase_id)}
