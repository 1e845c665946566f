"""Argon2id, away from the event loop and never more of it at a time than the machine can bear."""

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
MAX_WAITING = 32  # about half a second of work: whoever came later would wait longer than a refusal and a retry take

T = TypeVar("T")


class Argon2:
    """Hashes and verifies key texts in THREADS threads. The C code releases the interpreter's lock meanwhile."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._unfinished = 0
        self._lock = Lock()

    async def hash(self, text: str) -> str:
        """The encoded hash, parameters and salt included. Raises Busy as `verify` does."""
        return await self._run(lambda: self._hasher.hash(text))

    async def verify(self, encoded: str, text: str) -> bool:
        """Whether `text` was hashed to `encoded`. Raises Busy when MAX_WAITING others wait already."""

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
        return await asyncio.wrap_future(future)  # a caller that gives up takes its work out of the queue

    def _finished(self, _: object) -> None:
        with self._lock:  # called by the worker threads
            self._unfinished -= 1
            ARGON2_UNFINISHED.set(self._unfinished)


ARGON2 = Argon2()
"""The process's one: the bound on threads and memory holds however many parts of the process verify keys."""
