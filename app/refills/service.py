"""RefillService: the settings of automatic refills, and the decision to start one.

Spending that leaves too little money enqueues START_REFILL in its transaction (app.ledger.refill_hooks). The job
decides under the account's lock, by the pure rules of app.plans.refills. A refill that it starts is a purchase, a row
in flight and a job that pays it (app.refills.paying): one transaction, so all of them exist, or none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from uuid import UUID

import structlog

from app.configuration.sections import REFILLS
from app.configuration.service import Configuration
from app.currencies import problem_of as currency_problem
from app.db import Database, Session
from app.db.version_mark import VersionMark
from app.ledger import refill_queries as settings_queries
from app.ledger.errors import CurrencyMismatch
from app.ledger.limits import window_end, window_start
from app.ledger.locked_account import LockedAccount, lock_account
from app.ledger.money import decimal_text, minor_floor
from app.ledger.refill_hooks import START_REFILL, end_refills
from app.ledger.refill_queries import OffReason, Settings
from app.observability import metrics
from app.outbox import defer
from app.payments.facts import Provider
from app.payments.refill_purchases import has_open_dispute, insert_refill, sum_of_refills
from app.payments.settlement import SETTLE_REFILL
from app.plans.refill_bounds import Refills
from app.plans.refills import NoRefill, RefillRule, RefillState, decide, problem_of
from app.plans.refills import Refill as Decided
from app.refills import queries
from app.refills.errors import RefillOutOfBounds, RefillsStopped
from app.refills.records import Card, Refill

SINCE = "0046"
"""Versions before this revision neither start refills nor know how to end one (ADR 26)."""
AGAIN = timedelta(hours=1)
"""The time after which an account without a card, or with settings out of bounds, is looked at again."""
OVERDUE = timedelta(minutes=10)
"""A decision that is so late has lost its job."""
ACCOUNTS_AT_ONCE = 200
FIRST = UUID(int=0)
STOPPED: dict[str, OffReason] = {"suspended": "suspended", "closed": "closed"}
"""The reason by the status of the account."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RequestedSettings:
    """Settings that a user or an admin asks for, in nanos. No cap: the operator's."""

    enabled: bool
    trigger_below_nanos: int
    amount_nanos: int
    monthly_cap_nanos: int | None


SettingsRequest = Callable[[Settings | None, str], RequestedSettings]
"""Completes a request with the stored settings, in the account's currency: amounts that it does not name stay."""


@dataclass(frozen=True, slots=True)
class Overview:
    """An account's settings of refills, and what they lead to now."""

    currency: str
    settings: Settings | None
    """None: they were never set."""
    is_enabled: bool
    in_force: Refills
    card: Card | None
    in_flight: Refill | None
    spent_this_month_nanos: int
    problem: str | None
    """Why the settings no longer fit the operator's bounds."""


class RefillService:
    """One per process. `zone`: of the months that the cap counts. Methods ending in `_in` are part of a transaction."""

    def __init__(
        self, db: Database, configuration: Configuration, mark: VersionMark, provider: Provider, zone: tzinfo
    ) -> None:
        self._db = db
        self._configuration = configuration
        self._mark = mark
        self._provider: Provider = provider
        self._zone = zone

    # --- settings ---

    async def overview(self, account_id: UUID, currency: str, now: datetime) -> Overview:
        in_force = await self.in_force()
        settings = await settings_queries.find_settings(self._db, account_id)
        async with self._db.read() as db:
            card = await queries.find_primary(db, account_id)
            in_flight = await queries.find_in_flight(db, account_id)
            spent = await sum_of_refills(db, account_id, window_start("month", now, self._zone))
        problem = None if settings is None else _problem(settings, currency, in_force)
        is_enabled = settings is not None and settings.enabled
        return Overview(currency, settings, is_enabled, in_force, card, in_flight, spent, problem)

    async def list_refills(self, account_id: UUID, *, before: UUID | None, limit: int) -> Sequence[Refill]:
        """Return an account's refills, newest first."""
        async with self._db.read() as db:
            return await queries.list_refills(db, account_id, before, limit)

    async def set(self, account_id: UUID, request: SettingsRequest, now: datetime) -> Settings:
        """As `set_in`, in a transaction."""
        await self.require_finished_upgrade()
        async with self._db.transaction() as tx:
            return (await self.set_in(tx, account_id, request, now))[1]

    async def require_finished_upgrade(self) -> None:
        """Raise UpgradeInProgress while a version without refills may run."""
        await self._mark.require(SINCE)

    async def set_in(
        self, tx: Session, account_id: UUID, request: SettingsRequest, now: datetime
    ) -> tuple[Settings | None, Settings]:
        """Store settings, also without a card. Return those before and after. Locks the account.

        `request` is called under the lock, so that concurrent changes of different amounts all stay. Enabling forgets
        earlier declines, and decides about a refill at once. Raises RefillOutOfBounds, CurrencyMismatch,
        RefillsStopped.
        """
        in_force = await self.in_force()
        account = await lock_account(tx, account_id)
        before = await settings_queries.find_settings_in(tx, account_id)
        requested = request(before, account.currency)
        if requested.enabled:
            await self._require_possible(tx, account, requested, in_force)
        elif requested.monthly_cap_nanos is not None and requested.monthly_cap_nanos < requested.amount_nanos:
            raise RefillOutOfBounds("monthly_cap_cents", "must be at least the refill amount")
        await settings_queries.store_settings(
            tx,
            account_id,
            enabled=requested.enabled,
            trigger_below_nanos=requested.trigger_below_nanos,
            amount_nanos=requested.amount_nanos,
            monthly_cap_nanos=requested.monthly_cap_nanos,
            now=now,
        )
        await self.decide_soon(tx, account_id, now if requested.enabled else None)
        after = await settings_queries.find_settings_in(tx, account_id)
        assert after is not None
        log.info("refill_settings_stored", account_id=str(account_id), enabled=requested.enabled)
        return before, after

    async def _require_possible(
        self, tx: Session, account: LockedAccount, requested: RequestedSettings, in_force: Refills
    ) -> None:
        if account.currency != in_force.currency:
            raise CurrencyMismatch(in_force.currency, account.currency)
        if account.status != "active":
            raise RefillsStopped(f"the account is {account.status}")
        if await has_open_dispute(tx, account.account_id):
            raise RefillsStopped("a payment of the account is disputed")
        amount_minor = minor_floor(requested.amount_nanos, account.currency)
        if (why := currency_problem(account.currency, amount_minor)) is not None:
            raise RefillOutOfBounds("refill_amount_cents", f"cannot be charged: {why}")
        if (found := problem_of(_rule(requested, in_force), in_force.bounds)) is not None:
            raise RefillOutOfBounds(*_wire_message(found, in_force))

    async def decide_soon(self, tx: Session, account_id: UUID, at: datetime | None) -> None:
        """Enqueue a decision for a time. None: the next spending that leaves too little enqueues one."""
        await settings_queries.set_check(tx, account_id, at)
        if at is not None:
            await defer(tx, START_REFILL, {"account_id": str(account_id)}, at)

    # --- starting ---

    async def start(self, account_id: UUID, now: datetime) -> Refill | None:
        """Start a refill if the account needs one and may have it. Return it. Safe to repeat, and to run in parallel.

        Else the reason decides what happens next: a job at the time when it ends, or the next spending.
        """
        in_force = await self.in_force()
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            settings = await settings_queries.find_settings_in(tx, account_id)
            if settings is None:
                return None
            card = await queries.find_primary(tx, account_id)
            decision = await self._decide(tx, account, settings, card, in_force, now)
            if isinstance(decision, NoRefill):
                await self._postpone(tx, account, decision, now)
                return None
            assert card is not None
            refill = await self._start_in(tx, account, settings, card, now)
        metrics.REFILLS.labels("started").inc()
        log.info("refill_started", account_id=str(account_id), amount=decimal_text(refill.amount_nanos))
        return refill

    async def _start_in(
        self, tx: Session, account: LockedAccount, settings: Settings, card: Card, now: datetime
    ) -> Refill:
        """Insert the purchase, its refill in flight, and the job that pays it."""
        amount_minor = minor_floor(settings.amount_nanos, account.currency)
        purchase = await insert_refill(tx, account, self._provider, amount_minor, now)
        ids = (account.account_id, purchase.purchase_id, card.card_id)
        refill = Refill(*ids, settings.amount_nanos, "in_flight", None, None, None, now, None)
        await queries.insert_refill(tx, refill)
        await settings_queries.note_started(tx, account.account_id, now)
        await defer(tx, SETTLE_REFILL, refill.as_job, now)
        return refill

    async def _decide(
        self,
        tx: Session,
        account: LockedAccount,
        settings: Settings,
        card: Card | None,
        in_force: Refills,
        now: datetime,
    ) -> NoRefill | Decided:
        """Return the decision of the pure rules about a locked account."""
        if settings.enabled and _problem(settings, account.currency, in_force) is not None:
            return NoRefill("no_consent", now + AGAIN)  # stays enabled, and starts none until the bounds allow it
        state = RefillState(
            has_consent=card is not None,
            is_active=account.status == "active" and not await has_open_dispute(tx, account.account_id),
            in_flight=await queries.find_in_flight(tx, account.account_id) is not None,
            paid_this_month=await sum_of_refills(tx, account.account_id, window_start("month", now, self._zone)),
            last_started_at=settings.last_started_at,
            declines=settings.declines,
            last_declined_at=settings.last_declined_at,
        )
        balance = account.money_remaining(now) - account.balances["money_debt"]
        return decide(_rule(settings, in_force), state, balance, in_force.bounds, now)

    async def _postpone(self, tx: Session, account: LockedAccount, decision: NoRefill, now: datetime) -> None:
        """Note when the next decision is due, after one against a refill."""
        account_id = account.account_id
        match decision.reason:
            case "in_flight":
                return  # the end of the refill decides again
            case "account_stopped":
                await end_refills(tx, account_id, STOPPED.get(account.status, "disputed"), now)
            case "too_many_declines":
                await end_refills(tx, account_id, "declined", now)
            case "monthly_cap":
                await self.decide_soon(tx, account_id, window_end("month", now, self._zone))
            case "no_consent":  # a saved card decides at once; until then, spending enqueues nothing
                await settings_queries.set_check(tx, account_id, now + AGAIN)
            case _:
                await self.decide_soon(tx, account_id, decision.until)

    async def start_forgotten(self, now: datetime) -> int:
        """Enqueue the decisions that no job will make. Return their number. The worker calls it periodically.

        They are those whose job has failed, and those of accounts whose money became less by anything but spending,
        such as a grant that expired.
        """
        found, after = 0, FIRST
        while True:
            async with self._db.transaction() as tx:
                accounts = await settings_queries.list_forgotten(tx, after, now - OVERDUE, ACCOUNTS_AT_ONCE)
                for account_id in accounts:
                    await defer(tx, START_REFILL, {"account_id": str(account_id)}, now)
            found += len(accounts)
            if len(accounts) < ACCOUNTS_AT_ONCE:
                return found
            after = accounts[-1]

    async def in_force(self) -> Refills:
        return (await self._configuration.current()).document(REFILLS)


def _rule(settings: Settings | RequestedSettings, in_force: Refills) -> RefillRule:
    cap = settings.monthly_cap_nanos
    return RefillRule(
        enabled=settings.enabled,
        trigger_below=settings.trigger_below_nanos,
        amount=settings.amount_nanos,
        monthly_cap=in_force.bounds.most_monthly if cap is None else cap,
    )


def _problem(settings: Settings, currency: str, in_force: Refills) -> str | None:
    """Return why settings no longer fit the operator's bounds, which may have changed since. A lower cap applies."""
    if currency != in_force.currency:
        return f"refills are in {in_force.currency}"
    rule = _rule(settings, in_force)
    rule = replace(rule, monthly_cap=min(rule.monthly_cap, in_force.bounds.most_monthly))
    found = problem_of(rule, in_force.bounds)
    return None if found is None else " ".join(_wire_message(found, in_force))


FIELDS = {
    "trigger_below": "trigger_below_cents",
    "amount": "refill_amount_cents",
    "monthly_cap": "monthly_cap_cents",
}


def _wire_message(found: tuple[str, str], in_force: Refills) -> tuple[str, str]:
    """Return the field's name on the wire, and the operator's bounds of it as text."""
    name, currency = found[0], in_force.currency
    bounds = {
        "trigger_below": f"must be at least {in_force.least_trigger} {currency}",
        "amount": f"must be from {in_force.least_amount} to {in_force.most_amount} {currency}",
        "monthly_cap": f"must be from the refill amount to {in_force.most_monthly} {currency}",
    }
    return FIELDS[name], bounds[name]
