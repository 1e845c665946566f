"""Table of tickets."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class StreamTicket(Base):
    """An unused ticket for one event stream. The first use deletes it."""

    __tablename__ = "stream_tickets"
    __table_args__ = (
        CheckConstraint("length(digest) = 32", name="digest"),
        Index(None, "expires_at"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, comment="SHA-256 of the ticket")
    origin: Mapped[str | None] = mapped_column(Text, comment="of the page that may use it; null: not a browser's")
    token_id: Mapped[str] = mapped_column(Text, comment="digest of the user's token, which bounds the stream")
    token_issued_at: Mapped[datetime] = mapped_column(Timestamp)
    token_expires_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
