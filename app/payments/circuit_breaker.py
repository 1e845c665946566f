"""Spares callers the wait for a server that does not answer anybody (ADR 14)."""

SILENCES = 3
"""So many calls in a row without an answer mean that it is away."""
PAUSE_S = 1.0


class Breaker:
    """Open while the server is away: then one call at a time is let through, PAUSE_S after the last one's end.

    The call that is let through is the probe; it takes `trial_s` at most, and one answer, of whatever kind, closes the
    breaker. So a server that is back is noticed within `trial_s` + PAUSE_S of the next call. Times are the event
    loop's.
    """

    def __init__(self, *, trial_s: float) -> None:
        self._trial_s = trial_s
        self._silences = 0
        self._next_trial_s = 0.0

    def admits(self, now_s: float) -> bool:
        """Whether to call now. Yes is the promise to tell what came of it."""
        if self._silences < SILENCES:
            return True
        if now_s < self._next_trial_s:
            return False
        self._next_trial_s = now_s + self._trial_s + PAUSE_S  # should nobody tell, as when its caller has gone
        return True

    def answered(self) -> None:
        self._silences = 0

    def silent(self, now_s: float) -> None:
        self._silences += 1
        self._next_trial_s = now_s + PAUSE_S
