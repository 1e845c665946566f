"""Admission control: bounds concurrent agent requests per process and rejects the rest early (ADR 14)."""

from contextvars import ContextVar

import structlog

from app.observability.metrics import REJECTED

MAX_IN_FLIGHT = 1_024
"""About one second of work for a process. More than 256 at once raise no throughput (two transactions of 128 charges
are full), but a burst that the process can serve within a second is better served than rejected."""
INITIAL_LIMIT = 512
"""Used until the speed of the machine and its database is known."""
MIN_LIMIT = 16
TARGET_S = 1.0
"""Target for the longest time of an admitted request: a fifth of a caller's time-out."""
ADJUST_EVERY_S = 0.25
MANY = 128
"""Latencies say nothing about the limit while fewer requests than this, or than half the limit, are in flight."""
AGENTS_PATHS = frozenset(
    {
        "/v1/billing/credits/check",
        "/v1/billing/check",
        "/v1/billing/charges",
        "/v1/billing/litellm/usage",
        "/v1/tools/charge",
        "/v1/usage",
        "/v1/usage/check",
        "/v1/usage/compute",
        "/v1/usage/quote",
    }
)
"""The hot routes of agents and proxies. Only these requests count, and only these are rejected. Stripe's webhooks,
purchases, people and health checks are few and never wait behind agents."""

log = structlog.get_logger()


class ConcurrencyLimiter:
    """Admits a bounded number of requests and rejects the others at once, so that a caller can retry early.

    An adaptive concurrency limit. The right limit is TARGET_S of work at the present speed: the number of requests that
    complete in TARGET_S. At most once per ADJUST_EVERY_S the limit moves half of the way to that number: down if a
    request took longer than TARGET_S, otherwise up. It moves only while many requests are in flight, and returns to at
    least INITIAL_LIMIT once none is. Times are the event loop's.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.limit = float(INITIAL_LIMIT)
        self._logged_s = float("-inf")
        self._rejected = 0
        self._since_s = self._completed_s = 0.0
        self._completed = 0
        self._was_late = self._were_many = False

    @property
    def is_full(self) -> bool:
        return self.in_flight >= self.limit

    def acquire(self, now_s: float) -> "Slot":
        """Take a slot. The caller has checked `is_full`."""
        # Adjust here, not on completion: a batch completes all at once, and its first request would count for all.
        if self._completed_s - self._since_s >= ADJUST_EVERY_S:
            self._adjust()
        if self.in_flight == 0:
            self.limit = max(self.limit, INITIAL_LIMIT)  # as at the start: there is no backlog
            self._forget(now_s)
        self.in_flight += 1
        return Slot(self, now_s)

    def reject(self, now_s: float) -> None:
        """Count a rejected request. Log the number at most once a second."""
        self._rejected += 1
        REJECTED.inc()
        if now_s - self._logged_s >= 1:
            log.warning("overloaded", rejected=self._rejected, in_flight=self.in_flight, limit=round(self.limit))
            self._logged_s, self._rejected = now_s, 0

    def complete(self, took_s: float, now_s: float) -> None:
        """Record the latency of a request that kept its slot until the end."""
        self._completed += 1
        self._completed_s = now_s
        self._was_late |= took_s > TARGET_S
        self._were_many |= self.in_flight + 1 >= min(self.limit / 2, MANY)

    def _adjust(self) -> None:
        halfway = (self.limit + self._completed / (self._completed_s - self._since_s) * TARGET_S) / 2
        if self._were_many:
            adjusted = min(self.limit, halfway) if self._was_late else max(self.limit, halfway)
            self.limit = max(MIN_LIMIT, min(MAX_IN_FLIGHT, adjusted))
        self._forget(self._completed_s)

    def _forget(self, now_s: float) -> None:
        self._since_s = self._completed_s = now_s
        self._completed = 0
        self._was_late = self._were_many = False


class Slot:
    """One admitted request's share of the limit."""

    __slots__ = ("_acquired_s", "_is_held", "_limiter")

    def __init__(self, limiter: ConcurrencyLimiter, now_s: float) -> None:
        self._limiter, self._acquired_s, self._is_held = limiter, now_s, True

    def release(self) -> None:
        """Release the slot while waiting for an account lock; the wait uses no CPU. Idempotent."""
        if self._is_held:
            self._is_held = False
            self._limiter.in_flight -= 1

    def complete(self, now_s: float) -> None:
        """Release the slot at the end of its request, and record the latency unless it was released before."""
        if self._is_held:
            self.release()
            self._limiter.complete(now_s - self._acquired_s, now_s)


SLOT: ContextVar[Slot | None] = ContextVar("slot", default=None)
"""The slot of the running request, if it has one."""
