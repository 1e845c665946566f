"""Refills, saved cards and pages that save cards, as their rows store them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from app.payments.facts import Provider

RefillStatus = Literal["in_flight", "action_required", "paid", "declined", "canceled"]
SetupStatus = Literal["open", "completed", "ended"]


@dataclass(frozen=True, slots=True)
class Refill:
    """A refill. The purchase with its id has the payment."""

    account_id: UUID
    purchase_id: UUID
    card_id: UUID
    amount_nanos: int
    status: RefillStatus
    decline: str | None
    """The provider's code."""
    action_url: str | None
    """The provider's page on which the user authenticates the payment."""
    sent_at: datetime | None
    """Before the first request to the provider. None: certainly not sent."""
    created_at: datetime
    finished_at: datetime | None
    """None: in flight."""

    @property
    def as_job(self) -> dict[str, str]:
        return {"account_id": str(self.account_id), "purchase_id": str(self.purchase_id)}


@dataclass(frozen=True, slots=True)
class Card:
    """A card that the provider has saved for the account."""

    account_id: UUID
    card_id: UUID
    consent_id: UUID
    provider: Provider
    provider_customer_id: str
    provider_method_id: str
    brand: str | None
    """None: unknown, or erased with the person, as the three below."""
    last4: str | None
    expiry_month: int | None
    expiry_year: int | None
    is_primary: bool
    created_at: datetime
    removed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Setup:
    """A page of the provider on which a user saves a card."""

    account_id: UUID
    setup_id: UUID
    consent_id: UUID
    provider: Provider
    provider_customer_id: str
    checkout_session_id: str | None
    status: SetupStatus
    success_url: str | None
    cancel_url: str | None
    created_at: datetime
