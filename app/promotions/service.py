"""PromotionService: one-time grants of money for signing up, for each day, and for referring a paying user.

Each grant has a claim, whose key is unique: (account, kind, occasion). The claim, the grant and its ledger entry are
one transaction under the account's lock. A referral pays two accounts in two transactions; a crash in between leaves it
due, and the job PAY_REFERRAL or the sweep of due referrals pays the rest.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal
from uuid import UUID

import structlog

from app.accounts.directory import Identity
from app.accounts.service import AccountService
from app.auth.caller import Actor
from app.configuration.sections import ONE_TIME_GRANTS
from app.configuration.service import Configuration
from app.db import Database, Session
from app.db.version_mark import VersionMark
from app.ledger.errors import BalanceLimitExceeded, TooManyGrants
from app.ledger.locked_account import LockedAccount, lock_account
from app.neighbours.earlier_grants import EarlierGrants, find_earlier_grants
from app.payments.settled import has_settled_payment
from app.plans.one_time import OneTimeGrant, OneTimeGrants
from app.promotions.errors import SameUser
from app.subscriptions.settlement import has_paid_subscription
from app.wallet.referrals import Referral, add_referral, find_referral, list_due, mark_paid, wait_for_payment
from app.wallet.service import Claim, NewGrant, WalletService

SINCE = "0043"
"""Versions before this revision settle payments without making referrals due."""
REFERRALS_AT_ONCE = 200
SYSTEM = Actor("system", "referral")
Kind = Literal["signup", "daily", "referral"]
Reason = Literal["already_granted", "already_granted_today", "already_referred", "pending", "not_available"]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Purse:
    """An account's spendable money after the call, and the amount of the new grant, in nanos of its currency."""

    currency: str
    balance_nanos: int
    given_nanos: int = 0


@dataclass(frozen=True, slots=True)
class Given:
    """The outcome for one account. `reason` None: this call gave the grant."""

    purse: Purse
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Referred:
    """The outcome for two accounts. `reason` None: with this call, both have their grants."""

    invitee: Purse
    inviter: Purse
    reason: Reason | None = None


class PromotionService:
    """One per process. `zone` is the time zone whose days count for daily grants."""

    def __init__(
        self,
        db: Database,
        configuration: Configuration,
        accounts: AccountService,
        wallet: WalletService,
        mark: VersionMark,
        *,
        zone: tzinfo = UTC,
    ) -> None:
        self._db = db
        self._configuration = configuration
        self._accounts = accounts
        self._wallet = wallet
        self._mark = mark
        self._zone = zone

    async def sign_up(self, user: Identity, inviter: Identity | None, *, actor: Actor, now: datetime) -> Given:
        """Give the grant for signing up, and note who invited the user. Creates missing accounts.

        Raises SameUser, UpgradeInProgress, AccountClosed, BalanceLimitExceeded, TooManyGrants.
        """
        account_id = await self._resolve(user, actor, now)
        inviter_id = None if inviter is None else await self._resolve(inviter, actor, now)
        if inviter_id == account_id:
            raise SameUser("referred_by")
        claim, in_force = Claim("signup"), await self._in_force()
        if await self._wallet.claimed_amount(account_id, claim) is not None:
            return await self._refused(account_id, "already_granted", now)
        await self._mark.require(SINCE)
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            reason = await self._sign_up_in(tx, account, inviter_id, in_force, actor, now)
        return await self._outcome(account_id, claim, reason, now)

    async def _sign_up_in(
        self,
        tx: Session,
        account: LockedAccount,
        inviter_id: UUID | None,
        in_force: OneTimeGrants,
        actor: Actor,
        now: datetime,
    ) -> Reason | None:
        claim = Claim("signup")
        if await self._wallet.claimed_amount_in(tx, account.account_id, claim) is not None:
            return "already_granted"  # another caller had the lock before
        earlier = await find_earlier_grants(tx, account.account_id)
        if inviter_id is not None and in_force.pays_referrals and account.status != "closed":
            await self._note_referral(tx, account, earlier, inviter_id, now)
        if account.is_returning or earlier.signup:
            return "already_granted"
        return await self._give(tx, account, claim, in_force.signup, in_force, actor, now)

    async def give_daily(self, user: Identity, *, actor: Actor, now: datetime) -> Given:
        """Give the day's grant. Creates a missing account. Raises as `sign_up` does, but for SameUser."""
        account_id = await self._resolve(user, actor, now)
        today = now.astimezone(self._zone).date()
        claim, in_force = Claim("daily", today.isoformat()), await self._in_force()
        if await self._wallet.claimed_amount(account_id, claim) is not None:
            return await self._refused(account_id, "already_granted_today", now)
        if in_force.daily.nanos == 0:
            return await self._refused(account_id, "not_available", now)
        await self._mark.require(SINCE)
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            reason: Reason | None = "already_granted_today"
            is_claimed = await self._wallet.claimed_amount_in(tx, account_id, claim) is not None
            if not is_claimed and not await self._had_day_before(tx, account, today):
                reason = await self._give(tx, account, claim, in_force.daily, in_force, actor, now)
        return await self._outcome(account_id, claim, reason, now)

    async def _had_day_before(self, tx: Session, account: LockedAccount, today: date) -> bool:
        """Return whether an import states the day's grant, or an earlier account of the identity may have had it."""
        if account.is_returning and account.created_at.astimezone(self._zone).date() == today:
            return True
        return (await find_earlier_grants(tx, account.account_id)).daily_on == today

    async def refer(self, inviter: Identity, invitee: Identity, *, actor: Actor, now: datetime) -> Referred:
        """Note who invited a user, and pay both if the user has paid. Creates missing accounts.

        Otherwise the first payment that the invited user settles pays it. Raises SameUser, UpgradeInProgress,
        AccountClosed.
        """
        invitee_id = await self._resolve(invitee, actor, now)
        inviter_id = await self._resolve(inviter, actor, now)
        if inviter_id == invitee_id:
            raise SameUser("inviter_user_id")
        if not (await self._in_force()).pays_referrals:
            return await self._referred(invitee_id, inviter_id, "not_available", now)
        await self._mark.require(SINCE)
        known = await self._referral_of(invitee_id)
        reason: Reason | None = None if known is None else _outcome_of(known, inviter_id)
        if known is None:
            async with self._db.transaction() as tx:
                account = await lock_account(tx, invitee_id)
                if account.status == "closed":
                    account.require_active()
                earlier = await find_earlier_grants(tx, invitee_id)
                reason = await self._note_referral(tx, account, earlier, inviter_id, now)
        if reason == "pending" and await self.pay_referral(invitee_id, now):
            reason = None
        elif reason == "pending" and (paid := await self._referral_of(invitee_id)) is not None:
            reason = _outcome_of(paid, inviter_id)  # another caller, or the worker, may have just paid it
        return await self._referred(invitee_id, inviter_id, reason, now)

    async def pay_referral(self, invitee_id: UUID, now: datetime) -> bool:
        """Give the grants of a due referral. Return whether this call completed it. Safe to repeat after a crash.

        A closed account, and one in another currency, gets nothing. While referrals are off, the referral stays due.
        If all payments of the invited account were taken back, it waits for the next one.
        """
        in_force, referral = await self._in_force(), await self._referral_of(invitee_id)
        if referral is None or referral.due_at is None or referral.paid_at is not None or not in_force.pays_referrals:
            return False
        async with self._db.transaction() as tx:
            await lock_account(tx, invitee_id)
            if not await _has_paid(tx, invitee_id):
                await wait_for_payment(tx, invitee_id)
                return False
        inviter_id = referral.inviter_id
        sides = (
            (invitee_id, inviter_id, in_force.referral_invitee),
            (inviter_id, invitee_id, in_force.referral_inviter),
        )
        for account_id, other_id, offer in sides:
            if not await self._give_side(account_id, Claim("referral", str(other_id)), offer, in_force, now):
                return False
        async with self._db.transaction() as tx:
            return await mark_paid(tx, invitee_id, now)

    async def pay_due_referrals(self, now: datetime) -> int:
        """Pay the due referrals whose job has failed or waited for room. Return how many this call completed."""
        completed, after = 0, None
        while (await self._in_force()).pays_referrals:
            async with self._db.read() as db:
                due = await list_due(db, after, REFERRALS_AT_ONCE)
            if not due:
                break
            for account_id in due:
                completed += await self.pay_referral(account_id, now)
            after = due[-1]
        return completed

    async def _in_force(self) -> OneTimeGrants:
        return (await self._configuration.current()).document(ONE_TIME_GRANTS)

    async def _resolve(self, user: Identity, actor: Actor, now: datetime) -> UUID:
        account_id, _ = await self._accounts.directory.find_or_create(user, actor, now)
        return account_id

    async def _give(
        self,
        tx: Session,
        account: LockedAccount,
        claim: Claim,
        offer: OneTimeGrant,
        in_force: OneTimeGrants,
        actor: Actor,
        now: datetime,
    ) -> Reason | None:
        """Give a locked account the grant of a claim. Return why it got nothing."""
        if offer.nanos == 0 or account.currency != in_force.currency:
            return "not_available"
        days = offer.expires_after_days
        new = NewGrant(
            amount=offer.nanos,
            money=True,
            source=claim.kind,
            expires_at=None if days is None else now + timedelta(days=days),
        )
        grant = await self._wallet.give_once_in(tx, account, claim, new, actor=actor, now=now)
        return "already_granted" if grant is None else None

    async def _give_side(
        self, account_id: UUID, claim: Claim, offer: OneTimeGrant, in_force: OneTimeGrants, now: datetime
    ) -> bool:
        """Give one account of a referral its grant, unless it has it. Return False if it has no room for it now."""
        if offer.nanos == 0 or await self._wallet.claimed_amount(account_id, claim) is not None:
            return True
        try:
            async with self._db.transaction() as tx:
                account = await lock_account(tx, account_id)
                if account.status != "closed":
                    await self._give(tx, account, claim, offer, in_force, SYSTEM, now)
        except (BalanceLimitExceeded, TooManyGrants) as error:
            log.warning("referral_waits", account_id=str(account_id), why=error.code)
            return False
        return True

    async def _note_referral(
        self, tx: Session, account: LockedAccount, earlier: EarlierGrants, inviter_id: UUID, now: datetime
    ) -> Reason:
        """Store who invited a locked account. Return `pending`, or why nothing will be paid for it."""
        known = await find_referral(tx, account.account_id)
        if known is not None:
            return _outcome_of(known, inviter_id)
        if account.is_returning or earlier.referral:
            return "already_granted"
        reverse = await find_referral(tx, inviter_id)
        if reverse is not None and reverse.inviter_id == account.account_id:
            return "already_referred"
        has_paid = await _has_paid(tx, account.account_id)
        await add_referral(tx, account, inviter_id, has_paid=has_paid, now=now)
        return "pending"

    async def _referral_of(self, invitee_id: UUID) -> Referral | None:
        async with self._db.read() as db:
            return await find_referral(db, invitee_id)

    async def _refused(self, account_id: UUID, reason: Reason, now: datetime) -> Given:
        return Given(await self._purse(account_id, now), reason)

    async def _outcome(self, account_id: UUID, claim: Claim, reason: Reason | None, now: datetime) -> Given:
        return Given(await self._purse(account_id, now, claim if reason is None else None), reason)

    async def _referred(self, invitee_id: UUID, inviter_id: UUID, reason: Reason | None, now: datetime) -> Referred:
        claims = (
            (Claim("referral", str(inviter_id)), Claim("referral", str(invitee_id))) if reason is None else (None, None)
        )
        invitee = await self._purse(invitee_id, now, claims[0])
        return Referred(invitee, await self._purse(inviter_id, now, claims[1]), reason)

    async def _purse(self, account_id: UUID, now: datetime, claim: Claim | None = None) -> Purse:
        """Return an account's balance, and the amount of the grant that it has by a claim."""
        state = await self._accounts.state(account_id)
        balance_nanos = await self._accounts.spendable_money(state, now)
        given_nanos = None if claim is None else await self._wallet.claimed_amount(account_id, claim)
        return Purse(state["currency"], balance_nanos, given_nanos or 0)


async def _has_paid(tx: Session, account_id: UUID) -> bool:
    """Return whether a locked account has a purchase or a subscription whose payment was not wholly taken back."""
    return await has_settled_payment(tx, account_id) or await has_paid_subscription(tx, account_id)


def _outcome_of(referral: Referral, inviter_id: UUID) -> Reason:
    """Return the answer to a caller who names this inviter for a user whose inviter is known."""
    if referral.paid_at is not None:
        return "already_granted"
    return "pending" if referral.inviter_id == inviter_id else "already_referred"
