"""Tables of subscriptions: the provider's facts, the subscribers' terms, and what periods have granted.

All are keyed by account. `provider_objects` of payments finds the account of a provider's object.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp

ENVIRONMENT = "environment IN ('live', 'test')"
PROVIDER = "provider = 'stripe'"


def _account() -> Mapped[UUID]:
    return mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)


class SubscriptionOrder(Base):
    """A wish to subscribe, with the plan as it was offered. Stored before the provider is called. One is open."""

    __tablename__ = "subscription_orders"
    __table_args__ = (
        Index("uq_subscription_orders_open", "account_id", unique=True, postgresql_where=text("status = 'open'")),
        Index("ix_subscription_orders_due", "created_at", postgresql_where=text("status = 'open'")),
        CheckConstraint(ENVIRONMENT, name="environment"),
        CheckConstraint(PROVIDER, name="provider"),
        CheckConstraint("plan_interval IN ('month', 'year')", name="plan_interval"),
        CheckConstraint("status IN ('open', 'closed')", name="status"),
        CheckConstraint("attempt > 0", name="attempt"),
    )

    account_id: Mapped[UUID] = _account()
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    price_id: Mapped[str] = mapped_column(Text, comment="at the provider")
    plan_name: Mapped[str] = mapped_column(Text)
    plan_interval: Mapped[str] = mapped_column(Text)
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="the plan as it was offered")
    success_url: Mapped[str | None] = mapped_column(Text, comment="null: subscribed without a page, or erased")
    cancel_url: Mapped[str | None] = mapped_column(Text)
    session_id: Mapped[str | None] = mapped_column(Text, comment="of the provider's page; null: not opened, or no page")
    subscription_id: Mapped[str | None] = mapped_column(Text, comment="that it became")
    status: Mapped[str] = mapped_column(Text)
    attempt: Mapped[int] = mapped_column(
        BigInteger, server_default=text("1"), comment="to open it at the provider; part of the key that we send"
    )
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class Subscription(Base):
    """A subscription as the provider's facts state it, merged without regard to their order."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        Index("ix_subscriptions_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_subscriptions_started_at", "started_at", "subscription_id"),
        Index("ix_subscriptions_status", "status", "started_at", "subscription_id"),
        CheckConstraint(ENVIRONMENT, name="environment"),
        CheckConstraint(PROVIDER, name="provider"),
        CheckConstraint(
            "status IN ('incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'incomplete_expired', "
            "'canceled')",
            name="status",
        ),
    )

    account_id: Mapped[UUID] = _account()
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    subscription_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="at the provider")
    environment: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(Timestamp, comment="the provider's time of the state")
    seen_at: Mapped[datetime] = mapped_column(Timestamp, comment="the latest time of which anything is known")
    status: Mapped[str] = mapped_column(Text)
    customer_id: Mapped[str | None] = mapped_column(Text)
    price_id: Mapped[str | None] = mapped_column(Text, comment="the present price; invoices say what was paid for")
    price_item_id: Mapped[str | None] = mapped_column(Text)
    period_start: Mapped[datetime | None] = mapped_column(Timestamp)
    period_end: Mapped[datetime | None] = mapped_column(Timestamp)
    anchor: Mapped[datetime] = mapped_column(Timestamp, comment="the start of a period, from which others are counted")
    started_at: Mapped[datetime] = mapped_column(Timestamp)
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    cancel_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="when it will end")
    order_id: Mapped[UUID | None] = mapped_column(comment="the order that it fulfills")
    due_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="when something is next to be done; null: never")
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class SubscriptionTerms(Base):
    """The plan of a price, as it was when the subscription first had the price. A subscriber keeps its terms."""

    __tablename__ = "subscription_terms"
    __table_args__ = (
        Index("ix_subscription_terms_plan_name", "plan_name"),
        CheckConstraint("plan_interval IN ('month', 'year')", name="plan_interval"),
    )

    account_id: Mapped[UUID] = _account()
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    subscription_id: Mapped[str] = mapped_column(Text, primary_key=True)
    price_id: Mapped[str] = mapped_column(Text, primary_key=True)
    plan_name: Mapped[str] = mapped_column(Text)
    plan_interval: Mapped[str] = mapped_column(Text)
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="the plan")
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class SubscriptionInvoice(Base):
    """An invoice of a subscription, with the refunds and disputes of its payments."""

    __tablename__ = "subscription_invoices"
    __table_args__ = (
        Index(None, "account_id", "provider", "subscription_id"),
        Index("ix_subscription_invoices_created_at", "created_at"),
        Index(
            "ix_subscription_invoices_unpaid",
            "created_at",
            "account_id",
            postgresql_where=text("status IN ('open', 'uncollectible') AND attempts > 0"),
        ),
        CheckConstraint(PROVIDER, name="provider"),
        CheckConstraint("status IN ('draft', 'open', 'uncollectible', 'void', 'paid')", name="status"),
        CheckConstraint("amount_due_minor >= 0 AND amount_paid_minor >= 0", name="amounts"),
        CheckConstraint("refunded_minor >= 0 AND withdrawn_minor >= 0", name="money_back"),
    )

    account_id: Mapped[UUID] = _account()
    provider: Mapped[str] = mapped_column(Text, primary_key=True)
    invoice_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="at the provider")
    subscription_id: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(Timestamp, comment="the provider's time of the state")
    seen_at: Mapped[datetime] = mapped_column(Timestamp)
    status: Mapped[str] = mapped_column(Text)
    currency: Mapped[str] = mapped_column(Text)
    amount_due_minor: Mapped[int] = mapped_column(BigInteger)
    amount_paid_minor: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Timestamp, comment="when it was due")
    attempts: Mapped[int] = mapped_column(BigInteger, comment="to pay it")
    next_attempt_at: Mapped[datetime | None] = mapped_column(Timestamp)
    lines: Mapped[list[Any]] = mapped_column(JSONB, comment="prices and the periods that they pay")
    payment_ids: Mapped[list[Any]] = mapped_column(JSONB, comment="the payments that are known to pay it")
    refunds: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="by id")
    disputes: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="by id")
    refunds_reported: Mapped[dict[str, Any]] = mapped_column(
        JSONB, comment="by payment: the largest total of refunds that was reported"
    )
    refunded_minor: Mapped[int] = mapped_column(BigInteger)
    withdrawn_minor: Mapped[int] = mapped_column(BigInteger, comment="by disputes")
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class PeriodGrant(Base):
    """A grant that a period has given: once per account, period and kind. Never deleted."""

    __tablename__ = "period_grants"
    __table_args__ = (
        Index(None, "account_id", "provider", "invoice_id"),
        ForeignKeyConstraint(["account_id", "grant_id"], ["grants.account_id", "grants.grant_id"], ondelete="RESTRICT"),
        CheckConstraint("period_start < period_end", name="period"),
        CheckConstraint("amount >= 0 AND carried >= 0", name="amount"),
        CheckConstraint("carried <= amount", name="carried"),
        CheckConstraint("refunded >= 0 AND disputed >= 0 AND refunded + disputed <= amount", name="taken_back"),
        CheckConstraint("grant_id IS NOT NULL OR refunded + disputed = 0", name="given_first"),
    )

    account_id: Mapped[UUID] = _account()
    period_start: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    kind: Mapped[str] = mapped_column(Text, primary_key=True, comment="the grant's key in its plan, such as USD:month")
    period_end: Mapped[datetime] = mapped_column(Timestamp)
    provider: Mapped[str] = mapped_column(Text)
    subscription_id: Mapped[str] = mapped_column(Text)
    invoice_id: Mapped[str] = mapped_column(Text, comment="that paid for the period")
    plan_name: Mapped[str] = mapped_column(Text)
    unit: Mapped[str] = mapped_column(Text, comment="credit, or the currency of money")
    amount: Mapped[int] = mapped_column(BigInteger, comment="in credits or nanos, including the carried amount")
    carried: Mapped[int] = mapped_column(BigInteger, comment="from the period before")
    grant_id: Mapped[UUID | None] = mapped_column(comment="null: it had expired before the period was known")
    refunded: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="taken back for refunds")
    disputed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"), comment="taken back for disputes")
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class Subscriber(Base):
    """The plan that an account has by a subscription, and what it had before."""

    __tablename__ = "subscribers"

    account_id: Mapped[UUID] = _account()
    plan_before: Mapped[str] = mapped_column(Text, comment="plan_name without a subscription")
    plan_name: Mapped[str | None] = mapped_column(Text, comment="by the subscription; null: none is entitled")
    subscription_id: Mapped[str | None] = mapped_column(Text, comment="that gives the plan")
    price_id: Mapped[str | None] = mapped_column(Text)
    limits: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="amounts of the plan's limits, by their ids")
    updated_at: Mapped[datetime] = mapped_column(Timestamp)
