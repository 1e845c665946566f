"""Open streams of this process: their bounds, and what ends them: credentials, lifetime, draining."""

import asyncio
import resource
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Protocol
from uuid import UUID

import structlog

from app.auth.continuing import ContinuingChecks, Credential, KeyUse
from app.clock import utc_now
from app.ending import end
from app.errors import describe, is_database_unavailable
from app.live.errors import StreamsFull, TooManyStreams
from app.live.schemas import EndReason
from app.observability.metrics import EVENT_STREAMS, EVENT_STREAMS_ENDED
from app.settings import Settings

CHECK_S = 0.5
CHECK_TIMEOUT_S = 1.0
log = structlog.get_logger()


class OpenStream(Protocol):
    """An open stream, as the registry sees it."""

    account_id: UUID
    credential: Credential

    def end(self, reason: EndReason) -> None:
        """End the stream. The first reason counts."""

    @property
    def ended(self) -> EndReason | None: ...


class Registry:
    """Admits streams and ends them. While none is open there is no task.

    A stream ends within a second when its credential would be refused. One that cannot be checked counts as refused.
    """

    def __init__(self, settings: Settings, checks: ContinuingChecks, is_draining: Callable[[], bool]) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Streams must leave room for the connections of charges.
        most = settings.event_streams_per_process
        self._most = most if files == resource.RLIM_INFINITY else min(most, files // 2)
        self._most_of_key = settings.event_streams_per_key
        self._most_of_user = settings.event_streams_per_user
        self._lifetime_s = settings.event_stream_lifetime_s
        self._checks = checks
        self._is_draining = is_draining
        self._ends_s: dict[OpenStream, float] = {}
        """By the event loop's clock."""
        self._by_holder: Counter[str | UUID] = Counter()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def admitted(self, stream: OpenStream) -> Iterator[None]:
        """Count a stream for as long as the block runs. Raise StreamsFull or TooManyStreams."""
        is_key = isinstance(stream.credential, KeyUse)
        holder = stream.credential.key_id if isinstance(stream.credential, KeyUse) else stream.account_id
        if self._is_draining():
            raise StreamsFull(retry_after_s=1)
        if self._by_holder[holder] >= (self._most_of_key if is_key else self._most_of_user):
            raise TooManyStreams("API key" if is_key else "user")
        if len(self._ends_s) >= self._most:
            raise StreamsFull
        self._by_holder[holder] += 1
        # Not all at once: the clients of streams that end together reconnect together.
        lifetime_s = self._lifetime_s * (1 - secrets.randbelow(100) / 1000)
        self._ends_s[stream] = asyncio.get_running_loop().time() + lifetime_s
        gauge = EVENT_STREAMS.labels("key" if is_key else "user")
        gauge.inc()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), context=Context())
        try:
            yield
        finally:
            gauge.dec()
            EVENT_STREAMS_ENDED.labels(stream.ended or "client").inc()
            del self._ends_s[stream]
            self._by_holder[holder] -= 1
            if self._by_holder[holder] == 0:
                del self._by_holder[holder]

    async def stop(self) -> None:
        """End all streams, as draining does."""
        for stream in self._ends_s:
            stream.end("draining")
        if self._task is not None:
            await end(self._task)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while self._ends_s:
                began_s = clock()
                self._end_in_time(began_s)
                await self._end_refused()
                await asyncio.sleep(max(0.0, began_s + CHECK_S - clock()))
        finally:
            self._task = None

    def _end_in_time(self, now_s: float) -> None:
        is_draining = self._is_draining()
        for stream, ends_s in self._ends_s.items():
            if is_draining:
                stream.end("draining")
            elif ends_s <= now_s:
                stream.end("lifetime")

    async def _end_refused(self) -> None:
        credentials = {stream.credential for stream in self._ends_s}
        reason: EndReason = "credential"
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                refused = await self._checks.refused(credentials, utc_now())
        except Exception as error:  # any error: if this task ended, a revoked key would keep its streams
            if not is_database_unavailable(error):
                log.error("streams_not_checked", exc_info=error)
            else:
                log.warning("streams_not_checked", error=describe(error))
            refused, reason = frozenset(credentials), "unavailable"
        for stream in self._ends_s:
            if stream.credential in refused:
                stream.end(reason)
