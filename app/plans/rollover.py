"""Rollover: the rest of a period's grant that goes into the next period. Pure. Amounts are credits or nanos."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Renewal:
    """The end of a period. `carried` and `lost` are what remained; the next grant is `carried` and the fresh amount."""

    carried: int
    lost: int
    fresh: int

    @property
    def granted(self) -> int:
        return self.carried + self.fresh


def renew(remaining: int, fresh: int, most_carried: int | None) -> Renewal:
    """Return the renewal of a grant. `most_carried`: how much may roll over; None is all of it.

    What rolled over before is part of `remaining`, so the amount that is carried never exceeds `most_carried`.
    """
    if remaining < 0 or fresh < 0 or (most_carried is not None and most_carried < 0):
        raise ValueError("amounts are not negative")
    carried = remaining if most_carried is None else min(remaining, most_carried)
    return Renewal(carried, remaining - carried, fresh)
