"""Tables of consents, pages that save cards, saved cards and refills. Changes happen under the account's lock."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


def _of_account(column: str, table: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["account_id", column], [f"{table}.account_id", f"{table}.{column}"], ondelete="RESTRICT"
    )


class CardConsent(Base):
    """A user's consent to save a card and to pay refills with it. Append-only; an erasure deletes the address."""

    __tablename__ = "card_consents"
    __table_args__ = (CheckConstraint("actor_type = 'user'", name="actor_type"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    consent_id: Mapped[UUID] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text, comment="as the user saw it")
    address: Mapped[str | None] = mapped_column(Text, comment="of the user; null: erased with the person")
    actor_type: Mapped[str] = mapped_column(Text)
    given_at: Mapped[datetime] = mapped_column(Timestamp)


class CardSetup(Base):
    """A page of the provider on which a user saves a card."""

    __tablename__ = "card_setups"
    __table_args__ = (
        CheckConstraint("provider = 'stripe'", name="provider"),
        CheckConstraint("status IN ('open', 'completed', 'ended')", name="status"),
        _of_account("consent_id", "card_consents"),
        Index("ix_card_setups_open", "updated_at", postgresql_where=text("status = 'open'")),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    setup_id: Mapped[UUID] = mapped_column(primary_key=True)
    consent_id: Mapped[UUID]
    provider: Mapped[str] = mapped_column(Text)
    provider_customer_id: Mapped[str] = mapped_column(Text)
    checkout_session_id: Mapped[str | None] = mapped_column(
        Text, comment="of the page that saves the card; null: not opened"
    )
    status: Mapped[str] = mapped_column(Text)
    success_url: Mapped[str | None] = mapped_column(Text)
    cancel_url: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class SavedCard(Base):
    """A card that the provider has stored. The primary one pays refills."""

    __tablename__ = "saved_cards"
    __table_args__ = (
        CheckConstraint("provider = 'stripe'", name="provider"),
        CheckConstraint("NOT (is_primary AND removed_at IS NOT NULL)", name="is_primary"),
        CheckConstraint("expiry_month BETWEEN 1 AND 12", name="expiry_month"),
        CheckConstraint("expiry_year BETWEEN 2000 AND 9999", name="expiry_year"),
        _of_account("consent_id", "card_consents"),
        UniqueConstraint("account_id", "provider", "provider_method_id"),
        Index("uq_saved_cards_primary", "account_id", unique=True, postgresql_where=text("is_primary")),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    card_id: Mapped[UUID] = mapped_column(primary_key=True)
    consent_id: Mapped[UUID]
    provider: Mapped[str] = mapped_column(Text)
    provider_customer_id: Mapped[str] = mapped_column(Text)
    provider_method_id: Mapped[str] = mapped_column(Text)
    brand: Mapped[str | None] = mapped_column(Text, comment="null: unknown, or erased with the person, as the others")
    last4: Mapped[str | None] = mapped_column(Text)
    expiry_month: Mapped[int | None] = mapped_column(BigInteger)
    expiry_year: Mapped[int | None] = mapped_column(BigInteger)
    is_primary: Mapped[bool] = mapped_column(comment="refills are paid with it")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    removed_at: Mapped[datetime | None] = mapped_column(Timestamp)


class Refill(Base):
    """A refill: the purchase with this id, paid with a saved card. At most one of an account is in flight."""

    __tablename__ = "refills"
    __table_args__ = (
        CheckConstraint("amount_nanos > 0", name="amount"),
        CheckConstraint("status IN ('in_flight', 'action_required', 'paid', 'declined', 'canceled')", name="status"),
        CheckConstraint("(finished_at IS NULL) = (status IN ('in_flight', 'action_required'))", name="finished_at"),
        _of_account("purchase_id", "purchases"),
        _of_account("card_id", "saved_cards"),
        Index("uq_refills_in_flight", "account_id", unique=True, postgresql_where=text("finished_at IS NULL")),
        Index("ix_refills_created_at", "created_at"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    purchase_id: Mapped[UUID] = mapped_column(primary_key=True)
    card_id: Mapped[UUID]
    amount_nanos: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(Text)
    decline: Mapped[str | None] = mapped_column(Text, comment="the provider's code")
    action_url: Mapped[str | None] = mapped_column(
        Text, comment="the provider's page on which the user authenticates the payment"
    )
    sent_at: Mapped[datetime | None] = mapped_column(
        Timestamp, comment="before the first request to the provider; null: certainly not sent"
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    finished_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="null: in flight")
