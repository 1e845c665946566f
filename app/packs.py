"""Price packs: what one purchase buys, and in which currencies packs are sold."""

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
    """What one purchase buys: `credits` credits for `price_minor` minor units of `currency`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Currency = "USD"
    price_minor: int = Field(gt=0, le=99_999_999)
    credits: int = Field(gt=0, le=1_000_000_000)


class OfferedPack(Pack):
    """A pack whose price Stripe accepts, as far as that is known before asking. A stored one may be just a Pack."""

    currency: KnownCurrency = "USD"

    @field_validator("price_minor")
    @classmethod
    def _can_be_charged(cls, price_minor: int, info: ValidationInfo) -> int:
        currency = info.data.get("currency")  # absent when it is not valid itself
        if currency is not None and (problem := problem_of(currency, price_minor)) is not None:
            raise ValueError(problem)
        return price_minor
