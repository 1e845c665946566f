"""Approvals in the state machine of test_machine.py: persons allow and deny what limits and runs refused."""

from abc import abstractmethod
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from app.approvals.errors import ApprovalClosed
from app.approvals.service import Decision
from app.errors import AppError
from app.ledger.approval_queries import Place, Stored
from app.runs.errors import RunEnded
from tests.conftest import ACTOR
from tests.support.approval_model import ModelApproval
from tests.support.limit_rules import HIGH
from tests.support.run_model import ModelRun
from tests.support.run_rules import RunRules


class ApprovalRules(RunRules):
    @initialize(amount=st.sampled_from([None, 0, 5, 20]))
    def ask(self, amount: int | None) -> None:
        """Give most examples a limit that asks."""
        if amount is not None:
            self.set_limit("day", "credit", 100 * amount // HIGH["credit"], "ask")

    @rule(nth=st.integers(0, 7), percent=st.sampled_from([None, 50, 100, 100, 200]), hours=st.sampled_from([1, 3, 24]))
    def decide(self, nth: int, percent: int | None, hours: int) -> None:
        """Of any approval, the newest first. One that waits no longer is not decided again."""
        self.tick()
        stored = self.environment.run(self._all())
        if not stored:
            return
        place = nth % len(stored)
        approval, model = stored[place], self.model.limits.approvals.all[::-1][place]
        allowed = None if percent is None else max(1, model.amount * percent // 100)
        decision = Decision(allowed, timedelta(hours=hours))
        before = model.shown(self.now)
        is_same = (before, model.allowed) == ("denied" if allowed is None else "approved", allowed)
        refusal: type[AppError] | None = None
        if before != "pending" and not is_same:
            refusal = ApprovalClosed
        elif before == "pending" and allowed is not None and _is_closed(model):
            refusal = RunEnded
        where = Place(self.account_id, approval.approval_id)
        self._expect(self.environment.approvals.decide("live", where, decision, ACTOR, self.now), refusal)
        if refusal is None and before == "pending":
            self._follow(model, allowed, timedelta(hours=hours))

    @rule(nth=st.integers(0, 3), more=st.integers(0, 1))
    def use_approval(self, nth: int, more: int) -> None:
        """Allow a charge that waits, and send it twice: an approval is used once, up to its amount."""
        waiting = [
            place
            for place, each in enumerate(self.model.limits.approvals.all[::-1])
            if (each.kind, each.unit, each.shown(self.now)) == ("limit", "credit", "pending")
            and each.requester is not None
            and each.requester[0] is None
        ]
        if waiting:
            place = waiting[nth % len(waiting)]
            approval = self.model.limits.approvals.all[::-1][place]
            assert approval.requester is not None
            self.decide(place, 100, 1)
            for _ in range(2):
                self.spend_credits(approval.amount + more, approval.requester[-1])

    @abstractmethod
    def spend_credits(self, credits: int, run: str | None) -> None:
        """Charge credits in a run."""

    def _follow(self, approval: ModelApproval, allowed: int | None, valid_for: timedelta) -> None:
        limits, run = self.model.limits, approval.about
        limits.approvals.decide(approval, allowed, valid_for, self.now)
        if allowed is None or not isinstance(run, ModelRun):
            return
        if approval.kind == "resume":
            limits.pace.resume(run, limits.log)
        elif run.budget is not None:
            run.budget += allowed

    async def _all(self) -> list[Stored]:
        approvals = self.environment.approvals
        return [*await approvals.list_all(self.now, account_id=self.account_id, show="all", limit=200)]

    async def approvals_agree(self) -> None:
        """So one is used once: the model admits nothing above a limit without another one."""
        stored = [
            (each.kind, each.unit, each.amount, each.allowed, each.status_at(self.now)) for each in await self._all()
        ]
        model = self.model.limits.approvals.all[::-1]
        assert stored == [
            (each.kind, each.unit, each.amount, each.allowed, each.shown(self.now)) for each in model[:200]
        ]


def _is_closed(approval: ModelApproval) -> bool:
    return isinstance(approval.about, ModelRun) and approval.about.status == "closed"
