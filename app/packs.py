"""Price packs: the credits and the price of one purchase. Free of I/O.

The packs in force are runtime configuration (the section `packs` of app/configuration). Until an admin sets it, the
setting PACKS applies.
"""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from app.currencies import CURRENCIES, problem_of

Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


def _known(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError(f"Stripe does not charge {code}")
    return code


KnownCurrency = Annotated[Currency, AfterValidator(_known)]


class Pack(BaseModel):
    """One purchase buys `credits` credits for `price_minor` minor units of `currency`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Currency = "USD"
    price_minor: int = Field(gt=0, le=99_999_999)
    credits: int = Field(gt=0, le=1_000_000_000)


class OfferedPack(Pack):
    """A pack whose price Stripe accepts by its published rules. A stored pack may break them."""

    currency: KnownCurrency = "USD"

    @field_validator("price_minor")
    @classmethod
    def _can_be_charged(cls, price_minor: int, info: ValidationInfo) -> int:
        currency = info.data.get("currency")  # absent if it is invalid
        if currency is not None and (problem := problem_of(currency, price_minor)) is not None:
            raise ValueError(problem)
        return price_minor
