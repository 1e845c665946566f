"""AccountService: reads accounts, and opens, suspends, reopens and closes them."""

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from app.accounts import queries
from app.accounts.closing import settle_purchases
from app.accounts.default_limits import Amounts
from app.accounts.directory import AccountDirectory, Identity, Opening, Profile
from app.accounts.errors import AccountErased
from app.accounts.returning import IdentityDigests
from app.auth.caller import Actor, Environment
from app.configuration.service import Configuration
from app.db import Database, Session
from app.ledger import queries as ledger_queries
from app.ledger.errors import AccountNotFound
from app.ledger.limit_queries import find_limits
from app.ledger.limits import LimitExceeded, Spending
from app.ledger.locked_account import LockedAccount, lock_account
from app.ledger.refill_hooks import end_refills

PAGE = 500
"""Accounts that a job reads at a time."""


class LiveGrants(NamedTuple):
    """The spendable part of grants: credits, and nanos of the account's currency."""

    credits: int
    money_nanos: int


class AccountService:
    """One per process. `directory` finds the account of an identity.

    A method whose name ends in `_in` is part of the caller's transaction. The others open their own and have committed
    when they return.
    """

    def __init__(self, db: Database, configuration: Configuration) -> None:
        self._db = db
        self.directory = AccountDirectory(db, configuration)
        self.digests = IdentityDigests.of(configuration.settings)
        self.default_limits = self.directory.default_limits
        self.zone = configuration.settings.time_zone

    async def stop(self) -> None:
        """Wait for the transactions under way. Call it once no request is left."""
        await self.directory.stop()

    async def state(self, account_id: UUID) -> Mapping[str, Any]:
        """Return the account's columns. Raises AccountNotFound."""
        row = await ledger_queries.find_account(self._db, account_id)
        if row is None:
            raise AccountNotFound
        return row

    async def spendable_money(self, state: Mapping[str, Any], now: datetime) -> int:
        """Return the money and the live grants of money of an account, in nanos, from its columns (`state`)."""
        money: int = state["money_nanos"]
        return money + (await self.live_grants(state, now)).money_nanos

    async def live_grants(self, state: Mapping[str, Any], now: datetime) -> LiveGrants:
        """Return what the grants of an account can pay at `now`, from its columns (`state`).

        Reads the grants only if one of them has expired without a ledger entry yet.
        """
        due: datetime | None = state["grants_expire_at"]
        if due is None or due > now:
            return LiveGrants(state["grants_credits"], state["grants_money_nanos"])
        live = await ledger_queries.find_live_sums(self._db, state["account_id"], now)
        return LiveGrants(live["credits"], live["money_nanos"])

    async def without_default_limits(self) -> AsyncIterator[tuple[UUID, Amounts]]:
        """Yield each account that lacks limits of its issuer, with the limits. Reads a page of accounts at a time."""
        for provider, amounts in self.default_limits.by_provider.items():
            after: UUID | None = UUID(int=0)
            while after is not None:
                async with self._db.read() as db:
                    found = await queries.find_without_limits(db, provider, list(amounts), after, PAGE)
                after = found[-1] if len(found) == PAGE else None
                for account_id in found:
                    yield account_id, amounts

    async def refusal(self, account_id: UUID, spending: Spending, now: datetime) -> LimitExceeded | None:
        """Return why limits would refuse spending of an account now. Counts nothing. For accounts with `has_limits`."""
        async with self._db.read() as db:
            limits = await find_limits(db, account_id, now, self.zone)
        return limits.refusal(spending)

    async def account(self, environment: Environment, account_id: UUID, now: datetime) -> dict[str, Any]:
        """Return the columns of the account, its live `grants`, its identity and its profile. Raises AccountNotFound.

        `grants`: the credits that grants can pay at `now`.
        """
        row = await self.state(account_id)
        if row["environment"] != environment:
            raise AccountNotFound
        structlog.contextvars.bind_contextvars(account_id=str(account_id))
        oauth_provider, external_id = await queries.find_identity(self._db, account_id) or (None, None)
        profile = await queries.find_profile(self._db, account_id)
        grants = (await self.live_grants(row, now)).credits
        identity = {"oauth_provider": oauth_provider, "external_id": external_id}
        return {**(profile or {}), **row, **identity, "grants": grants}

    async def find_account_id(self, identity: Identity) -> UUID:
        """Return the id of the identity's account. Raises AccountNotFound."""
        account_id = await self.directory.find(identity)
        if account_id is None:
            raise AccountNotFound
        return account_id

    async def get_or_create_account(
        self, identity: Identity, profile: Profile, opening: Opening, actor: Actor, now: datetime
    ) -> tuple[UUID, bool]:
        """Return the account's id and whether it is new. `opening` applies only to a new account."""
        account_id, created = await self.directory.find_or_create(identity, actor, now, opening, profile)
        if not created:
            await self.directory.record_profile(account_id, profile, now)
        return account_id, created

    async def set_status(self, account_id: UUID, status: str, reason: str | None, now: datetime) -> None:
        """Suspend (with a reason), reopen or close an account. Locks it, so that no charge straddles the change.

        After closing, the worker cancels the account's open purchases. After reopening, it books the payments that
        arrived while the account was closed.
        """
        async with self._db.transaction() as tx:
            await self.set_status_in(tx, account_id, status, reason, now)

    async def set_status_in(
        self, tx: Session, account_id: UUID, status: str, reason: str | None, now: datetime
    ) -> tuple[str, str | None]:
        """Set the status within the caller's transaction. Return the previous status and its reason.

        Raises AccountErased.
        """
        account = await lock_account(tx, account_id)
        if account.erased_at is not None and status != "closed":
            raise AccountErased
        await ledger_queries.update_account_status(tx, account_id, status, reason, now)
        if account.refill_below_nanos is not None and status in ("suspended", "closed"):
            await end_refills(tx, account_id, "closed" if status == "closed" else "suspended", now)
        if "closed" in (status, account.status) and status != account.status:
            await settle_purchases(tx, account_id, now)
        return account.status, account.status_reason

    async def set_plan_in(
        self,
        tx: Session,
        account: LockedAccount,
        plan_name: str,
        now: datetime,
        *,
        markup_percent: Decimal | None = None,
        discount_percent: Decimal | None = None,
    ) -> None:
        """Set the plan of a locked account, within the caller's transaction.

        The percentages are those of the terms that a subscriber keeps. None: the plan that is on sale has them.
        """
        plan = {
            "plan_name": plan_name,
            "plan_markup_percent": markup_percent,
            "plan_discount_percent": discount_percent,
        }
        if any(getattr(account, name) != value for name, value in plan.items()):
            await ledger_queries.update_plan(tx, account.account_id, plan, now)
            for name, value in plan.items():
                setattr(account, name, value)

    async def set_billing_in(self, tx: Session, account_id: UUID, enabled: bool, now: datetime) -> bool:
        """Set whether metered usage of the account is charged; it is recorded and priced either way.

        Locks the account, so that no report straddles the change. Return the previous value. Raises AccountErased.
        """
        account = await lock_account(tx, account_id)
        if account.erased_at is not None:
            raise AccountErased
        if account.billing_enabled != enabled:
            await ledger_queries.update_billing_enabled(tx, account_id, enabled, now)
        return account.billing_enabled

    async def suspend_unless_stopped_in(
        self, tx: Session, account_id: UUID, reason: str, replaces: Collection[str], now: datetime
    ) -> bool:
        """Suspend an active account, or one that is suspended for a reason that this one replaces. Locks the account.

        Part of the caller's transaction. Return False if the account is closed, or suspended for this or another
        reason: then nothing changes.
        """
        account = await lock_account(tx, account_id)
        if account.status == "closed" or account.status_reason == reason:
            return False
        if account.status != "active" and account.status_reason not in replaces:
            return False
        await ledger_queries.update_account_status(tx, account_id, "suspended", reason, now)
        if account.refill_below_nanos is not None:
            await end_refills(tx, account_id, "suspended", now)
        return True

    async def reopen_if_stopped_in(
        self, tx: Session, account_id: UUID, reasons: Collection[str], now: datetime
    ) -> bool:
        """Reopen an account that is suspended for one of these reasons. Locks it. Return False if it is not."""
        account = await lock_account(tx, account_id)
        if account.status != "suspended" or account.status_reason not in reasons:
            return False
        await ledger_queries.update_account_status(tx, account_id, "active", None, now)
        return True
