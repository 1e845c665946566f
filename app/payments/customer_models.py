"""Tables of customers at payment providers, and of the accounts that providers' objects belong to."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class PaymentCustomer(Base):
    """An account's customer at a payment provider. Stored before the provider is called, so that a crash loses none."""

    __tablename__ = "payment_customers"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("provider = 'stripe'", name="provider"),
        CheckConstraint("attempt > 0", name="attempt"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    provider: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="the payment provider whose ids the row holds"
    )
    environment: Mapped[str] = mapped_column(Text, comment="the account's")
    customer_id: Mapped[str | None] = mapped_column(Text, comment="at the provider; null: not created, or not noted")
    attempt: Mapped[int] = mapped_column(
        BigInteger, server_default=text("1"), comment="to create it at the provider; part of the key that we send"
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class ProviderObject(Base):
    """An object of a payment provider and the account that it belongs to, so that events find the account.

    Its key crosses accounts, like that of an identity. The other tables of subscriptions are keyed by account.
    """

    __tablename__ = "provider_objects"
    __table_args__ = (
        Index(None, "account_id"),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("provider = 'stripe'", name="provider"),
        CheckConstraint("kind IN ('customer', 'subscription', 'invoice', 'payment')", name="kind"),
        CheckConstraint("(kind = 'payment') = (parent_id IS NOT NULL)", name="parent_id"),
    )

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    object_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="at the provider")
    kind: Mapped[str] = mapped_column(Text, comment="customer, subscription, invoice or payment")
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"))
    parent_id: Mapped[str | None] = mapped_column(Text, comment="of a payment: its invoice")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
