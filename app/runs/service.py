"""RunService: registers runs, changes them, and reads them with their receipts.

Spending is counted where it is decided (app/ledger/runs.py). Everything here happens under the account's lock.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

from app.auth.errors import PersonRequired
from app.cost_records.service import CostRecordService
from app.db import Database, Session, new_id
from app.db.statements import Tx
from app.errors import InvalidRequest
from app.ledger import run_queries as queries
from app.ledger.locked_account import LockedAccount, lock_account
from app.ledger.pools import CREDIT
from app.ledger.run_queries import RunName
from app.ledger.runs import MAX_DEPTH, Run, Runs, RunStatus, require_open
from app.runs.errors import RunEnded, RunIdReused, RunNotFound, TooManyRuns
from app.runs.receipt import MAX_RUNS, Receipt, receipt_of
from app.runs.receipt_queries import find_calls

MAX_OPEN = 10_000
"""Runs of an account that are not closed."""
LAST = UUID(int=2**128 - 1)
DIGEST_BYTES = 16
Row = Mapping[str, Any]


class Budget(NamedTuple):
    """An amount of credits, or of nanos of the account's currency."""

    amount: int
    is_money: bool

    def unit(self, account: LockedAccount) -> str:
        return account.currency if self.is_money else CREDIT


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to register. `budget` None: only its ancestors bound it."""

    run_id: str
    parent_run_id: str | None = None
    budget: Budget | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> bytes:
        """Return a digest of what makes the run: equal for a repeat of the request."""
        text = json.dumps([self.parent_run_id, self.budget, self.details], sort_keys=True, separators=(",", ":"))
        return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True)
class RunChange:
    """A change of a run. `has_budget`: the budget becomes `budget`; None removes it. `status` None: it stays."""

    has_budget: bool = False
    budget: Budget | None = None
    status: RunStatus | None = None


class RunService:
    """One per process. A method whose name ends in `_in` is part of the caller's transaction."""

    def __init__(self, db: Database, cost_records: CostRecordService) -> None:
        self._db = db
        self._cost_records = cost_records

    async def find(self, account_id: UUID, run_id: str) -> Row:
        """Return a run. Raises RunNotFound."""
        row = await queries.find_run(self._db, RunName(account_id, run_id))
        if row is None:
            raise RunNotFound
        return row

    async def list_runs(self, account_id: UUID, before: str | None, limit: int) -> Sequence[Row]:
        """Return an account's runs, newest first, after the run `before`. Raises RunNotFound for an unknown one."""
        last = LAST if before is None else (await self.find(account_id, before))["run_uuid"]
        async with self._db.read() as session:
            return await queries.list_runs(session, account_id, last, limit)

    async def receipt(self, account_id: UUID, run_id: str) -> Receipt:
        """Return a run with the runs below it, and what each of them did. Bounded. Raises RunNotFound."""
        root = await self.find(account_id, run_id)
        return await self.receipt_of(account_id, root["run_uuid"])

    async def register(self, account_id: UUID, new: NewRun, now: datetime) -> tuple[Row, bool]:
        """Register a run. Return it, and whether it is new: a repeat changes nothing.

        Holds and cost records that are open with this run id count in it from now on, and in its ancestors. Raises
        RunIdReused, TooManyRuns, AccountSuspended, AccountClosed, RunPaused, RunClosed and InvalidRequest.
        """
        name = RunName(account_id, new.run_id)
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            existing = await queries.find_locked(tx, name)
            if existing is not None:
                if existing["fingerprint"] != new.fingerprint():
                    raise RunIdReused(new.run_id)
                return existing, False
            account.require_active()
            runs, above = await _ancestors(tx, account_id, new.parent_run_id)
            if await queries.count_open(tx, account_id, MAX_OPEN) >= MAX_OPEN:
                raise TooManyRuns(MAX_OPEN)
            run = await self._insert(tx, account, new, above, now)
            runs.add(run)
            await self._count_open_work(tx, account, name, runs, now)
            registered = await queries.find_locked(tx, name)
        assert registered is not None
        return registered, True

    async def _insert(self, tx: Tx, account: LockedAccount, new: NewRun, above: Sequence[Run], now: datetime) -> Run:
        ancestors = [run.run_uuid for run in reversed(above)]
        unit = None if new.budget is None else new.budget.unit(account)
        budget = None if new.budget is None else new.budget.amount
        run = Run(account.account_id, new_id(), new.run_id, ancestors, unit, budget, "open", None, 0, 0, 0)
        row = {
            "account_id": run.account_id,
            "run_uuid": run.run_uuid,
            "run_id": run.run_id,
            "parent_uuid": ancestors[-1] if ancestors else None,
            "ancestors": ancestors,
            "unit": unit,
            "budget": budget,
            "status": run.status,
            "fingerprint": new.fingerprint(),
            "metadata": new.details,
            "created_at": now,
            "updated_at": now,
        }
        await queries.insert_run(tx, row)
        return run

    async def _count_open_work(self, tx: Tx, account: LockedAccount, name: RunName, runs: Runs, now: datetime) -> None:
        """Count the open holds and cost records that name a new run: their settlements correct what is counted."""
        for held in await queries.find_held(tx, name):
            runs.count(name.run_id, held["unit"], held["amount"], held["uses"])
        nanos, uses = await self._cost_records.open_of_run(tx, name.account_id, name.run_id)
        runs.count(name.run_id, account.currency, nanos, uses)
        if changed := list(runs.changed()):
            await queries.store_spent(tx, changed, now, is_braked=False)

    async def change(self, account_id: UUID, run_id: str, change: RunChange, now: datetime) -> tuple[Row, Row]:
        """Change a run for an API key. Return it as it was and as it is. The same change again changes nothing.

        Raises RunNotFound, RunEnded, PersonRequired and InvalidRequest.
        """
        async with self._db.transaction() as tx:
            account = await lock_account(tx, account_id)
            before = await queries.find_locked(tx, RunName(account_id, run_id))
            return await _store_change(tx, account, before, change, now, by_admin=False)

    # --- for admins: by the table's own ids ---

    async def receipt_of(self, account_id: UUID, run_uuid: UUID) -> Receipt:
        """Return a run's receipt, as `receipt` does."""
        async with self._db.read() as session:
            return await _receipt(session, account_id, run_uuid)

    async def list_of_account(self, account_id: UUID, before: UUID | None, limit: int) -> Sequence[Row]:
        """Return an account's runs, newest first, before a run."""
        async with self._db.read() as session:
            return await queries.list_runs(session, account_id, before or LAST, limit)

    async def change_in(
        self, tx: Session, account_id: UUID, run_uuid: UUID, change: RunChange, now: datetime
    ) -> tuple[Row, Row]:
        """Change a run for an admin, within the caller's transaction, as `change` does. Any budget is allowed."""
        account = await lock_account(tx, account_id)
        before = await queries.find_by_uuid(tx, account_id, run_uuid)
        return await _store_change(tx, account, before, change, now, by_admin=True)

    async def find_in(self, tx: Session, account_id: UUID, run_uuid: UUID) -> Row:
        """Return a run, within the caller's transaction. Raises RunNotFound."""
        run = await queries.find_by_uuid(tx, account_id, run_uuid)
        if run is None:
            raise RunNotFound
        return run

    async def paused_keys(self, account_id: UUID) -> Sequence[Row]:
        """Return the API keys whose use by an account the burn-rate brake has paused."""
        async with self._db.read() as session:
            return await queries.list_paused_keys(session, account_id)

    async def resume_key_in(self, tx: Session, account_id: UUID, key_id: str, now: datetime) -> bool:
        """End the pause of an account's use of a key. Return False if it is not paused."""
        await lock_account(tx, account_id)
        return await queries.resume_key(tx, account_id, key_id, now)


async def _receipt(session: Session, account_id: UUID, run_uuid: UUID) -> Receipt:
    runs = await queries.find_tree(session, account_id, run_uuid, MAX_RUNS + 1)
    if not runs:
        raise RunNotFound
    return receipt_of(runs, await find_calls(session, account_id, [run["run_id"] for run in runs[:MAX_RUNS]]))


async def _store_change(
    tx: Tx, account: LockedAccount, before: Row | None, change: RunChange, now: datetime, *, by_admin: bool
) -> tuple[Row, Row]:
    if before is None:
        raise RunNotFound
    after = _changed(before, change, account, now, by_admin=by_admin)
    if after != dict(before):
        await queries.update_terms(tx, after, now)
        after["updated_at"] = now
    return before, after


async def _ancestors(tx: Tx, account_id: UUID, parent_run_id: str | None) -> tuple[Runs, list[Run]]:
    """Return the ancestors of a run below `parent_run_id`, the parent first. Each of them is open."""
    runs = Runs()
    if parent_run_id is None:
        return runs, []
    for run in await queries.find_with_ancestors(tx, [RunName(account_id, parent_run_id)]):
        runs.add(run)
    above = runs.chain(parent_run_id)
    if not above:
        raise InvalidRequest("parent_run_id is not a registered run of the account", field="parent_run_id")
    if len(above) >= MAX_DEPTH:
        raise InvalidRequest(f"parent_run_id is {MAX_DEPTH} runs deep, which is the most", field="parent_run_id")
    for run in above:
        require_open(run)
    return runs, above


def _changed(run: Row, change: RunChange, account: LockedAccount, now: datetime, *, by_admin: bool) -> dict[str, Any]:
    """Return a run after a change."""
    after = dict(run)
    if run["status"] == "closed":
        if change.has_budget or change.status not in (None, "closed"):
            raise RunEnded(run["run_id"])
        return after
    if change.has_budget:
        _set_budget(after, change.budget, account, by_admin=by_admin)
    if change.status == "open" and run["status"] != "open":
        if not by_admin:
            raise PersonRequired
        after |= {"status": "open", "pause_reason": None}
    elif change.status == "paused" and run["status"] != "paused":
        after |= {"status": "paused", "pause_reason": "requested"}
    elif change.status == "closed":
        after |= {"status": "closed", "pause_reason": None, "closed_at": now}
    return after


def _set_budget(run: dict[str, Any], budget: Budget | None, account: LockedAccount, *, by_admin: bool) -> None:
    unit = None if budget is None else budget.unit(account)
    amount = None if budget is None else budget.amount
    if None not in (unit, run["unit"]) and unit != run["unit"]:
        raise InvalidRequest("budget has another unit than the run's budget", field="budget")
    is_raised = run["budget"] is not None and (amount is None or amount > run["budget"])
    if is_raised and not by_admin:
        raise PersonRequired
    run |= {"unit": unit, "budget": amount}
