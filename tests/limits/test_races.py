"""Limits and balances through several processes and SIGKILL: 200 parallel callers never exceed one by one unit."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.db import Database
from app.verification import verify_books
from tests.books import connected
from tests.conftest import make_usage_key
from tests.databases import Urls
from tests.limits.conftest import LIMITS
from tests.servers import running_server
from tests.support.killed_servers import delivered, kill
from tests.support.wallets import DOLLAR

USER = {"oauth_provider": "oauth:google", "external_id": "one"}
LIMIT = 50
"""Credits and uses that the callers may spend, by two limits or by the balance."""


async def bounded_account(client_key: str, url: str, units: tuple[str, ...]) -> None:
    """Make an account with limits of these units and a larger balance, or without a limit and no credit more."""
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": client_key}, timeout=30) as client:
        credit = {**USER, "amount_minor": 100_000 if units else LIMIT * 100, "transaction_type": "grant"}
        assert (await client.post("/v1/billing/accounts", json=USER)).status_code == 201
        assert (await client.post("/v1/billing/credits", json=credit)).status_code == 201
        for unit in units:
            body = {**USER, "window": "lifetime", "unit": unit, "amount": str(LIMIT)}
            assert (await client.put(LIMITS, json=body)).status_code == 200


def request(number: int) -> tuple[str, dict[str, Any]]:
    """A charge, a hold or a tool charge of one credit."""
    key = f"k{number}"
    body: dict[str, Any] = {**USER, "idempotency_key": key}
    if number % 3 == 0:
        return "/v1/tools/charge", {**body, "product_type": "painter"}
    return f"/v1/billing/{('', 'charges', 'holds')[number % 3]}", {**body, "amount_minor": 100}


async def spent(urls: Urls) -> tuple[int, int, list[int]]:
    """The credits that were spent and held, the requests that did it, and the counters; the books verify."""
    db = Database(SecretStr(urls.service))
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert verification.ok, verification.problem
    async with connected(urls) as connection:
        row = await connection.fetchrow(
            """
            SELECT total_uses + held_credits AS credits,
                   (SELECT count(*) FROM charges) + (SELECT count(*) FROM holds) AS requests FROM accounts
            """
        )
        counters = await connection.fetch("SELECT counted FROM limit_counters ORDER BY counted")
    assert row is not None
    return row["credits"], row["requests"], [counter["counted"] for counter in counters]


@pytest.mark.parametrize(
    ("units", "is_killed"), [(("credits", "uses"), False), (("credits", "uses"), True), ((), True)]
)
async def test_200_callers_of_four_processes_never_exceed_a_limit_or_the_balance(
    units: tuple[str, ...], is_killed: bool, own_database: Urls
) -> None:
    """Where servers are killed, each request is sent again to another one until it is answered."""
    db = Database(SecretStr(own_database.service))
    key = await make_usage_key(db, UsageTerms(max_cost_nanos=DOLLAR), "live", *Permission)
    await db.close()
    options = {"PRODUCTS": '{"painter": {"price_credits": 1, "initial_free": 0, "daily_free": 0}}', "FREE_USES": "0"}
    servers = [running_server(own_database, env=options) for _ in range(4)]
    with servers[0] as a, servers[1] as b, servers[2] as c, servers[3] as d:
        running = (a, b, c, d)
        await bounded_account(key, d.url, units)
        async with httpx.AsyncClient(headers={"X-API-Key": key}, timeout=30) as client:

            async def send(number: int) -> httpx.Response:
                path, body = request(number)
                return await delivered(client, running, path, body, number)

            killing = [kill(running[:2], 0.05)] if is_killed else []
            answers = await asyncio.gather(*(send(number) for number in range(200)), *killing)
    statuses = Counter(answer.status_code for answer in answers if answer is not None)
    done = statuses[200] + statuses[201] + statuses[409]
    assert (done, statuses[402]) == (LIMIT, 200 - LIMIT)
    assert await spent(own_database) == (LIMIT, LIMIT, [LIMIT for _ in units])
