"""Users, and the replies of the service.

Amounts named `*_minor`, and the `balance_after` of charges and credits, are hundredths of a credit: 100 is one use.
Other counts are credits. Prices are in minor units of the currency (500 = $5.00). Unknown fields from a newer service
are ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypedDict
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict

MINOR_PER_CREDIT = 100


class UserFields(TypedDict, total=False):
    """A user as keyword arguments: `oauth_provider` and `external_id` are the identity, the others are attributes.

    With a key that has an `identity_provider`, `user_id` (the user's id there) replaces the identity."""

    oauth_provider: str
    external_id: str
    user_id: str
    wa_id: str | None
    tenant_id: str | None
    customer_email: str | None
    display_name: str | None
    user_role: str | None
    agent_id: str | None
    marketing_opt_in: bool | None
    marketing_opt_in_source: str | None


@dataclass(frozen=True, slots=True)
class User:
    """The user who pays. The provider (`oauth:google`, `oauth:discord`…) and the external id are the identity. None
    means that an attribute is not given."""

    oauth_provider: str
    external_id: str
    wa_id: str | None = None
    tenant_id: str | None = None
    customer_email: str | None = None
    display_name: str | None = None
    user_role: str | None = None
    agent_id: str | None = None
    marketing_opt_in: bool | None = None
    marketing_opt_in_source: str | None = None

    def request_fields(self) -> dict[str, Any]:
        """Return the given fields for a request."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


class CheckContext(TypedDict, total=False):
    """The context of an interaction."""

    agent_id: str
    channel_id: str
    request_id: str


class Metadata(TypedDict, total=False):
    """References stored with a charge and returned with it."""

    message_id: str
    agent_id: str
    channel_id: str
    request_id: str


def _empty_for_none(value: Any) -> Any:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_empty_for_none)]
"""Older services return null for an omitted description."""


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True)


class CreditStatus(Reply):
    """Whether the user has credit, and the remaining credits."""

    has_credit: bool
    credits_remaining: int
    free_uses_remaining: int
    daily_free_uses_remaining: int
    daily_free_uses_limit: int
    total_uses: int
    plan_name: str
    reason: str | None
    purchase_required: bool
    purchase_price_minor: int | None
    purchase_uses: int | None
    assumed: bool = False
    """The service was unavailable and the policy is `fail_open`: the other fields are unknown."""

    @property
    def uses_remaining(self) -> int:
        """The sum of free, daily free and paid uses."""
        return self.credits_remaining + self.free_uses_remaining + self.daily_free_uses_remaining

    def covers(self, amount_minor: int) -> bool:
        """Whether the known balance covers a charge of this amount."""
        return self.has_credit and (self.assumed or self.uses_remaining >= credits_for(amount_minor))

    @classmethod
    def assume(cls) -> Self:
        """Return the result of a check with the policy `fail_open` while the service is unavailable."""
        return cls(
            has_credit=True,
            credits_remaining=0,
            free_uses_remaining=0,
            daily_free_uses_remaining=0,
            daily_free_uses_limit=0,
            total_uses=0,
            plan_name="unknown",
            reason="Billing service unavailable",
            purchase_required=False,
            purchase_price_minor=None,
            purchase_uses=None,
            assumed=True,
        )


class ChargeMetadata(Reply):
    message_id: str | None = None
    agent_id: str | None = None
    channel_id: str | None = None
    request_id: str | None = None


class Charge(Reply):
    charge_id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    balance_after: int
    created_at: datetime
    description: Text
    metadata: ChargeMetadata
    replayed: bool = False
    """The idempotency key was charged before, or the charge was refused as a double one. This request charged
    nothing."""
    probable_double_of: UUID | None = None
    """The earlier charge with the same request id, description and amount, of an API key that watches for double
    charges. If it is this charge (`is_refused_double`), the service refused to charge again."""

    @property
    def is_refused_double(self) -> bool:
        """Whether this is the earlier charge, because the service refused to charge for the same purpose again."""
        return self.replayed and self.probable_double_of == self.charge_id


class Credit(Reply):
    credit_id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    balance_after: int
    transaction_type: str
    external_transaction_id: str | None
    description: Text
    created_at: datetime
    replayed: bool = False
    """The idempotency key was credited before; this request credited nothing."""


class Account(Reply):
    account_id: UUID
    oauth_provider: str | None
    external_id: str | None
    wa_id: str | None
    tenant_id: str | None
    customer_email: str | None
    display_name: str | None
    balance_minor: int
    paid_credits: int
    free_uses_remaining: int
    total_uses: int
    currency: str
    plan_name: str
    status: str
    marketing_opt_in: bool
    marketing_opt_in_at: datetime | None
    marketing_opt_in_source: str | None
    created_at: datetime
    updated_at: datetime


class Transaction(Reply):
    transaction_id: UUID
    type: Literal["charge", "credit"]
    amount_minor: int
    """Negative for charges, and for credits taken back."""
    currency: str
    description: Text
    created_at: datetime
    balance_after: int
    transaction_type: str | None
    external_transaction_id: str | None
    metadata: ChargeMetadata | None


class TransactionPage(Reply):
    transactions: list[Transaction]
    total_count: int
    has_more: bool


class Currency(Reply):
    """A currency as Stripe uses it. The number of digits can differ from ISO 4217 and from browsers."""

    code: str
    digits: int
    step_minor: int
    """Prices have to be multiples of this."""
    minimum_minor: int

    def format(self, minor: int) -> str:
        """Format minor units: `1999` is "19.99 USD"."""
        units, fraction = divmod(abs(minor), 10**self.digits)
        sign, point = "-" if minor < 0 else "", f".{fraction:0{self.digits}}" if self.digits else ""
        return f"{sign}{units}{point} {self.code}"


class Currencies(Reply):
    currencies: list[Currency]

    def of(self, code: str) -> Currency:
        """Return a currency by its code. One that Stripe does not support gets two digits."""
        known = (currency for currency in self.currencies if currency.code == code.upper())
        return next(known, Currency(code=code.upper(), digits=2, step_minor=1, minimum_minor=1))


class Pack(Reply):
    """A price pack. Pass its name `pack` to create a purchase."""

    pack: str
    credits: int
    price_minor: int
    currency: str
    currency_digits: int
    """Decimal places of the price: 500 with 2 digits is 5.00."""


class Packs(Reply):
    packs: list[Pack]


class Purchase(Reply):
    """An open payment. Only pass `client_secret` to Stripe.js in the buyer's browser."""

    payment_id: str
    client_secret: str | None
    amount_minor: int
    currency: str
    uses_purchased: int
    status: str
    publishable_key: str


class PurchaseStatus(Purchase):
    """The state of a purchase. `status` is `succeeded` only after the credits are booked."""

    credits_added: int
    balance_after: int
    """Current paid credits."""

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES


FINAL_STATUSES = frozenset({"succeeded", "failed", "canceled"})


class ToolBalance(Reply):
    product_type: str
    free_remaining: int
    paid_credits: int
    main_pool_credits: int
    """Number of uses that the main pool can pay for."""
    total_available: int
    price_minor: int
    total_uses: int


class ToolBalances(Reply):
    balances: list[ToolBalance]


class ToolCheck(Reply):
    product_type: str
    has_credit: bool
    free_remaining: int
    paid_credits: int
    main_pool_credits: int
    total_available: int


class ToolCharge(Reply):
    success: bool
    has_credit: bool
    used_free: bool
    used_paid: bool
    used_main_pool: bool
    cost_minor: int
    free_remaining: int
    paid_credits: int
    main_pool_credits: int
    total_uses: int
    usage_log_id: UUID


class LlmUsageLogged(Reply):
    logged: bool
    usage_log_id: UUID


class Health(Reply):
    status: str
    database: str
    timestamp: datetime
    service: str = "ciris-billing"
    version: str = ""


def credits_for(amount_minor: int) -> int:
    """Return the credits that the service charges for an amount: whole credits, rounded up."""
    return -(-amount_minor // MINOR_PER_CREDIT)


def request_fields(user: User | None, given: UserFields) -> dict[str, Any]:
    """Return the user as request fields, given as a User or as keywords. Without both, the token determines the user.

    Raises TypeError if both are given."""
    if user is None:
        return without_none(given)
    if given:
        raise TypeError(f"pass a User or the keywords {', '.join(sorted(given))}, not both")
    return user.request_fields()


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
