"""Tables of charges, credits and free grants.

Identity and money are separate. Identities and profiles map people to an opaque `account_id`. Accounts, charges,
credits and the ledger contain only that id, and it leads every key. So the books can be sharded by account, and a
person can be erased without changing them.
"""

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
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp

CALLER_KIND = "key, user or admin: the caller whose idempotency keys this key belongs to"
GRANTS_AFTER = "grants of credits right after it, beside paid_after"


class Charge(Base):
    """Credits spent, from one or more buckets. An idempotency key is unique per `operation` and `caller_kind`."""

    __tablename__ = "charges"
    __table_args__ = (
        # The name lacks caller_kind: earlier versions look for this name when they verify the ledger (ADR 21).
        UniqueConstraint(
            "account_id",
            "operation",
            "idempotency_key",
            "caller_kind",
            name="uq_charges_account_id_operation_idempotency_key",
        ),
        UniqueConstraint("account_id", "entry_no"),
        Index(None, "charge_id"),
        Index("ix_charges_from_grants", "charge_id", postgresql_where=text("from_grants > 0")),  # for sums by day
        Index("ix_charges_run_id", "account_id", "run_id", "charge_id", postgresql_where=text("run_id IS NOT NULL")),
        CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name="caller_kind"),
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        CheckConstraint("cost = from_daily_free + from_free + from_paid + from_grants AND cost > 0", name="cost"),
        CheckConstraint(
            "from_daily_free >= 0 AND from_free >= 0 AND from_paid >= 0 AND from_grants >= 0", name="parts"
        ),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    charge_id: Mapped[UUID] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, comment="its last ledger entry: the account's order of events")
    operation: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    cost: Mapped[int] = mapped_column(BigInteger)
    from_daily_free: Mapped[int] = mapped_column(BigInteger)
    from_free: Mapped[int] = mapped_column(BigInteger)
    from_paid: Mapped[int] = mapped_column(BigInteger)
    paid_after: Mapped[int] = mapped_column(BigInteger)
    description: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    caller_kind: Mapped[str | None] = mapped_column(Text, comment=CALLER_KIND)
    from_grants: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    grants_after: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment=GRANTS_AFTER)
    run_id: Mapped[str | None] = mapped_column(Text, comment="the run that it belongs to")


def _charge(column: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["account_id", column], ["charges.account_id", "charges.charge_id"], ondelete="RESTRICT"
    )


DOUBLES = text("double_of IS NOT NULL")


class ChargePurpose(Base):
    """A charge of an API key that asks for double charges: the first with its purpose, or one that repeats it."""

    __tablename__ = "charge_purposes"
    __table_args__ = (
        _charge("charge_id"),
        _charge("double_of"),
        UniqueConstraint("account_id", "purpose"),
        CheckConstraint("purpose IS NULL OR (octet_length(purpose) = 32 AND double_of IS NULL)", name="purpose"),
        CheckConstraint("double_of <> charge_id", name="double_of"),
        Index("ix_charge_purposes_doubles", "charge_id", postgresql_where=DOUBLES),
        Index("ix_charge_purposes_doubles_of_account", "account_id", "charge_id", postgresql_where=DOUBLES),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    charge_id: Mapped[UUID] = mapped_column(primary_key=True)
    purpose: Mapped[bytes | None] = mapped_column(
        LargeBinary, comment="digest, of the first charge with it; null: a double one, or the person was erased"
    )
    double_of: Mapped[UUID | None] = mapped_column(comment="the first charge with its purpose")


class Credit(Base):
    """Paid credits given. A negative number: taken back."""

    __tablename__ = "credits"
    __table_args__ = (
        UniqueConstraint("account_id", "idempotency_key", "caller_kind", name="uq_credits_account_id_idempotency_key"),
        UniqueConstraint("account_id", "entry_no"),
        CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name="caller_kind"),
        CheckConstraint("credits <> 0", name="credits"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    credit_id: Mapped[UUID] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, comment="its last ledger entry: the account's order of events")
    transaction_type: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    external_transaction_id: Mapped[str | None] = mapped_column(Text)
    credits: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    paid_after: Mapped[int] = mapped_column(BigInteger)
    description: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    caller_kind: Mapped[str | None] = mapped_column(Text, comment=f"{CALLER_KIND}; null: Stripe's bookings")
    grants_after: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment=GRANTS_AFTER)


class FreeGrant(Base):
    """Credits that an admin added to the one-time free pool."""

    __tablename__ = "free_grants"
    __table_args__ = (
        UniqueConstraint("account_id", "idempotency_key"),
        UniqueConstraint("account_id", "entry_no"),
        CheckConstraint("credits > 0", name="credits"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    grant_id: Mapped[UUID] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, comment="of its ledger entry")
    idempotency_key: Mapped[str | None] = mapped_column(Text, comment="null: the person was erased")
    credits: Mapped[int] = mapped_column(BigInteger)
    free_after: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
