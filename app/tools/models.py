"""Tables of uses per product and of their log. As in all books, `account_id` leads every key."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, DateTime, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.ledger.pools import MAX_CREDITS

Timestamp = DateTime(timezone=True)


class ProductInventory(Base):
    """An account's remaining uses of a product. No row: never used."""

    __tablename__ = "product_inventory"
    __table_args__ = (
        CheckConstraint(f"free BETWEEN 0 AND {MAX_CREDITS}", name="free"),
        CheckConstraint(f"paid BETWEEN 0 AND {MAX_CREDITS}", name="paid"),
        CheckConstraint("total_uses >= 0", name="total_uses"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    product_type: Mapped[str] = mapped_column(Text, primary_key=True)
    free: Mapped[int] = mapped_column(BigInteger, comment="free uses left on free_day")
    free_day: Mapped[date] = mapped_column(Date, comment="UTC day up to which free uses have accrued")
    paid: Mapped[int] = mapped_column(BigInteger, comment="paid uses left")
    total_uses: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class ProductUsage(Base):
    """One use of a tool: the source that paid for it, and the answer that a replay repeats."""

    __tablename__ = "product_usage_log"
    __table_args__ = (
        UniqueConstraint("account_id", "idempotency_key"),
        Index(None, "usage_log_id"),
        Index(
            "ix_product_usage_log_run_id",
            *("account_id", "run_id", "usage_log_id"),
            postgresql_where=text("run_id IS NOT NULL"),
        ),
        CheckConstraint("source IN ('free', 'paid', 'main_pool')", name="source"),
        CheckConstraint("(source = 'main_pool') = (charge_id IS NOT NULL)", name="charge_id"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    usage_log_id: Mapped[UUID] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    product_type: Mapped[str] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    charge_id: Mapped[UUID | None]
    result: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="the reply, as a replay repeats it")
    actor_type: Mapped[str] = mapped_column(Text)
    actor_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    run_id: Mapped[str | None] = mapped_column(Text, comment="the run that it belongs to")
