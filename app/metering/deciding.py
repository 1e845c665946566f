"""Decides reported events on locked accounts, and collects the rows to write. Reads and writes nothing itself.

An event is priced, then paid from the account's money. The part that the money does not cover is refused or becomes
debt.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from app.db import new_id
from app.errors import AppError, InvalidRequest
from app.ledger.brake import BurnRateExceeded
from app.ledger.errors import AccountNotFound
from app.ledger.limits import LimitExceeded, Spending
from app.ledger.locked_account import Cause, Kind, LockedAccount
from app.ledger.pools import Shortfall, pay
from app.ledger.runs import RUN_REFUSALS
from app.metering.costs import Cost, cost_of, markup_of, volume_of
from app.metering.errors import EventIdReused
from app.metering.event_queries import EventKey, VolumeKey
from app.metering.events import (
    Accepted,
    Outcome,
    Record,
    Rejected,
    Repeated,
    Report,
    Status,
    Terms,
    Unpaid,
    UsageEvent,
    names_of,
    quantities_of,
)
from app.timestamps import bounded

IN_DETAILS = ("parent_run_id", "request_id", "conversation", "traceparent")
"""Attributes without a column."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decide about events."""

    max_ahead: timedelta
    max_age: timedelta
    debt_plans: frozenset[str]

    def is_in_time(self, at: datetime, now: datetime) -> bool:
        """Return whether an event of this time is accepted now."""
        try:
            return now - self.max_age <= bounded(at) <= now + self.max_ahead
        except ValueError:
            return False


class Known(NamedTuple):
    """An event id that is used up, by a stored event or by one of this transaction.

    An id that was imported from another system has an empty fingerprint: every event with it is a repeat.
    """

    fingerprint: bytes
    record: Record


@dataclass(slots=True)
class Batch:
    """The state that a transaction has read under its locks, and the rows that it will write."""

    known: dict[EventKey, Known]
    attempts: dict[EventKey, dict[str, Any]]
    volumes: dict[VolumeKey, Decimal]
    events: list[dict[str, Any]] = field(default_factory=list)
    keys: list[dict[str, Any]] = field(default_factory=list)
    refused: set[EventKey] = field(default_factory=set)
    moved: set[VolumeKey] = field(default_factory=set)


class _Case(NamedTuple):
    """One event with all that its decision needs."""

    account: LockedAccount
    key: EventKey
    event: UsageEvent
    terms: Terms
    occurred_at: datetime
    cost: Cost
    volume: VolumeKey | None
    quantity: Decimal


class Decider:
    """Decides the events of a transaction, in order."""

    def __init__(self, rules: Rules, batch: Batch) -> None:
        self._rules = rules
        self._batch = batch

    def decide(self, report: Report, event: UsageEvent, account: LockedAccount | None) -> Outcome:
        """Decide one event on a locked account. Posts what it pays, and collects its rows."""
        if account is None:
            return Rejected(AccountNotFound())
        key = EventKey(account.account_id, event.event_id, event.source)
        if (known := self._batch.known.get(key)) is not None:
            return repeated(event, known)
        try:
            if account.status == "closed":
                account.require_active()
            return self._settle(self._priced(report, event, account, key))
        except AppError as error:
            return Rejected(error)

    def _priced(self, report: Report, event: UsageEvent, account: LockedAccount, key: EventKey) -> _Case:
        terms = report.terms
        at = event.occurred_at or terms.at
        self._require_in_time(at, terms.at)
        book = report.books.at(account.currency, at)
        found, volume, before = volume_of(book, event.usage, at), None, Decimal(0)
        if found is not None:
            volume = (account.account_id, found.month, found.row_id)
            before = self._batch.volumes.get(volume, before)
        cost = cost_of(
            event.usage,
            book=book,
            currency=account.currency,
            at=at,
            plan=account.plan_name,
            plan_markup=markup_of(account.plan_markup_percent, account.plan_name, report.markups),
            tool=event.attribution.tool,
            stated=event.stated,
            max_stated_nanos=terms.max_stated_nanos,
            month_quantity=before,
        )
        return _Case(account, key, event, terms, at, cost, volume, Decimal(0) if found is None else found.quantity)

    def _require_in_time(self, at: datetime, now: datetime) -> None:
        if not self._rules.is_in_time(at, now):
            past, future = (f"{span.total_seconds():,.0f} s" for span in (self._rules.max_age, self._rules.max_ahead))
            raise InvalidRequest(f"time must be at most {past} in the past and {future} in the future", field="time")

    def _settle(self, case: _Case) -> Outcome:
        account, cost, terms = case.account, case.cost.nanos, case.terms
        if not account.billing_enabled:
            return self._accept(case, new_id(), "recorded", 0)
        if account.status == "suspended":
            self._refuse(case, "account_suspended", spendable(account, terms.at))
            account.require_active()
        account.require_room_for_usage(cost)
        buckets = account.money_buckets(terms.at)
        available = sum(bucket.available for bucket in buckets)
        owed = max(0, cost - available)
        if owed and not self._may_owe(case):
            return self._refuse(case, "insufficient_money", available)
        room = terms.debt_limit_nanos - account.balances["money_debt"]
        if owed > max(0, room):
            return self._refuse(case, "debt_limit_reached", available, debt_room=max(0, room))
        usage_id = new_id()
        self._limit(case, usage_id)
        cause = Cause("usage_event", usage_id)
        debits = pay(buckets, cost - owed, unit=account.currency, now=terms.at)
        assert not isinstance(debits, Shortfall), "the buckets hold what is available"
        account.post_debits(debits, Kind.USAGE, cause, terms.actor, terms.at)
        account.owe_money(owed, cause, terms.actor, terms.at)
        return self._accept(case, usage_id, "debt" if owed else "charged", owed)

    def _limit(self, case: _Case, usage_id: UUID) -> None:
        """Count an event in the account's limits and its run. They refuse it, unless the work is done by policy.

        Raises LimitExceeded, BurnRateExceeded and RUN_REFUSALS.
        """
        limits, event = case.account.limits, case.event
        if limits is None:
            return
        spending = Spending(
            case.account.currency,
            case.cost.nanos,
            key=case.terms.key_id,
            agent=event.attribution.agent_id,
            model=names_of(event.usage)[1],
            tool=event.attribution.tool,
            run=event.attribution.run_id,
        )
        if self._may_owe(case):
            limits.count(spending)
            limits.note(spending, usage_id)
            return
        try:
            limits.admit(spending)
            limits.note(spending, usage_id)
        except (LimitExceeded, BurnRateExceeded, *RUN_REFUSALS) as error:
            self._refuse(case, error.code, spendable(case.account, case.terms.at))
            raise

    def _may_owe(self, case: _Case) -> bool:
        return case.terms.policy == "debt" or case.account.plan_name in self._rules.debt_plans

    def _accept(self, case: _Case, usage_id: UUID, status: Status, debt_nanos: int) -> Accepted:
        row = _row(case, usage_id, status, debt_nanos=debt_nanos, balance=spendable(case.account, case.terms.at))
        self._batch.events.append(row)
        fingerprint = case.event.fingerprint()
        self._batch.keys.append({**case.key._asdict(), "fingerprint": fingerprint, "usage_id": usage_id})
        record = record_of(row)
        self._batch.known[case.key] = Known(fingerprint, record)
        if case.volume is not None:
            before = self._batch.volumes.get(case.volume, Decimal(0))
            self._batch.volumes[case.volume] = before + case.quantity
            self._batch.moved.add(case.volume)
        return Accepted(record, case.event.usage.meter, case.cost.unknown)

    def _refuse(self, case: _Case, reason: str, available: int, *, debt_room: int = 0) -> Unpaid:
        """Record a refused attempt: the first one as an event, all of them as a number."""
        attempt = self._batch.attempts.get(case.key)
        if attempt is None:
            usage_id = new_id()
            row = _row(case, usage_id, "refused", debt_nanos=0, balance=available)
            self._batch.events.append({**row, "refusal": reason})
            attempt = {**case.key._asdict(), "usage_id": usage_id, "attempts": 0}
            self._batch.attempts[case.key] = attempt
        attempt["attempts"] += 1
        attempt["last_attempt_at"] = case.terms.at
        self._batch.refused.add(case.key)
        return Unpaid(
            event_id=case.event.event_id,
            currency=case.account.currency,
            available=available,
            required=case.cost.nanos,
            affordable=available + debt_room,
            plan_name=case.account.plan_name,
            plan_markup=case.cost.plan_markup,
            debt_limit_reached=reason == "debt_limit_reached",
        )


def repeated(event: UsageEvent, known: Known) -> Outcome:
    """Return the earlier result of a repeat, or the refusal of another event with the same id."""
    if known.fingerprint in (b"", event.fingerprint()):
        return Repeated(known.record)
    return Rejected(EventIdReused(event.event_id))


def spendable(account: LockedAccount, now: datetime) -> int:
    """Return the money and the live grants of money, in nanos."""
    return account.money_remaining(now)


def record_of(row: dict[str, Any]) -> Record:
    return Record._make(_recorded(row))


_recorded = itemgetter(*Record._fields)


def _row(case: _Case, usage_id: UUID, status: Status, *, debt_nanos: int, balance: int) -> dict[str, Any]:
    account, event, cost = case.account, case.event, case.cost
    provider, model = names_of(event.usage)
    further = {name: value for name in IN_DETAILS if (value := getattr(event.attribution, name)) is not None}
    if event.service_name is not None:
        further["service_name"] = event.service_name
    explanation = cost.explanation()
    return {
        "account_id": account.account_id,
        "usage_id": usage_id,
        "environment": account.environment,
        "source": event.source,
        "event_id": event.event_id,
        "meter": event.usage.meter,
        "provider": provider,
        "model": model,
        "quantities": json.dumps(quantities_of(event.usage)),
        "raw": event.raw,
        "metadata": event.details,
        "status": status,
        "refusal": None,
        "currency": account.currency,
        "cost_nanos": cost.nanos,
        "stated_nanos": cost.stated_nanos,
        "provider_cost_nanos": cost.provider_nanos,
        "debt_nanos": debt_nanos,
        "balance_after_nanos": balance,
        "price_version": None if cost.priced is None else cost.priced.version,
        "price": None if explanation is None else json.dumps(explanation),
        "plan_name": account.plan_name,
        "agent_id": event.attribution.agent_id,
        "tool": event.attribution.tool,
        "run_id": event.attribution.run_id,
        "attribution": json.dumps(further) if further else None,
        "key_id": case.terms.key_id,
        "occurred_at": case.occurred_at,
        "created_at": case.terms.at,
    }
