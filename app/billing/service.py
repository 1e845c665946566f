"""BillingService: checks, charges and credits of the main pools. Amounts are credits, except names in `_minor`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import structlog

from app.accounts.directory import Identity
from app.accounts.service import AccountService
from app.auth.caller import Actor, Environment
from app.billing import queries
from app.billing.burn_rate import brake_of
from app.billing.double_charges import Purposes
from app.billing.errors import BalanceChanged, ChargeNotFound, InsufficientCredits
from app.billing.posting import (
    CHARGE,
    Charge,
    ChargeRequest,
    ChargeSeries,
    Credit,
    charge_of,
    give_credits,
    post_charge,
    record_charges,
    replayed,
    replayed_credit,
    require_currency,
)
from app.billing.queries import Key
from app.billing.refusing import insufficient_credits
from app.billing.status import RESULTS, CreditStatus
from app.configuration.sections import BURN_RATE
from app.configuration.service import Configuration
from app.db import Database, Session
from app.db.statements import Tx
from app.errors import AppError
from app.ledger.approval_hooks import ApprovalHooks
from app.ledger.batching import Accounts, Batcher
from app.ledger.brake import Brake
from app.ledger.errors import AccountNotFound
from app.ledger.limit_queries import LimitHooks
from app.ledger.limits import Spending
from app.ledger.locked_account import Kind, LockedAccount, lock_account, write
from app.ledger.outcomes import New, Outcome, Refused
from app.ledger.pools import CREDIT, Credits, Shortfall, cost_of, daily_free_on, pay
from app.ledger.refill_hooks import RefillHooks
from app.ledger.run_hooks import RunHooks
from app.observability.metrics import CHECKS, ChargeCounter
from app.products import Product

COUNTER = ChargeCounter(CHARGE, ("daily_free", "grant", "free", "paid"))
CHECKED = {result: CHECKS.labels(CHARGE, result) for result in RESULTS}


class BillingService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    has_brake = True
    """Whether the burn-rate brake applies, if one is configured."""

    def __init__(self, db: Database, configuration: Configuration) -> None:
        self._db = db
        self.configuration = configuration
        self.accounts = AccountService(db, configuration)
        self.batcher = Batcher(db)
        """Shared with the other services whose operations move credits of accounts."""
        LimitHooks(self.batcher, configuration.settings.time_zone)
        RunHooks(self.batcher, configuration.settings.time_zone, self._find_brake)
        ApprovalHooks(self.batcher)
        RefillHooks(self.batcher)
        self._charges = self.batcher.operation(self._charge_locked, find_replay=self._replay, count=_count)
        self._series = self.batcher.operation(
            self._charge_series, find_replay=self._replays, count=_count_all, weigh=lambda series: len(series.charges)
        )

    async def stop(self) -> None:
        """Wait for the transactions under way. Call it once no request is left."""
        await asyncio.gather(self.batcher.stop(), self.accounts.stop())

    async def _find_brake(self) -> Brake | None:
        """Return the configured burn rate. In a process with a listener it is in memory."""
        return brake_of((await self.configuration.current()).document(BURN_RATE)) if self.has_brake else None

    # --- reads: no lock, no write ---

    async def check(
        self, account_id: UUID, now: datetime, *, key: str | None = None, agent: str | None = None
    ) -> CreditStatus:
        """Return what the account can spend. Limits must leave room for one credit, by this API key and this agent."""
        config = await self.configuration.current()
        allowance = config.defaults.daily_free_uses
        row = await self.accounts.state(account_id)
        left, day = row["daily_free"], row["daily_free_day"]
        daily_free = daily_free_on(now.date(), left=left, day=day, allowance=allowance)
        name = config.default_pack(row["currency"])
        refusal = None
        if row["has_limits"]:
            refusal = await self.accounts.refusal(account_id, Spending(CREDIT, 1, key=key, agent=agent), now)
        status = CreditStatus(
            daily_free=daily_free,
            free=row["free"],
            paid=row["paid"],
            daily_free_limit=allowance,
            total_uses=row["total_uses"],
            plan_name=row["plan_name"],
            status=row["status"],
            grants=(await self.accounts.live_grants(row, now)).credits,
            pack=None if name is None else config.packs[name],
            refusal=None if refusal is None else refusal.detail,
        )
        CHECKED[status.result].inc()
        return status

    async def get_charge(self, environment: Environment, charge_id: UUID) -> Charge:
        """Return a charge. Raises ChargeNotFound."""
        return charge_of(await self.charge_row(environment, charge_id))

    async def charge_row(self, environment: Environment, charge_id: UUID) -> Mapping[str, Any]:
        """Return the columns of a charge. Raises ChargeNotFound."""
        async with self._db.read() as db:
            row = await queries.find_charge(db, environment, charge_id)
        if row is None:
            raise ChargeNotFound
        structlog.contextvars.bind_contextvars(account_id=str(row["account_id"]))
        return row

    async def charge_of_key(self, identity: Identity, actor: Actor, idempotency_key: str) -> Charge:
        """Return the charge with the key in the actor's key space. Raises ChargeNotFound, also for an unknown user."""
        account_id = await self.accounts.directory.find(identity)
        if account_id is None:
            raise ChargeNotFound
        row = await queries.find_charge_by_key(self._db, CHARGE, Key(account_id, actor.kind, idempotency_key))
        if row is None:
            raise ChargeNotFound
        return charge_of(row)

    async def transactions(self, identity: Identity, limit: int, offset: int) -> tuple[Sequence[Any], int]:
        """Return a page of the account's charges and credits, newest first, and the total number."""
        account_id = await self.accounts.directory.find(identity)
        if account_id is None:
            return [], 0
        async with self._db.read() as db:
            rows = await queries.list_transactions(db, account_id, limit, offset)
            return rows, await queries.count_transactions(db, account_id)

    # --- charges ---

    async def charge(self, request: ChargeRequest) -> Outcome[Charge]:
        """Spend credits, in burn order. Locks the account until commit. Replaying a key spends nothing.

        A replay costs one indexed read without a lock: it is the hottest path. A new charge shares a transaction with
        the charges that arrive at the same time. Raises Busy when too many wait.
        """
        return await self._charges.run(request)

    async def charge_in_order(self, series: ChargeSeries) -> Sequence[Outcome[Charge]]:
        """Decide charges of one account in their order, in one transaction, which other requests may share.

        Locks the account until commit. If all are replays, reads without a lock. Raises Busy when too many wait.
        """
        return await self._series.run(series)

    async def refusal(
        self, account_id: UUID, shortfall: Shortfall, now: datetime, *, use_of: Product | None = None
    ) -> InsufficientCredits:
        """Return the error of a refused charge or hold of credits, or (`use_of`) of a use of a product."""
        [error] = await self.refusals(account_id, [shortfall], now, use_of=use_of)
        return error

    async def refusals(
        self, account_id: UUID, shortfalls: Sequence[Shortfall], now: datetime, *, use_of: Product | None = None
    ) -> list[InsufficientCredits]:
        """Return the errors of refusals, with their remedies. Reads the account once, without a lock."""
        account, config = await self.accounts.state(account_id), await self.configuration.current()
        return [insufficient_credits(shortfall, account, config, now, use_of) for shortfall in shortfalls]

    @property
    def waiting(self) -> int:
        """The number of charges that wait for their transaction to end."""
        return self._charges.waiting

    async def _replay(self, request: ChargeRequest) -> Outcome[Charge] | None:
        if request.key is None:
            return None
        row = await queries.find_charge_by_key(self._db, CHARGE, request.key)
        if row is None:
            return None
        outcome = replayed(request, charge_of(row))
        COUNTER.outcome(outcome)
        return outcome

    async def _replays(self, series: ChargeSeries) -> Sequence[Outcome[Charge]] | None:
        """Return the outcomes of a series of replays; None if one of its charges may be new."""
        rows = await asyncio.gather(
            *(queries.find_charge_by_key(self._db, CHARGE, key) for key in series.keys if key is not None)
        )
        charges = [charge_of(row) for row in rows if row is not None]
        if len(charges) != len(series.charges):
            return None
        outcomes = [replayed(request, charge) for request, charge in zip(series.charges, charges, strict=True)]
        _count_all([outcomes])
        return outcomes

    async def charge_many(self, requests: Sequence[ChargeRequest]) -> list[Outcome[Charge]]:
        """Decide and record any number of charges in one transaction and a constant number of statements.

        Waits for accounts that another transaction has locked.
        """
        return await self._charges.run_all(requests)

    async def _charge_locked(
        self, tx: Tx, accounts: Accounts, requests: Sequence[ChargeRequest]
    ) -> list[Outcome[Charge]]:
        """Decide and record a batch. All reads of accounts here happen under their locks (see `Batcher`)."""
        allowance = (await self.configuration.current()).defaults.daily_free_uses
        keys = [key for request in requests if (key := request.key) is not None]
        rows = await queries.find_charges_by_keys(tx, CHARGE, keys)
        used = {key: charge_of(row) for key, row in rows.items()}
        purposes = await Purposes.read(tx, requests)
        new: list[dict[str, Any]] = []
        outcomes = [
            self._decide(request, accounts.get(request.account_id), allowance, used, new, purposes)
            for request in requests
        ]
        await record_charges(tx, new)
        if purposes is not None:
            await purposes.store(tx)
        return outcomes

    async def _charge_series(
        self, tx: Tx, accounts: Accounts, batch: Sequence[ChargeSeries]
    ) -> list[Sequence[Outcome[Charge]]]:
        """Decide and record series as `_charge_locked` does their charges."""
        outcomes = iter(await self._charge_locked(tx, accounts, [c for series in batch for c in series.charges]))
        return [list(islice(outcomes, len(series.charges))) for series in batch]

    def _decide(
        self,
        request: ChargeRequest,
        account: LockedAccount | None,
        allowance: int,
        used: dict[Key, Charge],
        new: list[dict[str, Any]],
        purposes: Purposes | None = None,
    ) -> Outcome[Charge]:
        """Decide one charge on a locked account. A new charge is posted, noted on the account, and added to `new`."""
        if account is None:
            return Refused(AccountNotFound())
        key = request.key
        if key is not None:
            existing = used.get(key) or (account.charged or {}).get(key)
            if existing is not None:
                return replayed(request, existing)
        cost = cost_of(request.amount_minor)
        try:
            double_of = None if purposes is None else purposes.first(account, request)
            account.require_active()
            require_currency(account, request.currency or account.currency)
            account.require_room_for_uses(cost)
            buckets = account.credit_buckets(request.at.date(), allowance, request.at)
            debits = pay(buckets, cost, unit=CREDIT, now=request.at)
            if isinstance(debits, Shortfall):
                return debits
            spending = None
            if account.limits is not None:
                agent_id = request.details.get("agent_id")
                spending = Spending(CREDIT, cost, key=request.actor.key_id, agent=agent_id, run=request.run_id)
                account.limits.admit(spending)
        except AppError as error:
            return Refused(error)
        row = post_charge(account, request, debits, allowance=allowance, operation=CHARGE)
        new.append(row)
        charge = charge_of({**row, "metadata": request.details})
        if spending is not None and account.limits is not None:
            account.limits.note(spending, charge.charge_id)
        if key is not None:
            account.charged = account.charged or {}
            account.charged[key] = charge
        if purposes is not None:
            charge = replace(charge, double_of=double_of)
            purposes.note(account, request, charge)
        return New(charge, debits)

    # --- credits ---

    async def credit(
        self,
        account_id: UUID,
        *,
        credits: Credits,
        currency: str | None,
        transaction_type: str,
        actor: Actor,
        now: datetime,
        description: str | None = None,
        external_transaction_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Credit:
        """Add paid credits. Locks the account until commit. Replaying a key adds nothing.

        A `purchase` pays the account's debt first. `currency` None means the account's currency. Raises AccountClosed,
        CurrencyMismatch, IdempotencyKeyReused, BalanceLimitExceeded.
        """
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            currency = currency or account.currency
            requested = (credits, currency, transaction_type)
            existing = await replayed_credit(tx, account_id, actor, idempotency_key, requested)
            if existing is not None:
                return existing
            if account.status == "closed":
                account.require_active()
            require_currency(account, currency)
            credit = await give_credits(
                tx,
                account,
                credits,
                transaction_type,
                actor=actor,
                now=now,
                description=description,
                external_transaction_id=external_transaction_id,
                idempotency_key=idempotency_key,
            )
            await write(tx, [account], now)
        return credit

    async def adjust_in(
        self,
        tx: Session,
        account_id: UUID,
        credits: int,
        *,
        actor: Actor,
        now: datetime,
        description: str,
        idempotency_key: str,
        seen_paid: int | None = None,
    ) -> Credit:
        """Add paid credits, or take some of the present ones if `credits` is negative. Locks the account until commit.

        Part of the caller's transaction. Replaying a key changes nothing. With `seen_paid`, applies only if the account
        has exactly so many paid credits. Raises BalanceChanged, AccountClosed (if credits are added),
        InsufficientCredits, IdempotencyKeyReused, BalanceLimitExceeded.
        """
        account = await lock_account(tx, account_id)
        requested = (credits, account.currency, Kind.ADJUSTMENT.value)
        existing = await replayed_credit(tx, account_id, actor, idempotency_key, requested)
        if existing is not None:
            return existing
        if seen_paid not in (None, account.balances["paid"]):
            raise BalanceChanged(account.balances["paid"])
        if account.status == "closed" and credits > 0:
            account.require_active()
        if account.balances["paid"] + credits < 0:
            raise InsufficientCredits(available=account.balances["paid"], required=-credits)
        credit = await give_credits(
            tx,
            account,
            credits,
            Kind.ADJUSTMENT.value,
            actor=actor,
            now=now,
            description=description,
            idempotency_key=idempotency_key,
        )
        await write(tx, [account], now)
        return credit


def _count(outcomes: Sequence[Outcome[Charge]]) -> None:
    """Count outcomes in the metrics. Called after the commit: a charge that was rolled back has spent nothing."""
    for outcome in outcomes:
        COUNTER.outcome(outcome)
        if isinstance(outcome, New):
            for bucket, amount in outcome.debits:
                COUNTER.taken(bucket.kind, amount)


def _count_all(batch: Sequence[Sequence[Outcome[Charge]]]) -> None:
    for outcomes in batch:
        _count(outcomes)
