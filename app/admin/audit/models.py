"""Table of the audit log."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

Timestamp = DateTime(timezone=True)


class AuditEntry(Base):
    """One change by one admin, stored with the change. Immutable; identifies customers by `target_id` only."""

    __tablename__ = "admin_audit_log"
    __table_args__ = (
        Index(None, "target_type", "target_id", "audit_id"),
        Index(None, "admin_id", "audit_id"),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("length(action) BETWEEN 1 AND 64", name="action"),
    )

    audit_id: Mapped[UUID] = mapped_column(primary_key=True, comment="grows with time")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    admin_id: Mapped[UUID] = mapped_column(ForeignKey("admin_users.admin_id", ondelete="RESTRICT"))
    admin_email: Mapped[str] = mapped_column(Text, comment="at that time")
    session_id: Mapped[UUID]
    address: Mapped[str] = mapped_column(Text)
    request_id: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text, comment="such as account.suspend")
    environment: Mapped[str | None] = mapped_column(Text)
    target_type: Mapped[str] = mapped_column(Text, comment="account, api_key, purchase, admin, session")
    target_id: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    reason: Mapped[str | None] = mapped_column(Text)
