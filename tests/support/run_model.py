"""Runs and the burn-rate brake as plain arithmetic: their part of the oracle of test_machine.py. Sums over the log."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Optional

ModelUnit = Literal["credit", "USD", "use"]


@dataclass(eq=False)
class ModelRun:
    name: str
    parent: Optional["ModelRun"]
    unit: ModelUnit | None
    budget: int | None
    status: str = "open"
    may_exceed: bool = False
    """Its budget was lowered, or work that was done before counts in it."""

    def line(self) -> list["ModelRun"]:
        """The run, and all above it."""
        return [self, *(self.parent.line() if self.parent else [])]


@dataclass(frozen=True)
class Asked:
    """The amount that a request needs, and its names."""

    unit: ModelUnit
    amount: int
    run: str | None
    tool: str | None = None
    model: str | None = None
    uses: int = 1

    @property
    def requester(self) -> tuple[str | None, ...]:
        return self.tool, self.model, self.run

    def of(self, unit: ModelUnit) -> int:
        return self.uses if unit == "use" else self.amount if unit == self.unit else 0


@dataclass(eq=False)
class Spent:
    """A request with the amount that it counts with. A hold is open until it is settled."""

    at: datetime
    unit: ModelUnit
    amount: int
    uses: int
    is_open: bool
    run: str | None
    counts_in: set[ModelRun]
    paces: set[ModelRun | None]
    """The runs whose minute it is in. None: the minute of the caller's key."""

    def of(self, unit: ModelUnit) -> int:
        return self.uses if unit == "use" else self.amount if unit == self.unit else 0


@dataclass(frozen=True)
class RunRefusal:
    code: str
    run: ModelRun
    kind: str | None
    """Of the approval that it asks for."""
    lacks: int


@dataclass
class RunModel:
    by_name: dict[str, ModelRun] = field(default_factory=dict)

    def line(self, name: str | None) -> list[ModelRun]:
        run = None if name is None else self.by_name.get(name)
        return [] if run is None else run.line()

    def spent(self, run: ModelRun, unit: ModelUnit, log: Sequence[Spent]) -> int:
        return sum(spent.of(unit) for spent in log if run in spent.counts_in)

    def _rooms(self, asked: Asked, log: Sequence[Spent]) -> list[tuple[int, ModelRun]]:
        return [
            (max(0, run.budget - self.spent(run, asked.unit, log)), run)
            for run in self.line(asked.run)
            if run.budget is not None and run.unit == asked.unit
        ]

    def refusal(self, asked: Asked, log: Sequence[Spent]) -> RunRefusal | None:
        for run in self.line(asked.run):
            if run.status == "paused":
                return RunRefusal("run_paused", run, "resume", max(1, asked.amount))
            if run.status == "closed":
                return RunRefusal("run_closed", run, None, 0)
        rooms = self._rooms(asked, log)
        if all(asked.amount <= room for room, _ in rooms):
            return None
        room, run = min(rooms, key=lambda pair: pair[0])
        return RunRefusal("run_budget_exceeded", run, "budget", asked.amount - room)

    def room(self, asked: Asked, log: Sequence[Spent]) -> int:
        if any(run.status != "open" for run in self.line(asked.run)):
            return 0
        return min([asked.amount, *(room for room, _ in self._rooms(asked, log))])


def subjects(line: Sequence[ModelRun]) -> Sequence[ModelRun | None]:
    """Return the subjects of a minute's count: each run of the line, or else the caller's key."""
    return line or [None]


@dataclass
class Pace:
    """The burn-rate brake: the most that a run, or else the key, may spend in a minute. No entry: any amount."""

    most: dict[ModelUnit, int] = field(default_factory=dict)
    is_paused: bool = False
    """The account's use of the key is paused."""

    def _spent(self, subject: ModelRun | None, unit: ModelUnit, log: Sequence[Spent], now: datetime) -> int:
        minute = now.replace(second=0, microsecond=0)
        return sum(each.of(unit) for each in log if subject in each.paces and each.at >= minute)

    def refuses(self, asked: Asked, line: Sequence[ModelRun], log: Sequence[Spent], now: datetime) -> bool:
        """Whether it is too fast. The first of the line that is too fast is paused."""
        if self.most and not line and self.is_paused:
            return True
        for subject in subjects(line):
            most = self.most.get(asked.unit)
            if most is not None and asked.amount and self._spent(subject, asked.unit, log, now) + asked.amount > most:
                self._pause(subject)
                return True
        return False

    def room(self, asked: Asked, line: Sequence[ModelRun], log: Sequence[Spent], now: datetime) -> int:
        if self.most and not line and self.is_paused:
            return 0
        most = self.most.get(asked.unit)
        spent = [self._spent(subject, asked.unit, log, now) for subject in subjects(line)]
        return asked.amount if most is None else min([asked.amount, *(max(0, most - each) for each in spent)])

    def note(self, spent: Spent, line: Sequence[ModelRun], log: Sequence[Spent], now: datetime) -> None:
        """Pause all that is too fast with work that is done."""
        most = self.most.get(spent.unit)
        for subject in subjects(line):
            if most is not None and spent.amount and self._spent(subject, spent.unit, log, now) > most:
                self._pause(subject)

    def _pause(self, subject: ModelRun | None) -> None:
        if subject is None:
            self.is_paused = True
        elif subject.status == "open":
            subject.status = "paused"

    def resume(self, subject: ModelRun | None, log: Sequence[Spent]) -> None:
        """End a pause. The minute starts empty."""
        if subject is None and self.is_paused:
            self.is_paused = False
        elif subject is not None and subject.status == "paused":
            subject.status = "open"
        else:
            return
        for spent in log:
            spent.paces.discard(subject)
