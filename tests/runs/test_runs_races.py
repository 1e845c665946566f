"""Budgets through several processes and SIGKILL: no run and no ancestor exceeds one by a unit."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.verification import verify_books
from tests.books import connected
from tests.conftest import make_key
from tests.databases import Urls
from tests.runs.conftest import CHARGES, HOLDS, RUNS, TOOLS
from tests.servers import Server, running_server
from tests.support.killed_servers import delivered, kill

USER = {"oauth_provider": "oauth:google", "external_id": "one"}
PRODUCTS = '{"search": {"price_credits": 1, "initial_free": 0, "daily_free": 0}}'


@contextlib.asynccontextmanager
async def servers(urls: Urls, number: int) -> AsyncIterator[tuple[list[Server], httpx.AsyncClient]]:
    """Servers on one database, and a client of a user with 5,000 credits."""
    db = Database(SecretStr(urls.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(running_server(urls, env={"PRODUCTS": PRODUCTS})) for _ in range(number)]
        async with httpx.AsyncClient(headers={"X-API-Key": key}, timeout=60) as client:
            body = {**USER, "amount_minor": 500_000, "transaction_type": "grant"}
            await client.post(f"{running[0].url}/v1/billing/accounts", json=USER)
            assert (await client.post(f"{running[0].url}/v1/billing/credits", json=body)).status_code == 201
            yield running, client


async def register(client: httpx.AsyncClient, server: Server, run_id: str, parent: str | None, credits: int) -> None:
    body = {**USER, "run_id": run_id, "parent_run_id": parent, "budget": {"amount_minor": credits * 100}}
    answer = await client.post(f"{server.url}{RUNS}", json=body)
    assert answer.status_code == 201, answer.text


async def spent(urls: Urls) -> dict[str, tuple[int, int]]:
    """(credits, uses) by run, of a database whose books verify."""
    db = Database(SecretStr(urls.service))
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert verification.ok, verification.problem
    async with connected(urls) as connection:
        rows = await connection.fetch("SELECT run_id, spent_credits, uses FROM runs")
        [used] = await connection.fetch("SELECT total_uses + held_credits AS used FROM accounts")
    counted = {row["run_id"]: (row["spent_credits"], row["uses"]) for row in rows}
    return {**counted, "account": (used["used"], 0)}


def work(number: int) -> tuple[str, dict[str, object]]:
    """A charge, a hold or a tool use of one credit in one of three siblings."""
    steps: list[tuple[str, dict[str, object]]] = [
        (CHARGES, {"amount_minor": 100}),
        (HOLDS, {"amount_minor": 100}),
        (TOOLS, {"product_type": "search"}),
    ]
    path, body = steps[number % 3]
    return path, {**USER, **body, "run_id": f"s{number % 4}"}


async def test_200_callers_of_four_processes_never_exceed_a_shared_budget(own_database: Urls) -> None:
    async with servers(own_database, 4) as (running, client):
        await register(client, running[0], "root", None, 120)
        for number in range(4):  # the first sibling's own budget is the tighter one
            await register(client, running[0], f"s{number}", "root", 100 if number else 10)
        answers = await asyncio.gather(
            *(
                client.post(f"{running[number % 4].url}{path}", json=body)
                for number in range(200)
                for path, body in [work(number)]
            )
        )
    by_status = Counter("paid" if answer.status_code in (200, 201) else answer.status_code for answer in answers)
    assert by_status == {"paid": 120, 402: 80}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 402} == {"run_budget_exceeded"}
    counted = await spent(own_database)
    assert (counted["root"], counted["s0"], counted["account"][0]) == ((120, 120), (10, 10), 120)
    assert sum(counted[f"s{number}"][0] for number in range(4)) == 120


async def test_killed_processes_count_each_piece_of_work_once(own_database: Urls) -> None:
    """Each step is sent again to another process until it is answered."""
    async with servers(own_database, 4) as (running, client):
        await register(client, running[0], "root", None, 200)
        await register(client, running[0], "mid", "root", 1000)
        for number in range(4):
            await register(client, running[0], f"s{number}", "mid", 1000)

        async def deliver(path: str, body: dict[str, object], first: int) -> httpx.Response:
            return await delivered(client, running, path, body, first)

        async def one(number: int) -> int:
            """Return the credits that were spent."""
            if number % 2:
                body = {**USER, "amount_minor": 300, "idempotency_key": f"c{number}", "run_id": f"s{number % 4}"}
                answer = await deliver(CHARGES, body, number)
                assert answer.status_code in (201, 402, 409)
                return 0 if answer.status_code == 402 else 3
            body = {**USER, "amount_minor": 500, "idempotency_key": f"h{number}", "run_id": f"s{number % 4}"}
            hold = await deliver(HOLDS, body, number)
            if hold.status_code == 402:
                return 0
            path = f"{HOLDS}/{hold.json()['hold_id']}"
            if number % 4:
                assert (await deliver(f"{path}/release", {}, number)).status_code == 200
                return 0
            assert (await deliver(f"{path}/capture", {"amount_minor": 200}, number)).status_code == 200
            return 2

        outcomes = await asyncio.gather(kill(running[:3]), *(one(number) for number in range(200)))
    paid = sum(outcome for outcome in outcomes if outcome is not None)
    counted = await spent(own_database)
    assert counted["root"][0] == counted["mid"][0] == counted["account"][0] == paid <= 200
    assert sum(counted[f"s{number}"][0] for number in range(4)) == paid
    assert counted["root"][1] == counted["mid"][1]


async def test_one_of_parallel_registrations_counts(own_database: Urls) -> None:
    async with servers(own_database, 2) as (running, client):
        bodies = [{**USER, "run_id": "r", "budget": {"amount_minor": 100 * (1 + number % 2)}} for number in range(20)]
        answers = await asyncio.gather(
            *(client.post(f"{running[number % 2].url}{RUNS}", json=body) for number, body in enumerate(bodies))
        )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 200: 9, 422: 10}


async def test_a_registration_beside_work_counts_all_that_is_open(own_database: Urls) -> None:
    """A hold is either open at the registration or decided after it. The time of its request does not matter."""
    async with servers(own_database, 2) as (running, client):

        async def hold_and_release(number: int) -> None:
            url = running[number % 2].url
            body = {**USER, "amount_minor": 100, "run_id": "r"}
            hold = (await client.post(f"{url}{HOLDS}", json=body)).json()["hold_id"]
            assert (await client.post(f"{url}{HOLDS}/{hold}/release", json={})).status_code == 200

        registration = register(client, running[0], "r", None, 1000)
        before, after = ([hold_and_release(number) for number in numbers] for numbers in (range(30), range(30, 60)))
        await asyncio.gather(*before, registration, *after)
    assert (await spent(own_database))["r"] == (0, 0)
