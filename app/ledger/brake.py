"""Burn-rate brake: pauses a run, or an account's use of a key, that spends more than an amount per minute. Pure.

    account.limits.brake.require(spending, chain)   # raises BurnRateExceeded, and pauses the run or the use
    account.limits.brake.count(spending, chain)     # what was admitted, and work that is done

Spending in a registered run counts in that run and in every ancestor. Other spending counts in the account's use of
the key that spends, so an agent cannot evade the brake with unregistered run ids. A minute is one of the
clock, or the rest of one after the end of a pause. Holds and cost records count at their opening; a settlement within
the same minute corrects what counted them: the use of the key, if their run was registered later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from app.errors import AppError
from app.ledger.pools import CREDIT
from app.ledger.remedies import NO_STORE
from app.ledger.runs import MAX_COUNT, Run
from app.ledger.units import amount_text, unit_text

USER = ""
"""The key of spending with a user's own token."""


class Spent(Protocol):
    """Spending, as app/ledger/limits.py describes it."""

    @property
    def unit(self) -> str: ...
    @property
    def amount(self) -> int: ...
    @property
    def key(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Brake:
    """The most that may be spent per minute: credits, and nanos by currency. None, or no currency: any amount."""

    credits: int | None
    nanos: Mapping[str, int]

    def most(self, unit: str) -> int | None:
        return self.credits if unit == CREDIT else self.nanos.get(unit)


@dataclass(slots=True)
class KeyUse:
    """An account's use of an API key outside of registered runs: the counts of a minute, and whether it is paused.

    It is the use of all keys that the key was rotated from or to: `keys` (app/ledger/key_lines.py).
    """

    account_id: UUID
    key_id: str
    """The first of these keys that spent."""
    minute_start: datetime | None = None
    minute_credits: int = 0
    minute_nanos: int = 0
    paused_at: datetime | None = None
    keys: Sequence[str] = ()
    is_changed: bool = False

    @property
    def weight(self) -> tuple[bool, int, int]:
        """Its rank among the uses by one line: the highest counts."""
        return self.paused_at is not None, self.minute_credits, self.minute_nanos


@dataclass(frozen=True, slots=True)
class Braked:
    """A pause and its reason, for the alert. Amounts are in `unit`."""

    account_id: UUID
    subject: str
    unit: str
    observed: int
    most: int


@dataclass(slots=True)
class AccountBrake:
    """The brake on one locked account, while a batch decides."""

    account_id: UUID
    brake: Brake
    now: datetime
    keys: dict[str, KeyUse] = field(default_factory=dict)
    braked: list[Braked] = field(default_factory=list)

    @property
    def minute(self) -> datetime:
        return self.now.replace(second=0, microsecond=0)

    def require(self, spending: Spent, chain: Sequence[Run]) -> None:
        """Raise BurnRateExceeded, and pause, if a run of the chain or else the key would spend too fast."""
        if not chain and (use := self._key(spending)).paused_at is not None:
            raise BurnRateExceeded(spending.unit, self._spent(use, spending.unit), self.brake.most(spending.unit), None)
        most = self.brake.most(spending.unit)
        if most is None or spending.amount <= 0:
            return
        for subject in self._subjects(spending, chain):
            spent = self._spent(subject, spending.unit)
            if spent + spending.amount > most:
                self._pause(subject, spending.unit, spent + spending.amount, most)
                raise BurnRateExceeded(spending.unit, spent, most, subject if isinstance(subject, Run) else None)

    def room(self, spending: Spent, chain: Sequence[Run], room: int) -> int:
        """Return how much of an amount may be spent in this minute."""
        most = self.brake.most(spending.unit)
        if not chain and self._key(spending).paused_at is not None:
            return 0
        if most is None:
            return room
        spent = (self._spent(subject, spending.unit) for subject in self._subjects(spending, chain))
        return min(room, *(max(0, most - amount) for amount in spent))

    def count(self, spending: Spent, chain: Sequence[Run]) -> None:
        """Count spending. Work that is done is not refused, but pauses what spends too fast."""
        most = self.brake.most(spending.unit)
        if most is None or spending.amount <= 0:
            return
        for subject in self._subjects(spending, chain):
            self._add(subject, spending.unit, spending.amount)
            if (spent := self._spent(subject, spending.unit)) > most:
                self._pause(subject, spending.unit, spent, most)

    def adjust(self, spending: Spent, chain: Sequence[Run], opened_at: datetime, opening: UUID) -> None:
        """Correct what a hold or a cost record (`opening`) was counted with, where the present minute includes it.

        Runs, holds and records get their ids under the account's lock, so the ids have the order of the events.
        """
        if spending.amount > 0:
            self.count(spending, chain)
        elif spending.amount < 0:
            was_registered = bool(chain) and chain[0].run_uuid < opening
            for subject in self._subjects(spending, chain if was_registered else ()):
                start = subject.minute_start
                if start is not None and self.minute <= start <= opened_at:
                    self._add(subject, spending.unit, spending.amount)

    def add(self, use: KeyUse) -> None:
        """Add a stored use. Of two by keys of one line, a paused one counts, or else the one that has spent more.

        Versions before store both, and so does a transaction in which both keys are the first to spend in a minute.
        """
        other = self._find(use.key_id)
        if other is not None:
            if use.weight <= other.weight:
                return
            del self.keys[other.key_id]
        self.keys[use.key_id] = use

    def _key(self, spending: Spent) -> KeyUse:
        key_id = spending.key or USER
        if (use := self._find(key_id)) is None:
            use = self.keys[key_id] = KeyUse(self.account_id, key_id)
        return use

    def _find(self, key_id: str) -> KeyUse | None:
        """Return the use by a key, or by another key of its line."""
        if (use := self.keys.get(key_id)) is not None:
            return use
        return next((use for use in self.keys.values() if key_id in use.keys), None)

    def _subjects(self, spending: Spent, chain: Sequence[Run]) -> Sequence[Run | KeyUse]:
        return chain or (self._key(spending),)

    def _is_current(self, subject: Run | KeyUse) -> bool:
        """Return whether the subject's counters are of this minute, or of a later one by another process's clock."""
        return subject.minute_start is not None and subject.minute_start >= self.minute

    def _spent(self, subject: Run | KeyUse, unit: str) -> int:
        if not self._is_current(subject):
            return 0
        return subject.minute_credits if unit == CREDIT else subject.minute_nanos

    def _add(self, subject: Run | KeyUse, unit: str, amount: int) -> None:
        if not self._is_current(subject):
            subject.minute_start, subject.minute_credits, subject.minute_nanos = self.minute, 0, 0
        count = min(max(0, self._spent(subject, unit) + amount), MAX_COUNT)
        if unit == CREDIT:
            subject.minute_credits = count
        else:
            subject.minute_nanos = count
        subject.is_changed = True

    def _pause(self, subject: Run | KeyUse, unit: str, observed: int, most: int) -> None:
        if isinstance(subject, Run):
            if subject.status != "open":
                return
            subject.status, subject.pause_reason = "paused", "burn_rate"
            name = f"run {subject.run_uuid}"
        else:
            if subject.paused_at is not None:
                return
            subject.paused_at = self.now
            name = f"key {subject.key_id or 'of the user'}"
        subject.is_changed = True
        self.braked.append(Braked(self.account_id, name, unit, observed, most))


class BurnRateExceeded(AppError):
    """More than the configured amount per minute. The run, or the account's use of the key, is paused."""

    status, code = 402, "burn_rate_exceeded"

    def __init__(self, unit: str, spent: int, most: int | None, run: Run | None) -> None:
        paused = "This account's use of the API key" if run is None else f"Run {run.run_id}"
        super().__init__(
            f"Spending is faster than allowed. {paused} is paused until an admin resumes it",
            figures={
                "brake": {
                    "run_id": None if run is None else run.run_id,
                    "unit": unit_text(unit),
                    "per_minute": None if most is None else amount_text(unit, most),
                    "spent": amount_text(unit, spent),
                },
                "retryable": False,
                "remedies": [],
            },
            headers=NO_STORE,
        )
