"""Tables of administrators and their sessions."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class AdminUser(Base):
    """A person with access to the back office."""

    __tablename__ = "admin_users"
    __table_args__ = (
        CheckConstraint("email = lower(email) AND email LIKE '%_@_%' AND length(email) <= 254", name="email"),
        CheckConstraint("role IN ('viewer', 'support', 'admin')", name="role"),
    )

    admin_id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    role: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    disabled_at: Mapped[datetime | None] = mapped_column(Timestamp)


class AdminSession(Base):
    """An admin's session, named by the `jti` of its token."""

    __tablename__ = "admin_sessions"
    __table_args__ = (Index(None, "admin_id", "created_at"), Index(None, "expires_at"))

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    admin_id: Mapped[UUID] = mapped_column(ForeignKey("admin_users.admin_id", ondelete="RESTRICT"))
    address: Mapped[str] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime] = mapped_column(Timestamp, comment="moves on while the session is used")
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)
