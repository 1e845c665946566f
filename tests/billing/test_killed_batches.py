"""Large batches of charges: repeated keys in them, refusals among them, and a server that is killed within one."""

import asyncio
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.billing.batch_schemas import MAX_BATCH
from app.billing.batches import ROUND
from app.db import Database
from app.verification import verify_books
from tests.billing.test_charge_batches import BATCH, send, statuses
from tests.billing.test_charges import User, body
from tests.books import account_locked, connected, waiting_for_locks
from tests.conftest import make_key
from tests.databases import Urls
from tests.servers import running_server

CHARGED = """
    SELECT i.external_id, count(*) AS charges, count(DISTINCT c.idempotency_key) AS keys, sum(c.cost)::bigint AS credits
      FROM charges c JOIN account_identities i USING (account_id)
     WHERE i.external_id = ANY ($1) GROUP BY 1
"""


def named(name: str) -> User:
    return {"oauth_provider": "oauth:google", "external_id": f"{name}-{uuid.uuid4()}"}


async def with_credits(client: httpx.AsyncClient, user: User, credits: int) -> str:
    """Open an account with these credits and three free uses. Return its id."""
    account = {**user, "initial_balance_minor": credits * 100}
    made = await client.post("/v1/billing/accounts", json=account)
    assert made.status_code == 201, made.text
    return str(made.json()["account_id"])


async def charged(urls: Urls, *users: User) -> dict[str, tuple[int, int, int]]:
    """(charges, idempotency keys of them, credits), by user."""
    async with connected(urls) as connection:
        rows = await connection.fetch(CHARGED, [user["external_id"] for user in users])
    return {row["external_id"]: (row["charges"], row["keys"], row["credits"]) for row in rows}


async def test_a_full_batch_with_repeated_keys_and_refusals_is_charged_once(
    minter: httpx.AsyncClient, database: Urls
) -> None:
    """The second half repeats the first in another order, so that the two of a key are in different transactions."""
    rich, poor = named("rich"), named("poor")
    await with_credits(minter, rich, 500)
    half = [body(rich, f"k{n}") if n % 5 else body(poor, f"k{n}") for n in range(MAX_BATCH // 2)]
    reused = [body(rich, "k1", 200), body(poor, "k0", 200)]
    charges = [*half, *reused, *half[::-1][: MAX_BATCH // 2 - len(reused)]]
    assert len(charges) == MAX_BATCH > 3 * ROUND
    reply = await send(minter, charges)
    first, wrong, second = statuses(reply)[:500], statuses(reply)[500:502], statuses(reply)[502:]
    assert Counter(first) == {201: 400 + 3, 402: 97}
    assert wrong == [422, 422]
    # The last two of the half, `k1` and `k0`, are not repeated. `k0` was paid by a free use.
    assert Counter(second) == {409: 399 + 2, 402: 97}
    of_key = {(charge["external_id"], charge["idempotency_key"]): charge for charge in half}
    assert len(of_key) == 500
    ids: dict[Any, set[str]] = {}
    for charge, result in zip(charges, reply["results"], strict=True):
        if result["success"]:
            named_id = result["body"]["charge_id"]
            ids.setdefault((charge["external_id"], charge["idempotency_key"]), set()).add(named_id)
    assert {len(found) for found in ids.values()} == {1}
    assert (reply["processed"], reply["replayed"], reply["failed"]) == (403, 401, 196)
    found = await charged(database, rich, poor)
    assert found == {rich["external_id"]: (400, 400, 400), poor["external_id"]: (3, 3, 3)}


@pytest.mark.timeout(240)
async def test_a_server_killed_within_a_batch_charges_each_key_once(own_database: Urls) -> None:
    """A batch that was repeated at another process. Its first rounds were committed before the kill."""
    first, locked, poor = named("first"), named("locked"), named("poor")
    done = 2 * ROUND
    charges = [
        *(body(first, f"k{n}") for n in range(done)),
        *(body(locked if n % 2 else first, f"k{n}") for n in range(done, 600)),
        *(body(first, f"k{n}") for n in range(100)),
        *(body(poor, f"k{n}") for n in range(10)),
    ]
    db = Database(SecretStr(own_database.service))
    headers = {"X-API-Key": await make_key(db, "live", Permission.READ, Permission.WRITE, Permission.CREDIT)}
    with running_server(own_database) as killed, running_server(own_database) as other:
        async with httpx.AsyncClient(base_url=other.url, headers=headers, timeout=60) as client:
            await with_credits(client, first, 1000)
            account_id = await with_credits(client, locked, 1000)
            async with account_locked(own_database, account_id):
                lost = asyncio.create_task(client.post(f"{killed.url}{BATCH}", json={"charges": charges}))
                await waiting_for_locks(own_database, 1)
                await asyncio.to_thread(killed.kill)
                with pytest.raises(httpx.TransportError):
                    await lost
            before = await charged(own_database, first, locked, poor)
            reply = await send(client, charges)
            again = await send(client, charges)
    assert before[first["external_id"]][:2] >= (done, done)
    assert locked["external_id"] not in before
    assert statuses(reply)[:done] == [409] * done
    on_locked = (600 - done) // 2
    assert await charged(own_database, first, locked, poor) == {
        first["external_id"]: (600 - on_locked,) * 3,
        locked["external_id"]: (on_locked,) * 3,
        poor["external_id"]: (3, 3, 3),
    }
    assert statuses(reply)[-10:] == [201] * 3 + [402] * 7
    assert Counter(statuses(again)) == {409: len(charges) - 7, 402: 7}
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert verification.ok, verification.problem
