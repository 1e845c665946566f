"""How many agents' requests a process works on at once, and what it says to those that it turns away (ADR 14)."""

from contextvars import ContextVar

import structlog

from app.observability.metrics import TURNED_AWAY

MAX_INSIDE = 1_024
"""About a second's work of a process. From 256 on, more at once make nothing faster (two transactions of 128 charges
each are full), but a burst that can be served within the second is better served than turned away."""
FIRST_INSIDE = 512
"""Before it is known how fast the machine and its database are."""
MIN_INSIDE = 16
TARGET_S = 1.0
"""Longer than that nobody inside should take: a fifth of what callers wait."""
LEARN_EVERY_S = 0.25
MANY = 128
"""With fewer inside, or fewer than half the bound, what they take says nothing about the bound."""
AGENTS_PATHS = frozenset(
    {
        "/v1/billing/credits/check",
        "/v1/billing/check",
        "/v1/billing/charges",
        "/v1/billing/litellm/usage",
        "/v1/tools/charge",
    }
)
"""What agents and proxies ask all the time. Only these count, and only these are turned away: Stripe's webhooks,
purchases, people and health checks are few, and never wait behind agents."""

log = structlog.get_logger()


class Door:
    """Lets a bounded number in, and turns the rest away at once: who cannot be served in time learns it early.

    What waits inside is to be about TARGET_S of work, however fast the machine and its database are at the moment: as
    many as leave in that time. So the bound goes half the way to that number, every LEARN_EVERY_S or later: down, when
    somebody took longer than TARGET_S, else up. Only while many are inside, for few prove nothing; once nobody is, it
    begins anew. Times are the event loop's.
    """

    def __init__(self) -> None:
        self.inside = 0
        self.limit = float(FIRST_INSIDE)
        self._logged_s = float("-inf")
        self._turned_away = 0
        self._since_s = self._left_s = 0.0
        self._left = 0
        self._was_late = self._were_many = False

    @property
    def is_full(self) -> bool:
        return self.inside >= self.limit

    def enter(self, now_s: float) -> "Place":
        """Comes after a look at `is_full`."""
        # Not as somebody leaves: a batch leaves together, and the first of it would be taken for all of it.
        if self._left_s - self._since_s >= LEARN_EVERY_S:
            self._learn()
        if self.inside == 0:
            self.limit = max(self.limit, FIRST_INSIDE)  # as at the start: what waited is done
            self._forget(now_s)
        self.inside += 1
        return Place(self, now_s)

    def turned_away(self, now_s: float) -> None:
        """Count somebody; said in the log once a second."""
        self._turned_away += 1
        TURNED_AWAY.inc()
        if now_s - self._logged_s >= 1:
            log.warning("overloaded", turned_away=self._turned_away, inside=self.inside, limit=round(self.limit))
            self._logged_s, self._turned_away = now_s, 0

    def left(self, took_s: float, now_s: float) -> None:
        """Somebody who was inside all the time has left."""
        self._left += 1
        self._left_s = now_s
        self._was_late |= took_s > TARGET_S
        self._were_many |= self.inside + 1 >= min(self.limit / 2, MANY)

    def _learn(self) -> None:
        halfway = (self.limit + self._left / (self._left_s - self._since_s) * TARGET_S) / 2
        if self._were_many:
            learnt = min(self.limit, halfway) if self._was_late else max(self.limit, halfway)
            self.limit = max(MIN_INSIDE, min(MAX_INSIDE, learnt))
        self._forget(self._left_s)

    def _forget(self, now_s: float) -> None:
        self._since_s = self._left_s = now_s
        self._left = 0
        self._was_late = self._were_many = False


class Place:
    """One request's place inside."""

    __slots__ = ("_door", "_entered_s", "_taken")

    def __init__(self, door: Door, now_s: float) -> None:
        self._door, self._entered_s, self._taken = door, now_s, True

    def give_up(self) -> None:
        """It waits for what keeps neither this process nor its database busy, an account's lock: others may come."""
        if self._taken:
            self._taken = False
            self._door.inside -= 1

    def leave(self, now_s: float) -> None:
        if self._taken:
            self.give_up()
            self._door.left(now_s - self._entered_s, now_s)


PLACE: ContextVar[Place | None] = ContextVar("place", default=None)
"""The running request's place, where it takes one."""
