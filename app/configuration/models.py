"""The configuration's tables: all versions of its sections, and the sealed secrets."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, LargeBinary, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

Timestamp = DateTime(timezone=True)


class ConfigurationVersion(Base):
    """A version of a section. Append-only; the last version counts. No document: back to the settings."""

    __tablename__ = "configuration_versions"
    __table_args__ = (
        CheckConstraint("section ~ '^[a-z][a-z0-9_]{0,62}$'", name="section"),
        CheckConstraint("version > 0", name="version"),
    )

    section: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    document: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True), comment="without secrets")
    reason: Mapped[str] = mapped_column(Text)
    changed_by: Mapped[str] = mapped_column(Text, comment="an admin's e-mail address, at that time")
    admin_id: Mapped[UUID] = mapped_column(ForeignKey("admin_users.admin_id", ondelete="RESTRICT"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class PaymentProvider(Base):
    """The secrets of an environment's payment provider, sealed by AES-256-GCM."""

    __tablename__ = "payment_providers"
    __table_args__ = (CheckConstraint("environment IN ('live', 'test')", name="environment"),)

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    encryption_key_id: Mapped[str] = mapped_column(Text, comment="which of ENCRYPTION_KEYS sealed it")
    sealed: Mapped[bytes] = mapped_column(LargeBinary, comment="nonce and ciphertext")
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
