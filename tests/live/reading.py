"""Readers of event streams over HTTP, and what they saw."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

PATIENCE_S = 60


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(PATIENCE_S * 50):
        if await condition():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def no_stream_is_open(client: httpx.AsyncClient) -> bool:
    return 'billing_event_streams{caller="key"} 0.0' in (await client.get("/metrics")).text


@dataclass(frozen=True)
class Event:
    name: str
    data: Any
    id: int | None = None

    @property
    def entry(self) -> dict[str, Any]:
        entry: dict[str, Any] = self.data["entry"]
        return entry

    @property
    def balance(self) -> dict[str, Any]:
        balance: dict[str, Any] = self.data["balance"]
        return balance


@dataclass
class Reader:
    """Reads the events of one answer."""

    answer: httpx.Response
    lines: AsyncIterator[str]
    retry_ms: int | None = None
    comments: list[str] = field(default_factory=list)

    async def next(self) -> Event:
        """Return the next event. Raise StopAsyncIteration at the end of the stream."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._next()

    async def take(self, number: int) -> list[Event]:
        return [await self.next() for _ in range(number)]

    async def until(self, name: str) -> Event:
        while (event := await self.next()).name != name:
            pass
        return event

    async def rest(self) -> list[Event]:
        """Return all events until the server ends the stream."""
        events = []
        with contextlib.suppress(StopAsyncIteration):
            while True:
                events.append(await self.next())
        return events

    async def _next(self) -> Event:
        fields: dict[str, str] = {}
        while line := await anext(self.lines):
            if line.startswith(":"):
                self.comments.append(line)
                continue
            name, _, value = line.partition(": ")
            fields[name] = value
        if "retry" in fields:
            self.retry_ms = int(fields["retry"])
        if "data" not in fields:  # a comment or `retry` alone
            return await self._next()
        number = int(fields["id"]) if "id" in fields else None
        return Event(fields["event"], json.loads(fields["data"]), number)


@contextlib.asynccontextmanager
async def opened(client: httpx.AsyncClient, path: str, **options: Any) -> AsyncIterator[Reader]:
    async with client.stream("GET", path, **options) as answer:
        if answer.status_code != 200:
            await answer.aread()
        yield Reader(answer, answer.aiter_lines())
