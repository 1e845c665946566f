"""MovingIn: plans an import and applies it, one transaction per account.

Everything that is imported has a key: transactions have the neighbour's ids, opening entries their names, and event ids
are keys. So an import that was interrupted is repeated, and a later export adds what is new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from app.accounts.directory import Identity, Opening, Profile
from app.accounts.service import AccountService
from app.auth.caller import Actor, Environment
from app.db import Database, Session
from app.db.version_mark import VersionMark
from app.ledger.limits import Window
from app.ledger.locked_account import lock_account, write
from app.ledger.money import decimal_text
from app.limits.service import LimitService, NewLimit
from app.metering.event_queries import insert_imported_keys
from app.neighbours import queries
from app.neighbours.moving_in.export import OPENING, BrokenRow, Export, Moving, Origin
from app.neighbours.moving_in.records import CURRENCY
from app.wallet.moved import MovedMoney, find_moved_money, post_moved_money

SINCE = "0036"
"""The revision of limits: versions before it do not count."""
IDS_AT_ONCE = 2_000
ACTOR = Actor("system", "import")


@dataclass(frozen=True, slots=True)
class Target:
    """The destination of an export. `source` is the event source of the API keys that will report usage."""

    environment: Environment
    identity_provider: str
    source: str


@dataclass(slots=True)
class Summary:
    """Numbers of an import. Those that begin with `new_` are what it adds."""

    accounts: int = 0
    new_accounts: int = 0
    transactions: int = 0
    new_entries: int = 0
    new_money: int = 0
    event_ids: int = 0

    def as_row(self) -> dict[str, object]:
        row: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**row, "new_money": decimal_text(self.new_money)}


@dataclass(frozen=True, slots=True)
class Planned:
    moving: Moving
    identity: Identity
    account_id: UUID | None
    new: Sequence[MovedMoney]


class MovingIn:
    def __init__(self, db: Database, accounts: AccountService, target: Target) -> None:
        self._db = db
        self._accounts = accounts
        self._target = target
        self._limits = LimitService(db, accounts, VersionMark(db))

    async def plan(self, export: Export, now: datetime) -> tuple[Sequence[Planned], Summary]:
        """Return what an import would add. Writes nothing. Raises BrokenRow and UpgradeInProgress."""
        await VersionMark(self._db).require(SINCE)
        planned, summary = [], Summary()
        for moving in export.accounts:
            plan = await self._plan(export.origin, moving, now)
            planned.append(plan)
            summary.accounts += 1
            summary.new_accounts += plan.account_id is None
            summary.transactions += len(moving.movements)
            summary.new_entries += len(plan.new)
            summary.new_money += sum(movement.nanos for movement in plan.new)
            summary.event_ids += len(moving.events)
        return planned, summary

    async def _plan(self, origin: Origin, moving: Moving, now: datetime) -> Planned:
        row = moving.account
        identity = Identity(self._target.environment, self._target.identity_provider, row.user_id)
        account_id = await self._accounts.directory.find(identity)
        money = moving.money(origin, now)
        if account_id is None:
            return Planned(moving, identity, None, money)
        state = await self._accounts.state(account_id)
        known = await find_moved_money(self._db, account_id, f"{origin}:")
        new = _new(money, known, moving)
        is_moved = await queries.is_moved(self._db, account_id, origin)
        if is_moved and any(movement.key.startswith(f"{origin}:{OPENING}:") for movement in new):
            raise BrokenRow(row.line, "the totals do not fit the earlier import and the new transactions")
        _require_fit(row.line, new, state["currency"], state["status"], state["money_nanos"])
        return Planned(moving, identity, account_id, new)

    async def apply(self, origin: Origin, planned: Planned, now: datetime) -> None:
        """Move one account. Locks it until commit. Raises BrokenRow if it changed since the plan."""
        row = planned.moving.account
        opening = Opening(currency=CURRENCY, plan_name=row.plan)
        profile = Profile(customer_email=row.email, display_name=row.display_name)
        account_id, _ = await self._accounts.directory.find_or_create(planned.identity, ACTOR, now, opening, profile)
        await self._move_event_ids(account_id, planned.moving)
        is_moved = await queries.is_moved(self._db, account_id, origin)
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            known = await find_moved_money(self._db, account_id, f"{origin}:")  # final: others wait for the lock
            new = _new(planned.moving.money(origin, now), known, planned.moving)
            balance = account.balances["money"]
            _require_fit(row.line, new, account.currency, account.status, balance)
            if balance > 0 or known:  # the order of the first import may not fit: spend last
                new = sorted(new, key=lambda movement: movement.nanos < 0)
            await post_moved_money(tx, account, new, actor=ACTOR, now=now)
            if not is_moved:
                await self._move_limits(tx, account_id, row.limits, now)
            await queries.upsert_moved(tx, account_id, origin, row.details, now)
            await write(tx, [account], now)

    async def _move_limits(self, tx: Session, account_id: UUID, limits: Mapping[Window, int], now: datetime) -> None:
        """Set the export's limits as the operator's. Only with the first import: an admin may change them after it."""
        for window, nanos in limits.items():
            new = NewLimit("account", "", window, None, nanos, "refuse")
            await self._limits.put_in(tx, account_id, new, "operator", now)

    async def _move_event_ids(self, account_id: UUID, moving: Moving) -> None:
        """Store the ids under the account's lock, so that no report of the same id is under way."""
        ids = list(dict.fromkeys((event.event_id, event.source or self._target.source) for event in moving.events))
        for first in range(0, len(ids), IDS_AT_ONCE):
            async with self._db.transaction() as tx:
                await lock_account(tx, account_id)
                await insert_imported_keys(tx, account_id, ids[first : first + IDS_AT_ONCE])


def _new(money: Sequence[MovedMoney], known: Mapping[str, int], moving: Moving) -> Sequence[MovedMoney]:
    """Return the movements that are not imported. Raises BrokenRow for one that was imported with another amount."""
    for movement in money:
        if known.get(movement.key, movement.nanos) != movement.nanos:
            name = movement.key.partition(":")[2]
            was = decimal_text(known[movement.key])
            raise BrokenRow(moving.account.line, f"{name} is {decimal_text(movement.nanos)}, and was imported as {was}")
    return [movement for movement in money if movement.key not in known]


def _require_fit(line: int, new: Sequence[MovedMoney], currency: str, status: str, money_nanos: int) -> None:
    """Raise BrokenRow for an account that cannot take the movements."""
    if currency != CURRENCY:
        raise BrokenRow(line, f"the user's account is in {currency}, not in {CURRENCY}")
    if status == "closed":
        raise BrokenRow(line, "the user's account is closed")
    if money_nanos + sum(movement.nanos for movement in new) < 0:
        raise BrokenRow(line, "the user's balance here does not cover the new transactions")
