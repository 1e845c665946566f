"""What the service answers, and who is asked about.

Amounts named `*_minor`, and the `balance_after` of charges and credits, are hundredths of a credit: 100 is one use. The
other counts are credits. Prices are minor units of the currency (500 = $5.00). Fields that a newer service adds are
ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypedDict
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict

MINOR_PER_CREDIT = 100


class UserFields(TypedDict, total=False):
    """A user by keyword: `oauth_provider` and `external_id` say who it is, the rest are attributes."""

    oauth_provider: str
    external_id: str
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
    """Who pays. Provider (`oauth:google`, `oauth:discord`…) and id are the identity; None means "not given"."""

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
        """The fields that are given, as requests carry them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


class CheckContext(TypedDict, total=False):
    """Where an interaction takes place."""

    agent_id: str
    channel_id: str
    request_id: str


class Metadata(TypedDict, total=False):
    """What a charge is for; it comes back with the charge."""

    message_id: str
    agent_id: str
    channel_id: str
    request_id: str


def _empty_for_none(value: Any) -> Any:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_empty_for_none)]
"""Older services answer null for a description that was not given."""


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True)


class CreditStatus(Reply):
    """Whether the user may go on, and what is left."""

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
    """The service could not be asked, and the policy is `fail_open`: nothing else here is known."""

    @property
    def uses_remaining(self) -> int:
        """Free, daily and paid uses together."""
        return self.credits_remaining + self.free_uses_remaining + self.daily_free_uses_remaining

    def covers(self, amount_minor: int) -> bool:
        """Whether a charge of this amount would be paid, as far as is known."""
        return self.has_credit and (self.assumed or self.uses_remaining >= credits_for(amount_minor))

    @classmethod
    def assume(cls) -> Self:
        """What `fail_open` says of a user while the service cannot be asked."""
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
    """This idempotency key was charged before; nothing was charged now."""


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
    """This idempotency key was credited before; nothing was credited now."""


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
    """How Stripe counts a currency. Its digits are not those of ISO 4217 or of browsers."""

    code: str
    digits: int
    step_minor: int
    """Prices are multiples of it."""
    minimum_minor: int

    def format(self, minor: int) -> str:
        """`1999` minor units of USD are "19.99 USD"."""
        units, fraction = divmod(abs(minor), 10**self.digits)
        sign, point = "-" if minor < 0 else "", f".{fraction:0{self.digits}}" if self.digits else ""
        return f"{sign}{units}{point} {self.code}"


class Currencies(Reply):
    currencies: list[Currency]

    def of(self, code: str) -> Currency:
        """A currency that Stripe does not charge has two digits."""
        known = (currency for currency in self.currencies if currency.code == code.upper())
        return next(known, Currency(code=code.upper(), digits=2, step_minor=1, minimum_minor=1))


class Pack(Reply):
    """Credits that are for sale. `pack` is the name that a purchase gives."""

    pack: str
    credits: int
    price_minor: int
    currency: str
    currency_digits: int
    """Decimals of the price: 500 with 2 digits is 5.00."""


class Packs(Reply):
    packs: list[Pack]


class Purchase(Reply):
    """An open payment. `client_secret` is for Stripe.js in the buyer's browser, and for nobody else."""

    payment_id: str
    client_secret: str | None
    amount_minor: int
    currency: str
    uses_purchased: int
    status: str
    publishable_key: str


class PurchaseStatus(Purchase):
    """`succeeded` is said only once the credits are booked."""

    credits_added: int
    balance_after: int
    """Paid credits now."""

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES


FINAL_STATUSES = frozenset({"succeeded", "failed", "canceled"})


class ToolBalance(Reply):
    product_type: str
    free_remaining: int
    paid_credits: int
    main_pool_credits: int
    """Uses that the main pool would pay."""
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


def credits_for(amount_minor: int) -> int:
    """What the service takes for an amount: whole credits, rounded up."""
    return -(-amount_minor // MINOR_PER_CREDIT)


def request_fields(user: User | None, given: UserFields) -> dict[str, Any]:
    """The user as request fields, from whichever of the two ways they were given in. Neither: the token says who."""
    if user is None:
        return without_none(given)
    if given:
        raise TypeError(f"give a User or {', '.join(sorted(given))} by keyword, not both")
    return user.request_fields()


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
