"""The document of refills: the operator's bounds, and the text to which users consent. Free of I/O.

The document in force is runtime configuration (the section `refills` of app/configuration).
"""

from datetime import timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from app.packs import Currency, KnownCurrency
from app.plans.document import PositiveAmount, units_of
from app.plans.refills import RefillBounds

CONSENT = (
    "I allow my card to be saved, and to be charged automatically: with the refill amount that I set, each time that "
    "my balance falls below the level that I set, and up to my monthly limit. I can remove the card and switch refills "
    "off at any time."
)
DAY_S = 86_400


class Refills(BaseModel):
    """Bounds of the refills that users set, in one currency."""

    model_config = ConfigDict(frozen=True)

    currency: Currency = Field(description="Accounts in another currency cannot have refills.")
    least_trigger: PositiveAmount = "1.00"
    least_amount: PositiveAmount = "5.00"
    most_amount: PositiveAmount = "500.00"
    most_monthly: PositiveAmount = Field(
        default="1000.00", description="The most that an account's refills cost in a calendar month of `TIME_ZONE`."
    )
    cooldown_s: int = Field(default=60, ge=0, le=30 * DAY_S, description="The least time between two refills.")
    backoff_s: int = Field(
        default=3600, ge=60, le=30 * DAY_S, description="After a decline. It doubles with each further one in a row."
    )
    consent_text: Annotated[str, StringConstraints(min_length=20, max_length=2000, pattern=r"^[^\x00]+$")] = Field(
        default=CONSENT, description="Shown to users who save a card, and stored with their consent."
    )

    @property
    def bounds(self) -> RefillBounds:
        """Return the bounds in nanos of the currency."""
        return RefillBounds(
            least_trigger=units_of(self.least_trigger, money=True),
            least_amount=units_of(self.least_amount, money=True),
            most_amount=units_of(self.most_amount, money=True),
            most_monthly=units_of(self.most_monthly, money=True),
            cooldown=timedelta(seconds=self.cooldown_s),
            backoff=timedelta(seconds=self.backoff_s),
        )


class OfferedRefills(Refills):
    model_config = ConfigDict(extra="forbid")

    currency: KnownCurrency

    @model_validator(mode="after")
    def _amounts_fit(self) -> Self:
        bounds = self.bounds
        if not bounds.least_amount <= bounds.most_amount <= bounds.most_monthly:
            raise ValueError("least_amount must not exceed most_amount, and most_amount not most_monthly")
        return self
