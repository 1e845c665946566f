"""Tool charges: free uses, then paid uses, then the main pool; each key once, through races and crashes."""

import asyncio
import contextlib
import random
from collections import Counter
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from app.accounts.directory import Identity
from app.auth.caller import Permission
from app.billing.service import BillingService
from app.db import Database
from app.ledger.pools import Credits
from tests.billing.test_charges import User, body
from tests.billing.test_credits import credit
from tests.books import account_locked, balances, connected, counts
from tests.conftest import ACTOR, make_key
from tests.databases import Urls
from tests.servers import running_server

CHARGE = "/v1/tools/charge"
NOTHING = {"daily_free": 0, "free": 0, "paid": 0, "debt": 0}


def tool(user: User, key: str | None = None, product: str = "web_search", **fields: object) -> dict[str, object]:
    return {**user, "product_type": product, "idempotency_key": key, **fields}


def said(answer: httpx.Response) -> dict[str, Any]:
    """The reply without the use's id, which must be one."""
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    UUID(reply.pop("usage_log_id"))
    return reply


def paid_by(source: str, *, cost_minor: int, uses: int, free: int = 0, paid: int = 0, main: int = 0) -> dict[str, Any]:
    """The reply that a use paid by `source` gets, without its id."""
    return {
        "success": True,
        "has_credit": True,
        "used_free": source == "free",
        "used_paid": source == "paid",
        "used_main_pool": source == "main_pool",
        "cost_minor": cost_minor,
        "free_remaining": free,
        "paid_credits": paid,
        "main_pool_credits": main,
        "total_uses": uses,
    }


async def open_with(minter: httpx.AsyncClient, user: User, paid: int = 0) -> UUID:
    """The user's account, with so many paid credits."""
    account_id = UUID((await minter.post("/v1/billing/accounts", json=user)).json()["account_id"])
    if paid:
        assert (await minter.post("/v1/billing/credits", json=credit(user, 100 * paid))).status_code == 201
    return account_id


async def spend_free_images(client: httpx.AsyncClient, user: User) -> None:
    for _ in range(5):
        assert (await client.post(CHARGE, json=tool(user, product="image_gen"))).json()["used_free"] is True


async def rows(urls: Urls, sql: str, account_id: UUID) -> list[tuple[Any, ...]]:
    async with connected(urls) as connection:
        return [tuple(row) for row in await connection.fetch(sql, account_id)]


async def entries(urls: Urls, account_id: UUID) -> list[tuple[Any, ...]]:
    """The account's ledger: pool, delta, balance after, kind, type of cause."""
    columns = "pool, delta, balance_after, kind, cause_type"
    return await rows(urls, f"SELECT {columns} FROM ledger_entries WHERE account_id = $1 ORDER BY entry_no", account_id)


async def uses(urls: Urls, account_id: UUID) -> int:
    [(number,)] = await rows(urls, "SELECT count(*) FROM product_usage_log WHERE account_id = $1", account_id)
    return int(number)


async def test_free_uses_then_paid_uses_then_the_main_pool(
    minter: httpx.AsyncClient, app: FastAPI, user: User, now: datetime, database: Urls
) -> None:
    account_id = await open_with(minter, user, paid=25)
    await app.state.tools.grant(account_id, "image_gen", Credits(2), actor=ACTOR, now=now)
    answers = [await minter.post(CHARGE, json=tool(user, product="image_gen")) for _ in range(10)]
    assert [said(answer) for answer in answers[:9]] == [
        *(paid_by("free", cost_minor=0, uses=i + 1, free=4 - i, paid=2, main=2) for i in range(5)),
        *(paid_by("paid", cost_minor=1000, uses=6 + i, paid=1 - i, main=2) for i in range(2)),
        *(paid_by("main_pool", cost_minor=1000, uses=8 + i, main=1 - i) for i in range(2)),
    ]
    assert answers[9].json()["detail"] == "Insufficient credits. Balance: 500, Required: 1000"
    assert await balances(database, account_id) == {
        **NOTHING,
        "free": 3,  # one-time uses of the main pool pay interactions only
        "paid": 5,
        "image_gen/free": 0,
        "image_gen/paid": 0,
    }
    assert await entries(database, account_id) == [
        ("free", 3, 3, "opening_grant", "account"),
        ("paid", 25, 25, "grant", "credit"),
        ("image_gen/free", 5, 5, "opening_grant", "tool_grant"),
        ("image_gen/paid", 2, 2, "grant", "tool_grant"),
        *(("image_gen/free", -1, 4 - i, "tool_charge", "tool_usage") for i in range(5)),
        *(("image_gen/paid", -1, 1 - i, "tool_charge", "tool_usage") for i in range(2)),
        *(("paid", -10, 15 - 10 * i, "tool_charge", "charge") for i in range(2)),
    ]


async def test_each_use_is_logged_and_its_entries_point_to_it(
    minter: httpx.AsyncClient, user: User, database: Urls
) -> None:
    account_id = await open_with(minter, user, paid=10)
    ids = []
    for i in range(6):
        answer = await minter.post(CHARGE, json=tool(user, f"k{i}", "image_gen", request_id=f"r{i}"))
        ids.append(UUID(answer.json()["usage_log_id"]))
    logged = await rows(
        database,
        "SELECT usage_log_id, idempotency_key, product_type, request_id, source, charge_id, actor_type"
        " FROM product_usage_log WHERE account_id = $1 ORDER BY idempotency_key",
        account_id,
    )
    charge_id = logged[5][5]
    assert logged == [
        (
            ids[i],
            f"k{i}",
            "image_gen",
            f"r{i}",
            "main_pool" if i == 5 else "free",
            charge_id if i == 5 else None,
            "api_key",
        )
        for i in range(6)
    ]
    causes = await rows(
        database,
        "SELECT cause_id FROM ledger_entries WHERE account_id = $1 AND kind = 'tool_charge' ORDER BY entry_no",
        account_id,
    )
    assert [cause for (cause,) in causes] == [*ids[:5], charge_id]


async def test_what_nothing_pays_is_402_and_writes_nothing(
    minter: httpx.AsyncClient, user: User, database: Urls
) -> None:
    account_id = await open_with(minter, user, paid=9)
    await spend_free_images(minter, user)
    before = (await counts(database), await balances(database, account_id))
    for _ in range(3):
        answer = await minter.post(CHARGE, json=tool(user, "key", "image_gen"))
        assert answer.status_code == 402
        assert answer.json() == {
            "detail": "Insufficient credits. Balance: 900, Required: 1000",
            "code": "insufficient_credits",
            "request_id": answer.headers["X-Request-ID"],
            "balance_minor": 900,
            "required_minor": 1000,
            "shortfall_minor": 100,
            "max_affordable_minor": 0,  # a use has one price
            "retryable": False,
            "remedies": [],  # an image has no daily free uses, and this service sells no packs
        }
    assert (await counts(database), await balances(database, account_id)) == before
    await minter.post("/v1/billing/credits", json=credit(user, 100))
    paid = await minter.post(CHARGE, json=tool(user, "key", "image_gen"))  # a refusal does not use the key up
    assert said(paid) == paid_by("main_pool", cost_minor=1000, uses=6)


async def test_use_paid_by_the_main_pool_is_among_the_transactions(minter: httpx.AsyncClient, user: User) -> None:
    await open_with(minter, user, paid=12)
    await spend_free_images(minter, user)
    await minter.post(CHARGE, json=tool(user, "key", "image_gen"))
    await minter.post(CHARGE, json=tool(user, "key", "image_gen"))
    page = (await minter.get("/v1/billing/transactions", params=user)).json()
    assert page["total_count"] == 2  # the credit and the charge: uses that cost no credits are not money
    newest = page["transactions"][0]
    assert (newest["type"], newest["amount_minor"], newest["balance_after"]) == ("charge", -1000, 200)
    assert newest["description"] == "image_gen"


async def test_parallel_uses_and_charges_spend_exactly_what_is_there(
    minter: httpx.AsyncClient, app: FastAPI, user: User, now: datetime, database: Urls
) -> None:
    """Two tools and the interactions compete for the main pool: single credits take the rest that images leave."""
    account_id = await open_with(minter, user, paid=45)
    await app.state.tools.grant(account_id, "web_search", Credits(7), actor=ACTOR, now=now)
    sent = [("/v1/billing/charges", body(user, f"k{i}")) for i in range(60)]
    sent += [(CHARGE, tool(user, f"k{i}")) for i in range(75)]
    sent += [(CHARGE, tool(user, f"i{i}", "image_gen")) for i in range(15)]
    random.shuffle(sent)
    answers = await asyncio.gather(*(minter.post(path, json=what) for path, what in sent))
    assert {answer.status_code for answer in answers} == {200, 201, 402}
    charged = sum(answer.status_code == 201 for answer in answers)
    used = [answer.json() for answer in answers if answer.status_code == 200]
    sources = Counter(source for reply in used for source in ("free", "paid", "main_pool") if reply[f"used_{source}"])
    assert (sources["free"], sources["paid"]) == (10 + 5, 7)
    from_main_pool = sum(reply["cost_minor"] for reply in used if reply["used_main_pool"])
    assert charged * 100 + from_main_pool == 4500 + 300  # the paid credits, and the one-time free uses
    pools = ("web_search/free", "web_search/paid", "image_gen/free", "image_gen/paid")
    assert await balances(database, account_id) == NOTHING | dict.fromkeys(pools, 0)
    assert len({reply["usage_log_id"] for reply in used}) == len(used) == await uses(database, account_id)


async def test_of_fifty_equal_requests_one_is_a_use(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    answers = await asyncio.gather(*(agent.post(CHARGE, json=tool(user, "storm")) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert said(answers[0]) == paid_by("free", cost_minor=0, uses=1, free=9)
    assert (await agent.get("/v1/tools/balance/web_search", params=user)).json()["total_uses"] == 1


async def test_replay_repeats_the_original_result_and_writes_nothing(
    minter: httpx.AsyncClient, user: User, database: Urls
) -> None:
    account_id = await open_with(minter, user, paid=20)
    await spend_free_images(minter, user)
    first = await minter.post(CHARGE, json=tool(user, "key", "image_gen"))
    assert said(first) == paid_by("main_pool", cost_minor=1000, uses=6, main=1)
    await minter.post(CHARGE, json=tool(user, "later", "image_gen"))
    before = await counts(database)
    for i in range(5):
        again = await minter.post(CHARGE, json=tool(user, "key", "image_gen", request_id=f"{i}", display_name=f"{i}"))
        assert (again.status_code, again.json()) == (200, first.json())
    assert await counts(database) == before
    account = await minter.get(f"/v1/billing/accounts/{account_id}")
    assert account.json()["display_name"] is None  # nor what it tells about the person


async def test_without_a_key_each_request_is_a_use(agent: httpx.AsyncClient, user: User) -> None:
    left = [(await agent.post(CHARGE, json=tool(user, request_id="same"))).json()["free_remaining"] for _ in range(3)]
    assert left == [9, 8, 7]


async def test_key_of_another_product_is_refused(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    await agent.post(CHARGE, json=tool(user, "key"))
    before = await counts(database)
    answer = await agent.post(CHARGE, json=tool(user, "key", "image_gen"))
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert await counts(database) == before
    raced = await asyncio.gather(
        *(agent.post(CHARGE, json=tool(user, "raced", product)) for product in ("web_search", "image_gen") * 10)
    )
    assert Counter(answer.status_code for answer in raced) == {200: 10, 422: 10}
    assert (await counts(database))["uses"] == before["uses"] + 1


async def test_keys_belong_to_account_and_operation(minter: httpx.AsyncClient, user: User, database: Urls) -> None:
    account_id = await open_with(minter, user, paid=20)
    other = {**user, "external_id": f"other-{user['external_id']}"}
    for who in (user, other):
        assert said(await minter.post(CHARGE, json=tool(who, "same")))["total_uses"] == 1
    assert (await minter.post("/v1/billing/charges", json=body(user, "same"))).status_code == 201
    await spend_free_images(minter, user)
    paid = await minter.post(CHARGE, json=tool(user, "of a charge row", "image_gen"))
    assert paid.json()["used_main_pool"] is True
    assert (await minter.post("/v1/billing/charges", json=body(user, "of a charge row", 1000))).status_code == 201
    assert (await minter.post("/v1/billing/charges", json=body(user, "first there"))).status_code == 201
    assert said(await minter.post(CHARGE, json=tool(user, "first there")))["total_uses"] == 2
    assert (await balances(database, account_id))["paid"] == 20 - 10 - 9  # one charge took the last two free uses


async def test_replay_takes_no_lock_and_an_equal_request_in_flight_waits(
    agent: httpx.AsyncClient, billing: BillingService, user: User, identity: Identity, database: Urls
) -> None:
    first = await agent.post(CHARGE, json=tool(user, "first"))
    async with account_locked(database, await billing.accounts.find_account_id(identity)), asyncio.timeout(2):
        assert (await agent.post(CHARGE, json=tool(user, "first"))).json() == first.json()
        waiting = [asyncio.create_task(agent.post(CHARGE, json=tool(user, "second"))) for _ in range(2)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
    answers = await asyncio.gather(*waiting)
    assert said(answers[0]) == paid_by("free", cost_minor=0, uses=2, free=8)
    assert answers[0].json() == answers[1].json()


async def full_key(urls: Urls) -> str:
    db = Database(SecretStr(urls.service))
    key = await make_key(db, "live", *Permission)
    await db.close()
    return key


async def test_two_server_processes_spend_exactly_what_is_there(own_database: Urls) -> None:
    user = {"oauth_provider": "oauth:google", "external_id": "both@example.com"}
    key = await full_key(own_database)
    with running_server(own_database) as one, running_server(own_database) as two:
        async with (
            httpx.AsyncClient(base_url=one.url, headers={"X-API-Key": key}, timeout=30) as first,
            httpx.AsyncClient(base_url=two.url, headers={"X-API-Key": key}, timeout=30) as second,
        ):
            account_id = await open_with(first, user, paid=47)
            await second.post("/v1/billing/check", json=user)
            storm = [client.post(CHARGE, json=tool(user, "storm")) for client in (first, second) for _ in range(25)]
            answers = await asyncio.gather(*storm)
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.content for answer in answers}) == 1
            answers = await asyncio.gather(
                *(first.post(CHARGE, json=tool(user, f"1-{i}")) for i in range(40)),
                *(second.post(CHARGE, json=tool(user, f"2-{i}")) for i in range(40)),
                *(first.post("/v1/billing/charges", json=body(user, f"1-{i}")) for i in range(40)),
                *(second.post("/v1/billing/charges", json=body(user, f"2-{i}")) for i in range(40)),
            )
    assert {answer.status_code for answer in answers} == {200, 201, 402}
    assert sum(answer.status_code < 300 for answer in answers) == 9 + 3 + 47
    assert await balances(own_database, account_id) == {**NOTHING, "web_search/free": 0, "web_search/paid": 0}
    assert await uses(own_database, account_id) == 1 + sum(answer.status_code == 200 for answer in answers)


async def test_killed_server_leaves_one_effect(own_database: Urls) -> None:
    """SIGKILL at a random moment of a use, then the same request to another process: used and paid once."""
    user = {"oauth_provider": "oauth:google", "external_id": "killed@example.com"}
    key = await full_key(own_database)
    with running_server(own_database) as survivor:
        async with httpx.AsyncClient(base_url=survivor.url, headers={"X-API-Key": key}, timeout=30) as client:
            account_id = await open_with(client, user, paid=100)
            await spend_free_images(client, user)
            for i in range(4):
                sent = tool(user, f"k{i}", "image_gen")
                with running_server(own_database) as victim:
                    await client.post(f"{victim.url}/v1/billing/check", json=user)
                    async with contextlib.AsyncExitStack() as stack:
                        if i == 0:  # certainly in the middle: it waits for the lock
                            await stack.enter_async_context(account_locked(own_database, account_id))
                        charge = asyncio.create_task(client.post(f"{victim.url}{CHARGE}", json=sent))
                        await asyncio.sleep(0.2 if i == 0 else random.uniform(0, 0.012))
                        victim.kill()
                        with contextlib.suppress(httpx.HTTPError):
                            await charge
                answer = await client.post(CHARGE, json=sent)
                assert said(answer) == paid_by("main_pool", cost_minor=1000, uses=6 + i, main=9 - i)
                assert (await client.post(CHARGE, json=sent)).json() == answer.json()
    assert await uses(own_database, account_id) == 5 + 4
    assert (await counts(own_database))["charges"] == 4
    assert (await balances(own_database, account_id))["paid"] == 100 - 40
