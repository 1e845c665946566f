"""Token buckets in the process's memory, for rate limits."""

import math
from collections import OrderedDict

WINDOW_S = 60.0
MAX_BUCKETS = 50_000


class TokenBuckets:
    """One bucket per name, in bounded memory: a burst of a minute's requests, then one each 1/limit minute.

    Only this class knows where buckets are stored; SharedTokenBuckets shares them with other processes. Times are
    seconds of any steady clock.
    """

    def __init__(self) -> None:
        # A bucket's state is the moment at which it is full again, which needs no timer for the refill.
        self._full_at_s: OrderedDict[str, float] = OrderedDict()

    def start(self) -> None:
        """Start background work."""

    async def stop(self) -> None:
        """End background work."""

    def take(self, name: str, limit_per_minute: int, now_s: float) -> int:
        """Take a token and return 0; if the bucket is empty, take nothing and return the seconds to wait."""
        wait_s = self.wait_s(name, limit_per_minute, now_s)
        if not wait_s:
            self._set(name, self._full_after_one(name, limit_per_minute, now_s))
        return wait_s

    def wait_s(self, name: str, limit_per_minute: int, now_s: float) -> int:
        """Return the whole seconds until there is a token (1 or more), or 0 if there is one."""
        missing_s = self._full_after_one(name, limit_per_minute, now_s) - now_s - WINDOW_S
        return max(1, math.ceil(missing_s - 1e-6)) if missing_s > 1e-6 else 0  # sums of fractions are inexact

    def _full_after_one(self, name: str, limit_per_minute: int, now_s: float) -> float:
        return max(self._full_at_s.get(name, now_s), now_s) + WINDOW_S / limit_per_minute

    def _set(self, name: str, full_at_s: float) -> None:
        self._full_at_s[name] = full_at_s
        self._full_at_s.move_to_end(name)
        if len(self._full_at_s) > MAX_BUCKETS:
            self._full_at_s.popitem(last=False)
