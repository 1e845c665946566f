"""Tables of runs, and of accounts' uses of API keys outside of runs."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp
from app.ledger.runs import MAX_DEPTH


def _counter(comment: str) -> Mapped[int]:
    return mapped_column(BigInteger, server_default=text("0"), comment=comment)


class Run(Base):
    """A run of an agent: a budget, and what it and the runs below it have spent. Changes under the account's lock.

    Callers name a run by their `run_id`. The table's own id stays when the person is erased.
    """

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("account_id", "run_id"),
        ForeignKeyConstraint(["account_id", "parent_uuid"], ["runs.account_id", "runs.run_uuid"], ondelete="RESTRICT"),
        CheckConstraint(f"cardinality(ancestors) < {MAX_DEPTH}", name="depth"),
        CheckConstraint("parent_uuid IS NOT DISTINCT FROM ancestors[cardinality(ancestors)]", name="parent"),
        CheckConstraint("unit = 'credit' OR unit ~ '^[A-Z]{3}$'", name="unit"),
        CheckConstraint("(unit IS NULL) = (budget IS NULL) AND (budget IS NULL OR budget >= 0)", name="budget"),
        CheckConstraint("least(spent_credits, spent_nanos, uses) >= 0", name="spent"),
        CheckConstraint("least(minute_credits, minute_nanos) >= 0", name="minute"),
        CheckConstraint("status IN ('open', 'paused', 'closed')", name="status"),
        CheckConstraint("(status = 'paused') = (pause_reason IS NOT NULL)", name="paused"),
        CheckConstraint("(status = 'closed') = (closed_at IS NOT NULL)", name="closed_at"),
        # Not on what spending changes, so that its updates stay HOT.
        Index("ix_runs_open", "account_id", postgresql_where=text("status <> 'closed'")),
        Index("ix_runs_parent", "account_id", "parent_uuid", postgresql_where=text("parent_uuid IS NOT NULL")),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    run_uuid: Mapped[UUID] = mapped_column(primary_key=True)
    run_id: Mapped[str | None] = mapped_column(Text, comment="as the caller names it; null: the person was erased")
    parent_uuid: Mapped[UUID | None]
    ancestors: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()), comment="from the root down to the parent")
    unit: Mapped[str | None] = mapped_column(Text, comment="of the budget: credit, or the account's currency")
    budget: Mapped[int | None] = mapped_column(BigInteger, comment="credits or nanos; null: unlimited")
    status: Mapped[str] = mapped_column(Text)
    pause_reason: Mapped[str | None] = mapped_column(Text)
    spent_credits: Mapped[int] = _counter("with open holds and cost records, and with the runs below it")
    spent_nanos: Mapped[int] = _counter("as spent_credits, of money")
    uses: Mapped[int] = _counter("charges, tool uses, usage events, holds and cost records")
    minute_start: Mapped[datetime | None] = mapped_column(Timestamp, comment="of the counts of the burn-rate brake")
    minute_credits: Mapped[int] = _counter("spent since minute_start")
    minute_nanos: Mapped[int] = _counter("spent since minute_start")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="of the request that registered it")
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    closed_at: Mapped[datetime | None] = mapped_column(Timestamp)


class KeyUse(Base):
    """An account's use of an API key outside of registered runs, while a burn rate is configured (ADR 37)."""

    __tablename__ = "key_uses"
    __table_args__ = (CheckConstraint("least(minute_credits, minute_nanos) >= 0", name="minute"),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    key_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="empty: the user's own token")
    minute_start: Mapped[datetime | None] = mapped_column(Timestamp, comment="of the counts of the burn-rate brake")
    minute_credits: Mapped[int] = _counter("spent since minute_start")
    minute_nanos: Mapped[int] = _counter("spent since minute_start")
    paused_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="null: it may spend")
