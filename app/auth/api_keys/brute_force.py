"""Brute-force protection: slows callers who guess a key's secret, without ever locking the key."""

import math
from collections import OrderedDict
from dataclasses import dataclass

FREE_ATTEMPTS = 5
MAX_PAUSE_S = 300
FORGET_AFTER_S = 900.0
MAX_TRACKED = 20_000


@dataclass(slots=True)
class _Record:
    failures: int
    last_s: float


class FailedAttempts:
    """Failures per (key id, address), in bounded memory.

    After FREE_ATTEMPTS failures each further attempt has to wait 1, 2, 4… seconds, up to MAX_PAUSE_S. Other addresses
    and other keys are not affected. Times are seconds of any steady clock.
    """

    def __init__(self) -> None:
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()

    def begin(self, key_id: str, address: str, now_s: float) -> int:
        """Return 0 to proceed, or the seconds to wait. On 0, the attempt counts as failed until its result is known.

        Counting starts here, so that many simultaneous attempts cannot all pass before the first one fails.
        """
        record = self._records.get((key_id, address))
        if record is None or now_s - record.last_s >= FORGET_AFTER_S:
            record = self._records[key_id, address] = _Record(0, now_s)
        self._records.move_to_end((key_id, address))
        while len(self._records) > MAX_TRACKED:
            self._records.popitem(last=False)
        if record.failures >= FREE_ATTEMPTS:
            pause_s = min(MAX_PAUSE_S, 1 << min(record.failures - FREE_ATTEMPTS, 10))
            left_s = record.last_s + pause_s - now_s
            if left_s > 0:
                return max(1, math.ceil(left_s))
        record.failures += 1
        record.last_s = now_s
        return 0

    def succeeded(self, key_id: str, address: str) -> None:
        self._records.pop((key_id, address), None)

    def undecided(self, key_id: str, address: str) -> None:
        """Do not count the attempt: it ended without an answer (overload, database down)."""
        record = self._records.get((key_id, address))
        if record is not None:
            record.failures = max(0, record.failures - 1)
