"""Tables of the rules for unusual activity, which operators change, and of the alerts that they raised."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, DateTime, Index, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

Timestamp = DateTime(timezone=True)
_RULES = "'accounts_per_key', 'purchases_per_card', 'refunds_per_account', 'spend_spike'"


class AlertRule(Base):
    """A rule: the threshold of unusual activity and the automatic action. The migration inserts a row for each."""

    __tablename__ = "alert_rules"
    __table_args__ = (
        CheckConstraint(f"rule IN ({_RULES})", name="rule"),
        CheckConstraint("action IN ('off', 'notify', 'hold', 'suspend')", name="action"),
        # Many people share a key, so an admin decides about it on the page of API keys.
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
    """One finding about a subject on a day, stored once, even if several workers find it several times."""

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("environment", "rule", "subject", "day"),
        Index("ix_alerts_open", "alert_id", postgresql_where=text("status = 'open'")),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint(f"rule IN ({_RULES}, 'burn_rate')", name="rule"),
        CheckConstraint("status IN ('open', 'dismissed', 'acted')", name="status"),
        CheckConstraint("stopped IN ('hold', 'suspend')", name="stopped"),
        CheckConstraint("(decided_at IS NULL) = (decided_by IS NULL)", name="decided"),
    )

    alert_id: Mapped[UUID] = mapped_column(primary_key=True, comment="grows with time")
    environment: Mapped[str] = mapped_column(Text)
    rule: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text, comment="an API key's id, an account's id, a card's digest")
    day: Mapped[date] = mapped_column(Date, comment="UTC day on which it was first seen")
    observed: Mapped[int] = mapped_column(BigInteger, comment="the highest value seen")
    usual: Mapped[int | None] = mapped_column(BigInteger, comment="for a spike: the account's usual spending on a day")
    threshold: Mapped[int] = mapped_column(BigInteger, comment="of the rule, at that time")
    window_h: Mapped[int] = mapped_column(BigInteger, comment="of the rule, at that time")
    account_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()), comment="accounts that can be stopped for it")
    exempt_ids: Mapped[list[UUID]] = mapped_column(
        ARRAY(Uuid()),
        server_default=text("'{}'"),
        comment="accounts that an admin released, which stopped does not cover",
    )
    status: Mapped[str] = mapped_column(Text, server_default=text("'open'"))
    stopped: Mapped[str | None] = mapped_column(Text, comment="hold or suspend: how its accounts are stopped")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    last_seen_at: Mapped[datetime] = mapped_column(Timestamp)
    decided_at: Mapped[datetime | None] = mapped_column(Timestamp)
    decided_by: Mapped[str | None] = mapped_column(Text, comment="an admin's e-mail address, at that time")
    reopened_at: Mapped[datetime | None] = mapped_column(
        Timestamp, comment="when a later finding opened it again after the decision"
    )
