"""The configuration's sections, each one document that is stored, versioned and replaced as a whole."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.auth.caller import Environment
from app.packs import Currency, Pack
from app.products import Product
from app.setting_values import Slug
from app.settings import Settings

Section = Literal["packs", "products", "defaults", "provider_live", "provider_test"]
SECTIONS: tuple[Section, ...] = ("packs", "products", "defaults", "provider_live", "provider_test")
PROVIDER_SECTIONS: Mapping[Environment, Section] = {"live": "provider_live", "test": "provider_test"}
MAX_ENTRIES = 100
TAIL_CHARS = 4
Document = Mapping[str, Any]


class NamedPack(Pack):
    """A price pack. `price_minor` is in minor units of the currency."""

    name: Slug


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
    """What is sold. A purchase that names no pack buys the first."""

    model_config = ConfigDict(frozen=True)

    packs: list[NamedPack] = Field(min_length=1, max_length=MAX_ENTRIES)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        _require_distinct(pack.name for pack in self.packs)
        return self


class Products(BaseModel):
    """The tools that agents may charge for."""

    model_config = ConfigDict(frozen=True)

    products: list[NamedProduct] = Field(max_length=MAX_ENTRIES)

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        _require_distinct(product.name for product in self.products)
        return self


class Defaults(BaseModel):
    """What a new account starts with; `daily_free_uses` is every account's, each UTC day."""

    model_config = ConfigDict(frozen=True)

    free_uses: int = Field(ge=0, le=1_000_000, description="One-time free uses of a new account.")
    daily_free_uses: int = Field(ge=0, le=1_000_000, description="Free uses per account and UTC day.")
    plan_name: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
    currency: Currency


class Provider(BaseModel):
    """A payment provider's account, without its secrets: their last characters only."""

    model_config = ConfigDict(frozen=True)

    publishable_key: str
    secret_key_tail: str
    webhook_secret_tail: str


def packs_of(settings: Settings) -> Packs:
    return Packs(packs=[NamedPack(name=name, **pack.model_dump()) for name, pack in settings.packs.items()])


def products_of(settings: Settings) -> Products:
    products = settings.products.items()
    return Products(products=[NamedProduct(name=name, **product.model_dump()) for name, product in products])


def defaults_of(settings: Settings) -> Defaults:
    return Defaults(
        free_uses=settings.free_uses,
        daily_free_uses=settings.daily_free_uses,
        plan_name=settings.default_plan_name,
        currency=settings.default_currency,
    )


def tail(secret: str) -> str:
    """What may be shown of a secret, so that a person recognises it."""
    return f"…{secret[-TAIL_CHARS:]}" if len(secret) >= 4 * TAIL_CHARS else "…"
