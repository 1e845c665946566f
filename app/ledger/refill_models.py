"""Table of the settings of automatic refills."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class RefillSettings(Base):
    """An account's settings of refills, and when the next is decided. Changes under the account's lock."""

    __tablename__ = "refill_settings"
    __table_args__ = (
        CheckConstraint("trigger_below_nanos > 0", name="trigger_below"),
        CheckConstraint("amount_nanos > 0", name="amount"),
        CheckConstraint("monthly_cap_nanos >= amount_nanos", name="monthly_cap"),
        CheckConstraint("off_reason IN ('declined', 'disputed', 'suspended', 'closed')", name="off_reason"),
        CheckConstraint(
            "(off_reason IS NULL) = (off_at IS NULL) AND NOT (enabled AND off_reason IS NOT NULL)", name="off_at"
        ),
        CheckConstraint("declines >= 0", name="declines"),
        Index("ix_refill_settings_enabled", "account_id", postgresql_where=text("enabled")),
        Index("ix_refill_settings_declined", "last_declined_at", "account_id", postgresql_where=text("declines > 0")),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    enabled: Mapped[bool]
    trigger_below_nanos: Mapped[int] = mapped_column(BigInteger)
    amount_nanos: Mapped[int] = mapped_column(BigInteger, comment="the exact price and amount of each refill")
    monthly_cap_nanos: Mapped[int | None] = mapped_column(BigInteger, comment="null: the operator's")
    off_reason: Mapped[str | None] = mapped_column(
        Text, comment="why the service switched refills off; null: it did not"
    )
    off_at: Mapped[datetime | None] = mapped_column(Timestamp)
    declines: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="in a row")
    last_declined_at: Mapped[datetime | None] = mapped_column(Timestamp)
    last_decline: Mapped[str | None] = mapped_column(Text, comment="the provider's code")
    last_started_at: Mapped[datetime | None] = mapped_column(Timestamp)
    check_at: Mapped[datetime | None] = mapped_column(
        Timestamp, comment="when a job decides about the next refill; null: spending starts one"
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
