"""Limits in the state machine of test_machine.py: setting, changing and removing them. All other rules obey them."""

from typing import get_args

from hypothesis import strategies as st
from hypothesis.stateful import rule

from app.auth.caller import Caller
from app.ledger.limits import Action
from app.limits.service import NewLimit, Place
from tests.conftest import ACTOR
from tests.support.hold_rules import HoldRules
from tests.support.limit_model import ModelWindow
from tests.support.run_model import ModelUnit

UNITS = st.sampled_from(get_args(ModelUnit))
OPERATOR = Caller("live", ACTOR, frozenset())
HIGH = {"credit": 40, "use": 9, "USD": 6 * 10**9}


class LimitRules(HoldRules):
    @rule(
        window=st.sampled_from(get_args(ModelWindow)),
        unit=UNITS,
        percent=st.sampled_from([0, 10, 50, 100, 300]),
        action=st.sampled_from(["notify", "refuse", "refuse", "ask", "ask"]),
    )
    def set_limit(self, window: ModelWindow, unit: ModelUnit, percent: int, action: Action) -> None:
        amount = HIGH[unit] * percent // 100
        new = NewLimit("account", "", window, None if unit == "USD" else unit, amount, action)
        limit = self.environment.run(self.environment.limits.put(self.account_id, new, "operator", self.now))
        self.model.limits.put(window, unit, amount, action)
        assert (limit.unit, limit.amount) == (unit, amount)

    @rule(nth=st.integers(0, 7))
    def remove_limit(self, nth: int) -> None:
        limits = self.environment.run(self.environment.limits.list(self.account_id, self.now))
        if limits:
            limit = limits[nth % len(limits)]
            place = Place(self.account_id, limit.limit_id)
            self.environment.run(self.environment.limits.remove(place, OPERATOR, self.now, only="operator"))
            del self.model.limits.limits[limit.window, limit.unit, limit.action]

    async def limits_agree(self) -> None:
        stored = {
            (limit.window, limit.unit, limit.action): (limit.amount, limit.counted, limit.crossed_at is not None)
            for limit in await self.environment.limits.list(self.account_id, self.now)
        }
        model = self.model.limits
        expected = {key: (limit.amount, model.counted(limit, self.now)) for key, limit in model.limits.items()}
        assert {key: (amount, counted) for key, (amount, counted, _) in stored.items()} == expected
        assert all(is_crossed for amount, counted, is_crossed in stored.values() if counted > amount)
