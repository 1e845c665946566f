"""Lives of customers through two years: the month of each event, and the money that the plan grants until the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from app.plans.calendar import boundary
from tests.subscriptions.made import at

START = at("2026-01-31")
MONTHS = 24
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
Event = Literal[
    "paid late", "refunded", "refund fails", "dispute lost", "dispute won", "upgraded", "lowered", "ended", "returned"
]


@dataclass(frozen=True)
class Life:
    """`events`: by the number of the month, counted from 0. `dollars`: granted and kept."""

    plan_name: str
    dollars: float
    events: Mapping[int, Event] = field(default_factory=dict)
    price: str = "price_standard"


LATE: Mapping[int, Event] = dict.fromkeys(range(4, MONTHS, 5), "paid late")
LIVES: Mapping[str, Life] = {
    "steady": Life("standard", 25 * 24),
    "climbing": Life("pro", 25 * 8 + 17.5 + 60 * 16, {7: "upgraded"}),
    "troubled": Life(
        "standard",
        25 * 22,
        {**LATE, 3: "refunded", 6: "dispute lost", 11: "refund fails", 15: "dispute won"},
    ),
    "leaving": Life("free", 25 * 17, {16: "ended"}),
    "returning": Life("pro", 25 * 9 + 60 * 10, {8: "ended", 14: "returned"}),
    "lowering": Life("standard", 60 * 10 + 25 * 14, {9: "lowered"}, price="price_pro"),
    "yearly": Life("standard", 25 * 24, {}, price="price_standard_year"),
    "yearly, refunded": Life("standard", 25 * 12, {13: "refunded"}, price="price_standard_year"),
}


def month(number: int) -> tuple[datetime, datetime]:
    """Return the start and the end of a month of the two years."""
    return boundary(START, "month", number), boundary(START, "month", number + 1)
