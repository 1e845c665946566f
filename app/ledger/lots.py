"""Lots: grants of credits or money. Each is a separate pool with a priority and an expiry. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from app.ledger.pools import CREDIT, Bucket

Category = Literal["promotional", "subscription", "purchased", "compensation"]
MAX_OPEN_LOTS = 1_000
"""Open grants of one account. Bounds what a charge reads under the account's lock."""
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Lot:
    """A grant that a transaction has read or made under the account's lock. Amounts are in `unit`.

    A lot is open while something remains. `created`: its row is not stored yet. `moved`: its row has to be updated.
    """

    grant_id: UUID
    unit: str
    amount: int
    remaining: int
    priority: int
    category: Category
    expires_at: datetime | None
    created_at: datetime
    source: str = ""
    idempotency_key: str | None = None
    caller_kind: str | None = None
    closed_at: datetime | None = None
    ended_at: datetime | None = None
    created: bool = False
    moved: bool = False

    def is_live(self, now: datetime) -> bool:
        """Return whether the lot can pay at `now`. At the moment of its expiry it cannot."""
        return self.remaining > 0 and not self.is_due(now)

    def is_due(self, now: datetime) -> bool:
        """Return whether the lot has expired at `now`."""
        return self.expires_at is not None and self.expires_at <= now

    def takes_back(self, now: datetime) -> bool:
        """Return whether the lot keeps an amount that returns to it at `now`: not after its expiry or its end."""
        return self.ended_at is None and not self.is_due(now)

    def bucket(self) -> Bucket:
        kind: Literal["grant"] = "grant"
        return Bucket("grant", kind, self.unit, self.remaining, self.expires_at, self.grant_id)


def lots_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[UUID, Lot]]:
    """Yield the lots of rows, each with its account's id."""
    for row in rows:
        columns = dict(row)
        yield columns.pop("account_id"), Lot(**columns)


def in_burn_order(lots: Iterable[Lot], unit: str) -> list[Lot]:
    """Return the lots of a unit in burn order.

    Lower priority number first, then earliest expiry (never is last), then promotional ones, then the oldest.
    """
    return sorted((lot for lot in lots if lot.unit == unit), key=_burn_key)


def _burn_key(lot: Lot) -> tuple[int, datetime, bool, datetime, UUID]:
    return lot.priority, lot.expires_at or NEVER, lot.category != "promotional", lot.created_at, lot.grant_id


def live_sum(lots: Iterable[Lot], unit: str, now: datetime) -> int:
    """Return what the lots of a unit can pay at `now`."""
    return sum(lot.remaining for lot in lots if lot.unit == unit and lot.is_live(now))


def open_sum(lots: Iterable[Lot], *, credits: bool) -> int:
    """Return what remains of the lots of credits, or of those of money, due or not."""
    return sum(lot.remaining for lot in lots if (lot.unit == CREDIT) == credits)


def next_expiry(lots: Iterable[Lot]) -> datetime | None:
    """Return the earliest expiry of the open lots."""
    return min((lot.expires_at for lot in lots if lot.remaining > 0 and lot.expires_at is not None), default=None)


def open_lots_of(stored: Mapping[UUID, Lot]) -> dict[UUID, Lot]:
    """Return those of the stored lots that are not empty, with nothing left to store."""
    found = {lot.grant_id: lot for lot in stored.values() if lot.remaining > 0}
    for lot in found.values():
        lot.created = lot.moved = False
    return found
