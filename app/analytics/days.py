"""The date range of a report."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from app.auth.caller import Environment

OF_THE_DAYS = "environment = :environment AND day BETWEEN :first AND :last"
"""The SQL condition of `Days.values` on sums by day."""


@dataclass(frozen=True, slots=True)
class Days:
    """UTC days `first` to `last`, both included, of one environment."""

    environment: Environment
    first: date
    last: date

    @property
    def count(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def previous(self) -> "Days":
        """The same number of days, immediately before."""
        length = timedelta(days=self.count)
        return Days(self.environment, self.first - length, self.last - length)

    @property
    def values(self) -> dict[str, Any]:
        """The bound values of the reports' statements."""
        return {"environment": self.environment, "first": self.first, "last": self.last}

    def each(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range(self.count)]
