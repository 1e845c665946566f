"""When to try again, and how long to wait before: pure decisions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

Chance = Callable[[], float]
"""A number in [0, 1)."""
REST_AFTER_FAILURE_S = 30.0


@dataclass(frozen=True, slots=True)
class Retry:
    """Up to `attempts` tries within the call's deadline. The wait before the n-th retry is drawn from the whole range
    up to `first_wait_s` × 2ⁿ⁻¹, at most `longest_wait_s`, so that clients that failed together do not return together.
    """

    attempts: int = 4
    first_wait_s: float = 0.25
    longest_wait_s: float = 4.0

    def wait_s(self, failures: int, retry_after_s: float | None, chance: Chance) -> float:
        """How long to wait after so many failures: at least as long as the service asked for."""
        backoff = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (failures - 1)) * chance()
        if retry_after_s is None:
            return backoff
        return retry_after_s + min(backoff, self.first_wait_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date; None if it is absent or makes no sense."""
    given = headers.get("retry-after")
    if given is None:
        return None
    if given.strip().isascii() and given.strip().isdigit():
        return float(given)
    try:  # a date is compared with the server's own clock, which need not agree with ours
        wait = parsedate_to_datetime(given) - parsedate_to_datetime(headers["date"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return max(0.0, wait.total_seconds())


def check_address(url: str) -> None:
    """Raises ValueError for what is no service's address."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("https", "http") or not parsed.host:
        raise ValueError(f"{url!r} is no address such as https://billing.example.com")


class Hosts:
    """The service's addresses, the preferred one first. One that failed rests a while, as long as another is left.

    Raises ValueError for what is no address."""

    def __init__(self, urls: list[str]) -> None:
        for url in urls:
            check_address(url)
        self._urls = [url.rstrip("/") for url in urls]
        self._rests_until: dict[str, float] = {}

    def choose(self, now_s: float) -> str:
        return min(self._urls, key=lambda url: max(0.0, self._rests_until.get(url, 0.0) - now_s))

    def failed(self, url: str, now_s: float) -> None:
        self._rests_until[url] = now_s + REST_AFTER_FAILURE_S

    def another_is_fresh(self, now_s: float) -> bool:
        """Whether the next try goes to a host that has not just failed."""
        return self._rests_until.get(self.choose(now_s), 0.0) <= now_s
