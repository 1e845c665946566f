"""Settlement: the one way in which facts about subscriptions become grants, a plan and its limits.

Webhooks, the event log, reconciliation and users' own requests all come through `Settlement`. Each fact is merged into
the account's books under its lock; then everything that the books call for is done that has not been done yet.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app.accounts.service import AccountService
from app.auth.caller import Environment
from app.configuration.service import Configuration, Current
from app.db import Database, Session
from app.db.version_mark import UpgradeInProgress, VersionMark
from app.ledger.locked_account import lock_accounts
from app.limits.service import LimitService
from app.payments.facts import PaymentFacts, Stated
from app.payments.settlement import Outcome
from app.payments.subscription_facts import InvoiceFacts, InvoicePaymentFacts, SubscriptionFacts
from app.subscriptions import queries
from app.subscriptions.books import (
    AnyFacts,
    Book,
    close_orders,
    complete_terms,
    find_account,
    load,
    merge,
    request_refreshes,
)
from app.subscriptions.due_grants import next_start
from app.subscriptions.entitling import Entitler
from app.subscriptions.giving import Giver, take_back
from app.subscriptions.rows import invoice_of
from app.subscriptions.state import Invoice, Subscribed
from app.wallet.referrals import payment_settled
from app.wallet.service import WalletService

SINCE = "0045"
"""Versions before this revision cannot read subscriptions (ADR 26)."""
TERMS_SINCE = "0048"
"""Versions before this revision neither apply nor reset the terms that an account keeps."""
RENEWAL_TAKES = timedelta(minutes=75)
"""Stripe leaves the invoice of a renewal open for an hour before it is paid."""
CHECKED_EVERY = timedelta(hours=6)
"""While a subscription is unpaid, or its renewal is late."""
WAITS = timedelta(hours=1)
"""For grants that have no room."""
UNSETTLED = ("incomplete", "past_due", "unpaid", "paused")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Applier:
    """Applies facts by one state of the configuration, in the transactions of its caller."""

    settlement: "Settlement"
    config: Current
    is_possible: bool
    """False while an older version may run."""

    async def __call__(self, tx: Session, environment: Environment, facts: Stated, now: datetime) -> Outcome:
        """Apply one statement. "ignored": it is about nothing of ours. Raises UpgradeInProgress."""
        assert isinstance(facts, SubscriptionFacts | InvoiceFacts | InvoicePaymentFacts | PaymentFacts)
        account_id = await find_account(tx, environment, facts)
        if account_id is None:
            return "ignored"
        if not self.is_possible:
            raise UpgradeInProgress
        return await self.apply(tx, environment, account_id, [facts], now)

    async def apply(
        self, tx: Session, environment: Environment, account_id: UUID, facts: Sequence[AnyFacts], now: datetime
    ) -> Outcome:
        """Merge statements about one account, and settle it. Locks the account."""
        account = (await lock_accounts(tx, [account_id])).get(account_id)
        if account is None or account.environment != environment:
            log.error("subscription_of_no_account", account_id=str(account_id), environment=environment)
            return "ignored"
        book = await load(tx, account_id, environment)
        merged = [await merge(tx, book, one, now) for one in facts]
        if not any(merged) and facts:
            return "ignored"
        await self.settlement.settle(tx, book, self.config, now)
        await request_refreshes(tx, book, now)
        return "applied"


class Settlement:
    """One per process."""

    def __init__(
        self,
        configuration: Configuration,
        accounts: AccountService,
        wallet: WalletService,
        limits: LimitService,
        mark: VersionMark,
    ) -> None:
        self._configuration = configuration
        self._mark = mark
        self.grace = timedelta(days=configuration.settings.subscription_grace_days)
        self._giver = Giver(wallet)
        self._entitler = Entitler(accounts, limits, self.grace)

    async def applier(self) -> Applier:
        """Return what applies facts. Reads the configuration, so it is called outside of transactions."""
        await self._mark.excludes_before(TERMS_SINCE)  # reads the mark, so that no transaction has to
        return Applier(self, await self._configuration.current(), self._mark.excludes(SINCE))

    async def apply(
        self, db: Database, environment: Environment, account_id: UUID, facts: Sequence[AnyFacts], now: datetime
    ) -> Outcome:
        """Apply statements about one account, in a transaction. Without any, settle it from its books."""
        applier = await self.applier()
        async with db.transaction() as tx:
            return await applier.apply(tx, environment, account_id, facts, now)

    async def require_finished_upgrade(self) -> None:
        """Raise UpgradeInProgress while an older version may run."""
        await self._mark.require(SINCE)

    async def settle(self, tx: Session, book: Book, config: Current, now: datetime) -> None:
        """Do what the books of a locked account call for and has not been done: grants, returns, plan and limits."""
        await complete_terms(tx, book, config, now)
        waiting = [
            one.facts.subscription_id for one in book.subscribed() if not await self._giver.give_due(tx, book, one, now)
        ]
        await take_back(tx, book, now)
        await self._entitler.entitle(tx, book, now, keeps_terms=self._mark.excludes(TERMS_SINCE))
        await close_orders(tx, book, now)
        await _note_payments(tx, book, now)
        for one in book.subscribed():
            facts = one.facts
            due_at = self.due_at(one, now, waits=facts.subscription_id in waiting)
            await queries.update_due_at(tx, book.account_id, facts.provider, facts.subscription_id, due_at)

    def due_at(self, subscribed: Subscribed, now: datetime, *, waits: bool) -> datetime | None:
        """Return when the subscription has to be looked at again without an event. None: never."""
        facts, seen_at = subscribed.facts, subscribed.seen_at
        due = [now + WAITS] if waits else []
        if not facts.is_ended:
            starts_at = next_start(subscribed, after=min(seen_at, now))
            due += [] if starts_at is None else [starts_at]
            renewed_at = None if facts.period_end is None else facts.period_end + RENEWAL_TAKES
            is_late = renewed_at is not None and renewed_at <= seen_at
            due.append(renewed_at if renewed_at is not None and not is_late else seen_at + CHECKED_EVERY)
            if facts.status in UNSETTLED:
                due.append(seen_at + CHECKED_EVERY)
            grace_ends_at = subscribed.grace_ends_at(self.grace)
            if grace_ends_at is not None and grace_ends_at > now:
                due.append(grace_ends_at)
        return min(due, default=None)


async def has_paid_subscription(tx: Session, account_id: UUID) -> bool:
    """Return whether the account has paid for a subscription, and was not wholly refunded. Final under its lock."""
    return _is_paid([invoice_of(row) for row in await queries.list_invoices(tx, account_id)])


def _is_paid(invoices: Iterable[Invoice]) -> bool:
    return any(invoice.is_kept and invoice.facts.amount_paid_minor > 0 for invoice in invoices)


async def _note_payments(tx: Session, book: Book, now: datetime) -> None:
    """Make the account's referral due once a subscription was paid."""
    if _is_paid(book.invoices.values()):
        await payment_settled(tx, book.account_id, now)
