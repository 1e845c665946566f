"""An export of a neighbour, as the import uses it: accounts with their history and event ids. Pure.

Each value has the line that it comes from, so that a message can name it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from app.ledger.entries import TOTALS, Kind
from app.ledger.limits import Window
from app.ledger.money import MAX_NANOS, decimal_text
from app.wallet.moved import MovedMoney

Origin = Literal["z-billing", "secondlayer"]
MONEY, GRANTED, USED = "money_purchased_nanos", "money_granted_nanos", "money_used_nanos"
OPENING = "opening"


class BrokenRow(Exception):
    """A row that cannot be imported. Nothing is written."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account. `lifetime` has the totals that the export states, by the ledger's name of each."""

    line: int
    user_id: str
    balance_nanos: int
    lifetime: Mapping[str, int]
    plan: str | None
    email: str | None
    display_name: str | None
    details: Mapping[str, Any]
    limits: Mapping[Window, int] = field(default_factory=dict)
    """Of its spending, in nanos."""


@dataclass(frozen=True, slots=True)
class MovementRow:
    line: int
    user_id: str
    id: str
    nanos: int
    kind: Kind
    description: str
    created_at: datetime
    external_transaction_id: str | None


@dataclass(frozen=True, slots=True)
class EventRow:
    line: int
    user_id: str
    event_id: str
    source: str | None


Row = AccountRow | MovementRow | EventRow


@dataclass(slots=True)
class Moving:
    """One account with all that is moved with it."""

    account: AccountRow
    movements: list[MovementRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)

    def money(self, origin: Origin, at: datetime) -> Sequence[MovedMoney]:
        """Return the opening entries and the history, in an order in which the balance is never negative.

        The opening entries add the part that the history lacks: of each stated lifetime total, then of the balance.
        Raises BrokenRow for totals that are less than the history's, and for amounts that exceed 64 bits together.
        """
        history = [_moved(origin, row) for row in sorted(self.movements, key=lambda row: (row.created_at, row.line))]
        first = min([at, *(movement.created_at for movement in history)])
        opening = [replace(movement, created_at=first) for movement in self._opening(origin, history, at)]
        added = sum(movement.nanos for movement in (*opening, *history) if movement.nanos > 0)
        if added > MAX_NANOS:
            text = decimal_text(added)
            raise BrokenRow(self.account.line, f"the amounts that were added are {text} in all, more than 64 bits")
        ordered = [*(m for m in opening if m.nanos > 0), *history, *(m for m in opening if m.nanos < 0)]
        return ordered if _is_never_negative(ordered) else sorted(ordered, key=lambda movement: movement.nanos < 0)

    def _opening(self, origin: Origin, history: Sequence[MovedMoney], at: datetime) -> list[MovedMoney]:
        amounts: list[tuple[str, Kind, int, str]] = []
        for name, kind, sign, word in (
            (MONEY, Kind.PURCHASE, 1, "Purchases"),
            (GRANTED, Kind.OPENING_GRANT, 1, "Credits"),
            (USED, Kind.USAGE, -1, "Usage"),
        ):
            stated = self.account.lifetime.get(name)
            if stated is None:
                continue
            listed = sum(abs(m.nanos) for m in history if TOTALS.get(m.kind) == name and m.nanos * sign > 0)
            if listed > stated:
                totals = f"{decimal_text(stated)} in all, and {decimal_text(listed)} in the transactions"
                raise BrokenRow(self.account.line, f"{word.lower()} are {totals}")
            amounts.append((name, kind, sign * (stated - listed), f"{word} before the move"))
        total = sum(m.nanos for m in history) + sum(nanos for _, _, nanos, _ in amounts)
        rest = self.account.balance_nanos - total
        kind = Kind.ADJUSTMENT if rest < 0 or self.account.lifetime else Kind.OPENING_GRANT
        amounts.append(("balance", kind, rest, "Balance before the move"))
        return [
            MovedMoney(f"{origin}:{OPENING}:{name}", nanos, kind, text, at)
            for name, kind, nanos, text in amounts
            if nanos != 0
        ]


@dataclass(frozen=True, slots=True)
class Export:
    origin: Origin
    accounts: Sequence[Moving]

    @classmethod
    def of(cls, origin: Origin, rows: Sequence[Row]) -> "Export":
        """Group the rows by user. Raises BrokenRow for rows that are there twice or have no account."""
        accounts: dict[str, Moving] = {}
        for row in rows:
            if isinstance(row, AccountRow):
                if row.user_id in accounts:
                    raise BrokenRow(row.line, f"user_id: also on line {accounts[row.user_id].account.line}")
                accounts[row.user_id] = Moving(row)
        seen: dict[tuple[str, str], int] = {}
        for row in rows:
            if isinstance(row, AccountRow):
                continue
            moving = accounts.get(row.user_id)
            if moving is None:
                raise BrokenRow(row.line, "user_id: the file has no account of this user")
            if isinstance(row, EventRow):
                moving.events.append(row)
                continue
            if (first := seen.setdefault((row.user_id, row.id), row.line)) != row.line:
                raise BrokenRow(row.line, f"id: also on line {first}")
            moving.movements.append(row)
        return cls(origin, list(accounts.values()))


def _moved(origin: Origin, row: MovementRow) -> MovedMoney:
    return MovedMoney(
        f"{origin}:{row.id}", row.nanos, row.kind, row.description, row.created_at, row.external_transaction_id
    )


def _is_never_negative(movements: Sequence[MovedMoney]) -> bool:
    balance = 0
    for movement in movements:
        balance += movement.nanos
        if balance < 0:
            return False
    return True
