"""Wire types of subscriptions in the back office."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import Field

from app.admin.schemas import Person
from app.admin.subscriptions.state import grace_ends_at, is_entitled_at, next_payment
from app.auth.caller import Environment
from app.http.schemas import Reply, Timestamp
from app.ledger.money import decimal_text
from app.ledger.pools import CREDIT
from app.payments.facts import DisputeStatus, RefundStatus
from app.payments.settlement import Outcome
from app.payments.subscription_facts import InvoiceStatus
from app.plans.document import Interval, Plan
from app.plans.entitlement import Status

Row = Mapping[str, Any]


class NextPaymentReply(Reply):
    at: Timestamp
    amount_minor: int | None = Field(description="null: the price is unknown.")
    currency: str | None
    is_retry: bool = Field(description="A further attempt to pay an invoice that is due; otherwise a renewal.")


class SubscriptionFields(Reply):
    """A subscription by Stripe's facts. The plan and its terms are those of the present price."""

    account_id: UUID
    subscription_id: str
    environment: Environment
    status: Status
    plan_name: str | None = Field(description="null: no plan has the price.")
    plan_title: str | None
    plan_interval: Interval | None
    price_minor: int | None
    currency: str | None
    terms_since: Timestamp | None = Field(description="Since when the subscriber keeps the terms of the plan.")
    gives_plan: str | None = Field(description="The plan that the account has by it now. null: it gives none.")
    entitled: bool = Field(description="Active, trialing, or past due within the grace period.")
    past_due_since: Timestamp | None
    grace_ends_at: Timestamp | None
    attempts: int | None = Field(description="To pay the invoice that is due.")
    next_payment: NextPaymentReply | None
    period_start: Timestamp | None
    period_end: Timestamp | None
    cancel_at: Timestamp | None = Field(description="When it will end.")
    started_at: Timestamp
    ended_at: Timestamp | None
    updated_at: Timestamp

    @classmethod
    def of(cls, row: Row, grace: timedelta, now: datetime, **further: Any) -> Self:
        since = row["past_due_since"] or row["period_start"]
        planned = next_payment(row)
        computed = {
            "entitled": is_entitled_at(row, grace, now),
            "past_due_since": since if row["status"] in ("past_due", "unpaid") else None,
            "grace_ends_at": grace_ends_at(row, grace),
            "next_payment": None
            if planned is None
            else NextPaymentReply(**{name: getattr(planned, name) for name in NextPaymentReply.model_fields}),
        }
        stored = {name: row[name] for name in SubscriptionFields.model_fields if name not in computed}
        return cls(**stored, **computed, **further)


class SubscriptionRow(SubscriptionFields):
    subscriber: Person


class SubscriptionsReply(Reply):
    subscriptions: list[SubscriptionRow]
    next_cursor: str | None


class PeriodGrantReply(Reply):
    """A grant of a paid period. Amounts are whole credits, or exact decimal text of money."""

    subscription_id: str
    invoice_id: str
    period_start: Timestamp
    period_end: Timestamp
    kind: str
    plan_name: str
    unit: str = Field(description="`credit`, or the currency of money.")
    amount: str = Field(description="With the amount carried from the period before.")
    carried: str
    taken_back: str = Field(description="For refunds and disputes.")
    given: bool = Field(description="False: it had expired before the period was known.")
    created_at: Timestamp

    @classmethod
    def of(cls, row: Row) -> Self:
        names = ("subscription_id", "invoice_id", "period_start", "period_end", "kind", "plan_name", "unit", "given")
        amounts = {"amount": row["amount"], "carried": row["carried"], "taken_back": row["refunded"] + row["disputed"]}
        return cls(
            **{name: row[name] for name in (*names, "created_at")},
            **{name: str(value) if row["unit"] == CREDIT else decimal_text(value) for name, value in amounts.items()},
        )


class AccountSubscriptionsReply(Reply):
    """The newest of each, newest first."""

    subscriptions: list[SubscriptionFields]
    grants: list[PeriodGrantReply]


class InvoiceRefundReply(Reply):
    refund_id: str
    payment_id: str
    amount_minor: int
    status: RefundStatus
    reason: str | None
    created_at: Timestamp


class InvoiceDisputeReply(Reply):
    dispute_id: str
    amount_minor: int
    status: DisputeStatus


class InvoiceReply(Reply):
    invoice_id: str
    status: InvoiceStatus
    currency: str
    amount_due_minor: int
    amount_paid_minor: int
    refunded_minor: int
    withdrawn_minor: int = Field(description="By disputes.")
    attempts: int = Field(description="To pay it.")
    next_attempt_at: Timestamp | None
    payment_ids: list[str]
    refunds: list[InvoiceRefundReply]
    disputes: list[InvoiceDisputeReply]
    created_at: Timestamp = Field(description="When it was due.")
    updated_at: Timestamp

    @classmethod
    def of(cls, row: Row) -> Self:
        refunds = [InvoiceRefundReply(refund_id=key, **value) for key, value in row["refunds"].items()]
        disputes = [
            InvoiceDisputeReply(dispute_id=key, amount_minor=value["amount_minor"], status=value["status"])
            for key, value in row["disputes"].items()
        ]
        stored = {name: row[name] for name in cls.model_fields if name not in ("refunds", "disputes")}
        return cls(**stored, refunds=sorted(refunds, key=lambda refund: refund.created_at), disputes=disputes)


class GivenReply(Reply):
    unit: str
    amount: str


class SubscriptionEventReply(Reply):
    event_id: str
    type: str
    about: Literal["subscription", "invoice", "payment"]
    object_id: str | None = Field(description="The subscription, the invoice or the payment.")
    outcome: Outcome
    given: list[GivenReply] = Field(description="The grants that it gave.")
    created_at: Timestamp
    received_at: Timestamp


class TermsReply(Reply):
    """The plan of a price, as it was when the subscription first had the price. The subscriber keeps it."""

    price_id: str
    interval: Interval
    plan: Plan
    created_at: Timestamp


class SubscriptionDetails(SubscriptionRow):
    customer_id: str | None
    plan_before: str | None = Field(description="The account's plan without a subscription.")
    invoices: list[InvoiceReply] = Field(description="The newest 200, newest first.")
    grants: list[PeriodGrantReply] = Field(description="The newest 200, newest first.")
    terms: list[TermsReply]
    events: list[SubscriptionEventReply] = Field(description="The last 500, in the order of arrival.")
