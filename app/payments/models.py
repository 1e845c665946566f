"""Tables of purchases, refunds, disputes, events and cursors."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.payments.customer_models import PaymentCustomer as PaymentCustomer
from app.payments.customer_models import ProviderObject as ProviderObject

Timestamp = DateTime(timezone=True)


def _provider() -> Mapped[str]:
    """Part of the keys of purchases, events and cursors. Versions without it write the default (ADR 25)."""
    return mapped_column(Text, server_default=text("'stripe'"), comment="the payment provider whose ids the row holds")


class Purchase(Base):
    """One sale of a pack or of money. Stored before Stripe is called, credited once its payment arrived as agreed."""

    __tablename__ = "purchases"
    __table_args__ = (
        # The name is older than caller_kind: earlier versions look for it when they verify the ledger (ADR 21).
        UniqueConstraint(
            "account_id", "idempotency_key", "caller_kind", name="uq_purchases_account_id_idempotency_key"
        ),
        UniqueConstraint("account_id", "payment_intent_id"),
        Index("uq_purchases_provider_payment", "account_id", "provider", "payment_intent_id", unique=True),
        Index(None, "payment_intent_id"),
        Index(
            "ix_purchases_unsettled", "created_at", postgresql_where=text("credit_id IS NULL AND status <> 'canceled'")
        ),
        Index("ix_purchases_card", "created_at", postgresql_where=text("card_fingerprint IS NOT NULL")),
        Index("ix_purchases_purchase_id", "purchase_id"),
        Index("ix_purchases_created_at", "created_at"),
        Index("ix_purchases_status_purchase_id", "status", "purchase_id"),
        Index("ix_purchases_amount_minor_purchase_id", "amount_minor", "purchase_id"),
        Index(
            "ix_purchases_card_last4",
            "card_last4",
            "purchase_id",
            postgresql_where=text("card_last4 IS NOT NULL"),
        ),
        Index("ix_purchases_refunded", "updated_at", postgresql_where=text("refunded_minor > 0")),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint(
            "status IN ('pending', 'requires_payment_method', 'requires_confirmation', 'requires_action', "
            "'requires_capture', 'processing', 'succeeded', 'failed', 'canceled', 'unknown')",
            name="status",
        ),
        CheckConstraint("provider = 'stripe'", name="provider"),
        CheckConstraint("caller_kind IN ('key', 'user', 'admin')", name="caller_kind"),
        CheckConstraint(
            "CASE WHEN unit = 'credit' THEN credits > 0 AND money_nanos = 0 ELSE credits = 0 AND money_nanos > 0 END",
            name="credits",
        ),
        CheckConstraint("unit = 'credit' OR unit = currency", name="unit"),
        CheckConstraint("discount_percent BETWEEN 0 AND 99", name="discount_percent"),
        CheckConstraint(
            "money_refunded_nanos >= 0 AND money_disputed_nanos >= 0"
            " AND money_refunded_nanos + money_disputed_nanos <= money_nanos",
            name="money_taken_back",
        ),
        CheckConstraint(
            "credit_id IS NOT NULL OR money_refunded_nanos + money_disputed_nanos = 0", name="money_credited_first"
        ),
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        CheckConstraint("refunded_minor >= 0", name="refunded_minor"),
        CheckConstraint(
            "credits_refunded >= 0 AND credits_disputed >= 0 AND credits_refunded + credits_disputed <= credits",
            name="credits_taken_back",
        ),
        CheckConstraint("(status = 'succeeded') = (credit_id IS NOT NULL)", name="succeeded"),
        CheckConstraint("credit_id IS NOT NULL OR credits_refunded + credits_disputed = 0", name="credited_first"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    purchase_id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    pack: Mapped[str] = mapped_column(Text, comment="Money: it sells money")
    unit: Mapped[str] = mapped_column(
        Text, server_default=text("'credit'"), comment="credit, or the currency of the money that it sells"
    )
    credits: Mapped[int] = mapped_column(BigInteger, comment="0: it sells money")
    money_nanos: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="money that the account receives; the price can be lower"
    )
    amount_minor: Mapped[int] = mapped_column(BigInteger, comment="price in minor units of the currency")
    currency: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    discount_percent: Mapped[Decimal] = mapped_column(
        Numeric, server_default=text("0"), comment="of the buyer's plan, on the price of money"
    )
    buyer: Mapped[str | None] = mapped_column(Text, comment="the user's id, as Stripe's page gets it")
    success_url: Mapped[str | None] = mapped_column(Text, comment="where Stripe's page returns to after the payment")
    cancel_url: Mapped[str | None] = mapped_column(Text, comment="where Stripe's page returns to without a payment")
    provider: Mapped[str] = _provider()
    checkout_session_id: Mapped[str | None] = mapped_column(Text, comment="of Stripe's page that takes the payment")
    payment_intent_id: Mapped[str | None] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(
        BigInteger, server_default=text("1"), comment="to open it at Stripe; part of the key that we send"
    )
    status: Mapped[str] = mapped_column(Text)
    status_at: Mapped[datetime] = mapped_column(Timestamp, comment="Stripe's time of the status")
    next_action: Mapped[str | None] = mapped_column(
        Text, comment="Stripe's type of the buyer's next step; counts while the status is requires_action"
    )
    received_minor: Mapped[int | None] = mapped_column(BigInteger, comment="null: not paid")
    received_currency: Mapped[str | None] = mapped_column(Text)
    review_reason: Mapped[str | None] = mapped_column(Text, comment="why a person has to look at it")
    card_fingerprint: Mapped[str | None] = mapped_column(Text, comment="Stripe's name of the card that paid")
    card_brand: Mapped[str | None] = mapped_column(
        Text, comment="as Stripe names it; without a card, the kind of payment"
    )
    card_last4: Mapped[str | None] = mapped_column(Text, comment="its last four digits, as far as Stripe tells them")
    receipt_url: Mapped[str | None] = mapped_column(Text, comment="Stripe's page with the receipt")
    credit_id: Mapped[UUID | None] = mapped_column(comment="the credit, or the credit of money, that it became")
    refunded_minor: Mapped[int] = mapped_column(BigInteger, comment="money given back so far")
    refunds_reported_minor: Mapped[int | None] = mapped_column(
        BigInteger, comment="largest total of refunds that Stripe reported; null: refunded_minor"
    )
    credits_refunded: Mapped[int] = mapped_column(BigInteger, comment="credits taken back for refunds")
    credits_disputed: Mapped[int] = mapped_column(BigInteger, comment="credits taken back for disputes")
    money_refunded_nanos: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="money taken back for refunds"
    )
    money_disputed_nanos: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="money taken back for disputes"
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
    caller_kind: Mapped[str | None] = mapped_column(
        Text,
        comment="key, user or admin: the idempotency key's kind of caller; null: unknown, so it matches every kind",
    )


class PurchaseDispute(Base):
    """A dispute of a purchase. Stripe has withdrawn `amount_minor` while it is open and once it is lost."""

    __tablename__ = "purchase_disputes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "purchase_id"], ["purchases.account_id", "purchases.purchase_id"], ondelete="RESTRICT"
        ),
        CheckConstraint("status IN ('warning', 'open', 'won', 'lost')", name="status"),
        CheckConstraint("amount_minor >= 0", name="amount_minor"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    purchase_id: Mapped[UUID] = mapped_column(primary_key=True)
    dispute_id: Mapped[str] = mapped_column(Text, primary_key=True)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(Text)
    decided_at: Mapped[datetime | None] = mapped_column(
        Timestamp, comment="Stripe's time of the decision; null: none, or a version that did not store it"
    )
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class PurchaseRefund(Base):
    """A refund of a purchase. Its money counts as refunded unless the refund failed or was canceled."""

    __tablename__ = "purchase_refunds"
    __table_args__ = (
        ForeignKeyConstraint(
            ["account_id", "purchase_id"], ["purchases.account_id", "purchases.purchase_id"], ondelete="RESTRICT"
        ),
        CheckConstraint("status IN ('pending', 'requires_action', 'succeeded', 'failed', 'canceled')", name="status"),
        CheckConstraint("amount_minor >= 0", name="amount_minor"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    purchase_id: Mapped[UUID] = mapped_column(primary_key=True)
    refund_id: Mapped[str] = mapped_column(Text, primary_key=True)
    amount_minor: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(Text)
    request_key: Mapped[str | None] = mapped_column(
        Text, comment="of the request in the audit log that asked for it; null: asked for elsewhere"
    )
    reason: Mapped[str | None] = mapped_column(Text, comment="as Stripe says it")
    created_at: Mapped[datetime] = mapped_column(Timestamp, comment="at Stripe")
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class PaymentEvent(Base):
    """The inbox of webhooks: an event's id is stored in the transaction that applies it, so it applies once."""

    __tablename__ = "payment_events"
    __table_args__ = (
        Index(None, "payment_intent_id"),
        Index("ix_payment_events_object_id", "object_id", postgresql_where=text("object_id IS NOT NULL")),
        Index(None, "received_at", "created_at", "event_id"),
        Index("uq_payment_events_provider_event", "environment", "provider", "event_id", unique=True),
        CheckConstraint("provider = 'stripe'", name="provider"),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("outcome IN ('applied', 'ignored', 'review')", name="outcome"),
    )

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    event_id: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = _provider()
    type: Mapped[str] = mapped_column(Text)
    payment_intent_id: Mapped[str | None] = mapped_column(Text)
    object_id: Mapped[str | None] = mapped_column(
        Text, comment="the subscription or invoice; null: a payment, or an earlier version"
    )
    outcome: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp, comment="at Stripe")
    received_at: Mapped[datetime] = mapped_column(Timestamp)


class PaymentCursor(Base):
    """The cursor of a provider's event log: the time up to which it has been read.

    Events about refunds have a separate time, because versions without refunds by id move the other one and do not read
    them.
    """

    __tablename__ = "payment_cursors"
    __table_args__ = (
        Index("uq_payment_cursors_provider", "environment", "provider", unique=True),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("provider = 'stripe'", name="provider"),
    )

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    provider: Mapped[str] = _provider()
    events_read_until: Mapped[datetime] = mapped_column(Timestamp)
    refunds_read_until: Mapped[datetime | None] = mapped_column(
        Timestamp, comment="up to when events about refunds have been read; null: never"
    )
    subscriptions_read_until: Mapped[datetime | None] = mapped_column(
        Timestamp, comment="up to when events about subscriptions have been read; null: never"
    )
