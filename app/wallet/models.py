"""Tables of money that was given or taken back, of grants that an account gets once, and of referrals.

Grants are the ledger's table (app.ledger.models).
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class MoneyCredit(Base):
    """Money given: bought, or a gift. A negative amount: taken back. The cause of its ledger entries."""

    __tablename__ = "money_credits"
    __table_args__ = (
        UniqueConstraint("account_id", "idempotency_key", "caller_kind"),
        UniqueConstraint("account_id", "entry_no"),
        # Reports add up the amounts by day.
        Index(
            "ix_money_credits_created_at",
            "created_at",
            postgresql_include=["account_id", "transaction_type", "amount_nanos", "currency"],
        ),
        CheckConstraint("amount_nanos <> 0", name="amount_nanos"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name="caller_kind"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    money_credit_id: Mapped[UUID] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, comment="its last ledger entry: the account's order of events")
    transaction_type: Mapped[str] = mapped_column(Text, comment="the kind of its entries")
    amount_nanos: Mapped[int] = mapped_column(BigInteger, comment="in nanos of the currency; negative: taken back")
    currency: Mapped[str] = mapped_column(Text, comment="the account's")
    balance_after_nanos: Mapped[int] = mapped_column(BigInteger, comment="money and live grants right after it")
    idempotency_key: Mapped[str | None] = mapped_column(Text, comment="null: none was given, or the person was erased")
    caller_kind: Mapped[str | None] = mapped_column(
        Text, comment="key, user or admin: the caller of the idempotency key; null: a payment provider's booking"
    )
    external_transaction_id: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class GrantClaim(Base):
    """A grant that an account gets once: one row per account, kind and occasion. Never deleted."""

    __tablename__ = "grant_claims"
    __table_args__ = (
        CheckConstraint("kind ~ '^[a-z][a-z_]{0,31}$'", name="kind"),
        ForeignKeyConstraint(["account_id", "grant_id"], ["grants.account_id", "grants.grant_id"], ondelete="RESTRICT"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True, comment="signup, daily, referral")
    occasion: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="a day, or the other account of a referral; else empty"
    )
    grant_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Referral(Base):
    """The inviter of an account. It pays both once the account has settled a payment."""

    __tablename__ = "referrals"
    __table_args__ = (
        CheckConstraint("inviter_id <> account_id", name="inviter"),
        CheckConstraint("paid_at IS NULL OR due_at IS NOT NULL", name="paid_at"),
        Index("ix_referrals_due", "account_id", postgresql_where=text("due_at IS NOT NULL AND paid_at IS NULL")),
    )

    account_id: Mapped[UUID] = mapped_column(
        ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True, comment="the invited account"
    )
    inviter_id: Mapped[UUID] = mapped_column(comment="the other account, which may be on another shard")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    due_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="since it has settled a payment; null: it waits")
    paid_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="when both had their grants")
