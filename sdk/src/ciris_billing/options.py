"""How a client behaves, beside its address and its credential."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

import httpx

from ciris_billing._cache import CheckCache
from ciris_billing._exchange import Exchange
from ciris_billing._operations import FailPolicy, Operations
from ciris_billing._retry import Hosts, Retry

Propagate = Callable[[dict[str, str]], None]

try:
    VERSION = version("ciris-billing-client")
except PackageNotFoundError:  # run from its source folder
    VERSION = "0"
try:
    from opentelemetry.propagate import inject as trace_context  # the caller's own, if there is one
except ImportError:
    trace_context = None  # type: ignore[assignment]  # optional


@dataclass(frozen=True, kw_only=True)
class Options:
    """What clients can be told beside the address and the credential.

    `fallback_urls`: further addresses of the same service, for when the first does not answer. All must share one
    database, or a charge that is repeated at another address is taken twice.
    `timeout_s` bounds one try, `deadline_s` a call with all its retries.
    `check_cache_s`: how long a check that said yes may be given again. 0 asks every time.
    `policy`: whether a service that cannot be asked means no (`fail_closed`) or yes (`fail_open`), to checks and gates.
    `propagate` adds trace headers to each request; OpenTelemetry's does, where that is installed.
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
