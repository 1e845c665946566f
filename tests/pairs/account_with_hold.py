"""Two processes on one database, an account with an open hold, and the twelve events that may meet on it."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from app.accounts.directory import Identity
from app.approvals.service import ApprovalService, Decision, place_of
from app.auth.caller import Actor
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.cost_records.service import CostRecordService
from app.db import Database
from app.db.version_mark import VersionMark
from app.demo.stripe.webhooks import signature
from app.errors import AppError
from app.holds import service as holds_service
from app.holds.requests import Amount, Capture, Done, Opening, Progress, Rejected, Release, Unpaid
from app.holds.service import HoldService
from app.ledger import due
from app.ledger.approval_queries import Place as ApprovalPlace
from app.ledger.hold_queries import Place
from app.ledger.limits import ApprovalRequired
from app.ledger.outcomes import New, Refused, Replayed
from app.ledger.pools import Credits, Shortfall
from app.limits.service import LimitService, NewLimit
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.runs.service import RunService
from app.settings import Settings
from tests.books import account_locked, balances, waiting_for_locks
from tests.databases import Urls
from tests.payments.test_history import SECRET, History
from tests.support.wallets import give, locked, open_account

NOON = datetime(2026, 2, 27, 12, tzinfo=UTC)
BEFORE_MIDNIGHT = datetime(2026, 2, 27, 23, 59, 58, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KEY = Actor("api_key", "0123456789abcdef")
DAILY_FREE, EARLY_GRANT, LATE_GRANT, BOUGHT = 2, 5, 4, 20
HELD, REPORTED, CAPTURED, SPENT = 10, 1, 4, 12
EVENTS = (
    *("charge", "hold", "capture", "release", "expiry", "refund", "dispute", "grant expiry"),
    *("limit change", "suspension", "midnight", "approval"),
)


@dataclass
class Process:
    """The services of one process, with connections and batches that it shares with no other."""

    db: Database
    settings: Settings
    gateway: StripeGateway = field(init=False)

    def __post_init__(self) -> None:
        configuration = Configuration(self.db, self.settings)
        self.billing = BillingService(self.db, configuration)
        self.holds = HoldService(self.db, self.billing.batcher, configuration)
        self.limits = LimitService(self.db, self.billing.accounts, VersionMark(self.db))
        records = CostRecordService(self.db, self.billing.batcher, configuration)
        self.approvals = ApprovalService(self.db, self.billing.accounts, RunService(self.db, records))
        self.gateway = StripeGateway(self.settings, configuration)
        self.payments = PaymentService(self.db, configuration, self.billing, self.gateway)


@dataclass
class AccountWithHold:
    """An account with 31 credits, of which 10 are held, for one pair of events.

    2 daily free uses, grants of 5 and 4, and 20 bought credits. The hold has the free uses, the first grant, and 3
    bought credits. Expiries and midnight happen at `later`. All other events arrived at `before`.
    """

    processes: tuple[Process, Process]
    urls: Urls
    pair: tuple[str, str]
    account_id: UUID = field(init=False)
    held: Place = field(init=False)
    approval: ApprovalPlace | None = None
    happened: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Events of Stripe, by name."""

    @property
    def before(self) -> datetime:
        return BEFORE_MIDNIGHT if "midnight" in self.pair else NOON

    @property
    def later(self) -> datetime:
        return self.before + 3 * SECOND

    async def prepare(self, monkeypatch: pytest.MonkeyPatch) -> None:
        process, past = self.processes[0], self.before - SECOND
        _set_clock(monkeypatch, past)
        await process.holds.expire(BEFORE_MIDNIGHT + timedelta(days=2))  # of the pairs before
        identity = Identity("live", "oauth:google", f"{uuid4()}@example.com")
        self.account_id = await open_account(process.billing, identity, past)
        await self._pay(process, past)
        expiry = self.later - SECOND if "grant expiry" in self.pair else None
        await give(process.db, self.account_id, EARLY_GRANT, past, expires_at=expiry)
        lifetime = 2 * SECOND if "expiry" in self.pair else timedelta(days=1)
        self.held = await self._hold(process, HELD, past, lifetime)
        report = Progress(self.held, "live", Amount(REPORTED, False), KEY, past)
        assert isinstance(await process.holds.run(report), Done)
        await give(process.db, self.account_id, LATE_GRANT, past, expires_at=expiry)
        if "limit change" in self.pair:
            await self._limit(process, 100, "refuse", past)
        if "approval" in self.pair:
            await self._limit(process, HELD, "ask", past)
            refused = await process.billing.charge(self._charge(past, None))
            assert isinstance(refused, Refused)
            assert isinstance(refused.error, ApprovalRequired)
            self.approval = place_of(str(refused.error.figures["approval_id"]))
        _set_clock(monkeypatch, self.later)

    async def _pay(self, process: Process, at: datetime) -> None:
        """Give the bought credits; by Stripe, if the pair takes them back."""
        if not {"refund", "dispute"} & set(self.pair):
            await process.billing.credit(
                self.account_id,
                credits=Credits(BOUGHT),
                currency="USD",
                transaction_type="purchase",
                actor=KEY,
                now=at,
            )
            return
        payment = await process.payments.open_purchase("live", self.account_id, now=at)
        history = History(payment.payment_id)
        history.account.succeed(history.intent)
        price = history.intent["amount"]
        await _deliver(process, history.handled_events()[-1], at)
        history.account.refund(history.account.charge_of(payment.payment_id), price // 2, None)
        self.happened["refund"] = history.handled_events()[-1]
        history.account.open_dispute(history.intent, amount=price // 2)
        self.happened["dispute"] = history.handled_events()[-1]

    async def _hold(self, process: Process, amount: int, at: datetime, lifetime: timedelta) -> Place:
        opening = Opening(self.account_id, Amount(amount, False), None, lifetime, "capture_reported", KEY, at)
        outcome = await process.holds.run(opening)
        assert isinstance(outcome, Done)
        return Place(self.account_id, outcome.hold.hold_id)

    async def _limit(self, process: Process, amount: int, action: Any, at: datetime) -> int:
        """Set a limit of credits a day. Return the amount before."""
        known = await process.limits.list(self.account_id, at)
        before = next((limit.amount for limit in known if limit.action == action), -1)
        new = NewLimit("account", "", "day", "credit", amount, action)
        await process.limits.put(self.account_id, new, "operator", at)
        return before

    def _charge(self, at: datetime, key: str | None) -> ChargeRequest:
        return ChargeRequest(self.account_id, SPENT * 100, None, KEY, at, key)

    # --- the events: each returns the word that the table has for its answer ---

    async def run(self, event: str, process: Process) -> str:
        method = cast(Callable[[Process], Awaitable[str]], getattr(self, f"_do_{event.replace(' ', '_')}"))
        return await method(process)

    async def _do_charge(self, process: Process) -> str:
        return _word(await process.billing.charge(self._charge(self.before, uuid4().hex)))

    async def _do_hold(self, process: Process) -> str:
        lifetime = timedelta(hours=1)
        opening = Opening(self.account_id, Amount(SPENT, False), None, lifetime, "release", KEY, self.before)
        return _word(await process.holds.run(opening))

    async def _do_capture(self, process: Process) -> str:
        return await self._capture(process, CAPTURED)

    async def _capture(self, process: Process, amount: int) -> str:
        request = Capture(self.held, "live", Amount(amount, False), "refuse", KEY, self.before)
        return _word(await process.holds.run(request))

    async def _do_release(self, process: Process) -> str:
        return _word(await process.holds.run(Release(self.held, "live", None, KEY, self.before)))

    async def _do_expiry(self, process: Process) -> str:
        """The worker's job."""
        return "done" if await process.holds.expire(self.later) else "same"

    async def _do_refund(self, process: Process) -> str:
        return await self._webhook(process, "refund")

    async def _do_dispute(self, process: Process) -> str:
        return await self._webhook(process, "dispute")

    async def _webhook(self, process: Process, name: str) -> str:
        await _deliver(process, self.happened[name], self.before)
        return "done"

    async def _do_grant_expiry(self, process: Process) -> str:
        """Expire the grants, as each later transaction of the account does. The worker's job skips a locked account."""
        async with locked(process.db, self.account_id, self.later) as account:
            account.expire_lots(self.later)
            return "done" if account.entries else "same"

    async def _do_limit_change(self, process: Process) -> str:
        """An operator lowers the limit."""
        await self._limit(process, HELD + REPORTED, "refuse", self.before)
        return "done"

    async def _do_suspension(self, process: Process) -> str:
        await process.billing.accounts.set_status(self.account_id, "suspended", "abuse", self.before)
        return "done"

    async def _do_midnight(self, process: Process) -> str:
        """The first charge of the next day, of one credit."""
        return _word(await process.billing.charge(ChargeRequest(self.account_id, 100, None, KEY, self.later)))

    async def _do_approval(self, process: Process) -> str:
        assert self.approval is not None
        decision = Decision(SPENT, timedelta(minutes=15))
        async with process.db.transaction() as tx:
            _, is_new = await process.approvals.decide_in(tx, "live", self.approval, decision, KEY, self.before)
        return "done" if is_new else "same"

    # --- the pair ---

    async def meet(self) -> tuple[str, str]:
        """Let both events queue for the account's row, in this order, and then let them go. Return their answers."""
        async with account_locked(self.urls, self.account_id):
            first = asyncio.create_task(self.run(self.pair[0], self.processes[0]))
            await waiting_for_locks(self.urls, 1)
            second = asyncio.create_task(self.run(self.pair[1], self.processes[1]))
            await waiting_for_locks(self.urls, 2)
        return await first, await second

    async def end(self) -> tuple[int, int, int]:
        """Credits that are left (debt counts against them), held and spent. Grants that have ended expire first."""
        if "grant expiry" in self.pair:
            await self._do_grant_expiry(self.processes[0])
        pools = await balances(self.urls, self.account_id)
        left = sum(pools.get(pool, 0) for pool in ("daily_free", "grant", "free", "paid")) - pools["debt"]
        state = await self.processes[0].billing.accounts.state(self.account_id)
        return left, pools.get("held", 0), state["total_uses"]

    async def capture_all(self) -> str:
        return await self._capture(self.processes[0], HELD)


def _set_clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    """Set the clock by which transactions settle due holds."""
    for module in (holds_service, due):
        monkeypatch.setattr(module, "utc_now", lambda: now)


def _word(outcome: object) -> str:
    """The table's word for an outcome."""
    if isinstance(outcome, Shortfall | Unpaid):
        return "402"
    if isinstance(outcome, Rejected | Refused):
        return _REFUSALS[_code(outcome.error)]
    if isinstance(outcome, Replayed):
        return "same"
    if isinstance(outcome, Done):
        return "done" if outcome.is_new else "same"
    assert isinstance(outcome, New), outcome
    return "done"


def _code(error: AppError) -> str:
    return error.code or ""


_REFUSALS = {
    "hold_settled": "settled",
    "limit_exceeded": "limit",
    "approval_required": "ask",
    "account_suspended": "suspended",
}


async def _deliver(process: Process, event: dict[str, Any], now: datetime) -> None:
    payload = json.dumps(event).encode()
    await process.payments.handle_webhook(payload, signature(SECRET, payload, int(time.time())), now)
