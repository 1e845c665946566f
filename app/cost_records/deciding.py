"""Decides requests about cost records under their locks, and collects the rows to write. Reads and writes nothing.

Opening never charges. An item is priced when it is reported. A record is settled once: the first outcome counts. A
settlement charges the sum of the items; the part that the account's money does not cover becomes debt under every
policy of the key, because the work is done. For the same reason it succeeds on suspended and closed accounts.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.cost_records.errors import CostRecordNotFound, CostRecordSettled, ItemIdReused, RequestIdReused, TooManyItems
from app.cost_records.ids import NOBODY
from app.cost_records.queries import CHANGED, ItemKey, RequestKey
from app.cost_records.records import (
    Addition,
    Completion,
    Done,
    Expiry,
    Opening,
    Outcome,
    Record,
    Rejected,
    Request,
    Status,
)
from app.db import new_id
from app.errors import AppError
from app.ledger.errors import AccountNotFound
from app.ledger.limits import Spending
from app.ledger.locked_account import Cause, Kind, LockedAccount
from app.ledger.money import MAX_NANOS
from app.ledger.work_done import spend_or_owe
from app.metering.costs import Cost, cost_of, markup_of, volume_of
from app.metering.errors import CostOutOfBounds
from app.metering.event_queries import VolumeKey
from app.metering.events import RECORD_METER, names_of, quantities_of
from app.metering.events import Status as Charge
from app.metering.own_events import own_event
from app.pricing.usage import LlmTokens

MAX_ITEMS = 1000
SEVERAL = ""
"""Instead of the provider and the model of a record whose items have different ones."""


@dataclass(frozen=True, slots=True)
class CountedItem:
    """An item that names a model."""

    model: str
    nanos: int
    at: datetime


@dataclass(slots=True)
class Batch:
    """The state that a transaction has read under its locks, and the rows that it will write."""

    records: dict[UUID, Record] = field(default_factory=dict)
    by_request: dict[RequestKey, UUID] = field(default_factory=dict)
    """Ids of records by the keys of their openings."""
    items: dict[ItemKey, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[VolumeKey, Decimal] = field(default_factory=dict)
    opened: set[UUID] = field(default_factory=set)
    changed: set[UUID] = field(default_factory=set)
    added: list[dict[str, Any]] = field(default_factory=list)
    moved: set[VolumeKey] = field(default_factory=set)
    events: list[dict[str, Any]] = field(default_factory=list)
    counted: dict[UUID, list[CountedItem]] = field(default_factory=dict)
    """Items of a record that limits of models have counted, in accounts with such limits."""


class Decider:
    """Decides the requests of a transaction, in order."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def decide(self, request: Request, account: LockedAccount | None) -> Outcome:
        """Decide one request. `account` is locked; None for work without a user, and for an unknown account."""
        try:
            match request:
                case Opening():
                    return self._open(request, account)
                case Addition():
                    return self._add(request, account)
                case Completion():
                    return self._complete(request, account)
                case Expiry():
                    return self._expire(request, account)
        except AppError as error:
            return Rejected(error)

    # --- opening ---

    def _open(self, request: Opening, account: LockedAccount | None) -> Outcome:
        if account is None and request.account_id != NOBODY:
            raise AccountNotFound
        existing = self._batch.by_request.get(request.key)
        if existing is not None:
            return reopened(request, self._batch.records[existing])
        if account is not None:
            account.require_active()
        currency = request.currency if account is None else account.currency
        estimate = None if request.estimate is None else request.estimate.nanos(currency)
        if estimate is not None and estimate > MAX_NANOS:
            raise CostOutOfBounds
        record_id = new_id()
        if account is not None and account.limits is not None:
            key_id, agent_id = request.actor.key_id, request.agent_id
            spending = Spending(currency, estimate or 0, key_id, agent_id, tool=request.tool, run=request.run_id)
            account.limits.admit(spending)
            account.limits.note(spending, record_id)
        record = Record(
            record_id=record_id,
            account_id=request.account_id,
            environment=request.environment,
            client_key=request.client_key,
            request_id=request.request_id,
            fingerprint=request.fingerprint,
            source=request.source,
            key_id=request.actor.key_id,
            tool=request.tool,
            query=request.query,
            agent_id=request.agent_id,
            run_id=request.run_id,
            currency=currency,
            estimate_nanos=estimate,
            on_expiry=request.on_expiry,
            expires_at=request.at + request.expires_in,
            created_at=request.at,
        )
        self._batch.records[record.record_id] = record
        self._batch.by_request[request.key] = record.record_id
        self._batch.opened.add(record.record_id)
        return Done(replace(record), is_new=True)

    # --- items ---

    def _add(self, request: Addition, account: LockedAccount | None) -> Outcome:
        record = self._found(request.record_id, request.account_id, request.environment)
        row = self._batch.items.get(request.key)
        if row is not None:
            return readded(request, record, row)
        if record.status != "open":
            raise settled(record)
        if account is not None and account.erased_at is not None:
            account.require_active()  # the item may name the person
        if record.items >= MAX_ITEMS:
            raise TooManyItems(MAX_ITEMS)
        cost = self._price(request, record, account)
        counted = record.counted_nanos
        _count(record, request, cost)
        _recount(account, record, record.counted_nanos - counted)
        row = _item_row(record, request, cost)
        if account is not None and account.limits is not None and row["is_counted"]:
            item = CountedItem(row["model"], cost.nanos, request.at)
            account.limits.count_model(_of_model(record, item))
            self._batch.counted.setdefault(record.record_id, []).append(item)
        self._batch.added.append(row)
        self._batch.items[request.key] = row
        self._batch.changed.add(record.record_id)
        return Done(replace(record), is_new=True, item=row, unknown=cost.unknown)

    def _price(self, request: Addition, record: Record, account: LockedAccount | None) -> Cost:
        """Price an item as an event of now. Its quantity counts in the account's month, also if the work fails."""
        usage, terms = request.item.usage, request.terms
        book = request.books.at(record.currency, terms.at)
        volume = None if account is None else volume_of(book, usage, terms.at)
        key = None if volume is None else (request.account_id, volume.month, volume.row_id)
        before = Decimal(0) if key is None else self._batch.volumes.get(key, Decimal(0))
        cost = cost_of(
            usage,
            book=book,
            currency=record.currency,
            at=terms.at,
            plan=None if account is None else account.plan_name,
            plan_markup=None
            if account is None
            else markup_of(account.plan_markup_percent, account.plan_name, request.markups),
            tool=record.tool,
            stated=request.item.stated,
            max_stated_nanos=terms.max_stated_nanos,
            month_quantity=before,
        )
        if record.cost_nanos + cost.nanos > MAX_NANOS:
            raise CostOutOfBounds
        if volume is not None and key is not None:
            self._batch.volumes[key] = before + volume.quantity
            self._batch.moved.add(key)
        return cost

    # --- settlement ---

    def _complete(self, request: Completion, account: LockedAccount | None) -> Outcome:
        record = self._found(request.record_id, request.account_id, request.environment)
        if record.status != "open":
            return recompleted(request, record)
        if request.status == "completed":
            self._charge(record, account, request.actor, request.at)
        record.execution_time_ms = request.execution_time_ms
        is_erased = account is not None and account.erased_at is not None
        record.error_message = None if is_erased else request.error_message
        return self._close(record, account, request.status, request.at)

    def _expire(self, request: Expiry, account: LockedAccount | None) -> Outcome:
        record = self._found(request.record_id, request.account_id, None)
        if record.status != "open" or record.expires_at > request.at:
            return Done(replace(record), is_new=False)
        if record.on_expiry == "charge_reported":
            self._charge(record, account, request.actor, request.at)
        return self._close(record, account, "expired", request.at)

    def _close(self, record: Record, account: LockedAccount | None, status: Status, now: datetime) -> Outcome:
        is_done = record.charge is not None
        _recount(account, record, record.charged_nanos - record.counted_nanos, uses=0 if is_done else -1)
        if account is not None and account.limits is not None and record.charge not in ("charged", "debt"):
            for item in self._batch.counted.get(record.record_id, ()):
                account.limits.count_model(_of_model(record, item, times=-1, keeps_use=is_done), item.at)
        record.status, record.closed_at = status, now
        self._batch.changed.add(record.record_id)
        return Done(replace(record), is_new=True)

    def _charge(self, record: Record, account: LockedAccount | None, actor: Actor, now: datetime) -> None:
        """Charge the sum of the items, and record it as one usage event at the time of the record's opening."""
        if account is None:
            return
        owed = 0
        charge: Charge = "recorded"
        if account.billing_enabled:
            # Before the record changes: if this fails, the batch continues with it.
            owed = spend_or_owe(
                account, record.cost_nanos, Kind.USAGE, Cause("cost_record", record.record_id), actor, now
            )
            charge = "debt" if owed else "charged"
        record.usage_id, record.charge, record.debt_nanos = new_id(), charge, owed
        self._batch.events.append(_event_row(record, record.usage_id, account, now))

    def _found(self, record_id: UUID, account_id: UUID, environment: Environment | None) -> Record:
        record = self._batch.records.get(record_id)
        if record is None or record.account_id != account_id or environment not in (None, record.environment):
            raise CostRecordNotFound
        return record


# --- repeats: also decided without a lock ---


def reopened(request: Opening, record: Record) -> Outcome:
    """Return the outcome of a request id that has a record."""
    if record.fingerprint != request.fingerprint:
        return Rejected(RequestIdReused(request.request_id))
    return Done(replace(record), is_new=False)


def readded(request: Addition, record: Record, row: dict[str, Any]) -> Outcome:
    """Return the outcome of an item id that the record has."""
    if row["fingerprint"] != request.item.fingerprint():
        return Rejected(ItemIdReused(request.item.item_id))
    return Done(replace(record), is_new=False, item=row)


def recompleted(request: Completion, record: Record) -> Outcome:
    """Return the outcome of a completion of a settled record."""
    return Done(replace(record), is_new=False) if record.status == request.status else Rejected(settled(record))


def settled(record: Record) -> CostRecordSettled:
    return CostRecordSettled(record.status, record.cost_nanos, record.charged_nanos)


# --- rows ---


def record_row(record: Record) -> dict[str, Any]:
    """Return a new record's row."""
    row = {**asdict(record), **changed_row(record)}
    del row["charge"], row["debt_nanos"]
    return row


def changed_row(record: Record) -> dict[str, Any]:
    """Return the columns that change."""
    return {**{name: getattr(record, name) for name in CHANGED}, "tokens": json.dumps(record.tokens)}


def _recount(account: LockedAccount | None, record: Record, nanos: int, uses: int = 0) -> None:
    """Correct what the account's limits have counted for a record."""
    if account is not None and account.limits is not None:
        spending = Spending(
            record.currency, nanos, record.key_id, record.agent_id, tool=record.tool, run=record.run_id, uses=uses
        )
        account.limits.adjust(spending, record.created_at, record.record_id)


def _of_model(record: Record, item: CountedItem, times: int = 1, *, keeps_use: bool = False) -> Spending:
    uses = 0 if keeps_use else times
    return Spending(record.currency, times * item.nanos, model=item.model, uses=uses)


def _count(record: Record, request: Addition, cost: Cost) -> None:
    """Add an item to the record's sums."""
    usage, provider_cost = request.item.usage, cost.provider_nanos
    record.items += 1
    record.cost_nanos += cost.nanos
    both = record.provider_cost_nanos, provider_cost
    total = None if None in both else sum(nanos or 0 for nanos in both)
    record.provider_cost_nanos = None if total is None or total > MAX_NANOS else total
    if isinstance(usage, LlmTokens):
        record.tokens = {
            **record.tokens,
            **{name: record.tokens.get(name, 0) + count for name, count in usage.tokens.items()},
        }
        record.provider = _common(record.provider, usage.provider)
        record.model = _common(record.model, usage.model)


def _common(before: str | None, name: str) -> str:
    return name if before in (None, name) else SEVERAL


def _item_row(record: Record, request: Addition, cost: Cost) -> dict[str, Any]:
    item, explanation = request.item, cost.explanation()
    provider, model = (None, None) if item.usage is None else names_of(item.usage)
    return {
        "account_id": record.account_id,
        "addition_id": new_id(),
        "record_id": record.record_id,
        "item_no": record.items,
        "item_id": item.item_id,
        "fingerprint": item.fingerprint(),
        "meter": None if item.usage is None else item.usage.meter,
        "provider": provider,
        "model": model,
        "quantities": json.dumps({} if item.usage is None else quantities_of(item.usage), ensure_ascii=False),
        "raw": item.raw,
        "cost_nanos": cost.nanos,
        "stated_nanos": cost.stated_nanos,
        "provider_cost_nanos": cost.provider_nanos,
        "price_version": None if cost.priced is None else cost.priced.version,
        "price": None if explanation is None else json.dumps(explanation),
        "key_id": request.terms.key_id,
        "created_at": request.at,
        "is_counted": model is not None,
    }


def _event_row(record: Record, usage_id: UUID, account: LockedAccount, now: datetime) -> dict[str, Any]:
    """Return the usage event of a settled record."""
    is_erased = account.erased_at is not None
    further = {} if is_erased or record.request_id is None else {"request_id": record.request_id}
    return own_event(
        account,
        usage_id,
        source=record.source,
        meter=RECORD_METER,
        status=record.charge or "recorded",
        cost_nanos=record.cost_nanos,
        occurred_at=record.created_at,
        now=now,
        provider=record.provider or None,
        model=record.model or None,
        quantities=json.dumps(record.tokens),
        provider_cost_nanos=record.provider_cost_nanos,
        debt_nanos=record.debt_nanos,
        agent_id=record.agent_id,
        tool=record.tool,
        run_id=None if is_erased else record.run_id,
        attribution=json.dumps(further, ensure_ascii=False) if further else None,
        key_id=record.key_id,
    )
