"""HoldService: reserves amounts before work starts, and settles them afterwards.

    match await holds.run(Opening(...)):
        case Done(hold, is_new): ...        # in force, since now or since an earlier request like it
        case Unpaid(available, required): ...
        case Rejected(error): ...           # settled otherwise, suspended, a reused key

All that happens to a hold happens under its account's lock, in the same transactions as charges.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from app.auth.caller import Actor, Environment
from app.billing.posting import record_charges
from app.clock import utc_now
from app.configuration.service import Configuration
from app.db import Database
from app.db.statements import Tx
from app.holds.deciding import Batch, Decider, recaptured, reopened, rereleased
from app.holds.errors import HoldNotFound
from app.holds.ids import text_of
from app.holds.requests import Capture, Change, Done, Expiry, Opening, Outcome, Rejected, Release, Work
from app.ledger import hold_queries as queries
from app.ledger.batching import Accounts, Batcher
from app.ledger.due import settle_at_locks
from app.ledger.hold_queries import Place
from app.ledger.holds import Hold
from app.ledger.locked_account import LockedAccount
from app.ledger.run_hooks import load_runs
from app.metering.origins import Origin
from app.metering.own_events import insert_own_events

AT_ONCE = 50
"""Holds that one transaction of the worker settles: it locks their accounts until its commit."""
MOST_DUE = 500
"""Due holds that any other transaction settles before it decides. Their accounts are locked already."""
EXPIRY = Actor("system", "hold_expiry")
BEGINNING = datetime(1, 1, 2, tzinfo=UTC)
log = structlog.get_logger()


class HoldService:
    """One per process. Its methods open their own transactions and have committed when they return."""

    def __init__(self, db: Database, batcher: Batcher, configuration: Configuration) -> None:
        self._db = db
        self._configuration = configuration
        self._requests = batcher.operation(self._decide, find_replay=self._find_replay, count=lambda _: None)
        batcher.before_deciding(self._settle_due)
        settle_at_locks(db, batcher.settle_due)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for their transaction to end."""
        return self._requests.waiting

    async def run(self, request: Opening | Change) -> Outcome:
        """Decide a request and commit. Raises Busy when too many wait."""
        return await self._requests.run(Work(request))

    async def find(self, environment: Environment, place: Place) -> Hold:
        """Return a hold. Raises HoldNotFound."""
        hold = await queries.find_hold(self._db, place)
        if hold is None or hold.environment != environment:
            raise HoldNotFound
        return hold

    async def origin_of(self, event: Mapping[str, Any]) -> Origin | None:
        """Return the hold whose captured money an event (its row) records. See `FindOrigin`."""
        hold_id = (event["attribution"] or {}).get("hold_id")
        return None if hold_id is None else Origin(UUID(hold_id), text_of(event["account_id"], UUID(hold_id)))

    async def list_of_account(
        self, account_id: UUID, before: UUID | None, limit: int, *, only_open: bool
    ) -> Sequence[Hold]:
        """Return the holds of an account, newest first; those older than the hold `before`."""
        async with self._db.read() as session:
            return await queries.list_holds(session, account_id, before, limit, only_open=only_open)

    async def expire(self, now: datetime) -> int:
        """Settle the holds that are due at `now`, each by its policy. Return their number.

        A hold that cannot be settled is logged and stays. Concurrent runs and settlements are harmless: a hold is
        settled once.
        """
        expired, position = 0, (BEGINNING, UUID(int=0))
        while True:
            async with self._db.read() as session:
                due = await queries.find_due(session, now, position, AT_ONCE)
            if not due:
                return expired
            position = due[-1]["expires_at"], due[-1]["hold_id"]
            works = [Work(Expiry(Place(row["account_id"], row["hold_id"]), EXPIRY, now)) for row in due]
            outcomes = await self._requests.run_all(works)
            expired += sum(isinstance(outcome, Done) and outcome.is_new for outcome in outcomes)
            for outcome in outcomes:
                if isinstance(outcome, Rejected):
                    log.error("hold_not_settled", code=outcome.error.code)

    # --- the transaction ---

    async def _find_replay(self, work: Work) -> Outcome | None:
        """Return the outcome of a request that is a repeat; None if it may be new."""
        request = work.request
        if isinstance(request, Opening):
            existing = None if request.key is None else await queries.find_hold_by_key(self._db, request.key)
            return None if existing is None else reopened(request, existing)
        hold = await queries.find_hold(self._db, request.place)
        if hold is None or hold.status == "held" or not isinstance(request, Capture | Release):
            return None
        if hold.environment != request.environment:
            return Rejected(HoldNotFound())
        return recaptured(request, hold) if isinstance(request, Capture) else rereleased(hold)

    async def _decide(self, tx: Tx, accounts: Accounts, works: Sequence[Work]) -> list[Outcome]:
        """Decide and record all requests of a batch, with a constant number of statements."""
        requests = [work.request for work in works]
        batch = await self._read(tx, accounts, requests)
        decider = Decider(batch)
        outcomes = [decider.decide(work.request, accounts.get(work.account_id)) for work in works]
        await _write(tx, batch)
        return outcomes

    async def _settle_due(self, tx: Tx, accounts: Accounts, requests: Sequence[Any]) -> None:
        """Settle the holds of these accounts that are due, unless a request of the transaction is about them."""
        now = utc_now()
        due = [a.account_id for a in accounts.values() if a.holds_expire_at is not None and a.holds_expire_at <= now]
        if not due:
            return
        named = {
            work.request.place for work in requests if isinstance(work, Work) and not isinstance(work.request, Opening)
        }
        found = await queries.find_due_of(tx, due, now, MOST_DUE)
        batch = await self._batch()
        batch.holds = {Place(hold.account_id, hold.hold_id): hold for hold in found}
        places = [place for place in batch.holds if place not in named]
        await queries.load_lots(tx, accounts, _lots_of(batch))
        await load_runs(tx, accounts, _runs_of(batch))
        decider = Decider(batch)
        for place in places:
            decider.decide(Expiry(place, EXPIRY, now), accounts[place.account_id])
        await _find_expiries(tx, [accounts[account_id] for account_id in due], batch)
        await _write(tx, batch)

    async def _batch(self) -> Batch:
        return Batch((await self._configuration.current()).defaults.daily_free_uses)

    async def _read(self, tx: Tx, accounts: Accounts, requests: Sequence[Opening | Change]) -> Batch:
        batch = await self._batch()
        keys = {r.key: None for r in requests if isinstance(r, Opening) and r.key is not None}
        places = {r.place: None for r in requests if not isinstance(r, Opening)}
        for found in await queries.find_holds(tx, list(places), list(keys)):
            hold = batch.holds.setdefault(Place(found.account_id, found.hold_id), found)
            key = queries.Key(hold.account_id, hold.caller_kind, hold.idempotency_key or "")
            if key in keys:
                batch.by_key[key] = hold
        await queries.load_lots(tx, accounts, _lots_of(batch))
        await load_runs(tx, accounts, _runs_of(batch))
        return batch


def _lots_of(batch: Batch) -> list[tuple[UUID, UUID]]:
    """Return the grants to which open holds may return something."""
    open_holds = [hold for hold in batch.holds.values() if hold.status == "held"]
    return [(h.account_id, part.grant_id) for h in open_holds for part in h.parts if part.grant_id is not None]


def _runs_of(batch: Batch) -> Iterable[tuple[UUID, str | None]]:
    """Return the runs in which open holds count."""
    return ((hold.account_id, hold.run_id) for hold in batch.holds.values() if hold.status == "held")


async def _write(tx: Tx, batch: Batch) -> None:
    """Store what is new. A hold that was opened in this transaction is written once, as it is now."""
    opened = {Place(hold.account_id, hold.hold_id) for hold in batch.opened}
    changed = [hold for place, hold in batch.changed.items() if place not in opened]
    if batch.opened:
        await queries.insert_holds(tx, batch.opened)
    if changed:
        await queries.update_holds(tx, changed)
    await record_charges(tx, batch.charges)
    await insert_own_events(tx, batch.events)


async def _find_expiries(tx: Tx, accounts: Sequence[LockedAccount], batch: Batch) -> None:
    """Note the earliest expiry of the open holds of accounts, once the one that was noted has passed."""
    settled = [hold.hold_id for hold in batch.holds.values() if hold.status != "held"]
    holding = [account.account_id for account in accounts if account.held_credits or account.held_money_nanos]
    found = await queries.find_next_expiries(tx, holding, settled) if holding else {}
    for account in accounts:
        account.holds_expire_at = found.get(account.account_id)
        account.held_moved = True
