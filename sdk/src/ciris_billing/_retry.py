"""Retry policy: exponential backoff with full jitter, and failover between hosts. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

Chance = Callable[[], float]
"""A number in [0, 1)."""
COOLDOWN_S = 30.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Up to `attempts` attempts within the call's deadline, with exponential backoff and full jitter.

    The wait before the n-th retry is random between 0 and `first_wait_s` × 2ⁿ⁻¹, at most `longest_wait_s` seconds, so
    that clients that failed at the same time do not retry at the same time.
    """

    attempts: int = 4
    first_wait_s: float = 0.25
    longest_wait_s: float = 4.0

    def wait_s(self, failures: int, retry_after_s: float | None, chance: Chance) -> float:
        """Return the wait in seconds after a number of failures, at least `retry_after_s`."""
        backoff = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (failures - 1)) * chance()
        if retry_after_s is None:
            return backoff
        return retry_after_s + min(backoff, self.first_wait_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `Retry-After` requests, as a number or a date; None if it is absent or invalid."""
    given = headers.get("retry-after")
    if given is None:
        return None
    if given.strip().isascii() and given.strip().isdigit():
        return float(given)
    try:  # compare with the server's clock, which can differ from the local one
        wait = parsedate_to_datetime(given) - parsedate_to_datetime(headers["date"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return max(0.0, wait.total_seconds())


def check_address(url: str) -> None:
    """Raise ValueError if a URL cannot be a service's address."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("https", "http") or not parsed.host:
        raise ValueError(f"{url!r} is not a valid address: use one such as https://billing.example.com")


class Hosts:
    """The service's addresses in order of preference. A failed one is skipped for 30 s while another is available.

    Raises ValueError for an invalid address."""

    def __init__(self, urls: list[str]) -> None:
        for url in urls:
            check_address(url)
        self._urls = [url.rstrip("/") for url in urls]
        self._skipped_until: dict[str, float] = {}

    def choose(self, now_s: float) -> str:
        return min(self._urls, key=lambda url: max(0.0, self._skipped_until.get(url, 0.0) - now_s))

    def failed(self, url: str, now_s: float) -> None:
        self._skipped_until[url] = now_s + COOLDOWN_S

    def has_healthy_host(self, now_s: float) -> bool:
        """Whether the next attempt goes to a host that did not fail recently."""
        return self._skipped_until.get(self.choose(now_s), 0.0) <= now_s
