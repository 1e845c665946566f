"""Holds in the state machine of test_machine.py: opening, reporting, capturing, releasing, expiring."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, get_args

from hypothesis import strategies as st
from hypothesis.stateful import rule

from app.holds.requests import Amount, Capture, Done, Opening, Outcome, Progress, Rejected, Release, Unpaid
from app.ledger.hold_queries import Place
from app.ledger.holds import OnExpiry
from tests.conftest import ACTOR
from tests.support.hold_model import ModelHold, open_hold, settle
from tests.support.run_model import Asked
from tests.support.wallet_rules import NANOS, RUNS, WalletRules

NTH = st.integers(0, 7)
PARTS = st.sampled_from([0, 34, 100, 150])  # in percent; the last is more than the hold


class HoldRules(WalletRules):
    """The rules. Due holds are settled as time passes, so that the next charge finds none."""

    def __init__(self) -> None:
        super().__init__()
        self.holds: list[tuple[Place, ModelHold]] = []
        self.settled: list[tuple[Place, ModelHold]] = []

    @rule(
        credits=st.integers(1, 20),
        nanos=NANOS,
        money=st.booleans(),
        of_all=st.booleans(),
        hours=st.sampled_from([1, 3, 24]),
        on_expiry=st.sampled_from(get_args(OnExpiry)),
        run=RUNS,
    )
    def hold(
        self, credits: int, nanos: int, money: bool, of_all: bool, hours: int, on_expiry: OnExpiry, run: str | None
    ) -> None:
        """Of an amount, or of all that there is."""
        there_is = self.model.wallet.spendable_money if money else self.model.spendable
        amount = there_is if of_all and there_is else nanos if money else credits
        lifetime = timedelta(hours=hours)
        request = Opening(
            self.account_id,
            Amount(amount, money),
            None,
            lifetime,
            on_expiry,
            ACTOR,
            self.now,
            run_id=run,
        )
        outcome = self.environment.run(self.environment.holds.run(request))
        if self.model.suspended:
            assert isinstance(outcome, Rejected)
            return
        asked = Asked("USD" if money else "credit", amount, request.run_id)
        if amount <= there_is and (refusal := self.model.limits.admit(asked, self.now)):
            assert isinstance(outcome, Rejected)
            assert outcome.error.code == refusal
            return
        expected = open_hold(self.model, amount, money=money, on_expiry=on_expiry, lifetime=lifetime)
        if expected is None:
            assert outcome == Unpaid(there_is, amount, "USD" if money else "credit")
            return
        expected.run, expected.spent = request.run_id, self.model.limits.spend(asked, self.now, is_open=True)
        assert isinstance(outcome, Done)
        assert [part.amount for part in outcome.hold.parts] == [part for _, part in expected.parts]
        self.holds.append((Place(self.account_id, outcome.hold.hold_id), expected))

    @rule(nth=NTH, percent=PARTS)
    def report(self, nth: int, percent: int) -> None:
        if self.holds:
            place, hold = self.holds[nth % len(self.holds)]
            amount = max(1, hold.amount * percent // 100)
            request = Progress(place, "live", Amount(amount, hold.money), ACTOR, self.now)
            outcome = self.environment.run(self.environment.holds.run(request))
            hold.reported = max(hold.reported, min(hold.amount, amount))
            assert isinstance(outcome, Done)
            assert outcome.hold.reported == hold.reported

    @rule(nth=NTH, percent=PARTS)
    def settle_hold(self, nth: int, percent: int) -> None:
        """Capture a part of it, all of it or more, or release it. Then every other settlement is refused."""
        if self.holds:
            place, hold = self.holds.pop(nth % len(self.holds))
            self.settled.append((place, hold))
            amount = hold.amount * percent // 100
            outcome = self._settle(place, hold, amount)
            assert isinstance(outcome, Done)
            assert outcome.is_new
            assert (outcome.hold.captured, outcome.hold.overage) == settle(self.model, hold, amount)

    @rule(nth=NTH)
    def settle_again(self, nth: int) -> None:
        """Of any settlement: it changes nothing."""
        if self.settled:
            place, hold = self.settled[nth % len(self.settled)]
            for amount in (0, hold.amount):
                outcome = self._settle(place, hold, amount)
                assert isinstance(outcome, Rejected) or not outcome.is_new

    def _settle(self, place: Place, hold: ModelHold, amount: int) -> Done | Rejected:
        request: Capture | Release = Release(place, "live", None, ACTOR, self.now)
        if amount:
            request = Capture(place, "live", Amount(amount, hold.money), "charge_what_fits", ACTOR, self.now)
        outcome: Outcome = self.environment.run(self.environment.holds.run(request))
        assert not isinstance(outcome, Unpaid)
        return outcome

    def settle_due(self) -> None:
        """Settle the holds that are due, each by its policy."""
        due = sorted((each for each in self.holds if each[1].expires_at <= self.now), key=lambda e: e[1].expires_at)
        self.environment.run(self.environment.holds.expire(self.now))
        for each in due:
            hold = each[1]
            self.holds.remove(each)
            self.settled.append(each)
            amounts = {"release": 0, "capture_reported": hold.reported, "capture_all": hold.amount}
            settle(self.model, hold, amounts[hold.on_expiry])

    def holds_agree(self, row: Mapping[str, Any]) -> None:
        held = [sum(hold.amount for _, hold in self.holds if hold.money == money) for money in (False, True)]
        assert [row["held_credits"], row["held_money_nanos"]] == held
