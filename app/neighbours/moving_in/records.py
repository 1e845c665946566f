"""Records of the neighbours' exports: one line of JSON, or one row of CSV. Unknown fields are ignored."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field, StringConstraints

from app.auth.spelling import canonical_uuid
from app.http.schemas import Key255, Text255
from app.ledger.entries import Kind
from app.ledger.money import MAX_NANOS, decimal_text, nanos_of_minor, nanos_of_text
from app.neighbours.moving_in.export import (
    GRANTED,
    MONEY,
    OPENING,
    USED,
    AccountRow,
    EventRow,
    MovementRow,
    Origin,
    Row,
)
from app.timestamps import bounded


def _decimal(value: object) -> object:
    """Return the nanos of a decimal number, as JSON's number or as text."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError("must be a decimal number")
    return nanos_of_text(f"{value:f}" if isinstance(value, Decimal) else str(value))


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    return value


def _no_opening(name: str) -> str:
    if name.startswith(f"{OPENING}:"):
        raise ValueError(f"begins with {OPENING}:, as the import's own entries do")
    return name


UserId = Annotated[Key255, AfterValidator(canonical_uuid)]
Id = Annotated[Key255, StringConstraints(max_length=200), AfterValidator(_no_opening)]
Moment = Annotated[AwareDatetime, AfterValidator(bounded)]
Cents = Annotated[int, BeforeValidator(_no_boolean), Field(ge=-(MAX_NANOS // 10**7), le=MAX_NANOS // 10**7)]
NotNegative = Annotated[Cents, Field(ge=0)]
Dollars = Annotated[int, BeforeValidator(_decimal), Field(ge=0)]
"""Nanos."""
CURRENCY = "USD"
KINDS_OF_Z_BILLING: Mapping[str, Kind] = {
    "purchase": Kind.PURCHASE,
    "autorefill": Kind.PURCHASE,
    "usage": Kind.USAGE,
    "refund": Kind.REFUND,
    **dict.fromkeys(("bonus", "subscriptiongrant", "signupgrant", "dailygrant", "referralbonus"), Kind.BONUS),
    "monthlyallowance": Kind.BONUS,
}
KINDS_OF_SECOND_LAYER: Mapping[str, tuple[Kind, int]] = {
    "charge": (Kind.USAGE, -1),
    "topup": (Kind.PURCHASE, 1),
    "refund": (Kind.REFUND, 1),
    "admin_credit": (Kind.BONUS, 1),
    "admin_debit": (Kind.ADJUSTMENT, -1),
}


class EventRecord(BaseModel):
    """An event or request that the neighbour has charged. Sent again, it is a repeat."""

    record: Literal["event"]
    user_id: UserId
    event_id: Key255
    source: Key255 | None = None

    def row(self, line: int) -> Row:
        return EventRow(line, self.user_id, self.event_id, self.source)


class ZBillingAccount(BaseModel):
    record: Literal["account"]
    user_id: UserId
    balance_cents: NotNegative
    lifetime_purchased_cents: NotNegative | None = None
    lifetime_granted_cents: NotNegative | None = None
    lifetime_used_cents: NotNegative | None = None
    plan: Key255 | None = None
    email: Text255 | None = None
    display_name: Text255 | None = None
    signup_granted: bool | None = None
    daily_granted_on: date | None = None
    referral_granted: bool | None = None
    auto_refill_enabled: bool | None = None
    trigger_below_cents: NotNegative | None = None
    refill_amount_cents: NotNegative | None = None
    stripe_customer_id: Text255 | None = None

    def row(self, line: int) -> Row:
        totals = {
            MONEY: self.lifetime_purchased_cents,
            GRANTED: self.lifetime_granted_cents,
            USED: self.lifetime_used_cents,
        }
        return AccountRow(
            line=line,
            user_id=self.user_id,
            balance_nanos=_nanos(self.balance_cents),
            lifetime={name: _nanos(cents) for name, cents in totals.items() if cents is not None},
            plan=self.plan,
            email=self.email,
            display_name=self.display_name,
            details=_given(
                self,
                *("signup_granted", "daily_granted_on", "referral_granted", "auto_refill_enabled"),
                *("trigger_below_cents", "refill_amount_cents", "stripe_customer_id"),
            ),
        )


class ZBillingTransaction(BaseModel):
    record: Literal["transaction"]
    id: Id
    user_id: UserId
    amount_cents: Cents
    transaction_type: str
    description: Text255 | None = None
    created_at: Moment

    def row(self, line: int) -> Row:
        """Raises ValueError for an unknown type and for an amount of 0."""
        word = self.transaction_type.replace("_", "").lower()
        if word not in KINDS_OF_Z_BILLING:
            raise ValueError(f"transaction_type: {self.transaction_type[:64]!r} is unknown")
        kind = KINDS_OF_Z_BILLING[word]
        if self.amount_cents == 0:
            raise ValueError("amount_cents: must not be 0")
        if self.amount_cents < 0 and kind is not Kind.USAGE:
            kind = Kind.ADJUSTMENT  # taken back: counts in no lifetime total
        if self.amount_cents > 0 and kind is Kind.USAGE:
            kind = Kind.REFUND
        return MovementRow(
            line,
            self.user_id,
            self.id,
            _nanos(self.amount_cents),
            kind,
            self.description or word,
            self.created_at,
            None,
        )


class SecondLayerAccount(BaseModel):
    record: Literal["account"]
    user_id: UserId
    balance_usd: Dollars
    total_spent_usd: Dollars | None = None
    pricing_tier: Key255 | None = None
    email: Text255 | None = None
    display_name: Text255 | None = None
    daily_limit_usd: Dollars | None = None
    monthly_limit_usd: Dollars | None = None
    low_balance_threshold_usd: Dollars | None = None
    email_notifications: bool | None = None
    stripe_customer_id: Text255 | None = None
    fondy_customer_id: Text255 | None = None
    monobank_customer_id: Text255 | None = None

    def row(self, line: int) -> Row:
        limits = ("daily_limit_usd", "monthly_limit_usd", "low_balance_threshold_usd")
        details = _given(self, "email_notifications", "stripe_customer_id", "fondy_customer_id", "monobank_customer_id")
        for name in limits:
            if (nanos := getattr(self, name)) is not None:
                details[name] = decimal_text(nanos)
        return AccountRow(
            line=line,
            user_id=self.user_id,
            balance_nanos=self.balance_usd,
            lifetime={} if self.total_spent_usd is None else {USED: self.total_spent_usd},
            plan=self.pricing_tier,
            email=self.email,
            display_name=self.display_name,
            details=details,
            limits={
                **({} if self.daily_limit_usd is None else {"day": self.daily_limit_usd}),
                **({} if self.monthly_limit_usd is None else {"month": self.monthly_limit_usd}),
            },
        )


class SecondLayerTransaction(BaseModel):
    record: Literal["transaction"]
    id: Id
    user_id: UserId
    type: str
    amount_usd: Dollars
    balance_before_usd: Dollars | None = None
    balance_after_usd: Dollars | None = None
    description: Text255 | None = None
    payment_id: Text255 | None = None
    created_at: Moment

    def row(self, line: int) -> Row:
        """Raises ValueError for an unknown type, an amount of 0, and an adjustment without its two balances."""
        if self.amount_usd == 0:
            raise ValueError("amount_usd: must not be 0")
        if self.type == "adjustment":
            kind, sign = Kind.ADJUSTMENT, self._sign_of_adjustment()
        elif self.type in KINDS_OF_SECOND_LAYER:
            kind, sign = KINDS_OF_SECOND_LAYER[self.type]
        else:
            raise ValueError(f"type: {self.type[:64]!r} is unknown")
        return MovementRow(
            line,
            self.user_id,
            self.id,
            sign * self.amount_usd,
            kind,
            self.description or self.type,
            self.created_at,
            self.payment_id,
        )

    def _sign_of_adjustment(self) -> int:
        if self.balance_before_usd is None or self.balance_after_usd is None:
            raise ValueError("balance_before_usd, balance_after_usd: an adjustment needs both, for its direction")
        return 1 if self.balance_after_usd > self.balance_before_usd else -1


Record = ZBillingAccount | ZBillingTransaction | SecondLayerAccount | SecondLayerTransaction | EventRecord
RECORDS: Mapping[Origin, Mapping[str, type[Record]]] = {
    "z-billing": {"account": ZBillingAccount, "transaction": ZBillingTransaction, "event": EventRecord},
    "secondlayer": {"account": SecondLayerAccount, "transaction": SecondLayerTransaction, "event": EventRecord},
}
"""By origin and by the field `record`."""


def _nanos(cents: int) -> int:
    return nanos_of_minor(cents, CURRENCY)


def _given(record: BaseModel, *names: str) -> dict[str, Any]:
    """Return the given ones of these fields as JSON values."""
    return record.model_dump(mode="json", include=set(names), exclude_none=True)
