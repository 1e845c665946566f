"""BillingService: checks, charges and credits of the main pools. Amounts are credits, except names in `_minor`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from app.accounts.directory import Identity
from app.accounts.service import AccountService
from app.auth.caller import Actor, Environment
from app.billing import queries
from app.billing.errors import BalanceChanged, ChargeNotFound, InsufficientCredits
from app.billing.posting import (
    CHARGE,
    Charge,
    ChargeRequest,
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
from app.configuration.service import Configuration
from app.db import Database, Session
from app.db.statements import Tx
from app.errors import AppError
from app.ledger.batching import Accounts, Batcher
from app.ledger.errors import AccountNotFound
from app.ledger.locked_account import Kind, LockedAccount, lock_account, write
from app.ledger.outcomes import New, Outcome, Refused
from app.ledger.pools import CREDIT, Credits, Shortfall, cost_of, daily_free_on, pay
from app.observability.metrics import CHECKS, ChargeCounter
from app.packs import Pack

COUNTER = ChargeCounter(CHARGE, ("daily_free", "grant", "free", "paid"))
CHECKED = {result: CHECKS.labels(CHARGE, result) for result in ("credit", "exhausted", "inactive")}


@dataclass(frozen=True, slots=True)
class CreditStatus:
    """The state of an account in a check. Amounts are credits."""

    daily_free: int
    free: int
    paid: int
    daily_free_limit: int
    total_uses: int
    plan_name: str
    status: str
    grants: int
    """Grants that have not expired."""
    pack: Pack | None
    """The pack of a purchase that names none. None: no default pack has the account's currency."""

    @property
    def spendable(self) -> int:
        """All credits that a charge could spend now."""
        return self.daily_free + self.grants + self.free + self.paid


class BillingService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(self, db: Database, configuration: Configuration) -> None:
        self._db = db
        self.configuration = configuration
        self.accounts = AccountService(db, configuration)
        self.batcher = Batcher(db)
        """Shared with the other services whose operations move credits of accounts."""
        self._charges = self.batcher.operation(self._charge_locked, find_replay=self._replay, count=_count)

    async def stop(self) -> None:
        """Wait for the transactions under way. Call it once no request is left."""
        await asyncio.gather(self.batcher.stop(), self.accounts.stop())

    # --- reads: no lock, no write ---

    async def check(self, account_id: UUID, now: datetime) -> CreditStatus:
        config = await self.configuration.current()
        allowance = config.defaults.daily_free_uses
        row = await self.accounts.state(account_id)
        left, day = row["daily_free"], row["daily_free_day"]
        daily_free = daily_free_on(now.date(), left=left, day=day, allowance=allowance)
        active = row["status"] == "active"
        name = config.default_pack(row["currency"])
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
        )
        CHECKED["inactive" if not active else "credit" if status.spendable > 0 else "exhausted"].inc()
        return status

    async def get_charge(self, environment: Environment, charge_id: UUID) -> Charge:
        async with self._db.read() as db:
            row = await queries.find_charge(db, environment, charge_id)
        if row is None:
            raise ChargeNotFound
        structlog.contextvars.bind_contextvars(account_id=str(row["account_id"]))
        return charge_of(row)

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
        new: list[dict[str, Any]] = []
        outcomes = [
            self._decide(request, accounts.get(request.account_id), allowance, used, new) for request in requests
        ]
        await record_charges(tx, new)
        return outcomes

    def _decide(
        self,
        request: ChargeRequest,
        account: LockedAccount | None,
        allowance: int,
        used: dict[Key, Charge],
        new: list[dict[str, Any]],
    ) -> Outcome[Charge]:
        """Decide one charge on a locked account. A new charge is posted, and added to `used` and `new`."""
        if account is None:
            return Refused(AccountNotFound())
        key = request.key
        if key is not None and (existing := used.get(key)) is not None:
            return replayed(request, existing)
        cost = cost_of(request.amount_minor)
        try:
            account.require_active()
            require_currency(account, request.currency or account.currency)
            account.require_room_for_uses(cost)
        except AppError as error:
            return Refused(error)
        debits = pay(
            account.credit_buckets(request.at.date(), allowance, request.at), cost, unit=CREDIT, now=request.at
        )
        if isinstance(debits, Shortfall):
            return debits
        row = post_charge(account, request, debits, allowance=allowance, operation=CHARGE)
        new.append(row)
        charge = charge_of({**row, "metadata": request.details})
        if key is not None:
            used[key] = charge
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
            wanted = (credits, currency, transaction_type)
            existing = await replayed_credit(tx, account_id, actor, idempotency_key, wanted)
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
        wanted = (credits, account.currency, Kind.ADJUSTMENT.value)
        existing = await replayed_credit(tx, account_id, actor, idempotency_key, wanted)
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
