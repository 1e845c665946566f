"""The wire format of purchases. Prices are minor units of the currency (500 = $5.00); the rest is in credits."""

import re
from collections.abc import Collection
from typing import Annotated, Self

from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, Field, HttpUrl, StringConstraints

from app.accounts.schemas import IdentityFields
from app.http.schemas import Key255, Reply
from app.payments.facts import PurchaseStatus
from app.payments.service import Payment

PaymentId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,255}$")]


WEB = ("http", "https")


def _absolute_url(value: str) -> str:
    """The browser passes the address to Stripe. This service does not fetch it."""
    if scheme_of(value) in WEB:
        HttpUrl(value)
    elif re.fullmatch("[!-~]+", value) is None:
        raise ValueError("has spaces, control characters or letters that no address of an app has")
    return value


def scheme_of(url: str) -> str:
    return url.partition(":")[0].lower()


ReturnUrl = Annotated[
    str,
    StringConstraints(max_length=2048, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^\x00]+$"),
    AfterValidator(_absolute_url),
]


class PurchaseBody(IdentityFields):
    return_url: ReturnUrl | None = Field(
        default=None,
        description="Where Stripe.js returns to; the browser passes it to Stripe. `http`, `https`, or a scheme of "
        "RETURN_URL_SCHEMES.",
    )
    pack: Key255 | None = Field(
        default=None,
        description="One of the configured packs, in the account's currency; the first such one by default.",
    )
    idempotency_key: Key255 | None = None

    def require_return_url_of(self, schemes: Collection[str]) -> None:
        """Refuse the scheme of an app that the operator does not list. Raises RequestValidationError."""
        if self.return_url is not None and scheme_of(self.return_url) not in (*WEB, *schemes):
            message = f"URL scheme should be one of {', '.join((*WEB, *schemes))}"
            raise RequestValidationError([{"type": "url_scheme", "loc": ("body", "return_url"), "msg": message}])


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
    """`succeeded` means that the credits are booked."""

    credits_added: int
    balance_after: int = Field(description="Paid credits and live grants now.")


class WebhookReply(Reply):
    received: bool = True
