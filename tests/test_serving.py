"""`ciris-billing serve` ends without cutting off any request, and reads only headers as headers."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import uvloop
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.http.server import listeners
from app.main import create_app
from tests.books import connected
from tests.conftest import make_key, settings_for
from tests.databases import Urls
from tests.servers import running_server, serving

DRAIN_S = 1.0
CHARGE = {"oauth_provider": "oauth:google", "external_id": "drain@example.com", "amount_minor": 100, "currency": "USD"}


@pytest.fixture
async def key(own_database: Urls) -> AsyncIterator[str]:
    db = Database(SecretStr(own_database.service), pool_size=3)
    yield await make_key(db, "live", Permission.READ, Permission.WRITE)
    await db.close()


@contextlib.asynccontextmanager
async def account_held(urls: Urls) -> AsyncIterator[None]:
    """The only account's row is locked: charges to it wait."""
    async with connected(urls) as connection, connection.transaction():
        await connection.execute("SELECT FROM accounts FOR UPDATE")
        yield


async def becomes(client: httpx.AsyncClient, status: int) -> httpx.Response:
    for _ in range(3000):
        if (answer := await client.get("/ready")).status_code == status:
            return answer
        await asyncio.sleep(0.02)
    raise TimeoutError


async def test_sigterm_turns_new_requests_away_and_finishes_those_under_way(own_database: Urls, key: str) -> None:
    with running_server(own_database, env={"DRAIN_S": str(DRAIN_S)}) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}, timeout=10) as client:
            assert (await client.post("/v1/billing/charges", json=CHARGE)).status_code == 201
            assert (await client.get("/ready")).json() == {"status": "ready"}
            server.process.send_signal(signal.SIGTERM)
            stopped_s = time.monotonic()
            draining = await becomes(client, 503)
            assert draining.json() == {"status": "draining"}
            # It still serves, and lets no connection live on.
            answer = await client.post("/v1/billing/charges", json=CHARGE)
            assert (answer.status_code, answer.headers["Connection"]) == (201, "close")
            assert (await client.get("/health")).status_code == 200
            async with account_held(own_database):
                under_way = asyncio.create_task(client.post("/v1/billing/charges", json=CHARGE))
                await asyncio.sleep(max(0.0, stopped_s + DRAIN_S + 0.5 - time.monotonic()))
                with pytest.raises(httpx.ConnectError):
                    await client.get("/health")
                assert server.process.poll() is None
                assert not under_way.done()
            assert (await under_way).status_code == 201
        assert await asyncio.to_thread(server.process.wait, 10) == 0
    async with connected(own_database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM charges") == 3
        # Counts kept in memory are written before the end.
        assert await connection.fetchval("SELECT requests_total FROM api_keys") == 3


async def test_several_processes_on_one_port_drain_together(own_database: Urls, key: str) -> None:
    with running_server(own_database, env={"DRAIN_S": "60"}, workers=2) as server:
        server.process.send_signal(signal.SIGTERM)
        for _ in range(4):  # each of them may get the request
            async with httpx.AsyncClient(base_url=server.url) as client:
                await becomes(client, 503)
        # As on Ctrl-C: an operator need not wait for the end.
        for pid in children(server.process.pid):
            os.kill(pid, signal.SIGINT)
        assert await asyncio.to_thread(server.process.wait, 10) == 0


def children(pid: int) -> list[int]:
    """The processes that serve, of those that `pid` has started."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "spawn_main"], capture_output=True, text=True, check=True)
    return [int(line) for line in found.stdout.split()]


async def test_trailers_are_no_headers(own_database: Urls, key: str) -> None:
    """For every proxy in between: if it passed trailers on, any client could assert what only the proxy may."""
    async with connected(own_database) as connection:
        await connection.execute("UPDATE api_keys SET ip_allow_list = '{192.0.2.7}', client_subject = 'CN=agent-7'")
    body = json.dumps(CHARGE).encode()
    head = f"POST /v1/billing/charges HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
    said = "X-Forwarded-For: 192.0.2.7\r\nX-Client-Subject: CN=agent-7\r\n"
    chunked = "Transfer-Encoding: chunked\r\nTrailer: X-Forwarded-For, X-Client-Subject\r\n\r\n"
    with serving(create_app(settings_for(own_database, trusted_proxies=["127.0.0.1"]))) as url:
        for headers, trailers, status in ((said, "", b"201"), ("", said, b"403")):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            request = f"{head}{headers}{chunked}{len(body):x}\r\n".encode() + body + f"\r\n0\r\n{trailers}\r\n".encode()
            writer.write(request * 2)  # the second one on the same connection, to be read as well as the first
            for _ in range(2):
                assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == status
                await reader.readuntil(b"}")
            writer.close()


class Counted(asyncio.Protocol):
    """Counts the connections that were accepted."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Counted.made += 1
        transport.close()


def test_new_callers_do_not_wait_a_turn_of_the_loop_each() -> None:
    """A turn takes long while many requests are under way, and libuv accepts one connection by each socket in it."""
    callers = 64

    async def turns_until_accepted() -> int:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            bound = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for listener in listeners(bound):
                server = await loop.create_server(Counted, sock=listener, backlog=callers)
                stack.callback(server.close)
            for _ in range(callers):  # the kernel has them wait
                stack.enter_context(socket.create_connection(bound.getsockname()))
            turns = 0
            while Counted.made < callers:
                await asyncio.sleep(0)
                turns += 1
            return turns

    assert uvloop.run(turns_until_accepted()) < callers / 4
