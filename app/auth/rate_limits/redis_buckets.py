"""Token buckets that processes share through Redis (ADR 15)."""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.auth.rate_limits.token_buckets import MAX_BUCKETS, WINDOW_S, TokenBuckets
from app.ending import end
from app.observability.metrics import RATE_LIMITS_SHARED

EXCHANGE_EVERY_S = 0.025
EXCHANGE_TIMEOUT_S = 1.0  # no request waits for it
FIRST_RETRY_S = 0.1
MAX_RETRY_S = 2.0
MAX_BUCKETS_PER_EXCHANGE = 500
UNREPORTED_SHARE = 64
"""A process reports a bucket once it has used 1/64 of the limit, so that the many small users cost Redis nothing."""

KEY_PREFIX = "ciris-billing:limit:"
# KEYS: buckets. ARGV, two per bucket: the refill in microseconds that was used, and the least refill that is missing.
# Returns the microseconds until each bucket is full. Redis's clock is used, so no process's clock matters.
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local left = {}
for i, key in ipairs(KEYS) do
  local known = math.max(tonumber(redis.call('GET', key) or now), now)
  local full_at = math.max(known + ARGV[2 * i - 1], now + ARGV[2 * i])
  redis.call('SET', key, string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
  left[i] = full_at - now
end
return left
"""

log = structlog.get_logger()


@dataclass(slots=True)
class _Use:
    """This process's unreported use of a bucket. `used_s`: in seconds of its refill.

    `is_unconfirmed`: earlier use was sent to a Redis that did not answer, and that may have received it.
    """

    tokens: int = 0
    used_s: float = 0.0
    is_unconfirmed: bool = False


class SharedTokenBuckets(TokenBuckets):
    """TokenBuckets with one bucket per name for all processes on the same Redis.

    Decides from memory, so no caller ever waits for Redis. In the background, at most every EXCHANGE_EVERY_S, it
    reports its own use to Redis, and receives what is left of those buckets. Between two exchanges a process does not
    know the others' use. Together they may exceed the limit by what each takes from a bucket within EXCHANGE_EVERY_S
    and a round trip (never more than the limit each), and by 1/64 of the limit each. This excess does not repeat: Redis
    books all use, so the excess is missing from the bucket afterwards.

    While Redis is unavailable or slow, the process continues with its last state and counts its own use: each process
    then has the whole limit. It retries with growing pauses. Unconfirmed use is reported as a level, not as an
    increment: a stalled Redis that receives it late and repeatedly counts it once.
    """

    def __init__(self, url: SecretStr) -> None:
        super().__init__()
        self._redis = Redis.from_url(
            url.get_secret_value(),
            socket_connect_timeout=EXCHANGE_TIMEOUT_S,
            socket_timeout=EXCHANGE_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # the next exchange is the retry
            client_name="ciris-billing",
        )
        self._script = self._redis.register_script(SCRIPT)
        self._unreported: OrderedDict[str, _Use] = OrderedDict()
        self._to_report: dict[str, None] = {}
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            await end(self._task)
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()

    def take(self, name: str, limit_per_minute: int, now_s: float) -> int:
        was_full = self._full_at_s.get(name, now_s) <= now_s
        wait_s = super().take(name, limit_per_minute, now_s)
        if wait_s:
            return wait_s
        use = self._unreported.get(name)
        if use is None or was_full:  # use before the bucket was full again no longer matters
            use = self._unreported[name] = _Use()
            if len(self._unreported) > MAX_BUCKETS:
                self._unreported.popitem(last=False)
        use.tokens += 1
        use.used_s += WINDOW_S / limit_per_minute
        if use.tokens * UNREPORTED_SHARE >= limit_per_minute:
            self._to_report[name] = None
            self._due.set()
        return 0

    async def _run(self) -> None:
        """Exchange use with Redis until cancelled."""
        retry_s = FIRST_RETRY_S
        clock = asyncio.get_running_loop().time
        while True:
            await self._due.wait()
            self._due.clear()
            report = self._next_report()
            try:
                async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
                    await self._exchange(report, clock)
            except Exception as error:  # any error: if this task ended, limits would never be shared again
                self._keep(report)
                RATE_LIMITS_SHARED.set(0)
                log.warning("rate_limits_not_shared", error=type(error).__name__, retry_s=retry_s)
                await asyncio.sleep(retry_s)
                retry_s = min(MAX_RETRY_S, retry_s * 2)
            else:
                RATE_LIMITS_SHARED.set(1)
                retry_s = FIRST_RETRY_S
                await asyncio.sleep(EXCHANGE_EVERY_S)

    def _next_report(self) -> dict[str, _Use]:
        names = list(self._to_report)[:MAX_BUCKETS_PER_EXCHANGE]
        for name in names:
            del self._to_report[name]
        if self._to_report:
            self._due.set()
        return {name: use for name in names if (use := self._unreported.pop(name, None)) is not None}

    async def _exchange(self, report: dict[str, _Use], clock: Callable[[], float]) -> None:
        if not report:
            return
        sent_s = clock()
        args = []
        for name, use in report.items():
            missing_s = self._full_at_s.get(name, sent_s) - sent_s if use.is_unconfirmed else 0.0
            args += [round(use.used_s * 1e6), max(1, round(missing_s * 1e6))]
        left_us = await self._script(keys=[KEY_PREFIX + name for name in report], args=args)
        for name, us in zip(report, left_us, strict=True):
            newer = self._unreported.get(name)
            self._set(name, sent_s + us / 1e6 + (newer.used_s if newer is not None else 0.0))

    def _keep(self, report: dict[str, _Use]) -> None:
        """Repeat the report with the next exchange."""
        for name in report:
            self._unreported.setdefault(name, _Use()).is_unconfirmed = True
            self._to_report[name] = None
        if report:
            self._due.set()
