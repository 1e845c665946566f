"""Client options: time limits, retries, caching and failure policy."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import httpx

from ciris_billing._cache import CheckCache
from ciris_billing._calls import FailPolicy
from ciris_billing._exchange import Exchange
from ciris_billing._operations import Operations
from ciris_billing._retry import Hosts, Retry

Propagate = Callable[[dict[str, str]], None]

try:
    VERSION = version("ciris-billing-client")
except PackageNotFoundError:  # not installed: running from the source folder
    VERSION = "0"
try:
    from opentelemetry.propagate import inject as trace_context  # used if the caller has installed it
except ImportError:
    trace_context = None  # type: ignore[assignment]  # optional


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a client, in addition to address and credential.

    `fallback_urls`: further addresses of the same service, used when the first one fails. All must share one database;
    otherwise a charge that is retried at another address is charged twice.
    `timeout_s` limits one attempt, `deadline_s` a call with all its retries.
    `check_cache_s`: how long a positive check is cached, in seconds. 0 disables the cache.
    `policy`: the result of checks and gates while the service is unavailable: refuse (`fail_closed`) or allow
    (`fail_open`).
    `propagate`: a function that adds trace headers to each request; by default OpenTelemetry's, if it is installed.
    """

    fallback_urls: Sequence[str] = ()
    timeout_s: float = 5.0
    deadline_s: float = 15.0
    retry: Retry = field(default_factory=Retry)
    check_cache_s: float = 0.0
    policy: FailPolicy = "fail_closed"
    max_connections: int = 100
    propagate: Propagate | None = trace_context
    clock: Callable[[], float] = time.monotonic

    def operations(self, base_url: str) -> Operations:
        exchange = Exchange(
            hosts=Hosts([base_url, *self.fallback_urls]),
            timeout_s=self.timeout_s,
            deadline_s=self.deadline_s,
            retry=self.retry,
            propagate=self.propagate,
            user_agent=f"ciris-billing-client/{VERSION}",
            clock=self.clock,
        )
        return Operations(exchange, CheckCache(self.check_cache_s), self.policy)

    def limits(self) -> httpx.Limits:
        return httpx.Limits(max_connections=self.max_connections, max_keepalive_connections=self.max_connections)
