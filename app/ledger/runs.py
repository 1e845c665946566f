"""Runs of an account's agents: budgets that sub-runs share. Pure: reads and writes nothing.

    account.limits.runs.require("run-7", CREDIT, 5)   # raises RunBudgetExceeded, RunPaused or RunClosed
    account.limits.runs.count("run-7", CREDIT, 5, uses=1)   # in the run and in every ancestor

A caller registers a run, perhaps below another one. A run's spending counts in it and in all its ancestors, and each
of them must have room for it. An unregistered run has no budget, and is not counted.

Open holds and open cost records count with their amounts. The counters include those that were open when the run was
registered, so each of their settlements is a correction of a counted amount.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from app.errors import AppError
from app.ledger.pools import CREDIT
from app.ledger.remedies import NO_STORE, smaller_amount
from app.ledger.units import amount_text, unit_text

RunStatus = Literal["open", "paused", "closed"]
PauseReason = Literal["requested", "burn_rate"]
"""The reason that a run is paused: a caller or an admin asked for it, or it spent too fast."""
MAX_DEPTH = 32
MAX_COUNT = 2**63 - 1


@dataclass(slots=True)
class Run:
    """A registered run. `unit` and `budget` are None: it has no budget. Amounts are credits and nanos of money."""

    account_id: UUID
    run_uuid: UUID
    run_id: str
    ancestors: list[UUID]
    unit: str | None
    budget: int | None
    status: RunStatus
    pause_reason: PauseReason | None
    spent_credits: int
    spent_nanos: int
    uses: int
    minute_start: datetime | None = None
    minute_credits: int = 0
    minute_nanos: int = 0
    is_changed: bool = False

    @property
    def spent(self) -> int:
        """The spending in the unit of its budget."""
        return self.spent_credits if self.unit == CREDIT else self.spent_nanos

    def room(self, unit: str) -> int | None:
        """Return how much of a unit its budget leaves. None: the budget is not about it."""
        return None if self.budget is None or self.unit != unit else max(0, self.budget - self.spent)

    def count(self, unit: str, amount: int, uses: int) -> None:
        """Count an amount, or give some back if it is negative."""
        if amount == 0 and uses == 0:
            return
        if unit == CREDIT:
            self.spent_credits = _sum(self.spent_credits, amount)
        else:
            self.spent_nanos = _sum(self.spent_nanos, amount)
        self.uses = _sum(self.uses, uses)
        self.is_changed = True


def _sum(count: int, more: int) -> int:
    return min(max(0, count + more), MAX_COUNT)


@dataclass(slots=True)
class Runs:
    """The registered runs that a batch is about, of one locked account, with their ancestors."""

    by_uuid: dict[UUID, Run] = field(default_factory=dict)
    by_id: dict[str, Run] = field(default_factory=dict)
    looked_up: set[str] = field(default_factory=set)
    """The run ids that were looked up, registered or not."""

    def add(self, run: Run) -> None:
        """Add a run or an ancestor. One that is known already stays: it may have changed in this transaction."""
        self.by_id.setdefault(run.run_id, self.by_uuid.setdefault(run.run_uuid, run))

    def chain(self, run_id: str | None) -> list[Run]:
        """Return a run and its ancestors, the run first. Nothing for a run that is not registered."""
        run = None if run_id is None else self.by_id.get(run_id)
        return [] if run is None else [run, *(self.by_uuid[uuid] for uuid in reversed(run.ancestors))]

    def require(self, run_id: str | None, unit: str, amount: int) -> None:
        """Raise RunClosed, RunPaused or RunBudgetExceeded unless a run and every ancestor allow the amount."""
        chain = self.chain(run_id)
        for run in chain:
            require_open(run)
        rooms = [(room, run) for run in chain if (room := run.room(unit)) is not None]
        room, tightest = min(rooms, key=lambda pair: pair[0], default=(amount, None))
        if tightest is not None and amount > room:
            raise RunBudgetExceeded(tightest, amount, room)

    def room(self, run_id: str | None, unit: str, most: int) -> int:
        """Return how much of an amount a run and its ancestors leave to spend."""
        chain = self.chain(run_id)
        if any(run.status != "open" for run in chain):
            return 0
        return min([most, *(room for run in chain if (room := run.room(unit)) is not None)])

    def count(self, run_id: str | None, unit: str, amount: int, uses: int) -> None:
        """Count an amount in a run and every ancestor, also beyond their budgets."""
        for run in self.chain(run_id):
            run.count(unit, amount, uses)

    def changed(self) -> Iterator[Run]:
        return (run for run in self.by_uuid.values() if run.is_changed)


class RunBudgetExceeded(AppError):
    """The budget of the run or of an ancestor does not leave room for the request. Nothing was spent."""

    status, code = 402, "run_budget_exceeded"

    def __init__(self, run: Run, required: int, room: int) -> None:
        assert run.unit is not None
        self.run, self.missing = run, required - room
        remedies = [smaller_amount(run.unit, room)] if room else []
        figures = _figures(run, remedies, required=amount_text(run.unit, required))
        super().__init__(
            f"The budget of run {run.run_id} does not allow this request", figures=figures, headers=NO_STORE
        )


class RunPaused(AppError):
    """The run or an ancestor is paused. Nothing was spent."""

    status, code = 402, "run_paused"

    def __init__(self, run: Run) -> None:
        self.run = run
        super().__init__(f"Run {run.run_id} is paused", figures=_figures(run), headers=NO_STORE)


class RunClosed(AppError):
    """The run or an ancestor is closed. Not 409: callers of charges take that for a repeat that is paid."""

    status, code = 402, "run_closed"

    def __init__(self, run: Run) -> None:
        self.run = run
        super().__init__(f"Run {run.run_id} is closed", figures=_figures(run), headers=NO_STORE)


RunRefusal: TypeAlias = RunBudgetExceeded | RunPaused | RunClosed
RUN_REFUSALS = (RunBudgetExceeded, RunPaused, RunClosed)


def require_open(run: Run) -> None:
    """Raise RunPaused or RunClosed unless the run is open."""
    if run.status == "paused":
        raise RunPaused(run)
    if run.status == "closed":
        raise RunClosed(run)


def run_figures(run: Run) -> dict[str, object]:
    """Return a run as refusals name it, in the form of limits."""
    unit = run.unit
    return {
        "run_id": run.run_id,
        "status": run.status,
        "pause_reason": run.pause_reason,
        "unit": None if unit is None else unit_text(unit),
        "budget": None if unit is None or run.budget is None else amount_text(unit, run.budget),
        "spent": None if unit is None else amount_text(unit, run.spent),
    }


def _figures(run: Run, remedies: Sequence[Mapping[str, object]] = (), **more: object) -> dict[str, object]:
    return {"run": run_figures(run), "retryable": False, "remedies": list(remedies), **more}
