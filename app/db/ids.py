"""Row ids: UUIDs of version 7, which increase in the order of their making."""

import os
import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog

log = structlog.get_logger()


class IdClock:
    """The time in ids (ADR 6).

    It follows the wall clock ahead and, when that is set back, goes on steadily: what a process writes later never gets
    an older id, which the sums by day would pass over. It is put right by the database's once it is far off.
    """

    tolerance_ms = 5000

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._ahead_ns = 0  # the wall clock's time at the steady clock's zero, when they were furthest apart
        self._behind_ms = 0

    def now_ms(self) -> int:
        steady_ns = time.monotonic_ns()
        self._ahead_ns = max(self._ahead_ns, self._wall_ns() - steady_ns)
        return (steady_ns + self._ahead_ns) // 1_000_000 + self._behind_ms

    def compare(self, asked_ms: int, database_ms: int) -> None:
        """Take note of what the database's clock said after `asked_ms`, a time of this clock, and before now.

        However long the answer took, a process that stood still is not taken for a clock that is off; and what is put
        right is rather ahead of the database's clock than behind it.
        """
        if not asked_ms - self.tolerance_ms <= database_ms <= self.now_ms() + self.tolerance_ms:
            log.error("clock_is_off", behind_s=(database_ms - asked_ms) / 1000)
            self._behind_ms += database_ms - asked_ms


ID_CLOCK = IdClock()


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562): random, yet increasing with time, so that index inserts stay in one place."""
    value = ID_CLOCK.now_ms() << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def first_id_at(moment: datetime) -> UUID:
    """No UUIDv7 given at `moment` or later is lower."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
