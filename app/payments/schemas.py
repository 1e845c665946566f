"""The wire format of purchases. Prices are minor units of the currency (500 = $5.00); the rest is in credits."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, HttpUrl, StringConstraints

from app.billing.schemas import IdentityFields, Key255, Reply
from app.payments.facts import PurchaseStatus
from app.payments.service import Payment

PaymentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,255}$")]


def _http_url(value: str) -> str:
    HttpUrl(value)  # absolute and http(s); it is only passed on, never fetched
    return value


ReturnUrl = Annotated[
    str, StringConstraints(max_length=2048, pattern=r"^https?://[^\x00]+$"), AfterValidator(_http_url)
]


class PurchaseBody(IdentityFields):
    return_url: ReturnUrl | None = Field(
        default=None, description="Where Stripe.js returns to; the browser passes it to Stripe."
    )
    pack: Key255 | None = Field(
        default=None,
        description="One of the configured packs, in the account's currency; the first such one by default.",
    )
    idempotency_key: Key255 | None = None


class PurchaseReply(Reply):
    payment_id: str
    client_secret: str | None = Field(description="For Stripe.js in the buyer's browser. null once paid.")
    amount_minor: int
    currency: str
    uses_purchased: int
    status: PurchaseStatus
    publishable_key: str

    @classmethod
    def of(cls, payment: Payment) -> Self:
        return cls(**{name: getattr(payment, name) for name in cls.model_fields})


class PurchaseStatusReply(PurchaseReply):
    """`succeeded` is said only once the credits are booked."""

    credits_added: int
    balance_after: int = Field(description="Paid credits now.")


class WebhookReply(Reply):
    received: bool = True
