"""Any sequence of operations: the service says and holds what a reference model of a hundred lines does."""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.accounts.directory import Identity, Profile
from app.billing import posting
from app.demo.stripe.objects import StripeError
from app.demo.stripe.webhooks import signature
from app.errors import AppError
from app.holds import service
from app.ledger import approval_hooks, run_hooks
from app.ledger.entries import Kind
from app.ledger.errors import AccountSuspended, IdempotencyKeyReused
from app.ledger.outcomes import Refused, Replayed
from app.ledger.pools import Credits, Shortfall
from app.verification import verify_books
from tests.books import balances
from tests.conftest import ACTOR
from tests.payments.test_history import SECRET, History
from tests.support.account_model import Answer, Model, Sale, Tool
from tests.support.approval_rules import ApprovalRules
from tests.support.service_environment import (
    BEGINNING,
    DAILY_FREE,
    FREE,
    HANDLED,
    PACKS,
    PRODUCTS,
    Bought,
    ServiceEnvironment,
    running_environment,
)
from tests.support.wallet_model import WalletModel
from tests.support.wallet_rules import RUNS
from tests.support.wallets import wallet_of


@pytest.fixture(scope="module")
def environment() -> Iterator[ServiceEnvironment]:
    with running_environment() as environment:
        yield environment


KEYS = st.sampled_from([None, "a", "b"])  # few, so that they repeat; the same for every operation
AMOUNTS_MINOR = st.one_of(st.sampled_from([1, 100, 101]), st.integers(1, 1500))
SHARES = st.sampled_from([100, 61, 34, 3])  # in percent; the last is less than a credit

OUTCOMES = st.sampled_from([True, True, True, False])  # of a dispute: a lost one forbids refunds for good


class Machine(ApprovalRules):
    unpaid: Bundle[Bought] = Bundle("unpaid")
    paid: Bundle[Bought] = Bundle("paid")

    def __init__(self, environment: ServiceEnvironment) -> None:
        super().__init__()
        self.environment = environment
        self.now = BEGINNING
        self.purchases: dict[str, tuple[str, str]] = {}
        identity = Identity("live", "oauth:google", f"{uuid.uuid4()}@example.com")
        accounts = environment.billing.accounts
        self.account_id = environment.run(accounts.directory.resolve(identity, Profile(), ACTOR, self.now))
        self.model = Model(
            DAILY_FREE,
            DAILY_FREE,
            FREE,
            {
                name: Tool(p["initial_free"], p["daily_free"], p["free_cap"], p["price_credits"])
                for name, p in PRODUCTS.items()
            },
            WalletModel(self.now),
        )

    # --- spending ---

    @rule(amount_minor=AMOUNTS_MINOR, key=KEYS, run=RUNS)
    def charge(self, amount_minor: int, key: str | None, run: str | None) -> None:
        self._charge(amount_minor, key, run)

    @rule(one_too_many=st.booleans())
    def charge_all(self, one_too_many: bool) -> None:
        """To the last credit, after which what is taken back becomes debt; or one more, which is refused."""
        self._charge(100 * max(1, self.model.spendable + one_too_many), None)

    def spend_credits(self, credits: int, run: str | None) -> None:
        self._charge(100 * credits, None, run)

    def _charge(self, amount_minor: int, key: str | None, run: str | None = None) -> None:
        request = posting.ChargeRequest(self.account_id, amount_minor, "USD", ACTOR, self.now, key, run_id=run)
        outcome = self.environment.run(self.environment.billing.charge(request))
        if isinstance(outcome, Refused):
            said = _refusal(outcome.error)
        elif isinstance(outcome, Shortfall):
            said = ("shortfall", outcome.available, outcome.required)
        else:
            word = "replayed" if isinstance(outcome, Replayed) else "done"
            said = (word, outcome.record.balance_after)
        assert said == self.model.charge(amount_minor, key, run)

    @rule(name=st.sampled_from(list(PRODUCTS)), key=KEYS, run=RUNS)
    def tool_charge(self, name: str, key: str | None, run: str | None) -> None:
        said = self.environment.run(self._tool_charge(name, key, run))
        assert said == self.model.tool_charge(name, key, run)

    async def _tool_charge(self, name: str, key: str | None, run: str | None) -> Answer:
        outcome = await self.environment.tools.charge(
            self.account_id, name, actor=ACTOR, now=self.now, idempotency_key=key, run_id=run
        )
        if isinstance(outcome, Refused):
            return _refusal(outcome.error)
        if isinstance(outcome, Shortfall):
            return "shortfall", outcome.available, outcome.required
        use = outcome.record
        word = "replayed" if isinstance(outcome, Replayed) else "done"
        return word, use.source, use.free, use.paid, use.main_pool, use.total_uses

    # --- giving ---

    @rule(credits=st.integers(1, 12), kind=st.sampled_from(["grant", "purchase"]), key=KEYS)
    def grant(self, credits: int, kind: str, key: str | None) -> None:
        said = self.environment.run(self._grant(credits, kind, key))
        assert said == self.model.grant(credits, kind, key)

    async def _grant(self, credits: int, kind: str, key: str | None) -> Answer:
        try:
            credit = await self.environment.billing.credit(
                self.account_id,
                credits=Credits(credits),
                currency="USD",
                transaction_type=kind,
                actor=ACTOR,
                now=self.now,
                idempotency_key=key,
            )
        except IdempotencyKeyReused as error:
            return _refusal(error)
        return "replayed" if credit.replayed else "done", credit.balance_after

    @rule(name=st.sampled_from(list(PRODUCTS)), uses=st.integers(1, 3))
    def tool_grant(self, name: str, uses: int) -> None:
        tool = self.model.tools[name]
        tool.paid += uses
        grant = self.environment.tools.grant(self.account_id, name, Credits(uses), actor=ACTOR, now=self.now)
        assert self.environment.run(grant) == tool.paid

    # --- buying, and the money going back ---

    @initialize(is_rich=st.booleans())
    def gift(self, is_rich: bool) -> None:
        """Let half of the examples pay for all that limits and runs admit."""
        if is_rich:
            Machine.grant(self, 300, "grant", None)
            Machine.add_money(self, 30 * 10**9, Kind.BONUS, None)

    @initialize(target=paid, spent=st.sampled_from([False, False, True]))
    def first_purchases(self, spent: bool) -> Any:
        """Give every example money that can be refunded; random rules alone would seldom do so."""
        sales = [self._open(pack, pack) for pack in PACKS]
        for bought in sales:
            assert bought is not None
            self._pay(bought)
        if spent:
            self._charge(100 * self.model.spendable, None)
        return multiple(*sales)

    @rule(target=unpaid, pack=st.sampled_from(list(PACKS)), key=st.sampled_from(["standard", "a", "b"]))
    def purchase(self, pack: str, key: str) -> Any:
        return self._open(pack, key) or multiple()

    @rule(target=paid, bought=consumes(unpaid))
    def pay(self, bought: Bought) -> Bought:
        self._pay(bought)
        return bought

    def _open(self, pack: str, key: str) -> Bought | None:
        """Open a purchase, which moves nothing. A second click gets the payment of the first."""
        opening = self.environment.payments.open_purchase(
            "live", self.account_id, now=self.now, pack=pack, idempotency_key=key
        )
        known = self.purchases.get(key)
        if self.model.suspended or (known is not None and known[0] != pack):
            with pytest.raises(AccountSuspended if self.model.suspended else IdempotencyKeyReused):
                self.environment.run(opening)
            return None
        payment = self.environment.run(opening)
        if known is not None:
            assert payment.payment_id == known[1]
            return None
        self.purchases[key] = (pack, payment.payment_id)
        history = History(payment.payment_id)
        history.intent["amount"] = PACKS[pack]["price_minor"]
        return Bought(history, Sale(PACKS[pack]["credits"], PACKS[pack]["price_minor"]))

    def _pay(self, bought: Bought) -> None:
        bought.history.account.succeed(bought.history.intent)
        self._tell(bought)
        self.model.give(bought.sale.credits, pays_debt=True)

    @rule(bought=paid, share=SHARES)
    def refund(self, bought: Bought, share: int) -> None:
        stripe = bought.history.account
        charge = stripe.charge_of(bought.history.intent["id"])
        left = charge["amount_captured"] - charge["amount_refunded"]
        amount_minor = max(1, left * share // 100)
        with contextlib.suppress(StripeError):  # nothing left, or charged back: then Stripe does nothing
            stripe.refund(charge, amount_minor, None)
            bought.sale.refunded_minor += amount_minor
        self._tell(bought)
        self.model.settle(bought.sale)

    @rule(bought=paid, share=SHARES, inquiry=st.sampled_from([False, False, True]))
    def dispute_opened(self, bought: Bought, share: int, inquiry: bool) -> None:
        if bought.dispute is None:
            self._open_dispute(bought, share, inquiry=inquiry)
            self._tell(bought)
            self.model.settle(bought.sale)

    @rule(bought=paid, won=OUTCOMES)
    def dispute_closed(self, bought: Bought, won: bool) -> None:
        """Won gives the money back; lost, and an inquiry's end, move nothing. Opens one if there is none."""
        if bought.dispute is None:
            self.dispute_opened(bought, 100, False)
        self._close_dispute(bought, won=won)
        self._tell(bought)
        self.model.settle(bought.sale)

    @rule(bought=paid, share=SHARES, won=OUTCOMES)
    def dispute_delivered_backwards(self, bought: Bought, share: int, won: bool) -> None:
        """Its end overtakes its beginning: a dispute that was won in the end moves nothing at all."""
        if bought.dispute is None:
            self._open_dispute(bought, share, inquiry=False)
            self._close_dispute(bought, won=won)
            self._tell(bought, backwards=True)
            self.model.settle(bought.sale)

    def _open_dispute(self, bought: Bought, share: int, *, inquiry: bool) -> None:
        amount_minor = max(1, bought.sale.price_minor * share // 100)
        stripe = bought.history.account
        bought.dispute = stripe.open_dispute(bought.history.intent, amount=amount_minor, inquiry=inquiry)
        if not inquiry:
            bought.sale.withdrawn_minor[bought.dispute["id"]] = amount_minor

    def _close_dispute(self, bought: Bought, *, won: bool) -> None:
        assert bought.dispute is not None
        bought.history.account.close_dispute(bought.dispute, "won" if won else "lost")
        if won:
            bought.sale.withdrawn_minor.pop(bought.dispute["id"], None)
        bought.dispute = None

    @rule(bought=paid, nth=st.integers(0, 7))
    def delivered_again(self, bought: Bought, nth: int) -> None:
        self._deliver(bought.delivered[nth % len(bought.delivered)])

    def _tell(self, bought: Bought, *, backwards: bool = False) -> None:
        """Deliver what has happened at Stripe since the last time."""
        happened = [event for event in bought.history.events if event["type"].startswith(HANDLED)]
        news = happened[len(bought.delivered) :]
        for event in news[::-1] if backwards else news:
            self._deliver(event)
        bought.delivered += news

    def _deliver(self, event: dict[str, Any]) -> None:
        payload = json.dumps(event).encode()
        header = signature(SECRET, payload, int(time.time()))
        self.environment.run(self.environment.payments.handle_webhook(payload, header, self.now))

    # --- status, time ---

    @precondition(lambda self: not self.model.suspended)
    @rule()
    def suspend(self) -> None:
        self._set_status("suspended", "abuse")

    @precondition(lambda self: self.model.suspended)
    @rule()
    def reopen(self) -> None:
        self._set_status("active", None)

    def _set_status(self, status: str, reason: str | None) -> None:
        self.environment.run(self.environment.billing.accounts.set_status(self.account_id, status, reason, self.now))
        self.model.suspended = status == "suspended"

    @rule(hours=st.sampled_from([1, 3, 24, 49]))
    def time_passes(self, hours: int) -> None:
        """Some of it over midnight, which renews the allowances of each day."""
        before, self.now = self.now, self.now + timedelta(hours=hours)
        self.model.wallet.now = self.now
        for _ in range((self.now.date() - before.date()).days):
            self.model.midnight()
        self.settle_due()

    # --- what must hold after each step ---

    @invariant()
    def agrees(self) -> None:
        self.environment.run(self._agrees())

    async def _agrees(self) -> None:
        model = self.model
        stored = await balances(self.environment.urls, self.account_id)
        assert (stored["free"], stored["paid"], stored["debt"]) == (model.free, model.paid, model.debt)
        check = await self.environment.billing.check(self.account_id, self.now)
        row = await wallet_of(self.environment.urls, self.account_id)
        await self.wallet_agrees(row)
        self.holds_agree(row)
        await self.limits_agree()
        await self.runs_agree()
        await self.approvals_agree()
        assert (check.daily_free, check.free, check.paid, check.grants, check.total_uses, check.status) == (
            model.daily_free,
            model.free,
            model.paid,
            model.wallet.credits,
            model.uses,
            "suspended" if model.suspended else "active",
        )
        shown = {
            each.product_type: (each.free, each.paid, each.main_pool, each.total_uses)
            for each in await self.environment.tools.balances(self.account_id, self.now)
        }
        assert shown == {
            name: (0 if model.suspended else tool.free, tool.paid, model.main_pool // tool.price, tool.uses)
            for name, tool in model.tools.items()
        }
        for name, tool in model.tools.items():
            assert stored.get(f"{name}/paid", 0) == tool.paid

    def teardown(self) -> None:
        verification = self.environment.run(verify_books(self.environment.db, self.now))
        assert verification.ok, verification.problem


def _refusal(error: Exception) -> Answer:
    if isinstance(error, AccountSuspended):
        return ("suspended",)
    if isinstance(error, IdempotencyKeyReused):
        return ("key reused",)
    assert isinstance(error, AppError), error
    return (error.code,)


class ControlMachine(Machine):
    """A rich account, and only what limits, runs, the brake and approvals decide about."""

    @initialize()
    def gift(self) -> None:
        Machine.gift(self, is_rich=True)


_STATE = Machine.setup_state()
KEPT = {
    *("charge", "tool_charge", "use_money", "hold", "settle_hold", "time_passes", "begin", "ask", "gift"),
    *("set_limit", "remove_limit", "register", "change_run", "resume", "decide", "use_approval"),
}
for _name in {each.function.__name__ for each in (*_STATE.rules, *_STATE.initializers)} - KEPT:
    setattr(ControlMachine, _name, None)


@pytest.mark.timeout(600)  # a failure takes that long to shrink; without one it is half a minute
@pytest.mark.parametrize(("machine", "examples"), [(Machine, 40), (ControlMachine, 15)])
def test_the_service_agrees_with_the_model(
    machine: type[Machine], examples: int, environment: ServiceEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BoundMachine(machine):  # type: ignore[misc, valid-type]  # a class that a parameter names
        def __init__(self) -> None:
            super().__init__(environment)
            for module in (service, run_hooks, approval_hooks):
                monkeypatch.setattr(module, "utc_now", lambda: self.now)
            monkeypatch.setattr("app.billing.service.brake_of", lambda _: self.brake())

    run_state_machine_as_test(
        BoundMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            derandomize=False,
            print_blob=True,
        ),
    )
