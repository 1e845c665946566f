"""Table of accounts that were moved from a neighbour."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class MovedAccount(Base):
    """Values of an imported account beside its money. `details` are kept for later features."""

    __tablename__ = "moved_accounts"
    __table_args__ = (CheckConstraint("origin IN ('z-billing', 'secondlayer')", name="origin"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    origin: Mapped[str] = mapped_column(Text, primary_key=True, comment="z-billing or secondlayer")
    details: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="limits, grant flags, refill and provider customers, as exported"
    )
    moved_at: Mapped[datetime] = mapped_column(Timestamp, comment="first import")
