"""Entitlement: whether a subscription gives its plan, the grace after a missed payment, and the dunning. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Status = Literal["incomplete", "incomplete_expired", "trialing", "active", "past_due", "unpaid", "canceled", "paused"]
"""Stripe's words."""
ENTITLED = frozenset({"trialing", "active"})
DAY = timedelta(days=1)


def is_entitled(status: Status, past_due_since: datetime | None, grace: timedelta, now: datetime) -> bool:
    """Return whether a subscription gives its plan at `now`: active, trialing, or past due within the grace period."""
    return status in ENTITLED or (status == "past_due" and past_due_since is not None and now < past_due_since + grace)


def entitled_until(status: Status, past_due_since: datetime | None, grace: timedelta) -> datetime | None:
    """Return when the grace period of a subscription that is past due ends. None: it has none."""
    return past_due_since + grace if status == "past_due" and past_due_since is not None else None


@dataclass(frozen=True, slots=True)
class Dunning:
    """The schedule of payment attempts after a failed one: days after the first failure, increasing."""

    days: Sequence[int] = (1, 3, 5, 7)

    def __post_init__(self) -> None:
        if any(later <= earlier for earlier, later in zip((0, *self.days), self.days, strict=False)):
            raise ValueError("days must be above 0 and increasing")

    def next_attempt(self, failed_at: datetime, failures: int) -> datetime | None:
        """Return the time of the attempt after so many failures, the first at `failed_at`. None: it was the last.

        Late attempts do not move the later ones: all count from the first failure.
        """
        if failures < 1:
            raise ValueError("there is no failure")
        return failed_at + self.days[failures - 1] * DAY if failures <= len(self.days) else None

    def ends_at(self, failed_at: datetime) -> datetime:
        """Return the time of the last attempt: after it fails, the subscription ends."""
        return failed_at + (self.days[-1] if self.days else 0) * DAY
