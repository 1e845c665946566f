"""LimitService: sets, lists and removes limits of accounts.

Each change locks the account, so no charge straddles it. A new limit begins with what its window has spent so far.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.accounts.default_limits import Amounts
from app.accounts.directory import Identity
from app.accounts.service import AccountService
from app.auth.audit import RecordByCaller
from app.auth.caller import Caller, Environment
from app.auth.errors import PersonRequired
from app.db import Database, Session, new_id, opaque_ids
from app.db.version_mark import VersionMark
from app.ledger import limit_queries as queries
from app.ledger.errors import AccountNotFound
from app.ledger.key_lines import find_keys_of_line
from app.ledger.limits import PREFIX, Action, Limit, Owner, Scope, Window, window_start
from app.ledger.locked_account import LockedAccount, lock_accounts
from app.ledger.pools import CREDIT
from app.ledger.units import USE, amount_text
from app.limits.audit import REMOVED, SET, Facts, facts_of_change, facts_of_removal
from app.limits.errors import AboveOperatorLimit, LimitNotFound, NotLimitOwner, TooManyLimits

SINCE = "0036"
"""Versions before this revision do not count (ADR 26)."""
MAX_LIMITS = 50
"""Limits that one account may have of each owner."""


@dataclass(frozen=True, slots=True)
class NewLimit:
    """A limit to set. `unit` None: the account's currency; `amount` is in nanos then."""

    scope: Scope
    scope_value: str
    window: Window
    unit: str | None
    amount: int
    action: Action

    @classmethod
    def of_money(cls, window: Window, nanos: int) -> "NewLimit":
        """Return a limit of all money that an account spends in a window."""
        return cls("account", "", window, None, nanos, "refuse")


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a limit, which its id on the wire encodes."""

    account_id: UUID
    limit_id: UUID

    @classmethod
    def of(cls, wire_id: str) -> "Place":
        """Return the place that an id names. Raises LimitNotFound for any other text."""
        if (found := opaque_ids.decode(PREFIX, wire_id)) is None:
            raise LimitNotFound
        return cls(*found)


@dataclass(frozen=True, slots=True)
class Change:
    """A limit as it is now (or was, when removed), and its earlier amount. None: it is new."""

    limit: Limit
    before: int | None

    def report(self) -> None:
        """Report that the window had counted more than the amount when it was set. Call it after the commit."""
        if self.limit.is_crossed:
            queries.report_crossed(self.limit)


class LimitService:
    """One per process. A method whose name ends in `_in` is part of the caller's transaction."""

    def __init__(
        self, db: Database, accounts: AccountService, mark: VersionMark, record: RecordByCaller | None = None
    ) -> None:
        self._db = db
        self._accounts = accounts
        self._mark = mark
        self._record = record
        self.zone = accounts.zone

    async def list_of(self, identity: Identity, now: datetime) -> Sequence[Limit]:
        """Return the limits of a user, shorter windows first. An unknown user has none."""
        account_id = await self._accounts.directory.find(identity)
        return [] if account_id is None else await self.list(account_id, now)

    async def list(self, account_id: UUID, now: datetime) -> Sequence[Limit]:
        async with self._db.read() as db:
            return await queries.find_in_force(db, [account_id], now, self.zone)

    async def list_in(self, tx: Session, account_id: UUID, now: datetime) -> Sequence[Limit]:
        """As `list`, in the caller's transaction."""
        return await queries.find_in_force(tx, [account_id], now, self.zone)

    async def require_finished_upgrade(self) -> None:
        """Raise UpgradeInProgress while an older version may run, which does not count."""
        await self._mark.require(SINCE)

    async def put(
        self,
        account_id: UUID,
        new: NewLimit,
        owner: Owner,
        now: datetime,
        *,
        may_raise: bool = True,
        by: Caller | None = None,
    ) -> Limit:
        """As `put_all`, of one limit."""
        return (await self.put_all(account_id, [new], owner, now, may_raise=may_raise, by=by))[0]

    async def put_all(
        self,
        account_id: UUID,
        new: Sequence[NewLimit],
        owner: Owner,
        now: datetime,
        *,
        may_raise: bool = True,
        by: Caller | None = None,
    ) -> Sequence[Limit]:
        """Set several limits of an account, all or none. As `put_in`, in a transaction. Raises UpgradeInProgress.

        The audit log names `by`. None: a rule or a command sets them, which is not recorded here.
        """
        await self.require_finished_upgrade()
        async with self._db.transaction() as tx:
            changes = [await self.put_in(tx, account_id, one, owner, now, may_raise=may_raise) for one in new]
            for change in changes:
                if by is not None and change.before != change.limit.amount:
                    facts = facts_of_change(change.limit, change.before)
                    await self._note(tx, by, SET, account_id, facts, now)
        for change in changes:
            change.report()
        return [change.limit for change in changes]

    async def put_in(
        self, tx: Session, account_id: UUID, new: NewLimit, owner: Owner, now: datetime, *, may_raise: bool = True
    ) -> Change:
        """Create a limit, or change the amount of the one with its scope, window, unit, action and owner.

        A changed limit keeps its counter. Locks the account until commit. Raises AccountNotFound, AccountClosed,
        TooManyLimits, AboveOperatorLimit for a user's, and PersonRequired for a higher amount if not `may_raise`.
        The caller reports the change after its commit.
        """
        account = await _lock(tx, account_id)
        if account.status == "closed":
            account.require_active()
        limits = await queries.find_in_force(tx, [account_id], now, self.zone)
        unit = new.unit or account.currency
        same = [limit for limit in limits if _is_about(limit, new, unit)]
        if owner == "user":
            _require_below_operator(same, new.amount)
        existing = next((limit for limit in same if (limit.action, limit.owner) == (new.action, owner)), None)
        if existing is not None:
            return await self._change(tx, existing, new.amount, now, may_raise=may_raise)
        if sum(limit.owner == owner for limit in limits) >= MAX_LIMITS:
            raise TooManyLimits(MAX_LIMITS)
        return Change(await self._create(tx, account_id, new, unit, owner, now), None)

    async def _create(
        self, tx: Session, account_id: UUID, new: NewLimit, unit: str, owner: Owner, now: datetime
    ) -> Limit:
        limit = Limit(
            account_id=account_id,
            limit_id=new_id(),
            scope=new.scope,
            scope_value=new.scope_value,
            window=new.window,
            unit=unit,
            amount=new.amount,
            action=new.action,
            owner=owner,
            created_at=now,
            window_start=window_start(new.window, now, self.zone),
            keys=await find_keys_of_line(tx, new.scope_value) if new.scope == "key" else (),
        )
        limit.count(await queries.sum_spent(tx, limit, now), now)
        await queries.insert_limits(tx, [limit])
        await queries.store_counters(tx, [limit])
        await queries.set_has_limits(tx, account_id, value=True)
        return limit

    async def _change(self, tx: Session, limit: Limit, amount: int, now: datetime, *, may_raise: bool) -> Change:
        before = limit.amount
        if amount > before and not may_raise:
            raise PersonRequired
        if amount != before:
            limit.change_amount(amount, now)
            await queries.update_amount(tx, limit, now)
            await queries.store_counters(tx, [limit])
        return Change(limit, before)

    async def give_defaults(self, account_id: UUID, amounts: Amounts, now: datetime) -> None:
        """Give an account the operator's limits of money by window, except those that it has or once had."""
        await self.require_finished_upgrade()
        unit = (await self._accounts.state(account_id))["currency"]
        async with self._db.read() as db:
            if amounts.keys() <= await queries.find_windows_ever(db, account_id, unit):
                return
        async with self._db.transaction() as tx:
            account = await _lock(tx, account_id)
            if account.status == "closed":
                return
            known = await queries.find_windows_ever(tx, account_id, unit)
            missing = [NewLimit.of_money(window, nanos) for window, nanos in amounts.items() if window not in known]
            changes = [await self.put_in(tx, account_id, new, "operator", now) for new in missing]
        for change in changes:
            change.report()

    async def give_missing_defaults(self, now: datetime) -> int:
        """Give the default limits to accounts that are older than the setting. Return the accounts' number."""
        given = 0
        async for account_id, amounts in self._accounts.without_default_limits():
            await self.give_defaults(account_id, amounts, now)
            given += 1
        return given

    async def remove(
        self, place: Place, by: Caller, now: datetime, *, only: Owner, of_account: UUID | None = None
    ) -> Limit:
        """As `remove_in`, in a transaction. `only`: whose limits `by` may remove. Raises UpgradeInProgress.

        The audit log names `by`. Raises NotLimitOwner, and LimitNotFound for one of another environment, or of another
        account if `of_account`.
        """
        if of_account not in (None, place.account_id):
            raise LimitNotFound
        await self.require_finished_upgrade()
        async with self._db.transaction() as tx:
            limit = await self.remove_in(tx, place, now, environment=by.environment, only=only)
            await self._note(tx, by, REMOVED, place.account_id, facts_of_removal(limit), now)
        return limit

    async def _note(
        self,
        tx: Session,
        by: Caller,
        action: str,
        account_id: UUID,
        facts: tuple[Facts | None, Facts],
        now: datetime,
    ) -> None:
        """Write the audit row of a change."""
        assert self._record is not None, "a service that callers use writes the audit log"
        before, after = facts
        target = ("account", account_id)
        environment = by.environment
        await self._record(tx, by.actor, action, *target, environment=environment, before=before, after=after, now=now)

    async def remove_in(
        self,
        tx: Session,
        place: Place,
        now: datetime,
        *,
        environment: Environment | None = None,
        only: Owner | None = None,
    ) -> Limit:
        """Remove a limit in force. Locks the account until commit. The caller has called `require_finished_upgrade`."""
        account = (await lock_accounts(tx, [place.account_id])).get(place.account_id)
        if account is None or environment not in (None, account.environment):
            raise LimitNotFound
        limits = await queries.find_in_force(tx, [place.account_id], now, self.zone)
        limit = next((limit for limit in limits if limit.limit_id == place.limit_id), None)
        if limit is None:
            raise LimitNotFound
        if only not in (None, limit.owner):
            raise NotLimitOwner(limit.owner)
        await queries.remove_limit(tx, limit, now)
        if len(limits) == 1:
            await queries.set_has_limits(tx, place.account_id, value=False)
        return limit


async def _lock(tx: Session, account_id: UUID) -> LockedAccount:
    account = (await lock_accounts(tx, [account_id])).get(account_id)
    if account is None:
        raise AccountNotFound
    return account


def _is_about(limit: Limit, new: NewLimit, unit: str) -> bool:
    """Return whether a limit has the scope, window and unit of a new one."""
    theirs = (limit.scope, limit.scope_value, limit.window, limit.unit)
    return theirs == (new.scope, new.scope_value, new.window, unit)


def _require_below_operator(limits: Sequence[Limit], amount: int) -> None:
    """Raise AboveOperatorLimit for a user's amount above an operator's limit with its scope, window and unit."""
    most = [limit.amount for limit in limits if limit.owner == "operator" and limit.action == "refuse"]
    if most and amount > most[0]:
        raise AboveOperatorLimit(amount_text(limits[0].unit, most[0]))


UNITS: dict[str, str | None] = {"credits": CREDIT, "uses": USE, "money": None}
"""Units as callers name them, and as limits store them. None: the account's currency."""
