"""Orders of packs and of amounts of money, and their prices. Pure, apart from the account that they read."""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Protocol

from app.billing.posting import require_currency
from app.configuration.service import Current
from app.currencies import CURRENCIES, info_of, problem_of
from app.ledger.errors import UnknownCurrency
from app.ledger.locked_account import LockedAccount
from app.ledger.money import nanos_of_minor
from app.ledger.pools import CREDIT
from app.payments.discounts import discount_percent
from app.payments.errors import InvalidAmount, UnknownPack
from app.payments.purchase import MONEY, Purchase

USD = "USD"
MIN_MINOR, MAX_MINOR = 500, 100_000
"""The least and the largest amount of money that one purchase buys, in minor units: $5.00 and $1,000.00."""


@dataclass(frozen=True, slots=True)
class Sale:
    """The goods of a purchase and their price, `amount_minor`."""

    pack: str
    currency: str
    amount_minor: int
    credits: int = 0
    unit: str = CREDIT
    money_nanos: int = 0
    discount_percent: Decimal = Decimal(0)
    buyer: str | None = None
    success_url: str | None = None
    cancel_url: str | None = None

    @property
    def terms(self) -> dict[str, Any]:
        """The columns in which a purchase must equal this sale, so that a second click gets it."""
        if self.unit == CREDIT:  # an open purchase keeps the price at which its pack was offered
            return {"unit": self.unit, "pack": self.pack}
        names = ("unit", "money_nanos", "amount_minor", "success_url", "cancel_url")
        return {name: getattr(self, name) for name in names}


class Order(Protocol):
    """The request of a buyer for a pack, or for an amount of money."""

    def matches(self, purchase: Purchase) -> bool:
        """Return whether the purchase of an earlier request, by its idempotency key, is the same order."""

    def sale(self, account: LockedAccount) -> Sale:
        """Return what is sold to the account. Raises UnknownPack, InvalidAmount, CurrencyMismatch, UnknownCurrency."""


@dataclass(frozen=True, slots=True)
class PackOrder:
    """A pack of credits. `pack` None is the first one in the account's currency."""

    pack: str | None
    config: Current

    def matches(self, purchase: Purchase) -> bool:
        return not purchase.is_money and self.pack in (None, purchase.pack)

    def sale(self, account: LockedAccount) -> Sale:
        config = self.config
        name = self.pack or config.default_pack(account.currency) or next(iter(config.packs))
        if name not in config.packs:
            raise UnknownPack(name, list(config.packs))
        sold = config.packs[name]
        return Sale(pack=name, currency=sold.currency, amount_minor=sold.price_minor, credits=sold.credits)


@dataclass(frozen=True, slots=True)
class RequestedMoney:
    """The amount of money, in minor units, that a user asks for. `field` is its name in the request, for errors."""

    amount_minor: int
    field: str
    """`amount_usd`: the amount is in dollars, so only accounts in USD can buy it."""
    buyer: str
    success_url: str
    cancel_url: str


@dataclass(frozen=True, slots=True)
class MoneyOrder:
    """An amount of money, at a price that the account's plan lowers: by the terms that a subscriber keeps."""

    requested: RequestedMoney
    config: Current

    def matches(self, purchase: Purchase) -> bool:
        if not purchase.is_money or (self.requested.field == "amount_usd" and purchase.unit != USD):
            return False
        return purchase.money_nanos == nanos_of_minor(self.requested.amount_minor, purchase.unit)

    def sale(self, account: LockedAccount) -> Sale:
        requested, currency = self.requested, account.currency
        if requested.field == "amount_usd":
            require_currency(account, USD)
        if currency not in CURRENCIES:
            raise UnknownCurrency(currency)
        if not MIN_MINOR <= requested.amount_minor <= MAX_MINOR:
            least, most = (info_of(currency).format(minor) for minor in (MIN_MINOR, MAX_MINOR))
            raise InvalidAmount(requested.field, f"must be from {least} to {most}")
        percent = account.plan_discount_percent
        if percent is None:
            percent = discount_percent(self.config, account.plan_name)
        price = discounted(requested.amount_minor, percent, currency)
        if (problem := problem_of(currency, price)) is not None:
            raise InvalidAmount(requested.field, f"makes a price that cannot be charged: {problem}")
        return Sale(
            pack=MONEY,
            currency=currency,
            amount_minor=price,
            unit=currency,
            money_nanos=nanos_of_minor(requested.amount_minor, currency),
            discount_percent=percent,
            buyer=requested.buyer,
            success_url=requested.success_url,
            cancel_url=requested.cancel_url,
        )


def discounted(amount_minor: int, percent: Decimal, currency: str) -> int:
    """Return the price of an amount, rounded in the buyer's favor to what Stripe can charge."""
    if percent == 0:
        return amount_minor
    step = info_of(currency).step_minor
    price = amount_minor * (100 - percent) / (100 * step)
    return int(price.to_integral_value(ROUND_FLOOR)) * step
