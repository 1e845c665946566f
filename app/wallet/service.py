"""WalletService: gives, lists and ends grants, and credits money."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog

from app.accounts.directory import Identity
from app.accounts.service import AccountService
from app.auth.caller import Actor, Environment
from app.db import Database, Session, new_id
from app.db.version_mark import VersionMark
from app.errors import InvalidRequest
from app.ledger.ended_grants import end_held_grant
from app.ledger.entries import Kind
from app.ledger.errors import CurrencyMismatch, IdempotencyKeyReused
from app.ledger.locked_account import LockedAccount, lock_account, write
from app.ledger.lots import Category, Lot
from app.ledger.pools import CREDIT
from app.wallet import claim_queries, queries
from app.wallet.errors import GrantNotFound
from app.wallet.money_credits import MoneyCredit, give_money, replayed_money_credit

SINCE = "0025"
"""Versions before this revision cannot read money and grants (ADR 26)."""
GrantStatus = Literal["active", "expired", "closed"]


@dataclass(frozen=True, slots=True)
class NewGrant:
    """A grant to give. `amount` is in credits, or with a `money` grant in nanos of the account's currency."""

    amount: int
    money: bool
    currency: str | None = None
    """None: the account's, which it must be."""
    priority: int = 50
    category: Category = "promotional"
    source: str = "api"
    expires_at: datetime | None = None
    is_paid: bool = False
    """A payment gave it, so it counts as purchased. A grant of the category `purchased` always does."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The key of a grant that an account gets once: its kind, and its occasion (a day, another account) if any."""

    kind: str
    occasion: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A recorded grant. Amounts are in `unit`: credits, or nanos of a currency."""

    grant_id: UUID
    account_id: UUID
    unit: str
    amount: int
    remaining: int
    priority: int
    category: str
    source: str
    expires_at: datetime | None
    created_at: datetime
    closed_at: datetime | None
    replayed: bool = False

    def status(self, now: datetime) -> GrantStatus:
        """Return whether it can pay at `now`. `closed`: it was spent or ended before its expiry."""
        if self.expires_at is not None and self.expires_at <= (self.closed_at or now):
            return "expired"
        return "active" if self.closed_at is None else "closed"


class WalletService:
    """One per process. A method whose name ends in `_in` is part of the caller's transaction."""

    def __init__(self, db: Database, accounts: AccountService, mark: VersionMark) -> None:
        self._db = db
        self._accounts = accounts
        self._mark = mark

    # --- grants ---

    async def require_finished_upgrade(self) -> None:
        """Raise UpgradeInProgress while an older version may run, which cannot read money and grants."""
        await self._mark.require(SINCE)

    async def give_grant(
        self, account_id: UUID, new: NewGrant, *, actor: Actor, now: datetime, idempotency_key: str | None = None
    ) -> Grant:
        """Give a grant. Locks the account until commit. Replaying a key gives nothing.

        Raises UpgradeInProgress, AccountClosed, CurrencyMismatch, IdempotencyKeyReused, InvalidRequest for an expiry
        that is not in the future, BalanceLimitExceeded, TooManyGrants.
        """
        await self.require_finished_upgrade()
        async with self._db.transaction() as tx:
            return await self.give_grant_in(tx, account_id, new, actor=actor, now=now, idempotency_key=idempotency_key)

    async def give_grant_in(
        self,
        tx: Session,
        account_id: UUID,
        new: NewGrant,
        *,
        actor: Actor,
        now: datetime,
        idempotency_key: str | None = None,
    ) -> Grant:
        """As `give_grant`, in the caller's transaction. The caller has called `require_finished_upgrade`."""
        account = await lock_account(tx, account_id)
        unit = account.currency if new.money else CREDIT
        if idempotency_key is not None:
            row = await queries.find_grant_by_key(tx, account_id, actor.kind, idempotency_key)
            if row is not None:
                if (row["amount"], row["unit"], row["category"]) != (new.amount, unit, new.category):
                    raise IdempotencyKeyReused(idempotency_key)
                return replace(grant_of(row), replayed=True)
        _require_open(account, new.currency)
        if new.expires_at is not None and new.expires_at <= now:
            raise InvalidRequest("expires_at must be in the future", field="expires_at")
        return await _give(tx, account, new, actor=actor, now=now, idempotency_key=idempotency_key)

    async def give_once_in(
        self, tx: Session, account: LockedAccount, claim: Claim, new: NewGrant, *, actor: Actor, now: datetime
    ) -> Grant | None:
        """Give a locked account a grant that it gets once, in the caller's transaction. None: it has it already.

        The grant is written; of concurrent callers, one gets it. The caller has called `require_finished_upgrade`.
        Raises AccountClosed, CurrencyMismatch, BalanceLimitExceeded, TooManyGrants.
        """
        if await self.claimed_amount_in(tx, account.account_id, claim) is not None:
            return None
        _require_open(account, new.currency)
        grant = await _give(tx, account, new, actor=actor, now=now, idempotency_key=None)
        row = {"account_id": account.account_id, "grant_id": grant.grant_id, "created_at": now}
        await claim_queries.insert_claim(tx, {**row, "kind": claim.kind, "occasion": claim.occasion})
        return grant

    async def claimed_amount(self, account_id: UUID, claim: Claim) -> int | None:
        """Return the amount of the account's grant by a claim. None: it has none, or got it a moment ago."""
        async with self._db.read() as db:
            return await self.claimed_amount_in(db, account_id, claim)

    async def claimed_amount_in(self, tx: Session, account_id: UUID, claim: Claim) -> int | None:
        """As `claimed_amount`, in the caller's transaction: final under the account's lock."""
        return await claim_queries.find_claimed_amount(tx, account_id, claim.kind, claim.occasion)

    async def list_grants(
        self, identity: Identity, *, only_open: bool, now: datetime, limit: int, offset: int
    ) -> tuple[Sequence[Grant], int]:
        """Return a page of the user's grants, newest first, and their number. An unknown user has none."""
        account_id = await self._accounts.directory.find(identity)
        if account_id is None:
            return [], 0
        async with self._db.read() as db:
            rows = await queries.list_grants(db, account_id, only_open, now, limit, offset)
            return [grant_of(row) for row in rows], await queries.count_grants(db, account_id, only_open, now)

    async def end_grant(self, environment: Environment, grant_id: UUID, *, actor: Actor, now: datetime) -> Grant:
        """End a grant: its rest is lost, and what holds of it return. Locks the account until commit.

        No effect on one that is spent or expired.

        Raises UpgradeInProgress, GrantNotFound.
        """
        await self.require_finished_upgrade()
        async with self._db.transaction() as tx:
            grant, _ = await self.end_grant_in(tx, environment, grant_id, actor=actor, now=now)
        return grant

    async def end_grant_in(
        self,
        tx: Session,
        environment: Environment,
        grant_id: UUID,
        *,
        actor: Actor,
        now: datetime,
        of_account: UUID | None = None,
    ) -> tuple[Grant, int]:
        """As `end_grant`, in the caller's transaction. Return the grant and its lost rest.

        The caller has called `require_finished_upgrade`. With `of_account`, another account's grant is not found.
        """
        row = await queries.find_grant(tx, environment, grant_id)
        if row is None or of_account not in (None, row["account_id"]):
            raise GrantNotFound
        structlog.contextvars.bind_contextvars(account_id=str(row["account_id"]))
        account = await lock_account(tx, row["account_id"])
        account.expire_lots(now)
        lot, lost = account.lots.get(grant_id), 0
        if lot is not None and lot.remaining > 0:
            lost = lot.remaining
            account.end_lot(lot, actor, now)
        else:
            await end_held_grant(tx, account.account_id, grant_id, now)
        await write(tx, [account], now)
        row = await queries.find_grant(tx, environment, grant_id)
        assert row is not None
        return grant_of(row), lost

    # --- money ---

    async def credit_money(
        self,
        account_id: UUID,
        nanos: int,
        kind: Kind,
        *,
        currency: str | None,
        actor: Actor,
        now: datetime,
        description: str | None = None,
        external_transaction_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> MoneyCredit:
        """Add money, a positive amount. Locks the account until commit. Replaying a key adds nothing.

        A purchase pays the account's debt first. `currency` None means the account's. Raises UpgradeInProgress,
        AccountClosed, CurrencyMismatch, IdempotencyKeyReused, BalanceLimitExceeded.
        """
        await self.require_finished_upgrade()
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            requested = (nanos, currency or account.currency, kind.value)
            existing = await replayed_money_credit(tx, account_id, actor, idempotency_key, requested)
            if existing is not None:
                return existing
            _require_open(account, currency)
            credit = await give_money(
                tx,
                account,
                nanos,
                kind,
                actor=actor,
                now=now,
                description=description,
                external_transaction_id=external_transaction_id,
                idempotency_key=idempotency_key,
            )
            await write(tx, [account], now)
            return credit


_OF_LOT = (
    *("grant_id", "unit", "amount", "remaining", "priority", "category", "source", "expires_at", "created_at"),
    "closed_at",
)


async def _give(
    tx: Session, account: LockedAccount, new: NewGrant, *, actor: Actor, now: datetime, idempotency_key: str | None
) -> Grant:
    lot = Lot(
        grant_id=new_id(),
        unit=account.currency if new.money else CREDIT,
        amount=new.amount,
        remaining=new.amount,
        priority=new.priority,
        category=new.category,
        expires_at=new.expires_at,
        created_at=now,
        source=new.source,
        idempotency_key=idempotency_key,
        caller_kind=actor.kind,
    )
    kind = Kind.PURCHASE if new.is_paid or new.category == "purchased" else Kind.GRANT_GIVEN
    account.give_lot(lot, kind, actor, now)
    await write(tx, [account], now)
    return grant_of({**{name: getattr(lot, name) for name in _OF_LOT}, "account_id": account.account_id})


def _require_open(account: LockedAccount, currency: str | None) -> None:
    if account.status == "closed":
        account.require_active()
    if currency not in (None, account.currency):
        raise CurrencyMismatch(currency or "", account.currency)


def grant_of(row: Any) -> Grant:
    """Return the grant of a row of the ledger's table."""
    return Grant(account_id=row["account_id"], **{name: row[name] for name in _OF_LOT})
