"""Circuit breaker: spares callers the wait for a server that answers no one (ADR 14)."""


class CircuitBreaker:
    """Opens after `failures` calls in a row without an answer. Then it admits one call at a time, the probe.

    A probe is admitted `pause_s` after the last call without an answer, and takes at most `probe_s`. One answer of any
    kind closes the breaker, so a server that is back is noticed within `probe_s` + `pause_s` of the next call.

    The caller passes the time in seconds of any one clock. A clock that was set back does not keep the breaker open.
    """

    def __init__(self, *, failures: int, pause_s: float, probe_s: float) -> None:
        self._failures = failures
        self._pause_s = pause_s
        self._probe_s = probe_s
        self._in_a_row = 0
        self._next_probe_s = 0.0

    def admits(self, now_s: float) -> bool:
        """Return whether to call now. The caller of an admitted call reports `answered` or `unanswered`."""
        if self._in_a_row < self._failures:
            return True
        longest_wait_s = self._probe_s + self._pause_s
        if self._next_probe_s - longest_wait_s <= now_s < self._next_probe_s:
            return False
        self._next_probe_s = now_s + longest_wait_s  # for a probe whose caller was cancelled and reports nothing
        return True

    def answered(self) -> None:
        """Close the breaker."""
        self._in_a_row = 0

    def unanswered(self, now_s: float) -> None:
        """Count a call without an answer, and start the pause."""
        self._in_a_row += 1
        self._next_probe_s = now_s + self._pause_s
