"""BillingService: checks, charges and credits of the main pools. Units are credits unless a name says `_minor`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.billing import queries
from app.billing.accounts import AccountDirectory, Identity, Opening, Profile
from app.billing.errors import (
    AccountNotFound,
    ChargeNotFound,
    CurrencyMismatch,
    IdempotencyKeyReused,
)
from app.billing.lane import ChargeLane
from app.billing.ledger import Cause, Kind, LockedAccount, lock_account, lock_accounts, write
from app.billing.pools import Credits, Paid, Pools, Shortfall, cost_of, daily_free_on, pay
from app.config import Settings
from app.db import Database, Session, new_id
from app.errors import AppError
from app.observability import CHARGES

CHARGE = "charge"
"""The operation of `/v1/billing/charges`: the key space that its idempotency keys belong to."""


@dataclass(frozen=True, slots=True)
class CreditStatus:
    """An account as a check sees it."""

    pools: Pools
    daily_free_limit: int
    total_uses: int
    plan_name: str
    status: str


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """`currency` None is the account's own."""

    account_id: UUID
    amount_minor: int
    currency: str | None
    actor: Actor
    at: datetime
    idempotency_key: str | None = None
    description: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Charge:
    """A recorded charge. `paid_after` is the paid pool, in credits, right after it."""

    charge_id: UUID
    account_id: UUID
    amount_minor: int
    currency: str
    cost: int
    paid_after: int
    description: str | None
    details: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Charged:
    charge: Charge


@dataclass(frozen=True, slots=True)
class Replayed:
    """The charge existed before this request, which changed nothing."""

    charge: Charge


@dataclass(frozen=True, slots=True)
class Refused:
    """The account or the key does not allow this charge."""

    error: AppError


Outcome = Charged | Replayed | Shortfall | Refused


@dataclass(frozen=True, slots=True)
class Credit:
    credit_id: UUID
    account_id: UUID
    credits: int
    currency: str
    transaction_type: str
    external_transaction_id: str | None
    paid_after: int
    description: str | None
    created_at: datetime
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class LlmUsageReport:
    """`actual_cost_cents` is exact: fractions of a cent are kept."""

    interaction_id: str
    total_llm_calls: int
    total_prompt_tokens: int
    total_completion_tokens: int
    models_used: list[str]
    actual_cost_cents: Decimal
    duration_ms: int
    error_count: int
    fallback_count: int


class BillingService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self._db = db
        self.settings = settings
        self.accounts = AccountDirectory(db, settings)
        self._lane: ChargeLane[ChargeRequest, Outcome] = ChargeLane(self._charge_unlocked, self.charge_many)

    # --- reads: no lock, no write ---

    async def check(self, account_id: UUID, now: datetime) -> CreditStatus:
        row = await self.state(account_id)
        allowance = self.settings.daily_free_uses
        left, day = row["daily_free"], row["daily_free_day"]
        daily_free = daily_free_on(now.date(), left=left, day=day, allowance=allowance)
        pools = Pools(daily_free, row["free"], row["paid"])
        return CreditStatus(pools, allowance, row["total_uses"], row["plan_name"], row["status"])

    async def state(self, account_id: UUID) -> Mapping[str, Any]:
        """The account's columns. Raises AccountNotFound."""
        row = await queries.find_account(self._db, account_id)
        if row is None:
            raise AccountNotFound
        return row

    async def account(self, environment: Environment, account_id: UUID) -> dict[str, Any]:
        """The account, its identity and its profile, as columns. Raises AccountNotFound."""
        row = await self.state(account_id)
        if row["environment"] != environment:
            raise AccountNotFound
        async with self._db.read() as db:
            identity = await queries.find_identity(db, account_id)
            profile = await queries.find_profile(db, account_id)
        oauth_provider, external_id = identity or (None, None)
        names = {"oauth_provider": oauth_provider, "external_id": external_id}
        return {**({} if profile is None else profile._mapping), **row, **names}

    async def find_account_id(self, identity: Identity) -> UUID:
        """Raises AccountNotFound."""
        account_id = await self.accounts.find(identity)
        if account_id is None:
            raise AccountNotFound
        return account_id

    async def get_charge(self, environment: Environment, charge_id: UUID) -> Charge:
        async with self._db.read() as db:
            row = await queries.find_charge(db, environment, charge_id)
        if row is None:
            raise ChargeNotFound
        return _charge(row)

    async def transactions(self, identity: Identity, limit: int, offset: int) -> tuple[Sequence[Any], int]:
        """A page of the account's charges and credits, newest first, and how many there are in all."""
        account_id = await self.accounts.find(identity)
        if account_id is None:
            return [], 0
        async with self._db.read() as db:
            rows = await queries.list_transactions(db, account_id, limit, offset)
            return rows, await queries.count_transactions(db, account_id)

    # --- charges ---

    async def charge(self, request: ChargeRequest) -> Outcome:
        """Spend credits, cheapest pool first. Locks the account until commit. Replaying a key spends nothing.

        A key seen before is answered from one indexed read, without a lock: replays are the hottest path. What is new
        shares a transaction with the charges that arrive at the same time. Raises Busy when too many wait.
        """
        outcome = await self._replay(request)
        if outcome is None:
            may_retry = request.idempotency_key is not None
            outcome = await self._lane.run(request, request.account_id, may_retry=may_retry)
        CHARGES.labels(CHARGE, type(outcome).__name__.lower()).inc()
        return outcome

    async def _replay(self, request: ChargeRequest) -> Outcome | None:
        if request.idempotency_key is None:
            return None
        row = await queries.find_charge_by_key(self._db, request.account_id, CHARGE, request.idempotency_key)
        return None if row is None else _replayed(request, _charge(row))

    async def charge_many(self, requests: Sequence[ChargeRequest]) -> list[Outcome]:
        """Decide and record any number of charges in one transaction and a constant number of statements.

        The locks come in a statement of their own, before anything that the decision rests on is read: a statement
        that locks and decides at once would decide on a snapshot older than its lock. So of two equal requests in
        flight, the second waits, and then finds the first one's key.
        """
        async with self._db.transaction() as tx:
            accounts = await lock_accounts(tx, {request.account_id for request in requests})
            return await self._charge_locked(tx, accounts, requests)

    async def _charge_unlocked(self, requests: Sequence[ChargeRequest]) -> list[Outcome | None]:
        """As `charge_many`, but None for a request whose account is locked by somebody else (or does not exist)."""
        async with self._db.transaction() as tx:
            accounts = await lock_accounts(tx, {request.account_id for request in requests}, skip_locked=True)
            ready = [request for request in requests if request.account_id in accounts]
            outcomes = iter(await self._charge_locked(tx, accounts, ready))
            return [next(outcomes) if request.account_id in accounts else None for request in requests]

    async def _charge_locked(
        self, tx: Session, accounts: dict[UUID, LockedAccount], requests: Sequence[ChargeRequest]
    ) -> list[Outcome]:
        keys = [(r.account_id, r.idempotency_key) for r in requests if r.idempotency_key is not None]
        rows = await queries.find_charges_by_keys(tx, CHARGE, keys)
        used = {key: _charge(row) for key, row in rows.items()}
        new: list[dict[str, Any]] = []
        outcomes = [self._decide(request, accounts.get(request.account_id), used, new) for request in requests]
        if new:
            await record_charges(tx, new)
            await write(tx, accounts.values(), max(row["created_at"] for row in new))
        return outcomes

    def _decide(
        self,
        request: ChargeRequest,
        account: LockedAccount | None,
        used: dict[tuple[UUID, str], Charge],
        new: list[dict[str, Any]],
    ) -> Outcome:
        """One charge against a locked account. Posts to the account, and adds to `used` and `new`, when it is new."""
        if account is None:
            return Refused(AccountNotFound())
        key = request.idempotency_key
        if key is not None and (existing := used.get((request.account_id, key))) is not None:
            return _replayed(request, existing)
        try:
            account.require_active()
            require_currency(account, request.currency or account.currency)
        except AppError as error:
            return Refused(error)
        allowance = self.settings.daily_free_uses
        parts = pay(account.pools_on(request.at.date(), allowance), cost_of(request.amount_minor))
        if isinstance(parts, Shortfall):
            return parts
        row = post_charge(account, request, parts, allowance=allowance, operation=CHARGE)
        new.append(row)
        charge = _charge({**row, "metadata": request.details})
        if key is not None:
            used[request.account_id, key] = charge
        return Charged(charge)

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

        A `purchase` pays the account's debt first. `currency` None is the account's own. Raises AccountClosed,
        CurrencyMismatch, IdempotencyKeyReused, BalanceLimitExceeded.
        """
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            if idempotency_key is not None:
                row = await queries.find_credit_by_key(tx, account_id, idempotency_key)
                if row is not None:
                    same = (row.credits, row.currency, row.transaction_type)
                    if same != (credits, currency or account.currency, transaction_type):
                        raise IdempotencyKeyReused(idempotency_key)
                    return _credit(row, replayed=True)
            if account.status == "closed":
                account.require_active()
            require_currency(account, currency or account.currency)
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

    # --- accounts ---

    async def get_or_create_account(
        self, identity: Identity, profile: Profile, opening: Opening, actor: Actor, now: datetime
    ) -> tuple[UUID, bool]:
        """The account's id and whether it is new; `opening` counts only then."""
        account_id, created = await self.accounts.find_or_create(identity, actor, now, opening)
        await self.accounts.record_profile(account_id, profile, now)
        return account_id, created

    async def set_status(self, account_id: UUID, status: str, reason: str | None, now: datetime) -> None:
        """Suspend (with a reason), reopen or close. Locks the account, so that no charge straddles the change."""
        async with self._db.transaction() as tx:
            await lock_account(tx, account_id)
            await queries.update_account_status(tx, account_id, status, reason, now)

    async def report_llm_usage(self, account_id: UUID, report: LlmUsageReport, now: datetime) -> UUID:
        usage_log_id = new_id()
        row = {name: getattr(report, name) for name in LlmUsageReport.__slots__}
        async with self._db.transaction() as tx:
            await queries.insert_llm_usage(
                tx, {**row, "account_id": account_id, "usage_log_id": usage_log_id, "created_at": now}
            )
        return usage_log_id


# --- for the services that move the main pools in transactions of their own: tools, payments ---


def require_currency(account: LockedAccount, currency: str) -> None:
    if currency != account.currency:
        raise CurrencyMismatch(currency, account.currency)


def post_charge(
    account: LockedAccount, request: ChargeRequest, parts: Paid, *, allowance: int, operation: str
) -> dict[str, Any]:
    """Post what each pool pays, and return the row for `record_charges`. The account is locked."""
    charge_id = new_id()
    cause = Cause("charge", charge_id)
    if parts.daily_free:
        account.renew_daily_free(allowance, cause, request.actor, request.at)
    kind = Kind.CHARGE if operation == CHARGE else Kind.TOOL_CHARGE
    for pool in ("daily_free", "free", "paid"):
        account.post(pool, -getattr(parts, pool), kind, cause, request.actor, request.at)
    cost = parts.daily_free + parts.free + parts.paid
    account.total_uses += cost
    return {
        "account_id": account.account_id,
        "charge_id": charge_id,
        "entry_no": account.last_entry_no,
        "operation": operation,
        "idempotency_key": request.idempotency_key,
        "amount_minor": request.amount_minor,
        "currency": account.currency,
        "cost": cost,
        "from_daily_free": parts.daily_free,
        "from_free": parts.free,
        "from_paid": parts.paid,
        "paid_after": account.balances["paid"],
        "description": request.description,
        "metadata": json.dumps(request.details),
        "created_at": request.at,
    }


def post_paid_charge(account: LockedAccount, request: ChargeRequest, *, operation: str) -> dict[str, Any]:
    """As `post_charge`, from paid credits alone, of which the account has enough."""
    return post_charge(account, request, Paid(0, 0, cost_of(request.amount_minor)), allowance=0, operation=operation)


async def record_charges(tx: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store charges that were posted to locked accounts. The caller calls `write`."""
    if rows:
        await queries.insert_charges(tx, rows)


async def give_credits(
    tx: Session,
    account: LockedAccount,
    credits: int,
    transaction_type: str,
    *,
    actor: Actor,
    now: datetime,
    description: str | None = None,
    external_transaction_id: str | None = None,
    idempotency_key: str | None = None,
) -> Credit:
    """Give (or, with a negative number, take back) paid credits of a locked account. The caller calls `write`.

    A purchase or a reinstatement pays the recorded debt first. What is taken back but spent already becomes debt.
    """
    kind = Kind(transaction_type)
    credit_id = new_id()
    cause = Cause("credit", credit_id)
    if credits < 0:
        account.take_back_paid(-credits, kind, cause, actor, now)
    elif kind in (Kind.PURCHASE, Kind.DISPUTE_REINSTATEMENT):
        account.give_paid(credits, kind, cause, actor, now)
    else:
        account.post("paid", credits, kind, cause, actor, now)
    row = {
        "account_id": account.account_id,
        "credit_id": credit_id,
        "entry_no": account.last_entry_no,
        "transaction_type": transaction_type,
        "idempotency_key": idempotency_key,
        "external_transaction_id": external_transaction_id,
        "credits": credits,
        "currency": account.currency,
        "paid_after": account.balances["paid"],
        "description": description,
        "created_at": now,
    }
    await queries.insert_credit(tx, row)
    return Credit(
        credit_id=credit_id,
        account_id=account.account_id,
        credits=credits,
        currency=account.currency,
        transaction_type=transaction_type,
        external_transaction_id=external_transaction_id,
        paid_after=account.balances["paid"],
        description=description,
        created_at=now,
    )


def _replayed(request: ChargeRequest, existing: Charge) -> Replayed | Refused:
    currency = request.currency or existing.currency
    if (existing.amount_minor, existing.currency) != (request.amount_minor, currency):
        return Refused(IdempotencyKeyReused(request.idempotency_key or ""))
    return Replayed(existing)


def _charge(row: Mapping[str, Any]) -> Charge:
    return Charge(
        charge_id=row["charge_id"],
        account_id=row["account_id"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        cost=row["cost"],
        paid_after=row["paid_after"],
        description=row["description"],
        details=row["metadata"],
        created_at=row["created_at"],
    )


def _credit(row: Any, *, replayed: bool) -> Credit:
    return Credit(
        credit_id=row.credit_id,
        account_id=row.account_id,
        credits=row.credits,
        currency=row.currency,
        transaction_type=row.transaction_type,
        external_transaction_id=row.external_transaction_id,
        paid_after=row.paid_after,
        description=row.description,
        created_at=row.created_at,
        replayed=replayed,
    )
