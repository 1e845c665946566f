"""Row ids: UUIDs of version 7, which increase in the order of creation."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock
from uuid import UUID

import structlog

log = structlog.get_logger()


class IdClock:
    """The clock of ids (ADR 6).

    It follows the wall clock forward. When that is set back, it continues steadily: a process never writes an older id
    later, because the sums by day would skip it. It is corrected by the database's clock once it is far off.
    """

    tolerance_ms = 5000

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._ahead_ns = 0  # the wall clock's time at the steady clock's zero, when they were furthest apart
        self._behind_ms = 0

    def now_ns(self) -> int:
        steady_ns = time.monotonic_ns()
        self._ahead_ns = max(self._ahead_ns, self._wall_ns() - steady_ns)
        return steady_ns + self._ahead_ns + self._behind_ms * 1_000_000

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    def compare(self, sent_ms: int, database_ms: int) -> None:
        """Compare this clock with `database_ms`, which the database read after `sent_ms` of this clock, before now.

        However long the answer took, a process that was suspended is not mistaken for a clock that is off. A correction
        moves this clock ahead of the database's rather than behind it.
        """
        if not sent_ms - self.tolerance_ms <= database_ms <= self.now_ms() + self.tolerance_ms:
            log.error("clock_is_off", behind_s=(database_ms - sent_ms) / 1000)
            self._behind_ms += database_ms - sent_ms


ID_CLOCK = IdClock()


class RandomBytes:
    """Random bytes of the operating system, read many at once: each read is a system call.

    A forked process discards the bytes that its parent has read, which would make the same ids again.
    """

    size = 4096

    def __init__(self) -> None:
        self._bytes, self._used, self._lock = b"", 0, Lock()
        os.register_at_fork(after_in_child=self._discard)

    def take(self, count: int) -> bytes:
        """Return so many bytes, at most `size`, each of them once."""
        with self._lock:
            first = self._used
            if first + count > len(self._bytes):
                self._bytes, first = os.urandom(self.size), 0
            self._used = first + count
            return self._bytes[first : self._used]

    def _discard(self) -> None:
        self._bytes, self._used, self._lock = b"", 0, Lock()


RANDOM = RandomBytes()


def new_id() -> UUID:
    """Return a UUIDv7: random, but increasing with time, so that index inserts stay in one place.

    The first 12 random bits hold the fraction of the millisecond (RFC 9562, section 6.2, method 3): two rows of a
    transaction have ids in the order in which they were made.
    """
    milliseconds, rest_ns = divmod(ID_CLOCK.now_ns(), 1_000_000)
    fraction = rest_ns * 4096 // 1_000_000
    random = int.from_bytes(RANDOM.take(8), "big") >> 2
    return UUID(int=milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0x2 << 62 | random)


def time_of(row_id: UUID) -> datetime:
    """Return the time at which a UUIDv7 was created, in milliseconds."""
    return datetime.fromtimestamp((row_id.int >> 80) / 1000, UTC)


def first_id_at(moment: datetime) -> UUID:
    """Return a UUID below every UUIDv7 that is created at `moment` or later."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
