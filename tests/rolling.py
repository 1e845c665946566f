"""Two versions of the service on one schema, as while a deployment replaces one by the other.

`scripts/rolling-check REF` runs this: the version of REF from a separate worktree, with its own dependencies, and
this version, on one database whose schema is this version's.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.demo.postgres import ephemeral_cluster
from app.demo.stripe.account import Account, AccountConfig
from app.demo.stripe.webhooks import signature
from tests.conftest import make_key
from tests.databases import ROOT, Urls, create_database, prepare
from tests.servers import LocalStripe, environment, running_server, running_stripe

ROUNDS = 25


async def mixed_traffic(old_url: str, new_url: str, key: str, rounds: int) -> int:
    """Send agents' and proxies' requests to both versions in turn: each must know the other's work. Return the number.

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


# --- payments ---


STORIES = (
    ("refund fails", "old:paid=20 old:created old:refunded=0 new:failed=20 old:inquiry=20"),
    ("refund fails", "new:paid=20 new:created=0 new:refunded=0 old:failed new:failed=20 old:won=20"),
    ("refund fails", "new:paid=20 old:refunded=0 new:created=0 new:failed=20 old:inquiry=20 old:failed=20"),
    ("two refunds", "old:paid=20 new:created=12 new:refunded=12 new:failed=20 old:refunded_2 new:created_2=15"),
    ("two refunds", "new:paid=20 old:refunded=12 new:created=12 new:failed=20 new:created_2=15 old:refunded_2=15"),
    # An older version takes credits on a total from before the failure; with the next event of a newer one they return.
    ("refund fails", "old:paid=20 new:created=0 new:failed=20 old:refunded new:inquiry=20"),
    ("decided again", "new:paid=20 old:disputed=0 old:lost=0 new:won=20 old:inquiry=20"),
    ("decided again", "old:paid=20 new:disputed=0 new:lost=0 new:won=20 old:funds_reinstated=20"),
)
"""The events of a payment at Stripe: the version that receives each, and the credits after it."""


async def mixed_payments(old: httpx.AsyncClient, new: httpx.AsyncClient, stripe: LocalStripe) -> int:
    """Send events of failing refunds and of disputes to both versions in turn. Return the number of purchases.

    Neither version undoes or doubles the other's bookings. Raises AssertionError if a balance does not match the money.
    """
    for name, steps in STORIES:
        user = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
        bought = await new.post("/v1/billing/purchases", json=user)
        assert bought.status_code == 201, bought.text
        events = _story(name, bought.json()["payment_id"], stripe.webhook_secret)
        for step in steps.split():
            parts = re.fullmatch(r"(\w+):(\w+)(?:=(\d+))?", step)
            assert parts is not None, step
            version, event, credits = parts.groups()
            payload = json.dumps(events[event]).encode()
            signed = {"Stripe-Signature": signature(stripe.webhook_secret, payload, int(time.time()))}
            client = old if version == "old" else new
            answer = await client.post("/v1/billing/webhooks/stripe", content=payload, headers=signed)
            assert answer.status_code == 200, answer.text
            for each in (old, new):
                checked = await each.post("/v1/billing/credits/check", json=user)
                found = checked.json()["credits_remaining"]
                assert credits is None or found == int(credits), f"{name}: {found} credits after {step} of {steps}"
    return len(STORIES)


def _story(name: str, payment_id: str, secret: str) -> dict[str, Any]:
    """Return Stripe's events about one payment, by their content."""
    events: list[dict[str, Any]] = []
    account = Account(AccountConfig("pk", secret), lambda _, event: events.append(event))
    intent = account.create_intent(500, "usd", {}, None)
    intent["id"] = payment_id
    account.objects["payment_intent"][payment_id] = intent
    account.succeed(intent)
    charge = account.charge_of(payment_id)
    events_by_name = {"paid": events[-1]}
    if name == "decided again":
        dispute = account.open_dispute(intent)
        events_by_name["disputed"] = events[-2]
        account.close_dispute(dispute, "lost")
        events_by_name["lost"] = events[-1]
        account.redecide_dispute(dispute)
        events_by_name["won"] = {**events[-2], "created": events[-2]["created"] + 60}
        events_by_name["funds_reinstated"] = {**events[-1], "created": events[-1]["created"] + 60}
    else:
        refund = account.refund(charge, 200 if name == "two refunds" else None, None)
        events_by_name |= {"created": events[-2], "refunded": events[-1]}
        account.settle_refund(refund, "failed")
        events_by_name["failed"] = events[-3]
        account.refund(charge, 125, None)
        events_by_name |= {"created_2": events[-2], "refunded_2": events[-1]}
        dispute = account.open_dispute(intent)
        account.close_dispute(dispute, "won")
        events_by_name["won"] = events[-2]
    account.open_dispute(intent, inquiry=True)
    events_by_name["inquiry"] = events[-1]
    return events_by_name


# --- the script's part -----------------------------------------------------------------------------------------


async def _make_key(urls: Urls) -> str:
    db = Database(SecretStr(urls.service), pool_size=3)
    try:
        # An older version cannot read later permissions, which are written only once an upgrade is finished.
        return await make_key(db, "live", Permission.READ, Permission.WRITE, Permission.CREDIT)
    finally:
        await db.close()


async def _begin_upgrade(urls: Urls) -> None:
    """Remove the mark that excludes older versions: the schema is this version's, and the upgrade is not finished."""
    connection = await asyncpg.connect(urls.superuser)
    await connection.execute("COMMENT ON TABLE alembic_version IS NULL")
    await connection.close()


async def _mixed_payments(old_url: str, new_url: str, key: str, stripe: LocalStripe) -> int:
    headers = {"X-API-Key": key}
    async with (
        httpx.AsyncClient(base_url=old_url, headers=headers, timeout=30) as old,
        httpx.AsyncClient(base_url=new_url, headers=headers, timeout=30) as new,
    ):
        return await mixed_payments(old, new, stripe)


def check(old_folder: Path) -> None:
    """Let the version in `old_folder`, installed there, and this one serve from one database, and prove its ledger."""
    with ephemeral_cluster() as cluster:
        prepare(cluster)
        urls = asyncio.run(create_database("rolling"))
        key = asyncio.run(_make_key(urls))
        asyncio.run(_begin_upgrade(urls))
        with (
            running_stripe() as stripe,
            running_server(urls, root=old_folder, env=stripe.environment) as old,
            running_server(urls, env=stripe.environment) as new,
        ):
            requests = asyncio.run(mixed_traffic(old.url, new.url, key, ROUNDS))
            purchases = asyncio.run(_mixed_payments(old.url, new.url, key, stripe))
        for folder in (old_folder, ROOT):
            command = [str(folder / ".venv/bin/python"), "-m", "app.cli", "ledger", "verify"]
            subprocess.run(command, cwd=folder, env={**os.environ, **environment(urls)}, check=True)
    print(f"{requests} requests and {purchases} purchases to two versions on one schema, each knew what the other did")


if __name__ == "__main__":
    check(Path(sys.argv[1]).resolve())
