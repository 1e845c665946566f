"""Approvals through several processes and SIGKILL: each admits one of 200 parallel callers, up to its amount."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.approvals.service import ApprovalService, Decision, place_of
from app.auth.caller import Permission
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.cost_records.service import CostRecordService
from app.db import Database
from app.runs.service import RunService
from app.verification import verify_books
from tests.books import connected
from tests.conftest import ACTOR, make_key, settings_for
from tests.databases import Urls
from tests.limits.conftest import LIMITS
from tests.servers import running_server
from tests.support.killed_servers import delivered, kill

USER = {"oauth_provider": "oauth:google", "external_id": "one"}
CHARGES = "/v1/billing/charges"
AGENTS, ALLOWED = 10, 3


def charge(agent: int, credits: int, key: str) -> dict[str, Any]:
    metadata = {"agent_id": f"agent-{agent}"}
    return {**USER, "amount_minor": credits * 100, "idempotency_key": key, "metadata": metadata}


async def approve(urls: Urls, approval_ids: list[str]) -> None:
    """Allow each request once, for three credits."""
    now = datetime.now(UTC)
    db = Database(SecretStr(urls.service))
    billing = BillingService(db, Configuration(db, settings_for(urls)))
    runs = RunService(db, CostRecordService(db, billing.batcher, billing.configuration))
    service = ApprovalService(db, billing.accounts, runs)
    for approval_id in approval_ids:
        await service.decide("live", place_of(approval_id), Decision(ALLOWED, timedelta(hours=1)), ACTOR, now)
    await db.close()


async def spent(urls: Urls) -> tuple[Counter[str], int, dict[str, int]]:
    """The approvals by status, the credits that were spent, and the charges by agent; the books verify."""
    db = Database(SecretStr(urls.service))
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert verification.ok, verification.problem
    async with connected(urls) as connection:
        statuses = await connection.fetch("SELECT status FROM approvals WHERE allowed IS NOT NULL")
        credits = await connection.fetchval("SELECT total_uses FROM accounts")
        charges = await connection.fetch(
            "SELECT metadata ->> 'agent_id' AS agent, count(*) AS charges FROM charges GROUP BY 1"
        )
    by_agent = {row["agent"]: row["charges"] for row in charges}
    return Counter(row["status"] for row in statuses), credits, by_agent


@pytest.mark.parametrize("is_killed", [False, True])
async def test_200_callers_of_four_processes_use_an_approval_once(is_killed: bool, own_database: Urls) -> None:
    """Half of them ask for a credit more than a person allowed."""
    db = Database(SecretStr(own_database.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    servers = [running_server(own_database, env={"FREE_USES": "0"}) for _ in range(4)]
    with servers[0] as a, servers[1] as b, servers[2] as c, servers[3] as d:
        running = (a, b, c, d)
        async with httpx.AsyncClient(headers={"X-API-Key": key}, timeout=30) as client:

            async def send(path: str, body: dict[str, Any], first: int = 3) -> httpx.Response:
                return await delivered(client, running, path, body, first)

            assert (await send("/v1/billing/accounts", USER)).status_code == 201
            credit = {**USER, "amount_minor": 100_000, "transaction_type": "grant"}
            assert (await send("/v1/billing/credits", credit)).status_code == 201
            limit = {**USER, "window": "lifetime", "unit": "credits", "amount": "0", "action": "ask"}
            assert (await client.put(f"{d.url}{LIMITS}", json=limit)).status_code == 200
            asked = [await send(CHARGES, charge(agent, ALLOWED, f"ask-{agent}")) for agent in range(AGENTS)]
            await approve(own_database, [answer.json()["approval_id"] for answer in asked])
            answers = await asyncio.gather(
                *(
                    send(CHARGES, charge(number % AGENTS, ALLOWED + number // AGENTS % 2, f"k{number}"), number)
                    for number in range(200)
                ),
                *([kill(running[:2], 0.05)] if is_killed else []),
            )
    statuses = Counter(answer.status_code for answer in answers if answer is not None)
    assert (statuses[201] + statuses[409], statuses[402]) == (AGENTS, 200 - AGENTS)
    by_agent = {f"agent-{agent}": 1 for agent in range(AGENTS)}
    assert await spent(own_database) == (Counter(used=AGENTS), AGENTS * ALLOWED, by_agent)
