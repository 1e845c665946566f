"""The charge lane: concurrent charges share a transaction.

A commit costs the same for one charge as for a hundred. So charges that arrive while a transaction is under way wait
for it to end, and then go together into the next. Nobody waits for company: a lone charge starts at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import structlog

from app.billing.ledger import LockedAccount, lock_accounts
from app.db import Database, was_rolled_back
from app.db.driver_pool import PoolExhausted
from app.db.statements import Tx
from app.errors import Busy
from app.http.admission import SLOT, Slot
from app.observability import tracing
from app.observability.metrics import LOCK_WAIT_SECONDS

Outcome = TypeVar("Outcome")
Request = TypeVar("Request")
log = structlog.get_logger()

LANES = 2  # one transaction is prepared while another commits
MAX_BATCH = 128
MAX_WAITING = 2_000  # about a second's work; beyond it a quick 503 serves callers better than a late answer


@dataclass(slots=True)
class _Waiting(Generic[Request, Outcome]):
    request: Request
    account_id: UUID
    may_retry: bool
    outcome: "asyncio.Future[Outcome]"
    cause: Any
    """The span of its request, where there are any."""
    slot: Slot | None
    held_at_s: float = 0.0

    def settle(self, outcome: Outcome) -> None:
        if not self.outcome.done():  # its caller may have given up
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


RunBatch = Callable[[list[_Waiting[Any, Any]]], Awaitable[None]]


RunTogether = Callable[[Sequence[Request], bool], Awaitable[Sequence[Outcome | None]]]
"""Decides and records requests in one transaction: `(requests, skip_locked)` -> their outcomes, after the commit."""


class OfAccount(Protocol):
    @property
    def account_id(self) -> UUID: ...


AccountRequest = TypeVar("AccountRequest", bound=OfAccount)
Decide = Callable[[Tx, dict[UUID, LockedAccount], Sequence[AccountRequest]], Awaitable[Sequence[Outcome]]]


async def lock_decide_commit(
    db: Database,
    requests: Sequence[AccountRequest],
    decide: Decide[AccountRequest, Outcome],
    *,
    skip_locked: bool,
) -> list[Outcome | None]:
    """Lock the requests' accounts, let `decide` record what it decides, and commit: one transaction for all of them.

    The locks come in a statement of their own, before anything that the decision rests on is read: a statement that
    locks and decides at once would decide on a snapshot older than its lock. So of two equal requests in flight, the
    second waits, and then finds the first one's key.

    With `skip_locked`, None answers a request whose account is locked by another transaction (or does not exist).
    """
    async with db.batch() as tx:
        accounts = await lock_accounts(tx, {request.account_id for request in requests}, skip_locked=skip_locked)
        ready = [request for request in requests if request.account_id in accounts] if skip_locked else requests
        outcomes = iter(await decide(tx, accounts, ready) if ready else ())
    return [next(outcomes) if not skip_locked or request.account_id in accounts else None for request in requests]


class ChargeLane(Generic[Request, Outcome]):
    """Runs requests in batches, each batch in one transaction, by `run_together(requests, skip_locked)`.

    With `skip_locked`, None answers a request whose account another transaction has locked. Those run again without it,
    one call at a time for each such account, so that an account's queue delays only itself; `lock_waiters` bounds how
    many such calls hold a connection. Two lanes never contend: an account always uses the same one.
    """

    def __init__(
        self, run_together: RunTogether[Request, Outcome], lock_waiters: asyncio.Semaphore, *, name: str = "charge"
    ) -> None:
        self._name = name
        self._lock_waiters = lock_waiters
        self._run_together = run_together
        self._queues: list[deque[_Waiting[Request, Outcome]]] = [deque() for _ in range(LANES)]
        self._held: dict[int | UUID, deque[_Waiting[Request, Outcome]]] = {}
        self._running: dict[int | UUID, asyncio.Task[None]] = {}
        self._size = 0

    async def run(self, request: Request, account_id: UUID, *, may_retry: bool) -> Outcome:
        """The request's outcome, once its transaction has committed.

        `may_retry`: the request may be tried again even when its batch may have been committed, because a key
        protects it from being recorded twice. Raises Busy when too many wait.
        """
        if self._size >= MAX_WAITING:
            raise Busy
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        lane = account_id.int % LANES
        self._queues[lane].append(_Waiting(request, account_id, may_retry, outcome, tracing.current(), SLOT.get()))
        self._start(lane, self._queues[lane], self._share)
        self._size += 1
        try:
            return await outcome
        finally:
            self._size -= 1

    @property
    def size(self) -> int:
        """How many requests wait for their outcome."""
        return self._size

    async def stop(self) -> None:
        """Wait for the transactions under way, which go on when their callers have given up."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _start(self, key: int | UUID, queue: deque[_Waiting[Request, Outcome]], run_batch: RunBatch) -> None:
        if key not in self._running:  # else whoever runs takes the new request along
            # An empty context: what a batch logs is not the doing of the request that happened to start it.
            self._running[key] = asyncio.create_task(self._drain(key, queue, run_batch), context=Context())

    async def _drain(self, key: int | UUID, queue: deque[_Waiting[Request, Outcome]], run_batch: RunBatch) -> None:
        try:
            while queue:
                if batch := _take(queue):
                    await run_batch(batch)
        finally:
            # Nothing is awaited between the last look at the queue and this, so no request is left behind.
            del self._running[key]
            self._held.pop(key, None)

    async def _share(self, batch: list[_Waiting[Request, Outcome]]) -> None:
        try:
            with tracing.batch(f"{self._name} batch", [waiting.cause for waiting in batch]):
                requests = [waiting.request for waiting in batch]
                outcomes = await self._run_together(requests, True)
        except Exception as error:
            self._recover(batch, error)
            return
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                self._hold(waiting)
            else:
                waiting.settle(outcome)

    def _recover(self, batch: list[_Waiting[Request, Outcome]], error: Exception) -> None:
        """One request's failure is not its neighbours', nor is a cut connection: try each account's again, by itself.

        Once, and where that is safe: when the failed transaction left nothing for certain, or a key would show what it
        left. Not when there was no connection to be had, which a second try would only make worse.
        """
        log.warning("charge_batch_failed", lane=self._name, size=len(batch), error=type(error).__name__)
        overloaded = isinstance(error, PoolExhausted | Busy)
        for waiting in batch:
            if not overloaded and (waiting.may_retry or was_rolled_back(error)):
                self._hold(waiting)
            else:
                waiting.fail(error)

    def _hold(self, waiting: _Waiting[Request, Outcome]) -> None:
        if waiting.slot is not None:
            waiting.slot.release()
        account_id = waiting.account_id
        waiting.held_at_s = asyncio.get_running_loop().time()
        queue = self._held.setdefault(account_id, deque())
        queue.append(waiting)
        self._start(account_id, queue, self._wait)

    async def _wait(self, batch: list[_Waiting[Request, Outcome]]) -> None:
        try:
            async with self._lock_waiters:
                with tracing.batch(f"{self._name} batch", [waiting.cause for waiting in batch]):
                    requests = [waiting.request for waiting in batch]
                    outcomes = await self._run_together(requests, False)
        except Exception as error:
            for waiting in batch:
                waiting.fail(error)
            return
        now_s = asyncio.get_running_loop().time()
        for waiting, outcome in zip(batch, outcomes, strict=True):
            LOCK_WAIT_SECONDS.observe(now_s - waiting.held_at_s)
            assert outcome is not None, "no account was skipped"
            waiting.settle(outcome)


def _take(queue: deque[_Waiting[Request, Outcome]]) -> list[_Waiting[Request, Outcome]]:
    """Up to a batch of those whose callers still wait."""
    taken = (queue.popleft() for _ in range(min(len(queue), MAX_BATCH)))
    return [waiting for waiting in taken if not waiting.outcome.done()]
