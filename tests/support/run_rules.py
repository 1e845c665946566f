"""Runs and the burn-rate brake in the state machine of test_machine.py. All rules that spend name a run or none."""

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from app.auth.errors import PersonRequired
from app.errors import AppError, InvalidRequest
from app.ledger.brake import Brake
from app.ledger.errors import AccountSuspended
from app.ledger.runs import RunClosed, RunPaused
from app.runs.errors import RunEnded, RunIdReused
from app.runs.service import Budget, NewRun, RunChange
from tests.support.limit_rules import HIGH, LimitRules
from tests.support.run_model import ModelRun, ModelUnit
from tests.support.wallet_rules import RUN_NAMES

BUDGETS = st.sampled_from([None, ("credit", 12), ("credit", 40), ("USD", 2 * 10**9), ("USD", HIGH["USD"])])
PARENTS = st.sampled_from([None, "a", "b"])
FAST: dict[ModelUnit, int] = {"credit": 25, "USD": 5 * 10**9}


class RunRules(LimitRules):
    def __init__(self) -> None:
        super().__init__()
        self.registered: dict[str, NewRun] = {}

    @initialize(is_braked=st.sampled_from([False, False, True]), budgets=st.lists(BUDGETS, max_size=2))
    def begin(self, is_braked: bool, budgets: list[tuple[ModelUnit, int] | None]) -> None:
        """Give most examples runs, one below the other; random rules alone would seldom do so."""
        self.model.limits.pace.most = FAST if is_braked else {}
        for spent in self.model.limits.log:  # by another rule that ran first, without the brake
            spent.paces.clear()
        for name, parent, budget in zip("ab", (None, "a"), budgets, strict=False):
            self.register(name, parent, budget)

    def brake(self) -> Brake | None:
        most = self.model.limits.pace.most
        return Brake(most["credit"], {"USD": most["USD"]}) if most else None

    @rule(name=st.sampled_from(RUN_NAMES), parent=PARENTS, budget=BUDGETS)
    def register(self, name: str, parent: str | None, budget: tuple[ModelUnit, int] | None) -> None:
        money = budget is not None and budget[0] == "USD"
        new = NewRun(name, parent, None if budget is None else Budget(budget[1], money))
        model, registering = self.model.limits, self.environment.runs.register(self.account_id, new, self.now)
        if name in self.registered:
            self._expect(registering, None if self.registered[name] == new else RunIdReused)
            return
        refusal = self._refused_parent(parent)
        self._expect(registering, refusal)
        if refusal is None:
            self.registered[name] = new
            unit, amount = budget or (None, None)
            above = None if parent is None else model.runs.by_name[parent]
            model.register(ModelRun(name, above, unit, amount))
            for run in model.runs.by_name[name].line():  # open work counts, allowed or not
                run.may_exceed |= self._exceeds(run)

    def _refused_parent(self, parent: str | None) -> type[AppError] | None:
        if self.model.suspended:
            return AccountSuspended
        if parent is not None and parent not in self.registered:
            return InvalidRequest
        stopped = [run.status for run in self.model.limits.runs.line(parent) if run.status != "open"]
        return None if not stopped else RunPaused if stopped[0] == "paused" else RunClosed

    @rule(
        name=st.sampled_from(RUN_NAMES),
        status=st.sampled_from([None, None, "paused", "open", "closed"]),
        percent=st.sampled_from([50, 100, 200]),
    )
    def change_run(self, name: str, status: Any, percent: int) -> None:
        """An API key pauses or closes a run, or lowers its budget. It cannot do the opposite."""
        run = self.model.limits.runs.by_name.get(name)
        if run is None:
            return
        amount = 12 if run.budget is None else run.budget * percent // 100
        change = RunChange(status=status)
        if status is None:
            change = RunChange(has_budget=True, budget=Budget(amount, run.unit == "USD"))
        refusal: type[AppError] | None = None
        if run.status == "closed":
            refusal = None if status == "closed" else RunEnded
        elif (status is None and amount > (run.budget or amount)) or (status == "open" and run.status == "paused"):
            refusal = PersonRequired
        self._expect(self.environment.runs.change(self.account_id, name, change, self.now), refusal)
        if refusal is None and run.status != "closed":
            run.status = status if status in ("paused", "closed") else run.status
            if status is None:
                run.unit, run.budget, run.may_exceed = run.unit or "credit", amount, True

    @rule(name=st.sampled_from([None, *RUN_NAMES]))
    def resume(self, name: str | None) -> None:
        """An admin ends the pause of a run, or of the key."""
        model = self.model.limits
        run = None if name is None else model.runs.by_name.get(name)
        self.tick()
        if name is None or (run is not None and run.status != "closed"):
            self.environment.run(self._resume(name))
            model.pace.resume(run, model.log)

    def tick(self) -> None:
        """Let a moment pass, so that the end of a pause is later than all before it."""
        self.now += timedelta(microseconds=1)
        self.model.wallet.now = self.now

    async def _resume(self, name: str | None) -> None:
        runs = self.environment.runs
        async with self.environment.db.transaction() as tx:
            if name is None:
                await runs.resume_key_in(tx, self.account_id, "", self.now)
                return
            run = await runs.find(self.account_id, name)
            await runs.change_in(tx, self.account_id, run["run_uuid"], RunChange(status="open"), self.now)

    def _expect(self, work: Any, refusal: type[AppError] | None) -> None:
        with contextlib.nullcontext() if refusal is None else pytest.raises(refusal):
            self.environment.run(work)

    def _exceeds(self, run: ModelRun) -> bool:
        model = self.model.limits
        return run.budget is not None and model.runs.spent(run, run.unit or "credit", model.log) > run.budget

    async def runs_agree(self) -> None:
        model = self.model.limits
        units: tuple[ModelUnit, ...] = ("credit", "USD", "use")
        rows = {row["run_id"]: row for row in await self.environment.runs.list_runs(self.account_id, None, 9)}
        assert rows.keys() == model.runs.by_name.keys()
        for run in model.runs.by_name.values():
            stored = rows[run.name]
            assert (stored["status"], stored["budget"]) == (run.status, run.budget)
            assert [stored[name] for name in ("spent_credits", "spent_nanos", "uses")] == [
                model.runs.spent(run, unit, model.log) for unit in units
            ]
            assert run.may_exceed or not self._exceeds(run)
        if model.pace.most:
            assert bool(await self.environment.runs.paused_keys(self.account_id)) == model.pace.is_paused
