"""CostRecordService: opens records of work, adds items to them, and settles each of them once.

    opened = await cost_records.run(Opening(…))
    await cost_records.run(Addition(…))
    outcome = await cost_records.run(Completion(…))
    match outcome:
        case Done(record):      # in force, since now or since an earlier call
        case Rejected(error):   # settled otherwise, an id of another request, no price

Records of accounts are an operation of the ledger's batcher: all that happens to them happens under the account's lock.
Work without a user has no account: its record's own lock takes that place.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from app.auth.caller import Actor, Environment
from app.configuration.service import Configuration
from app.cost_records import queries
from app.cost_records.deciding import (
    Batch,
    CountedItem,
    Decider,
    changed_row,
    readded,
    recompleted,
    record_row,
    reopened,
)
from app.cost_records.errors import CostRecordNotFound
from app.cost_records.ids import NOBODY, Place, text_of
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
)
from app.db import Database
from app.db.statements import Tx
from app.ledger.batching import Accounts, Batcher
from app.ledger.money import NANOS_PER_UNIT
from app.ledger.run_hooks import load_runs
from app.metering import event_queries
from app.metering.costs import volume_of
from app.metering.event_queries import VolumeKey
from app.metering.origins import Origin
from app.metering.own_events import insert_own_events
from app.observability.metrics import USAGE_COST, USAGE_EVENTS

EXPIRED_AT_ONCE = 50
"""Records that one transaction settles: it locks their accounts until its commit."""
EXPIRY = Actor("system", "cost_record_expiry")
BEGINNING = datetime(1, 1, 2, tzinfo=UTC)
log = structlog.get_logger()


class CostRecordService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(self, db: Database, batcher: Batcher, configuration: Configuration) -> None:
        self._db = db
        self._configuration = configuration
        self._requests = batcher.operation(self._decide, find_replay=self._find_replay, count=_count)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their transaction to end."""
        return self._requests.waiting

    async def default_currency(self) -> str:
        """Return the currency of work without a user: that of new accounts."""
        return (await self._configuration.current()).defaults.currency

    async def run(self, request: Request) -> Outcome:
        """Decide a request and commit. A repeat costs a read without a lock. Raises Busy when too many wait."""
        if request.account_id != NOBODY:
            return await self._requests.run(request)
        async with self._db.transaction() as tx:
            if isinstance(request, Opening):
                await queries.lock_client(tx, request.client_key, request.request_id)
            else:
                await queries.lock_record(tx, Place(NOBODY, request.record_id))
            [outcome] = await self._decide(tx, {}, [request])
        _count([outcome])
        return outcome

    async def find(self, environment: Environment, place: Place) -> tuple[Record, Sequence[Mapping[str, Any]]]:
        """Return a record and its items in their order. Raises CostRecordNotFound."""
        row = await queries.find_record(self._db, place)
        if row is None or row["environment"] != environment:
            raise CostRecordNotFound
        async with self._db.read() as session:
            return _record(row), await queries.list_items(session, place)

    async def origin_of(self, event: Mapping[str, Any]) -> Origin | None:
        """Return the record whose settlement an event (its row) records. See `FindOrigin`."""
        request_id = (event["attribution"] or {}).get("request_id")
        if request_id is None:
            return None
        row = await queries.find_by_request(self._db, (event["account_id"], b"", request_id))
        if row is None or row["usage_id"] != event["usage_id"]:
            return None
        return Origin(row["record_id"], text_of(row["account_id"], row["record_id"]))

    async def open_amount(self, tx: Tx, account_id: UUID) -> int:
        """Return what the account's open records count against limits, in nanos. See `find_open_amount`."""
        return await queries.find_open_amount(tx, account_id)

    async def open_of_run(self, tx: Tx, account_id: UUID, run_id: str) -> tuple[int, int]:
        """Return the nanos and the number of a run's open records. See `find_open_of_run`."""
        return await queries.find_open_of_run(tx, account_id, run_id)

    async def expire(self, now: datetime) -> int:
        """Settle the records that are due at `now`, each by its policy. Return their number.

        A record that cannot be settled is logged and stays open. Concurrent runs and completions are harmless: a
        record is settled once.
        """
        expired, position = 0, (BEGINNING, NOBODY)
        while True:
            async with self._db.read() as session:
                due = await queries.find_due(session, now, position, EXPIRED_AT_ONCE)
            if not due:
                return expired
            position = due[-1]["expires_at"], due[-1]["record_id"]
            expiries = [Expiry(row["account_id"], row["record_id"], EXPIRY, now) for row in due]
            outcomes = [await self.run(expiry) for expiry in expiries if expiry.account_id == NOBODY]
            if of_accounts := [expiry for expiry in expiries if expiry.account_id != NOBODY]:
                outcomes += await self._requests.run_all(of_accounts)
            expired += sum(isinstance(outcome, Done) and outcome.is_new for outcome in outcomes)
            for outcome in outcomes:
                if isinstance(outcome, Rejected):
                    log.error("cost_record_not_settled", code=outcome.error.code)

    # --- the transaction ---

    async def _find_replay(self, request: Request) -> Outcome | None:
        """Return the outcome of a request that is a repeat; None if it may be new."""
        if isinstance(request, Opening):
            row = await queries.find_by_request(self._db, request.key)
            return None if row is None else reopened(request, _record(row))
        row = await queries.find_record(self._db, Place(request.account_id, request.record_id))
        if row is None or isinstance(request, Expiry):
            return None
        record = _record(row)
        if record.environment != request.environment:
            return Rejected(CostRecordNotFound())
        if isinstance(request, Completion):
            return None if record.status == "open" else recompleted(request, record)
        item = await queries.find_item(self._db, request.key)
        return None if item is None else readded(request, record, dict(item))

    async def _decide(self, tx: Tx, accounts: Accounts, requests: Sequence[Request]) -> list[Outcome]:
        """Decide and record all requests of a batch, with a constant number of statements."""
        batch = await _read(tx, accounts, requests)
        decider = Decider(batch)
        outcomes = [decider.decide(request, accounts.get(request.account_id)) for request in requests]
        await _write(tx, batch)
        return outcomes


async def _read(tx: Tx, accounts: Accounts, requests: Sequence[Request]) -> Batch:
    batch = Batch()
    openings = [request for request in requests if isinstance(request, Opening)]
    additions = [request for request in requests if isinstance(request, Addition)]
    for row in await queries.find_by_requests(tx, list({opening.key: None for opening in openings})):
        record = _record(row)
        batch.records[record.record_id] = record
        batch.by_request[row["account_id"], row["client_key"], row["request_id"]] = record.record_id
    places = {
        Place(request.account_id, request.record_id): None for request in requests if not isinstance(request, Opening)
    }
    for row in await queries.find_records(tx, list(places)):
        batch.records.setdefault(row["record_id"], _record(row))
    for row in await queries.find_items(tx, list({addition.key: None for addition in additions})):
        item = {name: row[name] for name in queries.ITEM}
        batch.items[row["account_id"], row["record_id"], row["item_id"]] = item
    open_records = (record for record in batch.records.values() if record.status == "open")
    await load_runs(tx, accounts, ((record.account_id, record.run_id) for record in open_records))
    for row in await queries.find_counted_items(tx, _given_back(batch, accounts, requests)):
        counted = CountedItem(row["model"], row["cost_nanos"], row["created_at"])
        batch.counted.setdefault(row["record_id"], []).append(counted)
    batch.volumes.update(await event_queries.find_volumes(tx, _volumes(batch, accounts, additions)))
    return batch


def _given_back(batch: Batch, accounts: Accounts, requests: Sequence[Request]) -> list[Place]:
    """Return the records that are settled without a charge, in accounts with limits of models."""
    found: dict[Place, None] = {}
    for request in requests:
        account = accounts.get(request.account_id)
        if not isinstance(request, Completion | Expiry) or account is None or account.limits is None:
            continue
        record = batch.records.get(request.record_id)
        if record is None or record.status != "open" or not account.limits.has_models:
            continue
        if isinstance(request, Completion):
            is_charged = request.status == "completed"
        else:
            is_charged = record.on_expiry == "charge_reported"
        if not is_charged or not account.billing_enabled:
            found[Place(request.account_id, request.record_id)] = None
    return list(found)


def _volumes(batch: Batch, accounts: Accounts, additions: Sequence[Addition]) -> list[VolumeKey]:
    """Return the monthly volumes on which prices of the items depend."""
    found: dict[VolumeKey, None] = {}
    for addition in additions:
        record = batch.records.get(addition.record_id)
        if record is None or addition.account_id not in accounts:
            continue
        volume = volume_of(addition.books.at(record.currency, addition.at), addition.item.usage, addition.at)
        if volume is not None:
            found[addition.account_id, volume.month, volume.row_id] = None
    return list(found)


async def _write(tx: Tx, batch: Batch) -> None:
    """Store what is new. A record that was opened in this transaction is written once, as it is now."""
    if batch.opened:
        await queries.insert_records(tx, [record_row(batch.records[record_id]) for record_id in batch.opened])
    if changed := batch.changed - batch.opened:
        await queries.update_records(tx, [changed_row(batch.records[record_id]) for record_id in changed])
    if batch.added:
        await queries.insert_items(tx, batch.added)
    if batch.moved:
        await event_queries.upsert_volumes(tx, {key: batch.volumes[key] for key in batch.moved})
    await insert_own_events(tx, batch.events)


def _record(row: Mapping[str, Any]) -> Record:
    return Record(**{name: row[name] for name in Record.__slots__})


def _count(outcomes: Sequence[Outcome]) -> None:
    """Count settled records in the metrics of usage, after the commit."""
    for outcome in outcomes:
        if isinstance(outcome, Done) and outcome.is_new and outcome.record.usage_id is not None:
            record = outcome.record
            USAGE_EVENTS.labels("recorded").inc()
            USAGE_COST.labels(record.currency, record.charge).inc(record.cost_nanos / NANOS_PER_UNIT)
