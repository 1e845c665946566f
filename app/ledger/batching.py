"""The batcher: locks the accounts of concurrent requests, lets their operations decide, writes and commits (ADR 2).

A service hands over its operation once, and then its requests:

    class UsageService:
        def __init__(self, batcher: Batcher) -> None:
            self._usage = batcher.operation(self._decide, find_replay=self._find_replay, count=_count)

        async def record(self, request: UsageRequest) -> Outcome[UsageEvent]:
            return await self._usage.run(request)

        async def _decide(self, tx: Tx, accounts: Accounts, requests: Sequence[UsageRequest]) -> list[Outcome[...]]:
            used = await queries.find_events_by_keys(tx, keys of the requests)  # reads first: one statement for all
            for request in requests: decide in this order; `account.post(...)` what is new, and add it to `used`
            await queries.insert_events(tx, rows of what is new)                # the batcher stores the balances
            return outcomes, one for each request

All operations of a process share one Batcher. Requests of different operations that name one account so share its lock
and its transaction, and see each other's postings.
"""

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

import structlog

from app.db import Database
from app.db.statements import Tx
from app.ledger.group_commit import FindReplay, GroupCommit
from app.ledger.locked_account import LockedAccount, lock_accounts, write
from app.ledger.recent_keys import RecentKeys

log = structlog.get_logger()


class AccountRequest(Protocol):
    @property
    def account_id(self) -> UUID: ...

    @property
    def key(self) -> Hashable | None:
        """The idempotency key with its key space. A request with a key is recorded at most once."""

    @property
    def at(self) -> datetime:
        """The time of the request."""

    @property
    def run_ids(self) -> Sequence[str]:
        """The runs that the request names, registered or not. Read only for accounts with limits."""


Request = TypeVar("Request", bound=AccountRequest)
Outcome = TypeVar("Outcome")
Accounts: TypeAlias = Mapping[UUID, LockedAccount]
Decide = Callable[[Tx, Accounts, Sequence[Request]], Awaitable[Sequence[Outcome]]]
Count = Callable[[Sequence[Outcome]], None]
Hook = Callable[[Tx, Accounts, Sequence[Any]], Awaitable[None]]
LastHook = Callable[[Tx, Accounts], Awaitable[None]]
CommitHook = Callable[[Accounts], None]


class Operation(Generic[Request, Outcome]):
    """One kind of request that a Batcher serves. `Batcher.operation` makes it."""

    def __init__(
        self,
        batcher: "Batcher",
        decide: Decide[Request, Outcome],
        find_replay: FindReplay[Request, Outcome],
        count: Count[Outcome],
        weigh: Callable[[Request], int],
    ) -> None:
        self._batcher = batcher
        self.decide = decide
        self.find_replay = find_replay
        self.count = count
        self.weigh = weigh
        self.waiting = 0
        """The number of requests without an outcome."""

    async def run(self, request: Request) -> Outcome:
        """Return the request's outcome, once its transaction has committed.

        A key that this process has seen before is a replay most of the time: one read without a lock finds it. A new
        key is looked up only under the lock. Raises Busy when too many requests wait.
        """
        self.waiting += 1
        try:
            outcome: Outcome = await self._batcher.run(self, request)
        finally:
            self.waiting -= 1
        return outcome

    async def run_all(self, requests: Sequence[Request]) -> list[Outcome]:
        """Decide and record any number of requests in one transaction. Waits for accounts that another has locked."""
        return await self._batcher.run_all(self, requests)


Work: TypeAlias = tuple[Operation[Any, Any], Any]
"""A request of an operation."""


class Batcher:
    """Runs requests of any operations in batches, each batch in one transaction. One per process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._recent_keys = RecentKeys()
        self._hooks: list[Hook] = []
        self._last_hooks: list[LastHook] = []
        self._commit_hooks: list[CommitHook] = []
        self._group: GroupCommit[Work, Any] = GroupCommit(
            self._transact, db.lock_waiters, find_replay=_find_replay, name="charge"
        )

    def operation(
        self,
        decide: Decide[Request, Outcome],
        *,
        find_replay: FindReplay[Request, Outcome],
        count: Count[Outcome],
        weigh: Callable[[Request], int] = lambda _: 1,
    ) -> Operation[Request, Outcome]:
        """Return a new operation.

        `decide(tx, accounts, requests)` returns one outcome for each request, in their order. It runs while the
        transaction has locked `accounts`; an account that does not exist is missing there. It reads first, posts to the
        accounts, and writes its own rows last; the batcher stores entries and balances. Its error rolls the whole batch
        back. `find_replay(request)` reads the outcome of an earlier request with the same key, without a lock.
        `count(outcomes)` records outcomes in metrics, after the commit, because a rollback takes nothing.
        `weigh(request)` returns how many single requests it is worth: a transaction takes up to MAX_WEIGHT.
        """
        return Operation(self, decide, find_replay, count, weigh)

    def before_deciding(self, hook: Hook) -> None:
        """Call `hook(tx, accounts, requests)` in each transaction once its accounts are locked, before any decision.

        Hooks run in the order in which they were added.
        """
        self._hooks.append(hook)

    def after_deciding(self, hook: LastHook) -> None:
        """Call `hook(tx, accounts)` in each transaction after all decisions, before its commit."""
        self._last_hooks.append(hook)

    def after_commit(self, hook: CommitHook) -> None:
        """Call `hook(accounts)` after the commit of each transaction, for metrics and the log."""
        self._commit_hooks.append(hook)

    async def stop(self) -> None:
        """Wait for the transactions under way. They continue when their callers are cancelled."""
        await self._group.stop()

    async def run(self, operation: Operation[Request, Outcome], request: Request) -> Outcome:
        """See `Operation.run`."""
        key = request.key
        if key is not None and self._recent_keys.add((id(operation), key)):
            replay = await operation.find_replay(request)
            if replay is not None:
                return replay
        outcome: Outcome = await self._group.run(
            (operation, request),
            request.account_id,
            may_repeat=key is not None,
            weight=operation.weigh(request),
        )
        return outcome

    async def run_all(self, operation: Operation[Request, Outcome], requests: Sequence[Request]) -> list[Outcome]:
        """See `Operation.run_all`."""
        return await self._transact([(operation, request) for request in requests], False)

    async def settle_due(self, tx: Tx, accounts: Accounts, now: datetime) -> None:
        """Settle and write the due holds of accounts that a transaction outside the batcher has locked.

        The hooks of a batch without requests do it: they read limits and runs, settle, and store what has changed.
        """
        for hook in self._hooks:
            await hook(tx, accounts, ())
        await write(tx, accounts.values(), now)
        for last_hook in self._last_hooks:
            await last_hook(tx, accounts)
        for account in accounts.values():
            account.limits = account.money_before = None

    async def _transact(self, batch: Sequence[Work], skip_locked: bool) -> list[Any]:
        """Lock the accounts of all requests, let their operations decide, and commit: one transaction.

        A separate first statement takes the locks. A statement that locked and read at once would read a snapshot older
        than its lock. So the second of two equal requests waits, and then finds the key that the first has stored.

        With `skip_locked`, the outcome is None for an account that another transaction has locked, or that does not
        exist.
        """
        async with self._db.batch() as tx:
            accounts = await lock_accounts(tx, {request.account_id for _, request in batch}, skip_locked=skip_locked)
            requests = [request for _, request in batch]
            for hook in self._hooks:
                await hook(tx, accounts, requests)
            places: dict[Operation[Any, Any], list[int]] = {}
            for place, (operation, request) in enumerate(batch):
                if not skip_locked or request.account_id in accounts:
                    places.setdefault(operation, []).append(place)
            outcomes: list[Any] = [None] * len(batch)
            decided: list[tuple[Operation[Any, Any], Sequence[Any]]] = []
            for operation, theirs in places.items():
                found = await operation.decide(tx, accounts, [requests[place] for place in theirs])
                decided.append((operation, found))
                # Before the commit: an error after it would be taken for a rollback.
                for place, outcome in zip(theirs, found, strict=True):
                    outcomes[place] = outcome
            if moments := [entry.created_at for account in accounts.values() for entry in account.entries]:
                await write(tx, accounts.values(), max(moments))
            for last_hook in self._last_hooks:
                await last_hook(tx, accounts)
        for operation, found in decided:
            _safely(operation.count, found)
        for commit_hook in self._commit_hooks:
            _safely(commit_hook, accounts)
        return outcomes


async def _find_replay(work: Work) -> Any:
    operation, request = work
    return await operation.find_replay(request)


def _safely(count: Callable[[Any], None], counted: object) -> None:
    try:
        count(counted)
    except Exception:  # the batcher would take the error for a rollback, and run the requests again
        log.exception("outcomes_not_counted")
