"""The configuration's sections: packs, products, defaults, plans, grants, refills, display rates, burn rate, providers.

A new section is a document and an entry of SECTIONS here. README.md shows an example.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

from app.auth.caller import Environment
from app.configuration.providers import configured_keys
from app.configuration.section import Document, Section
from app.errors import InvalidRequest
from app.packs import Currency, KnownCurrency, OfferedPack, Pack
from app.plans.document import OfferedPlans, Plans, removed
from app.plans.one_time import OfferedOneTimeGrants, OneTimeGrants
from app.plans.refill_bounds import OfferedRefills, Refills
from app.plans.shipped import SHIPPED
from app.products import Product
from app.setting_values import Slug
from app.settings import Mode, Settings
from app.stripe_keys import StripeKeys
from app.timestamps import bounded

MAX_ENTRIES = 100
TAIL_CHARS = 4


class NamedPack(Pack):
    """A price pack. `price_minor` is in minor units of the currency."""

    name: Slug


class OfferedNamedPack(OfferedPack, NamedPack):
    """A pack that Stripe can sell."""


class NamedProduct(Product):
    """A tool's price, in credits, and its free tier."""

    name: Slug


def _require_distinct(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{name} is there twice")
        seen.add(name)


class Packs(BaseModel):
    """The packs for sale. A purchase that names no pack buys the first."""

    model_config = ConfigDict(frozen=True)

    packs: list[NamedPack] = Field(min_length=1, max_length=MAX_ENTRIES)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        _require_distinct(pack.name for pack in self.packs)
        return self


class OfferedPacks(Packs):
    packs: list[OfferedNamedPack] = Field(min_length=1, max_length=MAX_ENTRIES)  # type: ignore[assignment]  # stricter


class Products(BaseModel):
    """The tools that agents may charge for."""

    model_config = ConfigDict(frozen=True)

    products: list[NamedProduct] = Field(max_length=MAX_ENTRIES)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        _require_distinct(product.name for product in self.products)
        return self


class Defaults(BaseModel):
    """The start of a new account; `daily_free_uses` is every account's, each UTC day."""

    model_config = ConfigDict(frozen=True)

    free_uses: int = Field(ge=0, le=1_000_000, description="One-time free uses of a new account.")
    daily_free_uses: int = Field(ge=0, le=1_000_000, description="Free uses per account and UTC day.")
    plan_name: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
    currency: Currency


class OfferedDefaults(Defaults):
    currency: KnownCurrency


def _moment(text: str) -> str:
    """Return a time as RFC 3339 in UTC. A document contains only values of JSON."""
    moment = _MOMENT.validate_python(text)
    return bounded(moment).isoformat().replace("+00:00", "Z")


_MOMENT = TypeAdapter(AwareDatetime)


def _above_zero(text: str) -> str:
    if not text.strip("0."):
        raise ValueError("must be above 0")
    return text


class DisplayRate(BaseModel):
    """One unit of `base` is `rate` units of `quote`, for display only."""

    model_config = ConfigDict(frozen=True)

    base: Currency
    quote: Currency
    rate: Annotated[
        str,
        StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$"),
        AfterValidator(_above_zero),
        Field(examples=["41.52"], description="A decimal number above 0, as text."),
    ]
    as_of: Annotated[
        str,
        StringConstraints(max_length=64),
        AfterValidator(_moment),
        Field(examples=["2026-12-01T00:00:00Z"], description="The time of the rate, with an offset."),
    ]
    source: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]


class DisplayRates(BaseModel):
    """Exchange rates for display. Requests never fetch one."""

    model_config = ConfigDict(frozen=True)

    rates: list[DisplayRate] = Field(max_length=MAX_ENTRIES)

    @model_validator(mode="after")
    def _pairs_are_distinct(self) -> Self:
        _require_distinct(f"{rate.base}/{rate.quote}" for rate in self.rates)
        return self

    def find(self, base: str, quote: str) -> DisplayRate | None:
        """Return the rate of a pair of currencies, if there is one."""
        return next((rate for rate in self.rates if (rate.base, rate.quote) == (base, quote)), None)


Amount = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$"),
    AfterValidator(_above_zero),
    Field(examples=["5.00"], description="In the major unit of the currency, as text."),
]


class MoneyPerMinute(BaseModel):
    model_config = ConfigDict(frozen=True)

    currency: Currency
    amount: Amount


class BurnRate(BaseModel):
    """The most that a run, or an account's use of an API key, may spend per minute."""

    model_config = ConfigDict(frozen=True)

    credits_per_minute: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)] | None = Field(
        description="null: any number."
    )
    money_per_minute: list[MoneyPerMinute] = Field(
        max_length=MAX_ENTRIES, description="A currency that is not listed is not bounded."
    )

    @model_validator(mode="after")
    def _currencies_are_distinct(self) -> Self:
        _require_distinct(entry.currency for entry in self.money_per_minute)
        return self


class Provider(BaseModel):
    """A payment provider's account, without its secrets: their last characters only."""

    model_config = ConfigDict(frozen=True)

    publishable_key: str
    secret_key_tail: str
    webhook_secret_tail: str

    @classmethod
    def of(cls, keys: StripeKeys) -> Self:
        return cls(
            publishable_key=keys.publishable_key,
            secret_key_tail=tail(keys.secret_key.get_secret_value()),
            webhook_secret_tail=tail(keys.webhook_secret.get_secret_value()),
        )


def tail(secret: str) -> str:
    """Return the part of a secret by which an admin recognizes it."""
    return f"…{secret[-TAIL_CHARS:]}" if len(secret) >= 4 * TAIL_CHARS else "…"


def _packs_of(settings: Settings) -> Packs:
    return Packs(packs=[NamedPack(name=name, **pack.model_dump()) for name, pack in settings.packs.items()])


def _products_of(settings: Settings) -> Products:
    products = settings.products.items()
    return Products(products=[NamedProduct(name=name, **product.model_dump()) for name, product in products])


def _defaults_of(settings: Settings) -> Defaults:
    return Defaults(
        free_uses=settings.free_uses,
        daily_free_uses=settings.daily_free_uses,
        plan_name=settings.default_plan_name,
        currency=settings.default_currency,
    )


def _display_rates_of(_: Settings) -> DisplayRates:
    return DisplayRates(rates=[])


def _plans_of(_: Settings) -> Plans:
    return SHIPPED


def _one_time_grants_of(settings: Settings) -> OneTimeGrants:
    return OneTimeGrants(currency=settings.default_currency)


def _refills_of(settings: Settings) -> Refills:
    return Refills(currency=settings.default_currency)


def _require_all_plans(before: Document, after: Document) -> None:
    """Accounts may have any plan that there ever was, so a plan is withdrawn and never removed."""
    if names := removed(before, after):
        raise InvalidRequest(f"plans: {', '.join(names)} cannot be removed: set withdrawn instead", field="plans")


def _burn_rate_of(settings: Settings) -> BurnRate:
    """Return no bound. The demo has one, which its sample traffic does not reach."""
    if settings.mode is not Mode.DEMO:
        return BurnRate(credits_per_minute=None, money_per_minute=[])
    return BurnRate(credits_per_minute=500, money_per_minute=[MoneyPerMinute(currency="USD", amount="20")])


def _require_pack_for_new_accounts(documents: Mapping[str, Document]) -> None:
    """An account can buy only in its own currency, so new accounts need a pack in theirs."""
    currency = documents["defaults"]["currency"]
    if all(pack["currency"] != currency for pack in documents["packs"]["packs"]):
        raise InvalidRequest(
            f"no pack is sold in {currency}, the currency of new accounts: they could buy nothing", field="currency"
        )


PACKS = Section(
    name="packs",
    document=Packs,
    offered=OfferedPacks,
    from_settings=_packs_of,
    check=_require_pack_for_new_accounts,
    read_description="The packs for sale, the default one first: a purchase that names no pack buys it.",
    change_description="Replace the packs for sale. Open purchases keep the price at which they were offered.",
)
PRODUCTS = Section(
    name="products",
    document=Products,
    from_settings=_products_of,
    change_description="Replace the catalogue. The uses that users have left of a removed product are kept for its "
    "return.",
    reply_name="CatalogueReply",
)
DISPLAY_RATES = Section(
    name="display_rates",
    document=DisplayRates,
    from_settings=_display_rates_of,
    read_description="Exchange rates for showing balances in another currency. No amount is ever converted.",
    change_description="Replace the exchange rates for display. Each has the time and the source that it is from.",
)
BURN_RATE = Section(
    name="burn_rate",
    document=BurnRate,
    from_settings=_burn_rate_of,
    read_description="The burn-rate brake: amounts per minute. null and an empty list: the brake is off.",
    change_description="Set the burn-rate brake. A run, or an account's use of an API key, that would spend more in a "
    "minute is refused with 402 and paused until an admin resumes it. Switching the brake off ends pauses of keys.",
)
DEFAULTS = Section(
    name="defaults",
    document=Defaults,
    offered=OfferedDefaults,
    from_settings=_defaults_of,
    check=_require_pack_for_new_accounts,
    change_description="Set the start of new accounts, and daily free uses. An account that has had today's free uses "
    "gets the new number tomorrow (UTC).",
)
PLANS = Section(
    name="plans",
    document=Plans,
    offered=OfferedPlans,
    from_settings=_plans_of,
    check_change=_require_all_plans,
    read_description="All plans, the withdrawn ones too.",
    change_description="Replace the plans. A plan cannot be removed: set `withdrawn`, and its subscribers keep the "
    "terms of the version that they subscribed to.",
)
ONE_TIME_GRANTS = Section(
    name="one_time_grants",
    document=OneTimeGrants,
    offered=OfferedOneTimeGrants,
    from_settings=_one_time_grants_of,
    read_description="Grants of money for signing up, for each day, and for referring a paying user.",
    change_description="Set the one-time grants. Earlier grants do not change. An amount of 0 is off.",
)
REFILLS = Section(
    name="refills",
    document=Refills,
    offered=OfferedRefills,
    from_settings=_refills_of,
    read_description="Bounds of automatic refills, and the text to which users consent when they save a card.",
    change_description="Set the bounds of automatic refills. They apply to the next refill of each account. Consents "
    "that users have given keep their text.",
)


def _provider_section(environment: Environment) -> Section[Provider]:
    def from_settings(settings: Settings) -> Provider | None:
        keys = configured_keys(settings, environment)
        return None if keys is None else Provider.of(keys)

    return Section(
        name=f"provider_{environment}",
        document=Provider,
        from_settings=from_settings,
        is_editable=False,
        environment=environment,
    )


PROVIDER_SECTIONS: Mapping[Environment, Section[Provider]] = {
    "live": _provider_section("live"),
    "test": _provider_section("test"),
}
SECTIONS: tuple[Section[Any], ...] = (
    *(PACKS, PRODUCTS, DEFAULTS, PLANS, ONE_TIME_GRANTS, REFILLS, DISPLAY_RATES, BURN_RATE),
    *PROVIDER_SECTIONS.values(),
)
