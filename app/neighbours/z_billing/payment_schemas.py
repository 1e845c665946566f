"""Wire format of Z-Billing's purchases and payments. Cents are minor units of the currency."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, Field, StringConstraints, WithJsonSchema

from app.currencies import info_of
from app.http.schemas import Key255, Reply, Timestamp
from app.ledger.money import decimal_text, nanos_of_minor
from app.neighbours.z_billing.schemas import formatted
from app.payments.discounts import percent_text
from app.payments.errors import InvalidAmount
from app.payments.orders import MAX_MINOR, MIN_MINOR, USD
from app.payments.purchase import Purchase

STATUSES = {"pending": "requires_payment_method", "failed": "requires_payment_method", "unknown": "processing"}
"""Our statuses in Stripe's words. The others are Stripe's."""
MAX_URL_CHARS = 2048
Number = Annotated[Any, WithJsonSchema({"type": "number", "minimum": 5, "maximum": 1000})]
Minor = Annotated[Any, WithJsonSchema({"type": "integer", "minimum": MIN_MINOR, "maximum": MAX_MINOR})]
"""Checked by `amount`: a bad amount is 400 to the neighbours' clients."""
Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)]


class BuyMoneyBody(BaseModel):
    """One of both amounts."""

    amount_usd: Number | None = Field(
        default=None, description="In dollars, 5 to 1000, with at most two decimals. Only for accounts in USD."
    )
    amount_minor: Minor | None = Field(
        default=None, description="In minor units of the account's currency, such as cents."
    )
    success_url: Url | None = Field(
        default=None,
        description="Where Stripe's page returns to after the payment: an address of FRONTEND_URL or "
        "RETURN_URL_ORIGINS. Stripe replaces `{CHECKOUT_SESSION_ID}`. Default: `/billing/success` of FRONTEND_URL.",
    )
    cancel_url: Url | None = Field(
        default=None, description="Where it returns to without a payment. Default: `/billing/cancel` of FRONTEND_URL."
    )
    idempotency_key: Key255 | None = None

    def amount(self) -> tuple[str, int]:
        """Return the field that the caller sent, and its amount in minor units. Raises InvalidAmount."""
        if self.amount_usd is None and self.amount_minor is None:
            raise InvalidAmount("amount_usd", "or amount_minor is required")
        if self.amount_usd is not None and self.amount_minor is not None:
            raise InvalidAmount("amount_usd", "and amount_minor exclude each other")
        if self.amount_minor is not None:
            if type(self.amount_minor) is not int:
                raise InvalidAmount("amount_minor", "must be a whole number")
            return "amount_minor", self.amount_minor
        return "amount_usd", _cents(self.amount_usd)


def _cents(dollars: object) -> int:
    """Return an amount of 5 to 1,000 dollars, a JSON number, in cents. Raises InvalidAmount for anything else."""
    if type(dollars) not in (int, float):
        raise InvalidAmount("amount_usd", "must be a number")
    exact = Decimal(str(dollars))  # a float's shortest text: 12.34 is 12.34
    if not exact.is_finite() or not 5 <= exact <= 1000:
        raise InvalidAmount("amount_usd", "must be from 5 to 1000")
    cents = exact * 10 ** info_of(USD).digits
    if cents != cents.to_integral_value():
        raise InvalidAmount("amount_usd", "has at most two decimals")
    return int(cents)


class CheckoutReply(Reply):
    checkout_url: str = Field(description="Send the browser there. The page is open for 24 hours.")
    session_id: str = Field(examples=["cs_live_a1b2c3"])


class PaymentReply(Reply):
    """A payment for money or for a pack of credits."""

    id: str
    amount_cents: int = Field(description="The price, after the plan's discount.")
    amount_formatted: str = Field(examples=["$22.50"])
    currency: str = Field(examples=["usd"], description="In small letters, as Stripe writes it.")
    status: str = Field(examples=["succeeded"], description="In Stripe's words.")
    description: str | None
    created_at: Timestamp
    refunded_cents: int
    refunded_formatted: str
    discount_percent: str = Field(examples=["10"])
    bought: str | None = Field(examples=["25.000000"], description="The money that the account got; null for a pack.")
    credits: int | None = Field(description="The credits that the account got; null for money.")
    payment_id: str | None = Field(description="Stripe's id; null before the buyer tries to pay.")
    receipt_url: str | None

    @classmethod
    def of(cls, purchase: Purchase) -> Self:
        currency = purchase.currency
        status = STATUSES.get(purchase.status, purchase.status)
        return cls(
            id=str(purchase.purchase_id),
            amount_cents=purchase.amount_minor,
            amount_formatted=formatted(nanos_of_minor(purchase.amount_minor, currency), currency),
            currency=currency.lower(),
            status=status if purchase.received_minor is None else "succeeded",
            description=_description(purchase),
            created_at=purchase.created_at,
            refunded_cents=purchase.refunded_minor,
            refunded_formatted=formatted(nanos_of_minor(purchase.refunded_minor, currency), currency),
            discount_percent=percent_text(purchase.discount_percent),
            bought=decimal_text(purchase.money_nanos) if purchase.is_money else None,
            credits=None if purchase.is_money else purchase.credits,
            payment_id=purchase.provider_payment_id,
            receipt_url=purchase.receipt_url,
        )


def _description(purchase: Purchase) -> str:
    if not purchase.is_money:
        return f"{purchase.credits} credits"
    bought = f"{purchase.money_text} of credits{purchase.discount_text}"
    return f"Automatic refill: {bought}" if purchase.is_refill else bought


class PaymentsReply(Reply):
    """Newest first."""

    payments: list[PaymentReply]
    has_more: bool
    next_cursor: UUID | None = Field(description="`cursor` of the next page; null on the last one.")

    @classmethod
    def of(cls, found: Sequence[Purchase], limit: int) -> Self:
        """`found` contains one more than the page, if there is one."""
        shown, has_more = found[:limit], len(found) > limit
        cursor = shown[-1].purchase_id if has_more and shown else None
        return cls(payments=[PaymentReply.of(purchase) for purchase in shown], has_more=has_more, next_cursor=cursor)
