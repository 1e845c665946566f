"""Token buckets in this process's memory."""

import math
from collections import OrderedDict

WINDOW_S = 60.0
MAX_BUCKETS = 50_000


class TokenBuckets:
    """One bucket per name, in bounded memory: a minute's worth of requests at once, then one each 1/limit minute.

    This class is all that knows where buckets live; SharedTokenBuckets lets other processes know of them. Times are
    seconds of any steady clock.
    """

    def __init__(self) -> None:
        # The moment at which a bucket is full again says all about it, and needs no timer to refill it.
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def start(self) -> None:
        """Begin whatever goes on beside the requests."""

    async def stop(self) -> None:
        """End it."""

    def take(self, name: str, limit_per_minute: int, now_s: float) -> int:
        """Take one token: 0. An empty bucket: `wait_s`, and nothing is taken."""
        wait_s = self.wait_s(name, limit_per_minute, now_s)
        if not wait_s:
            self._set(name, self._full_after_one(name, limit_per_minute, now_s))
        return wait_s

    def wait_s(self, name: str, limit_per_minute: int, now_s: float) -> int:
        """Whole seconds until there is a token (1 or more); 0: there is one."""
        missing_s = self._full_after_one(name, limit_per_minute, now_s) - now_s - WINDOW_S
        return max(1, math.ceil(missing_s - 1e-6)) if missing_s > 1e-6 else 0  # sums of fractions are a little off

    def _full_after_one(self, name: str, limit_per_minute: int, now_s: float) -> float:
        return max(self._full_at_s.get(name, now_s), now_s) + WINDOW_S / limit_per_minute

    def _set(self, name: str, full_at_s: float) -> None:
        self._full_at_s[name] = full_at_s
        self._full_at_s.move_to_end(name)
        if len(self._full_at_s) > MAX_BUCKETS:
            self._full_at_s.popitem(last=False)
