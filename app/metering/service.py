"""UsageService: records usage events and charges them, checks what an account could pay, and quotes.

outcome = await usage.record_one(account_id, event, terms)
match outcome:
    case Accepted(record):   # recorded now: charged, as debt, or for an account that is not billed
    case Repeated(record):   # recorded before: nothing changed
    case Unpaid():           # not enough money: the attempt is recorded, the event may be sent again
    case Rejected(error):    # closed, suspended, no price, a reused id
"""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import structlog

from app.accounts.service import AccountService
from app.configuration.sections import PLANS
from app.configuration.service import Configuration
from app.db import Database, time_of
from app.db.statements import Tx
from app.db.version_mark import VersionMark
from app.errors import AppError, failure_of
from app.ledger.batching import Accounts, Batcher
from app.ledger.limits import Spending
from app.ledger.money import NANOS_PER_UNIT, nanos_of_minor
from app.metering import event_queries as queries
from app.metering.costs import cost_of, markup_of, reserve_of, volume_of
from app.metering.deciding import Batch, Decider, Known, Rules, repeated
from app.metering.errors import UnpricedModel
from app.metering.event_queries import EventKey, VolumeKey
from app.metering.events import (
    Accepted,
    Check,
    Outcome,
    Record,
    Rejected,
    Repeated,
    Report,
    StatedCost,
    Terms,
    Unpaid,
    UsageEvent,
)
from app.metering.refusing import remedies_of
from app.observability.metrics import CHECKS, USAGE_COST, USAGE_EVENTS
from app.pricing.engine import Priced
from app.pricing.service import PriceBooks
from app.pricing.unknown_models import UnknownModels
from app.pricing.usage import Usage
from app.refusals.schemas import Remedy

KNOWN_SINCE = "0028"
"""The revision before whose version a ledger entry of usage is a mismatch."""
MARKUPS_SINCE = "0048"
"""Versions before this revision price usage without the markup of the account's plan."""
EVENTS_AT_ONCE = 128
"""Events of one account in one transaction. A longer report takes several, so that others get the lock in between."""
CHECKED = {result: CHECKS.labels("usage", result) for result in ("credit", "exhausted", "inactive")}
_WORDS = {Accepted: "recorded", Repeated: "repeated", Unpaid: "unpaid", Rejected: "rejected"}
_COUNTERS = {outcome: USAGE_EVENTS.labels(word) for outcome, word in _WORDS.items()}
_cost_counter = cache(USAGE_COST.labels)
"""A lookup by labels costs several times as much as counting."""
log = structlog.get_logger()


class UsageService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(
        self,
        db: Database,
        batcher: Batcher,
        accounts: AccountService,
        prices: PriceBooks,
        unknown_models: UnknownModels,
        configuration: Configuration,
        mark: VersionMark,
    ) -> None:
        self._db = db
        self._mark = mark
        self._accounts = accounts
        self._prices = prices
        self._unknown_models = unknown_models
        self._configuration = configuration
        settings = configuration.settings
        self._debt_limit_nanos: int = settings.usage_debt_limit * NANOS_PER_UNIT
        self._rules = Rules(
            max_ahead=timedelta(seconds=settings.usage_max_ahead_s),
            max_age=timedelta(days=settings.usage_max_age_days),
            debt_plans=frozenset(settings.usage_debt_plans),
        )
        self._reports = batcher.operation(
            self._decide, find_replay=self._find_replay, count=_count, weigh=lambda report: len(report.events)
        )

    @property
    def default_debt_limit_nanos(self) -> int:
        """The most debt of an account by usage that an API key without a limit reports."""
        return self._debt_limit_nanos

    @property
    def waiting(self) -> int:
        """The number of reports that wait for their transaction to end."""
        return self._reports.waiting

    # --- reports ---

    async def require_upgraded(self) -> None:
        """Raise UpgradeInProgress while a version may run that cannot read usage events (ADR 26)."""
        await self._mark.require(KNOWN_SINCE)

    async def record(self, account_id: UUID, events: Sequence[UsageEvent], terms: Terms) -> list[Outcome]:
        """Record events of one account, in their order, in transactions of EVENTS_AT_ONCE at most.

        Locks the account until each commit. When a transaction fails, its events and all later ones have the outcome
        Rejected(Busy): the caller sends them again.
        """
        outcomes: list[Outcome] = []
        for first in range(0, len(events), EVENTS_AT_ONCE):
            try:
                outcomes += await self._report(account_id, events[first : first + EVENTS_AT_ONCE], terms)
            except Exception as error:
                return [*outcomes, *(Rejected(failure_of(error)) for _ in events[first:])]
        return outcomes

    async def record_one(self, account_id: UUID, event: UsageEvent, terms: Terms) -> Outcome:
        """Record one event. A repeat costs one indexed read without a lock. Raises Busy when too many wait."""
        [outcome] = await self._report(account_id, [event], terms)
        return outcome

    async def _report(self, account_id: UUID, events: Sequence[UsageEvent], terms: Terms) -> Sequence[Outcome]:
        await self.require_upgraded()
        moments = {event.occurred_at or terms.at for event in events}
        books = await self._prices.in_force({at for at in moments if self._rules.is_in_time(at, terms.at)})
        outcomes = await self._reports.run(Report(account_id, events, terms, books, await self.plan_markups()))
        self._note_unknown(outcomes, terms.at)
        return outcomes

    async def plan_markups(self) -> Mapping[str, Decimal]:
        """Return the markups of the plans on sale, in percent, from memory.

        None apply while an older version may run, which would price the same usage without them.
        """
        found = (await self._configuration.current()).document(PLANS).markups
        return found if not found or await self._mark.excludes_before(MARKUPS_SINCE) else {}

    async def _find_replay(self, report: Report) -> Sequence[Outcome] | None:
        """Return the outcomes of a report whose events are all repeats; None if one of them may be new."""
        keys = [EventKey(report.account_id, event.event_id, event.source) for event in report.events]
        rows = await asyncio.gather(*(queries.find_key(self._db, key) for key in keys))
        outcomes = [repeated(e, _known(row)) for e, row in zip(report.events, rows, strict=True) if row is not None]
        return outcomes if len(outcomes) == len(keys) else None

    async def _decide(self, tx: Tx, accounts: Accounts, reports: Sequence[Report]) -> list[Sequence[Outcome]]:
        """Decide and record all events of a batch, with a constant number of statements."""
        batch = await self._read(tx, accounts, reports)
        decider = Decider(self._rules, batch)
        outcomes: list[Sequence[Outcome]] = [
            [decider.decide(report, event, accounts.get(report.account_id)) for event in report.events]
            for report in reports
        ]
        await _write(tx, batch)
        return outcomes

    async def _read(self, tx: Tx, accounts: Accounts, reports: Sequence[Report]) -> Batch:
        keys = {
            EventKey(report.account_id, event.event_id, event.source): None
            for report in reports
            for event in report.events
        }
        batch = Batch({}, {}, await queries.find_volumes(tx, list(_volumes(accounts, reports))))
        for key, row in (await queries.find_keys(tx, list(keys))).items():
            if row["usage_id"] is not None:
                batch.known[key] = _known(row)
            else:
                batch.attempts[key] = {
                    **key._asdict(),
                    "usage_id": row["refused_usage_id"],
                    "attempts": row["attempts"],
                    "last_attempt_at": None,
                }
        return batch

    def _note_unknown(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        for outcome in outcomes:
            if isinstance(outcome, Accepted) and outcome.unknown is not None:
                self._unknown_models.note(outcome.unknown, now, stated_price=True)
            elif isinstance(outcome, Rejected) and isinstance(outcome.error, UnpricedModel):
                self._unknown_models.note(outcome.error.unknown, now, stated_price=False)

    async def remedies(self, unpaid: Unpaid, event: UsageEvent, now: datetime) -> list[Remedy]:
        """Return what helps an event that was not paid. Reads no account."""
        at = event.occurred_at or now
        return remedies_of(unpaid, event, await self._prices.current(unpaid.currency, at), at)

    # --- checks and quotes: no lock, no write ---

    async def check(
        self,
        account_id: UUID,
        required: StatedCost,
        model: tuple[str, str] | None,
        now: datetime,
        *,
        key: str | None = None,
    ) -> Check:
        """Return whether the account could pay now. Holds nothing.

        `model` is a provider and a model: if nothing is required, a call of it makes a reserve of at least one minor
        unit. Limits must leave room for the amount, by this API key.
        """
        account = await self._accounts.state(account_id)
        currency = account["currency"]
        balance = await self._accounts.spendable_money(account, now)
        needed, reason = max(0, required.nanos(currency)), None
        is_reserve = required.amount <= 0 and model is not None
        if required.amount <= 0 and model is not None:
            minimum = nanos_of_minor(1, currency)
            try:
                priced = await self.quote(
                    reserve_of(*model),
                    currency=currency,
                    at=now,
                    plan=account["plan_name"],
                    kept_markup=account["plan_markup_percent"],
                )
                needed = max(minimum, priced.cost_nanos)
            except AppError as error:  # the work could not be charged, so it must not begin
                needed, reason = minimum, error.code
        if account["has_limits"] and account["billing_enabled"]:
            spending = Spending(currency, needed, key=key, model=None if model is None else model[1])
            refusal = await self._accounts.refusal(account_id, spending, now)
            reason = reason if refusal is None else refusal.code
        if account["status"] != "active":
            reason = f"account_{account['status']}"
        sufficient = reason is None and (balance >= needed or not account["billing_enabled"])
        CHECKED["inactive" if account["status"] != "active" else "credit" if sufficient else "exhausted"].inc()
        return Check(sufficient, balance, needed, is_reserve, currency, reason)

    async def quote(
        self,
        usage: Usage,
        *,
        at: datetime,
        currency: str | None = None,
        plan: str | None = None,
        kept_markup: Decimal | None = None,
        tool: str | None = None,
    ) -> Priced:
        """Return the price of usage, as a charge of an account without earlier usage this month would have it.

        `currency` None means that of new accounts. `kept_markup` is that of the terms that the account keeps; None
        means that of the plan. Raises UnpricedModel, UnpricedMeter, NoPriceBook, CostOutOfBounds.
        """
        if currency is None:
            currency = (await self._configuration.current()).defaults.currency
        book = await self._prices.current(currency, at)
        markup = markup_of(kept_markup, plan, await self.plan_markups())
        cost = cost_of(usage, book=book, currency=currency, at=at, plan=plan, plan_markup=markup, tool=tool)
        assert cost.priced is not None, "no cost is stated"
        return cost.priced


def _known(row: Mapping[str, Any]) -> Known:
    """Return a used id. One that was imported without its event has no amounts, and the time of the import."""
    imported = row["status"] is None
    imported_at = time_of(row["usage_id"])
    record = Record(
        account_id=row["account_id"],
        usage_id=row["usage_id"],
        event_id=row["event_id"],
        status=row["status"] or "recorded",
        currency=row["currency"] or "USD",
        cost_nanos=row["cost_nanos"] or 0,
        debt_nanos=row["debt_nanos"] or 0,
        balance_after_nanos=row["balance_after_nanos"] or 0,
        occurred_at=row["occurred_at"] or imported_at,
        created_at=row["created_at"] or imported_at,
    )
    return Known(b"" if imported else row["fingerprint"], record)


def _volumes(accounts: Accounts, reports: Sequence[Report]) -> Collection[VolumeKey]:
    """Return the monthly volumes on which prices of the reports depend: of few events, of rows with tiers."""
    found: dict[VolumeKey, None] = {}
    for report in reports:
        account = accounts.get(report.account_id)
        if account is None:
            continue
        for event in report.events:
            at = event.occurred_at or report.terms.at
            volume = volume_of(report.books.at(account.currency, at), event.usage, at)
            if volume is not None:
                found[account.account_id, volume.month, volume.row_id] = None
    return found


async def _write(tx: Tx, batch: Batch) -> None:
    if batch.events:
        await queries.insert_events(tx, batch.events)
    if batch.keys:
        await queries.insert_keys(tx, batch.keys)
    if batch.refused:
        await queries.upsert_attempts(tx, [batch.attempts[key] for key in batch.refused])
    if batch.moved:
        await queries.upsert_volumes(tx, {key: batch.volumes[key] for key in batch.moved})


def _count(reports: Sequence[Sequence[Outcome]]) -> None:
    """Count outcomes in the metrics, after the commit."""
    numbers: Counter[type[Outcome]] = Counter()
    nanos: Counter[tuple[str, str]] = Counter()
    for outcome in (outcome for outcomes in reports for outcome in outcomes):
        numbers[type(outcome)] += 1
        if isinstance(outcome, Accepted):
            nanos[outcome.record.currency, outcome.record.status] += outcome.record.cost_nanos
    for kind, number in numbers.items():
        _COUNTERS[kind].inc(number)
    for labels, cost in nanos.items():
        _cost_counter(*labels).inc(cost / NANOS_PER_UNIT)
