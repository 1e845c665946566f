"""Holds through several processes and SIGKILL: nothing is overspent, each hold is settled once."""

import asyncio
from collections import Counter
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.verification import verify_books
from tests.books import account_locked, connected, waiting_for_locks
from tests.conftest import make_key
from tests.databases import Urls
from tests.holds.test_holds_wire import PATH
from tests.servers import Server, running_server
from tests.support.killed_servers import delivered, kill

USER = {"oauth_provider": "oauth:google", "external_id": "one"}
PERMISSIONS = (Permission.READ, Permission.WRITE, Permission.CREDIT)


async def _client(urls: Urls) -> httpx.AsyncClient:
    db = Database(SecretStr(urls.service))
    key = await make_key(db, "live", *PERMISSIONS)
    await db.close()
    return httpx.AsyncClient(headers={"X-API-Key": key}, timeout=30)


async def _open_account(client: httpx.AsyncClient, server: Server, credits: int) -> None:
    await client.post(f"{server.url}/v1/billing/accounts", json=USER)
    body = {**USER, "amount_minor": credits * 100, "transaction_type": "grant"}
    assert (await client.post(f"{server.url}/v1/billing/credits", json=body)).status_code == 201


async def _account(urls: Urls) -> tuple[int, int, int]:
    """(credits that are left, credits that are held, uses), of a database whose books verify."""
    db = Database(SecretStr(urls.service))
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert verification.ok, verification.problem
    async with connected(urls) as connection:
        return tuple(await connection.fetchrow("SELECT free + paid, held_credits, total_uses FROM accounts"))


async def test_200_callers_of_three_processes_never_hold_more_than_there_is(own_database: Urls) -> None:
    with running_server(own_database) as a, running_server(own_database) as b, running_server(own_database) as c:
        async with await _client(own_database) as client:
            await _open_account(client, a, 147)  # and 3 free uses
            answers = await asyncio.gather(
                *(
                    client.post(f"{(a, b, c)[number % 3].url}{path}", json={**USER, **body})
                    for number in range(200)
                    for path, body in [
                        (PATH, {"amount_minor": 100})
                        if number % 2
                        else ("/v1/billing/charges", {"amount_minor": 100, "currency": "USD"})
                    ]
                )
            )
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses == {201: 150, 402: 50}
    left, held, used = await _account(own_database)
    assert (left, held + used) == (0, 150)


@pytest.mark.parametrize("action", ["capture", "release"])
async def test_a_settlement_does_not_depend_on_its_callers_connection(action: str, own_database: Urls) -> None:
    """The caller closes the connection while the request waits for the account's lock."""
    with running_server(own_database) as server:
        async with await _client(own_database) as client:
            await _open_account(client, server, 10)
            hold = (await client.post(f"{server.url}{PATH}", json={**USER, "amount_minor": 300})).json()["hold_id"]
            async with connected(own_database) as connection:
                account_id = await connection.fetchval("SELECT account_id FROM accounts")
            body = b'{"amount_minor": 200}'
            head = (
                f"POST {PATH}/{hold}/{action} HTTP/1.1\r\nHost: billing\r\nX-API-Key: {client.headers['X-API-Key']}\r\n"
            )
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            async with account_locked(own_database, account_id):
                _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port)
                writer.write(head.encode() + body)
                await waiting_for_locks(own_database, 1)
                writer.close()
                await writer.wait_closed()
                for _ in range(2):  # the server has read the end of the connection before it answers
                    assert (await client.get(f"{server.url}/health")).status_code == 200
            for _ in range(3000):
                found = (await client.get(f"{server.url}{PATH}/{hold}")).json()
                if found["status"] != "held":
                    break
                await asyncio.sleep(0.01)
    expected = ("captured", 200) if action == "capture" else ("released", 0)
    assert (found["status"], found["captured_minor"]) == expected
    assert await _account(own_database) == ((11, 0, 2) if action == "capture" else (13, 0, 0))


async def test_killed_servers_settle_each_hold_once(own_database: Urls) -> None:
    """Each step is sent again to another process until it is answered."""
    with running_server(own_database) as a, running_server(own_database) as b, running_server(own_database) as c:
        running = (a, b, c)
        async with await _client(own_database) as client:
            await _open_account(client, a, 997)  # and 3 free uses

            async def deliver(path: str, body: dict[str, object], first: int) -> httpx.Response:
                return await delivered(client, running, PATH + path, body, first)

            async def work(number: int) -> None:
                body = {**USER, "amount_minor": 500, "idempotency_key": f"h{number}"}
                hold = (await deliver("", body, number)).json()["hold_id"]
                captured = deliver(f"/{hold}/capture", {"amount_minor": 200}, number + 1)
                if number % 3:
                    assert (await captured).json()["captured_minor"] == 200
                    return
                released = deliver(f"/{hold}/release", {"outcome": "client_abort"}, number + 2)
                answers = await asyncio.gather(captured, released)
                assert sorted(answer.status_code for answer in answers) == [200, 409]

            await asyncio.gather(kill(running[:2]), *(work(number) for number in range(60)))
    left, held, used = await _account(own_database)
    assert (left + used, held) == (1000, 0)
    assert 80 <= used <= 120
    async with connected(own_database) as connection:
        row = await connection.fetchrow(
            "SELECT count(*), sum(captured)::bigint, count(*) FILTER (WHERE status = 'held') FROM holds"
        )
    assert tuple(row or ()) == (60, used, 0)
