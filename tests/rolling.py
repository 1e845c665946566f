"""Two versions of the service on one schema, as while a deployment replaces one by the other.

`scripts/rolling-check REF` runs this: the version of REF from a worktree of its own, with its own dependencies, and
this version, on one database whose schema is this version's.
"""

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.demo.postgres import ephemeral_cluster
from tests.conftest import make_key
from tests.databases import ROOT, Urls, create_database, prepare
from tests.servers import environment, running_server

ROUNDS = 25


async def mixed_traffic(old_url: str, new_url: str, key: str, rounds: int) -> int:
    """What agents and proxies ask for, of both versions in turn: each must know what the other did. How many requests.

    Raises AssertionError for any answer that one version alone would not have given.
    """
    requests = 0
    async with (
        httpx.AsyncClient(base_url=old_url, headers={"X-API-Key": key}, timeout=30) as old,
        httpx.AsyncClient(base_url=new_url, headers={"X-API-Key": key}, timeout=30) as new,
    ):
        for number in range(rounds):
            for one, other in ((old, new), (new, old)):
                requests += await _both_sides(one, other, f"{number}-{uuid.uuid4()}@example.com")
    return requests


async def _both_sides(one: httpx.AsyncClient, other: httpx.AsyncClient, external_id: str) -> int:
    user = {"oauth_provider": "oauth:google", "external_id": external_id}
    money = {**user, "currency": "USD"}
    charge = {**money, "amount_minor": 100, "idempotency_key": "charge"}
    credit = {**money, "amount_minor": 2000, "description": "rolling", "transaction_type": "grant"}
    tool = {**user, "product_type": "web_search", "idempotency_key": "tool"}
    usage = {
        **user,
        "interaction_id": external_id,
        "total_llm_calls": 1,
        "total_prompt_tokens": 10,
        "total_completion_tokens": 5,
        "models_used": ["m"],
        "actual_cost_cents": 0.5,
        "duration_ms": 9,
    }
    expected = (
        (one, "POST", "/v1/billing/credits/check", user, 200),
        (other, "POST", "/v1/billing/credits/check", user, 200),
        (one, "POST", "/v1/billing/credits", {**credit, "idempotency_key": "credit"}, 201),
        (other, "POST", "/v1/billing/credits", {**credit, "idempotency_key": "credit"}, 409),
        (one, "POST", "/v1/billing/charges", charge, 201),
        (other, "POST", "/v1/billing/charges", charge, 409),
        (other, "POST", "/v1/billing/charges", {**charge, "idempotency_key": "second"}, 201),
        (one, "POST", "/v1/billing/charges", {**charge, "idempotency_key": "second"}, 409),
        (one, "POST", "/v1/tools/charge", tool, 200),
        (other, "POST", "/v1/tools/charge", tool, 200),
        (other, "POST", "/v1/billing/litellm/usage", usage, 201),
        (one, "GET", "/v1/billing/transactions", user, 200),
        (other, "GET", "/v1/tools/balance", user, 200),
    )
    for client, method, path, body, status in expected:
        sent = {"params": body} if method == "GET" else {"json": body}
        answer = await client.request(method, path, **sent)  # type: ignore[arg-type]  # one of two arguments
        assert answer.status_code == status, f"{method} {path} on {client.base_url}: {answer.status_code} {answer.text}"
    checks = [await client.post("/v1/billing/credits/check", json=user) for client in (one, other)]
    assert checks[0].json() == checks[1].json(), f"{checks[0].text} != {checks[1].text}"
    return len(expected) + len(checks)


# --- the script's part -----------------------------------------------------------------------------------------


async def _make_key(urls: Urls) -> str:
    db = Database(SecretStr(urls.service), pool_size=3)
    try:
        return await make_key(db, "live", *Permission)
    finally:
        await db.close()


def check(old_folder: Path) -> None:
    """Let the version in `old_folder`, installed there, and this one serve from one database, and prove its ledger."""
    with ephemeral_cluster() as cluster:
        prepare(cluster)
        urls = asyncio.run(create_database("rolling"))
        key = asyncio.run(_make_key(urls))
        with running_server(urls, root=old_folder) as old, running_server(urls) as new:
            requests = asyncio.run(mixed_traffic(old.url, new.url, key, ROUNDS))
        for folder in (old_folder, ROOT):
            command = [str(folder / ".venv/bin/python"), "-m", "app.cli", "ledger", "verify"]
            subprocess.run(command, cwd=folder, env={**os.environ, **environment(urls)}, check=True)
    print(f"{requests} requests to two versions on one schema, each knew what the other did")


if __name__ == "__main__":
    check(Path(sys.argv[1]).resolve())
