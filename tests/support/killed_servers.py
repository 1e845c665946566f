"""Callers of servers that are killed: each request is sent again to the next server until one answers it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.servers import Server


async def delivered(
    client: httpx.AsyncClient, servers: Sequence[Server], path: str, body: Mapping[str, Any], first: int
) -> httpx.Response:
    """Return the first answer below 500. The server with the number `first` is asked first."""
    for attempt in range(60):
        url = servers[(first + attempt) % len(servers)].url
        try:
            answer = await client.post(f"{url}{path}", json=body, timeout=5)
        except httpx.TransportError:
            continue
        if answer.status_code < 500:
            return answer
    raise AssertionError("not delivered")


async def kill(servers: Sequence[Server], pause_s: float = 0.2) -> None:
    """Kill servers, one after another."""
    for server in servers:
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(server.kill)
