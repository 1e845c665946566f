"""The table of reported LLM usage."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Numeric,
    Text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class LlmUsage(Base):
    """LLM usage of an interaction, as a proxy reports it: a row for each call, or one for the whole interaction."""

    __tablename__ = "llm_usage"
    __table_args__ = (
        Index(None, "account_id", "interaction_id"),
        Index(None, "usage_log_id"),
        Index("uq_llm_usage_account_id_interaction_id_call_id", "account_id", "interaction_id", "call_id", unique=True),
        CheckConstraint(
            "total_llm_calls >= 0 AND total_prompt_tokens >= 0 AND total_completion_tokens >= 0 "
            "AND actual_cost_cents >= 0 AND duration_ms >= 0 AND error_count >= 0 AND fallback_count >= 0",
            name="not_negative",
        ),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    usage_log_id: Mapped[UUID] = mapped_column(primary_key=True)
    interaction_id: Mapped[str] = mapped_column(Text)
    call_id: Mapped[str | None] = mapped_column(Text, comment="of the report: the same one again is no other")
    total_llm_calls: Mapped[int] = mapped_column(BigInteger)
    total_prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    total_completion_tokens: Mapped[int] = mapped_column(BigInteger)
    models_used: Mapped[list[str]] = mapped_column(ARRAY(Text))
    actual_cost_cents: Mapped[Decimal] = mapped_column(Numeric(20, 10))
    duration_ms: Mapped[int] = mapped_column(BigInteger)
    error_count: Mapped[int] = mapped_column(BigInteger)
    fallback_count: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
