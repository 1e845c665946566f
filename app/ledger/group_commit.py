"""Group commit: concurrent requests share a transaction (ADR 2).

A commit costs the same for one charge as for a hundred. Requests that arrive while a transaction is under way go
together into the next one. A lone request starts at once.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import structlog

from app.db import was_rolled_back
from app.db.driver_pool import PoolExhausted
from app.errors import Busy
from app.http.admission import SLOT, Slot
from app.observability import tracing
from app.observability.metrics import LOCK_WAIT_SECONDS

Outcome = TypeVar("Outcome")
Request = TypeVar("Request")
log = structlog.get_logger()
MAX_BATCH = 128
MAX_WEIGHT = 256  # rows of a batch, so that a transaction of long requests ends as soon
ANSWERS_AT_ONCE = 2
MAX_WAITING = 2_000  # about one second of work; beyond that, an early 503 is better than a late answer


@dataclass(slots=True)
class _Waiting(Generic[Request, Outcome]):
    request: Request
    account_id: UUID
    may_repeat: bool
    outcome: "asyncio.Future[Outcome]"
    cause: Any
    """The tracing span of the request, or None."""
    slot: Slot | None
    weight: int
    held_at_s: float = 0.0

    def settle(self, outcome: Outcome) -> None:
        if not self.outcome.done():  # its caller may have been cancelled
            self.outcome.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


RunBatch = Callable[[list[_Waiting[Any, Any]]], Awaitable[None]]
RunTogether = Callable[[Sequence[Request], bool], Awaitable[Sequence[Outcome | None]]]
"""`(requests, skip_locked)` -> outcomes after the commit. Decides and records all requests in one transaction."""
FindReplay = Callable[[Request], Awaitable[Outcome | None]]
"""Return the outcome of an earlier request with the same idempotency key, by a read without a lock; None if new."""


class GroupCommit(Generic[Request, Outcome]):
    """Runs requests in batches, each batch in one transaction, by `run_together(requests, skip_locked)`.

    A request whose account another transaction has locked has the outcome None. It runs again without `skip_locked`,
    one call at a time for each account, so that the queue of an account delays no other. `lock_waiters` bounds how
    many of these calls hold a connection. `lanes` transactions run side by side: an account always uses the same lane.
    Charges have one: a second one makes the batches half as large, which costs more than the time that it saves.

    While a transaction waits for PostgreSQL, the process answers and reads other requests: the answers of a batch are
    spread over several iterations of the loop, so that the next batch is never far from its next statement.
    """

    def __init__(
        self,
        run_together: RunTogether[Request, Outcome],
        lock_waiters: asyncio.Semaphore,
        *,
        find_replay: FindReplay[Request, Outcome] | None = None,
        name: str,
        lanes: int = 1,
    ) -> None:
        self._name = name
        self._lock_waiters = lock_waiters
        self._run_together = run_together
        self._find_replay = find_replay
        self._lookups: set[asyncio.Task[None]] = set()
        self._queues: list[deque[_Waiting[Request, Outcome]]] = [deque() for _ in range(lanes)]
        self._held: dict[int | UUID, deque[_Waiting[Request, Outcome]]] = {}
        self._running: dict[int | UUID, asyncio.Task[None]] = {}
        self._size = 0

    async def run(self, request: Request, account_id: UUID, *, may_repeat: bool, weight: int = 1) -> Outcome:
        """Return the request's outcome, once its transaction has committed. Raises Busy when MAX_WAITING wait.

        `weight` is the number of rows that the request writes, about: a batch takes requests up to MAX_WEIGHT.
        `may_repeat`: the request is not recorded twice, so it may run again even when its batch may have been
        committed.
        """
        if self._size >= MAX_WAITING:
            raise Busy
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        lane = account_id.int % len(self._queues)
        waiting = _Waiting(request, account_id, may_repeat, outcome, tracing.current(), SLOT.get(), weight)
        self._queues[lane].append(waiting)
        self._start(lane, self._queues[lane], self._share)
        self._size += 1
        try:
            return await outcome
        finally:
            self._size -= 1

    @property
    def size(self) -> int:
        """The number of requests without an outcome."""
        return self._size

    async def stop(self) -> None:
        """Wait for the transactions under way. They continue when their callers are cancelled."""
        while tasks := (*self._running.values(), *self._lookups):  # a batch may leave requests for another task
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: int | UUID, queue: deque[_Waiting[Request, Outcome]], run_batch: RunBatch) -> None:
        if key not in self._running:  # the running task takes the new request along
            # An empty context: log lines of a batch do not belong to the request that started it.
            self._running[key] = asyncio.create_task(self._drain(key, queue, run_batch), context=Context())

    async def _drain(self, key: int | UUID, queue: deque[_Waiting[Request, Outcome]], run_batch: RunBatch) -> None:
        try:
            while queue:
                if batch := _take(queue):
                    await self._run(run_batch, batch)
        finally:
            # No await between the last check of the queue and this line, so no request is left behind.
            del self._running[key]
            self._held.pop(key, None)

    async def _run(self, run_batch: RunBatch, batch: list[_Waiting[Request, Outcome]]) -> None:
        """Run a batch. If that raises, every request still fails, and later batches run."""
        try:
            await run_batch(batch)
        except Exception as error:
            log.exception("batch_failed", batcher=self._name)
            for waiting in batch:
                waiting.fail(error)
        except BaseException:  # the process stops
            for waiting in batch:
                waiting.fail(Busy())
            raise

    async def _share(self, batch: list[_Waiting[Request, Outcome]]) -> None:
        try:
            with tracing.batch(f"{self._name} batch", [waiting.cause for waiting in batch]):
                requests = [waiting.request for waiting in batch]
                outcomes = await self._run_together(requests, True)
        except Exception as error:
            self._recover(batch, error)
            return
        decided: deque[tuple[_Waiting[Request, Outcome], Outcome]] = deque()
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                self._hold(waiting)
                self._look_up(waiting)
            else:
                decided.append((waiting, outcome))
        self._answer(decided)

    def _answer(self, decided: deque[tuple[_Waiting[Request, Outcome], Outcome]]) -> None:
        """Settle some requests now, and the others in later iterations of the loop.

        An iteration with all answers of a batch would be so long that the next batch waits at each of its statements.
        Spread, charges are a fifth faster at 32 callers.
        """
        for _ in range(min(ANSWERS_AT_ONCE, len(decided))):
            waiting, outcome = decided.popleft()
            waiting.settle(outcome)
        if decided:
            asyncio.get_running_loop().call_soon(self._answer, decided)

    def _recover(self, batch: list[_Waiting[Request, Outcome]], error: Exception) -> None:
        """Run the requests of a failed batch again, each account's in a separate transaction.

        Do so once, and only if it is safe: the transaction was certainly rolled back, or an idempotency key protects
        the request from being recorded twice. Not after an exhausted pool, which a second attempt would load further.
        """
        log.warning("charge_batch_failed", batcher=self._name, size=len(batch), error=type(error).__name__)
        overloaded = isinstance(error, PoolExhausted | Busy)
        for waiting in batch:
            if not overloaded and (waiting.may_repeat or was_rolled_back(error)):
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

    def _look_up(self, waiting: _Waiting[Request, Outcome]) -> None:
        """Settle a held request by a read if it is a replay, so that it does not wait for the lock."""
        if waiting.may_repeat and self._find_replay is not None:
            task = asyncio.create_task(self._settle_replay(self._find_replay, waiting), context=Context())
            self._lookups.add(task)
            task.add_done_callback(self._lookups.discard)

    async def _settle_replay(
        self, find_replay: FindReplay[Request, Outcome], waiting: _Waiting[Request, Outcome]
    ) -> None:
        with contextlib.suppress(Exception):  # then the lock decides
            replay = await find_replay(waiting.request)
            if replay is not None:
                waiting.settle(replay)

    async def _wait(self, batch: list[_Waiting[Request, Outcome]]) -> None:
        try:
            async with self._lock_waiters:
                batch = [waiting for waiting in batch if not waiting.outcome.done()]  # others were given up, or replays
                if not batch:
                    return
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
    """Take up to MAX_BATCH requests of MAX_WEIGHT together, and at least one, whose callers are still waiting."""
    taken: list[_Waiting[Request, Outcome]] = []
    weight = 0
    while queue and len(taken) < MAX_BATCH and (not taken or weight + queue[0].weight <= MAX_WEIGHT):
        waiting = queue.popleft()
        if not waiting.outcome.done():
            taken.append(waiting)
            weight += waiting.weight
    return taken
