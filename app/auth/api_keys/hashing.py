"""Argon2id hashing: off the event loop, and with bounded concurrency."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from app.errors import Busy
from app.observability.metrics import ARGON2_REFUSED, ARGON2_UNFINISHED

# OWASP's Password Storage Cheat Sheet, Argon2id: 19 MiB, two passes, one lane. Some 30 ms on one core.
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
THREADS = 2
MAX_WAITING = 32  # about half a second of work: beyond that a rejection and a retry are faster than waiting

T = TypeVar("T")


class Argon2:
    """Hashes and verifies key texts in THREADS threads. The C code releases the GIL while it works."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._unfinished = 0
        self._lock = Lock()

    async def hash(self, text: str) -> str:
        """Return the encoded hash, with parameters and salt. Raise Busy as `verify` does."""
        return await self._run(lambda: self._hasher.hash(text))

    async def verify(self, encoded: str, text: str) -> bool:
        """Return whether `encoded` is a hash of `text`. Raise Busy if MAX_WAITING others are waiting."""

        def matches() -> bool:
            try:
                return self._hasher.verify(encoded, text)
            except VerifyMismatchError:
                return False

        return await self._run(matches)

    async def _run(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._unfinished >= THREADS + MAX_WAITING:
                ARGON2_REFUSED.inc()
                raise Busy("Too many API keys to verify at once, retry shortly")
            self._unfinished += 1
            ARGON2_UNFINISHED.set(self._unfinished)
        future = self._threads.submit(work)
        future.add_done_callback(self._finished)
        return await asyncio.wrap_future(future)  # cancelling the caller removes its work from the queue

    def _finished(self, _: object) -> None:
        with self._lock:  # called by the worker threads
            self._unfinished -= 1
            ARGON2_UNFINISHED.set(self._unfinished)


ARGON2 = Argon2()
"""One per process, so that the bound on threads and memory holds for all users of it."""
