"""A cheap load generator, which leaves the cores to the server: keep-alive HTTP/1.1 on asyncio protocols."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Result:
    per_second: float
    p50_ms: float
    p99_ms: float
    statuses: dict[int, int]


def together(results: Sequence[Result]) -> Result:
    """Combine runs of equal length: mean rate, median of the medians, worst of the 99th percentiles."""
    statuses: Counter[int] = Counter()
    for result in results:
        statuses.update(result.statuses)
    return Result(
        statistics.fmean(result.per_second for result in results),
        statistics.median(result.p50_ms for result in results),
        max(result.p99_ms for result in results),
        dict(statuses),
    )


class Connection(asyncio.Protocol):
    """One request at a time. Answers must have Content-Length, as ours do."""

    def __init__(self) -> None:
        self._buffer = b""
        self.body = b""
        """Of the latest answer."""
        self._waiter: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("closed in mid-answer"))

    def data_received(self, data: bytes) -> None:
        status, self.body, self._buffer = taken(self._buffer + data)
        if status is not None and self._waiter is not None:
            self._waiter.set_result(status)

    async def request(self, message: bytes) -> int:
        """Send one request and return the status of its answer."""
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._waiter

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def taken(buffer: bytes) -> tuple[int | None, bytes, bytes]:
    """Return the status and body of the first answer in the buffer once it is complete, and the bytes after it."""
    head, found, body = buffer.partition(b"\r\n\r\n")
    if not found:
        return None, b"", buffer
    marker = head.lower().index(b"content-length:") + len(b"content-length:")
    length = int(head[marker:].split(b"\r\n", 1)[0])
    if len(body) < length:
        return None, b"", buffer
    return int(head.split(b" ", 2)[1]), body[:length], body[length:]


def post(url: str, path: str, key: str, body: bytes) -> bytes:
    """Return the bytes of a POST request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nX-API-Key: {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(url: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode()


async def run(
    url: str,
    message: Callable[[int], bytes],
    *,
    connections: int,
    seconds: float,
    count: int = 10**9,
    until: "asyncio.Future[Any] | None" = None,
) -> Result:
    """Send `message(i)` for i = 0, 1, 2… over so many connections; each waits for its answer.

    Stop after `seconds`, after `count` requests, or when `until` is done.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    statuses: Counter[int] = Counter()
    number = iter(range(count))
    end = time.perf_counter() + seconds

    async def caller() -> None:
        _, connection = await loop.create_connection(Connection, host, port)
        while (started := time.perf_counter()) < end and (until is None or not until.done()):
            if (i := next(number, None)) is None:
                break
            statuses[await connection.request(message(i))] += 1
            latencies.append(time.perf_counter() - started)
        connection.close()

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(connections)))
    elapsed = time.perf_counter() - begun
    percentiles = statistics.quantiles(latencies, n=100)
    return Result(len(latencies) / elapsed, percentiles[49] * 1000, percentiles[98] * 1000, dict(statuses))
