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
from app.observability.metrics import RATE_LIMITS_SHARED

EXCHANGE_EVERY_S = 0.025
EXCHANGE_TIMEOUT_S = 1.0  # nobody waits for it
FIRST_RETRY_S = 0.1
MAX_RETRY_S = 2.0
MAX_BUCKETS_PER_EXCHANGE = 500
UNTOLD_SHARE = 64
"""A process uses a 64th of a limit before it tells of it, so that the many who use little cost Redis nothing."""

KEY_PREFIX = "ciris-billing:limit:"
# KEYS: buckets. ARGV, two for each: the microseconds of refill that were used of it, and those that are missing in it
# at least. Answers the microseconds until each is full. The time is Redis's own: no process's clock matters.
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
    """What this process took from a bucket and has told nobody of. `used_s`: in seconds of its refill.

    `told_in_vain`: what was used before this was told to a Redis that did not answer, and that may have heard it.
    """

    tokens: int = 0
    used_s: float = 0.0
    told_in_vain: bool = False


class SharedTokenBuckets(TokenBuckets):
    """As TokenBuckets, with one bucket per name for all processes on the same Redis.

    Decides from memory, so no caller ever waits for Redis. Beside the requests it tells Redis at most every
    EXCHANGE_EVERY_S what was used here, and learns what is left of those buckets. Between two exchanges a process does
    not know what the others take: together they may admit, over the limit, what each of them takes of a bucket within
    EXCHANGE_EVERY_S and a round trip (never more than the limit each), and a 64th of the limit each. This happens
    once and not over and over: Redis books what was used in full, so that what was too much is missing afterwards.

    While Redis is away or slow the process goes on with what it knows and counts its own: each process then has the
    limit for itself. It tries again with growing pauses. What it told in vain it tells as a level and not as a use: a
    stalled Redis that hears it all, late and several times, counts it once.
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
        self._untold: OrderedDict[str, _Use] = OrderedDict()
        self._to_tell: dict[str, None] = {}
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()

    def take(self, name: str, limit_per_minute: int, now_s: float) -> int:
        was_full = self._full_at_s.get(name, now_s) <= now_s
        wait_s = super().take(name, limit_per_minute, now_s)
        if wait_s:
            return wait_s
        use = self._untold.get(name)
        if use is None or was_full:  # what was used before it was full again is nobody's concern any more
            use = self._untold[name] = _Use()
            if len(self._untold) > MAX_BUCKETS:
                self._untold.popitem(last=False)
        use.tokens += 1
        use.used_s += WINDOW_S / limit_per_minute
        if use.tokens * UNTOLD_SHARE >= limit_per_minute:
            self._to_tell[name] = None
            self._due.set()
        return 0

    async def _run(self) -> None:
        """Until cancelled."""
        retry_s = FIRST_RETRY_S
        clock = asyncio.get_running_loop().time
        while True:
            await self._due.wait()
            self._due.clear()
            told = self._next_to_tell()
            try:
                async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
                    await self._exchange(told, clock)
            except Exception as error:  # of whatever kind: a task that ended would never come back
                self._keep(told)
                RATE_LIMITS_SHARED.set(0)
                log.warning("rate_limits_not_shared", error=type(error).__name__, retry_s=retry_s)
                await asyncio.sleep(retry_s)
                retry_s = min(MAX_RETRY_S, retry_s * 2)
            else:
                RATE_LIMITS_SHARED.set(1)
                retry_s = FIRST_RETRY_S
                await asyncio.sleep(EXCHANGE_EVERY_S)

    def _next_to_tell(self) -> dict[str, _Use]:
        names = list(self._to_tell)[:MAX_BUCKETS_PER_EXCHANGE]
        for name in names:
            del self._to_tell[name]
        if self._to_tell:
            self._due.set()
        return {name: use for name in names if (use := self._untold.pop(name, None)) is not None}

    async def _exchange(self, told: dict[str, _Use], clock: Callable[[], float]) -> None:
        if not told:
            return
        sent_s = clock()
        args = []
        for name, use in told.items():
            missing_s = self._full_at_s.get(name, sent_s) - sent_s if use.told_in_vain else 0.0
            args += [round(use.used_s * 1e6), max(1, round(missing_s * 1e6))]
        left_us = await self._script(keys=[KEY_PREFIX + name for name in told], args=args)
        for name, us in zip(told, left_us, strict=True):
            meanwhile = self._untold.get(name)
            self._set(name, sent_s + us / 1e6 + (meanwhile.used_s if meanwhile is not None else 0.0))

    def _keep(self, told: dict[str, _Use]) -> None:
        """Tell of it again with the next exchange."""
        for name in told:
            self._untold.setdefault(name, _Use()).told_in_vain = True
            self._to_tell[name] = None
        if told:
            self._due.set()
