"""Products: the tools that agents charge for. Free of I/O.

The products in force are runtime configuration (the section `products` of app/configuration). Until an admin sets it,
the setting PRODUCTS applies.
"""

from pydantic import BaseModel, ConfigDict, Field


class Product(BaseModel):
    """A tool's price and free tier. Free uses accrue `daily_free` at each UTC midnight, up to `free_cap`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    initial_free: int = Field(ge=0, le=1_000_000)
    daily_free: int = Field(ge=0, le=1_000_000)
    price_credits: int = Field(gt=0, le=1_000_000)
    free_cap: int | None = Field(default=None, ge=0, le=2_000_000, description="Default: initial + daily.")

    @property
    def cap(self) -> int:
        return self.initial_free + self.daily_free if self.free_cap is None else self.free_cap
