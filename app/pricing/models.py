"""The tables of prices: versions of price books, their activations, and models without a price."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class PriceBookVersion(Base):
    """A version of a price book. Append-only. It prices nothing until an activation puts it in force."""

    __tablename__ = "price_books"
    __table_args__ = (
        CheckConstraint("version > 0", name="version"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("based_on < version", name="based_on"),
    )

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)
    currency: Mapped[str] = mapped_column(Text)
    document: Mapped[dict[str, Any]] = mapped_column(JSONB(none_as_null=True))
    based_on: Mapped[int | None] = mapped_column(ForeignKey("price_books.version", ondelete="RESTRICT"))
    reason: Mapped[str] = mapped_column(Text)
    proposed_by: Mapped[str] = mapped_column(Text, comment="an admin's e-mail address at that time, or the command")
    admin_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("admin_users.admin_id", ondelete="RESTRICT"), comment="null: the command line"
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class PriceBookActivation(Base):
    """A version's entry into force. Append-only: the latest effective time counts, of equal ones the higher number."""

    __tablename__ = "price_book_activations"
    __table_args__ = (
        CheckConstraint("activation_no > 0", name="activation_no"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    )

    activation_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(ForeignKey("price_books.version", ondelete="RESTRICT"))
    currency: Mapped[str] = mapped_column(Text, comment="the version's")
    effective_at: Mapped[datetime] = mapped_column(Timestamp, comment="events from then on have its prices")
    reason: Mapped[str] = mapped_column(Text)
    activated_by: Mapped[str] = mapped_column(Text, comment="an admin's e-mail address at that time, or the command")
    admin_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("admin_users.admin_id", ondelete="RESTRICT"), comment="null: the command line"
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class UnknownModelSeen(Base):
    """A model that usage named and no price book in force had a price for."""

    __tablename__ = "unknown_models"
    __table_args__ = (
        CheckConstraint("events > 0", name="events"),
        CheckConstraint("outcome IN ('refused', 'stated_price')", name="outcome"),
    )

    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    model: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[str] = mapped_column(Text, comment="of the last event: no_row, disputed, …")
    missing: Mapped[str | None] = mapped_column(Text, comment="of the last event: the mode or class without a price")
    outcome: Mapped[str] = mapped_column(Text, comment="of the last event")
    events: Mapped[int] = mapped_column(BigInteger)
    first_seen_at: Mapped[datetime] = mapped_column(Timestamp)
    last_seen_at: Mapped[datetime] = mapped_column(Timestamp)
