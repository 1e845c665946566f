"""What is unusual, by rules that operators change, and what was found."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, DateTime, Index, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

Timestamp = DateTime(timezone=True)
_RULES = "'accounts_per_key', 'purchases_per_card', 'refunds_per_account', 'spend_spike'"


class AlertRule(Base):
    """From when on something is unusual, and what is done by itself. Every rule has its row, from the migration on."""

    __tablename__ = "alert_rules"
    __table_args__ = (
        CheckConstraint(f"rule IN ({_RULES})", name="rule"),
        CheckConstraint("action IN ('off', 'notify', 'hold', 'suspend')", name="action"),
        # A key is many people's: a person decides about it, in the keys' own page.
        CheckConstraint("rule <> 'accounts_per_key' OR action IN ('off', 'notify')", name="keys_only_notify"),
        CheckConstraint("threshold > 0", name="threshold"),
        CheckConstraint("window_h BETWEEN 1 AND 720", name="window_h"),
        CheckConstraint("minimum >= 0", name="minimum"),
    )

    rule: Mapped[str] = mapped_column(Text, primary_key=True)
    action: Mapped[str] = mapped_column(Text)
    threshold: Mapped[int] = mapped_column(BigInteger)
    window_h: Mapped[int] = mapped_column(BigInteger)
    minimum: Mapped[int] = mapped_column(BigInteger, comment="credits below which a spike is none")


class Alert(Base):
    """One finding: a subject's on a day, once, however often and by how many workers it was found."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("environment", "rule", "subject", "day"),
        Index("ix_alerts_open", "alert_id", postgresql_where=text("status = 'open'")),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint(f"rule IN ({_RULES})", name="rule"),
        CheckConstraint("status IN ('open', 'dismissed', 'acted')", name="status"),
        CheckConstraint("stopped IN ('hold', 'suspend')", name="stopped"),
        CheckConstraint("(decided_at IS NULL) = (decided_by IS NULL)", name="decided"),
    )

    alert_id: Mapped[UUID] = mapped_column(primary_key=True, comment="grows with time")
    environment: Mapped[str] = mapped_column(Text)
    rule: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text, comment="an API key's id, an account's id, a card's digest")
    day: Mapped[date] = mapped_column(Date, comment="UTC day on which it was first seen")
    observed: Mapped[int] = mapped_column(BigInteger, comment="the most that was seen")
    usual: Mapped[int | None] = mapped_column(BigInteger, comment="what the account spends on a day, for a spike")
    threshold: Mapped[int] = mapped_column(BigInteger, comment="of the rule, at that time")
    window_h: Mapped[int] = mapped_column(BigInteger, comment="of the rule, at that time")
    account_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()), comment="that can be stopped for it")
    exempt_ids: Mapped[list[UUID]] = mapped_column(
        ARRAY(Uuid()),
        server_default=text("'{}'"),
        comment="accounts that stopped does not cover: a person let them go on",
    )
    status: Mapped[str] = mapped_column(Text, server_default=text("'open'"))
    stopped: Mapped[str | None] = mapped_column(Text, comment="hold or suspend: what its accounts are under")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    last_seen_at: Mapped[datetime] = mapped_column(Timestamp)
    decided_at: Mapped[datetime | None] = mapped_column(Timestamp)
    decided_by: Mapped[str | None] = mapped_column(Text, comment="an admin's e-mail address, at that time")
    reopened_at: Mapped[datetime | None] = mapped_column(
        Timestamp, comment="when a later finding opened it again after the decision"
    )
