"""Limits as plain arithmetic: their part of the oracle of test_machine.py. A log of the spent amounts, and its sums."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tests.support.approval_model import ApprovalModel
from tests.support.run_model import Asked, ModelRun, ModelUnit, Pace, RunModel, Spent, subjects

ModelWindow = Literal["hour", "day", "lifetime"]
ORDER: tuple[ModelWindow, ...] = ("hour", "day", "lifetime")
"""The order in which limits refuse."""


@dataclass(eq=False)
class ModelLimit:
    window: ModelWindow
    unit: ModelUnit
    amount: int
    action: str
    earlier: list[Spent]
    """Amounts that a lifetime does not count."""


@dataclass
class LimitModel:
    """Limits, and with them runs, their brake and approvals: all that refuses spending apart from balances."""

    log: list[Spent] = field(default_factory=list)
    limits: dict[tuple[str, str, str], ModelLimit] = field(default_factory=dict)
    runs: RunModel = field(default_factory=RunModel)
    pace: Pace = field(default_factory=Pace)
    approvals: ApprovalModel = field(default_factory=ApprovalModel)

    def put(self, window: ModelWindow, unit: ModelUnit, amount: int, action: str) -> None:
        known = self.limits.get((window, unit, action))
        if known is not None:
            known.amount = amount
            return
        earlier = [spent for spent in self.log if not spent.is_open]
        self.limits[window, unit, action] = ModelLimit(window, unit, amount, action, earlier)

    def counted(self, limit: ModelLimit, now: datetime) -> int:
        if limit.window == "lifetime":
            counted = [spent for spent in self.log if spent not in limit.earlier]
        else:
            counted = [spent for spent in self.log if _window(limit, spent.at) == _window(limit, now)]
        return sum(spent.of(limit.unit) for spent in counted)

    def room(self, asked: Asked, now: datetime) -> int:
        """The part of an amount that limits, runs and the brake leave to a capture beyond its hold."""
        limits = [limit for limit in self.limits.values() if limit.action != "notify" and limit.unit == asked.unit]
        rooms = [max(0, limit.amount - self.counted(limit, now)) for limit in limits]
        run = self.runs.room(asked, self.log)
        return min([asked.amount, *rooms, run, self.pace.room(asked, self.runs.line(asked.run), self.log, now)])

    def admit(self, asked: Asked, now: datetime) -> str | None:
        """The code of the refusal; None: it is admitted, and has used the approvals that it needs. Counts nothing."""
        if self._above(asked, "refuse", now):
            return "limit_exceeded"
        refusal = self.runs.refusal(asked, self.log)
        if refusal is not None:
            if refusal.kind is not None:
                self.approvals.ask(refusal.kind, refusal.run, asked.unit, refusal.lacks, None, now)
            return refusal.code
        above = self._above(asked, "ask", now)
        for limit, amount in above:
            if self.approvals.granted(limit, asked, amount, now) is None:
                waiting = self.approvals.ask("limit", limit, limit.unit, amount, asked.requester, now)
                return "approval_required" if waiting else "limit_exceeded"
        if self.pace.refuses(asked, self.runs.line(asked.run), self.log, now):
            return "burn_rate_exceeded"
        for limit, amount in above:
            approval = self.approvals.granted(limit, asked, amount, now)
            assert approval is not None
            approval.status = "used"
        return None

    def _above(self, asked: Asked, action: str, now: datetime) -> list[tuple[ModelLimit, int]]:
        """The limits without room, each with the amount that it would need, in the order in which they refuse."""
        above = [
            (limit, asked.of(limit.unit))
            for limit in self.limits.values()
            if limit.action == action and asked.of(limit.unit) > max(0, limit.amount - self.counted(limit, now))
        ]
        return sorted(above, key=lambda pair: ORDER.index(pair[0].window))

    def spend(self, asked: Asked, now: datetime, *, is_open: bool = False) -> Spent:
        """Count it: admitted, or work that is done."""
        line = self.runs.line(asked.run)
        spent = Spent(now, asked.unit, asked.amount, asked.uses, is_open, asked.run, set(line), set(subjects(line)))
        self.log.append(spent)
        self.pace.note(spent, line, self.log, now)
        return spent

    def register(self, run: ModelRun) -> None:
        """Register a run. Open work with its name counts in it and above from now on."""
        self.runs.by_name[run.name] = run
        for spent in self.log:
            if spent.is_open and spent.run == run.name:
                spent.counts_in.update(run.line())


def _window(limit: ModelLimit, moment: datetime) -> datetime:
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if limit.window == "hour" else hour.replace(hour=0)
