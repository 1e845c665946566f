"""Table of refused requests."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class RefusedRequest(Base):
    """A refused request, for a limited time, and the reason: 402, or 409 for a probable double charge."""

    __tablename__ = "refused_requests"
    __table_args__ = (Index(None, "request_id"), Index(None, "refusal_id"))

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    refusal_id: Mapped[UUID] = mapped_column(primary_key=True)
    request_id: Mapped[str | None] = mapped_column(Text, comment="X-Request-ID; null: the person was erased")
    key_id: Mapped[str | None] = mapped_column(Text, comment="the API key of the request; null: a user's token")
    route: Mapped[str] = mapped_column(Text, comment="as declared, without ids")
    code: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text, comment="the sentence of the answer")
    figures: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="the other members of the answer")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
