"""Grants and money in the state machine of test_machine.py: giving, ending, expiring, spending, taking back."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from app.analytics.rollup import SETTLED, roll_up
from app.auth.caller import UsagePolicy
from app.ledger.entries import Kind
from app.ledger.errors import IdempotencyKeyReused
from app.ledger.locked_account import lock_account, write
from app.metering.attribution import Attribution
from app.metering.events import (
    Accepted,
    Outcome,
    Rejected,
    Repeated,
    StatedCost,
    Terms,
    Unpaid,
    UsageEvent,
)
from app.pricing.usage import Metered
from app.wallet.money_credits import give_money
from app.wallet.service import Grant, NewGrant
from tests.conftest import ACTOR
from tests.support.account_model import Model
from tests.support.run_model import Asked
from tests.support.wallet_model import ModelLot

if TYPE_CHECKING:
    from tests.support.service_environment import ServiceEnvironment

KEYS = st.sampled_from([None, "a", "b"])
RUN_NAMES = ("a", "b", "c")
RUNS = st.sampled_from([None, *RUN_NAMES])
DEBT_LIMIT = 4 * 10**9
NANOS = st.sampled_from([1, 400_000, 10**9, 3 * 10**9 + 1])


class WalletRules(RuleBasedStateMachine):
    """The rules. The machine that inherits them has the environment, the model, the account and the time."""

    environment: "ServiceEnvironment"
    model: Model
    now: datetime
    account_id: UUID

    def __init__(self) -> None:
        super().__init__()
        self.grants: list[tuple[Grant, ModelLot]] = []
        self.grant_keys: dict[str, tuple[tuple[int, bool, str], Grant]] = {}
        self.money_keys: dict[str, tuple[int, Kind]] = {}
        self.usage_keys: dict[str | None, int] = {}

    @rule(
        amount=st.integers(1, 9),
        money=st.booleans(),
        priority=st.integers(0, 2),
        hours=st.sampled_from([None, 1, 3, 24, 49]),
        category=st.sampled_from(["promotional", "purchased", "compensation"]),
        key=KEYS,
    )
    def give_grant(
        self, amount: int, money: bool, priority: int, hours: int | None, category: Any, key: str | None
    ) -> None:
        expires_at = None if hours is None else self.now + timedelta(hours=hours)
        new = NewGrant(amount, money, priority=priority, expires_at=expires_at, category=category)
        giving = self.environment.wallet.give_grant(
            self.account_id, new, actor=ACTOR, now=self.now, idempotency_key=key
        )
        wanted = (amount, money, category)
        known = None if key is None else self.grant_keys.get(key)
        if known is not None:
            self._expect_replay(giving, known, wanted)
            return
        grant = self.environment.run(giving)
        assert (grant.replayed, grant.remaining, grant.status(self.now)) == (False, amount, "active")
        if key is not None:
            self.grant_keys[key] = wanted, grant
        lot = ModelLot(money, amount, priority, expires_at, category, len(self.grants))
        self.model.wallet.give(lot)
        self.grants.append((grant, lot))

    def _expect_replay(self, giving: Any, known: tuple[tuple[int, bool, str], Grant], wanted: object) -> None:
        try:
            grant = self.environment.run(giving)
        except IdempotencyKeyReused:
            assert known[0] != wanted
        else:
            assert known[0] == wanted
            assert (grant.replayed, grant.grant_id) == (True, known[1].grant_id)

    @rule(nth=st.integers(0, 7))
    def end_grant(self, nth: int) -> None:
        if self.grants:
            grant, lot = self.grants[nth % len(self.grants)]
            ended = self.environment.wallet.end_grant("live", grant.grant_id, actor=ACTOR, now=self.now)
            assert self.environment.run(ended).remaining == 0
            self.model.wallet.end(lot)

    @rule(nanos=NANOS, kind=st.sampled_from([Kind.PURCHASE, Kind.BONUS]), key=KEYS)
    def add_money(self, nanos: int, kind: Kind, key: str | None) -> None:
        adding = self.environment.wallet.credit_money(
            self.account_id, nanos, kind, currency="USD", actor=ACTOR, now=self.now, idempotency_key=key
        )
        known = None if key is None else self.money_keys.get(key)
        if known not in (None, (nanos, kind)):
            try:
                self.environment.run(adding)
            except IdempotencyKeyReused:
                return
            raise AssertionError("the key was used for another amount")
        credit = self.environment.run(adding)
        assert credit.replayed == (known is not None)
        if known is None:
            self.model.wallet.add_money(nanos, purchase=kind is Kind.PURCHASE)
            assert credit.balance_after_nanos == self.model.wallet.spendable_money
            if key is not None:
                self.money_keys[key] = nanos, kind

    @rule(percent=st.sampled_from([1, 50, 100]))
    def take_money_back(self, percent: int) -> None:
        nanos = self.model.wallet.purchased * percent // 100
        if nanos:
            self.environment.run(self._take_money_back(nanos))
            self.model.wallet.take_back(nanos)

    async def _take_money_back(self, nanos: int) -> None:
        async with self.environment.db.transaction() as tx:
            account = await lock_account(tx, self.account_id)
            await give_money(tx, account, -nanos, Kind.REFUND_REVERSAL, actor=ACTOR, now=self.now)
            await write(tx, [account], self.now)

    @rule(
        nanos=NANOS,
        of_all=st.booleans(),
        key=KEYS,
        policy=st.sampled_from(["refuse", "debt"]),
        days=st.integers(0, 2),
        run=RUNS,
    )
    def use_money(
        self, nanos: int, of_all: bool, key: str | None, policy: UsagePolicy, days: int, run: str | None
    ) -> None:
        """Report an event: of any cost, or of more than the account's money by so much; some of earlier days."""
        nanos += self.model.wallet.spendable_money if of_all else 0
        event = UsageEvent(
            "model",
            key or uuid.uuid4().hex,
            Metered("sms", Decimal(1)),
            stated=StatedCost("nanos", nanos),
            occurred_at=self.now - timedelta(days=days),
            attribution=Attribution(run_id=run),
        )
        terms = Terms(ACTOR, self.now, policy, DEBT_LIMIT, max_stated_nanos=10**12)
        outcome = self.environment.run(self.environment.usage.record_one(self.account_id, event, terms))
        assert self._said(outcome) == self._expected_use(nanos, key, policy, run)

    def _expected_use(self, nanos: int, key: str | None, policy: UsagePolicy, run: str | None) -> str:
        if key in self.usage_keys:
            return "repeated" if self.usage_keys[key] == nanos else "event_id_reused"
        if self.model.suspended:
            return "account_suspended"
        limits, wallet = self.model.limits, self.model.wallet
        asked = Asked("USD", nanos, run)
        if policy == "refuse" and nanos <= wallet.spendable_money and (refusal := limits.admit(asked, self.now)):
            return refusal
        answer = wallet.use(nanos, DEBT_LIMIT if policy == "debt" else None)
        if answer in ("charged", "debt"):
            limits.spend(asked, self.now)
            for each in limits.runs.line(run):
                each.may_exceed |= policy == "debt"
        if key is not None and answer in ("charged", "debt"):
            self.usage_keys[key] = nanos
        return answer

    def _said(self, outcome: Outcome) -> str:
        match outcome:
            case Accepted(record):
                return record.status
            case Repeated():
                return "repeated"
            case Unpaid():
                return "debt limit" if outcome.debt_limit_reached else "refused"
            case Rejected(error):
                return error.code

    @rule()
    def roll_up(self) -> None:
        """Add all that was written so far to the sums by day. What comes later is not in them."""
        self.environment.run(roll_up(self.environment.db, datetime.now(UTC) + SETTLED))

    async def wallet_agrees(self, row: Mapping[str, Any]) -> None:
        """Compare the account's row, and the grants, with the model."""
        wallet = self.model.wallet
        assert (row["money_nanos"], row["money_debt_nanos"]) == (wallet.money, wallet.debt)
        totals = [row[f"money_{name}_nanos"] for name in ("purchased", "granted", "used")]
        assert totals == [wallet.purchased, wallet.granted, wallet.used]
        async with self.environment.db.transaction() as tx:
            account = await lock_account(tx, self.account_id)
            for money, unit in ((False, "credit"), (True, "USD")):
                buckets = account.money_buckets(self.now) if money else account.main_pool_buckets(self.now)
                lots = [bucket.available for bucket in buckets if bucket.grant_id is not None]
                assert lots == [lot.remaining for lot in wallet.live(money=money)], unit
