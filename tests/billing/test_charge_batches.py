"""`POST /v1/billing/charges/batch`: each charge has the result of the single route, and none affects another."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.accounts.directory import Identity
from app.billing.batches import ROUND
from app.billing.posting import ChargeSeries
from app.billing.service import BillingService
from app.db import Database
from app.errors import Busy
from tests.billing.test_charges import User, body, open_account
from tests.billing.test_charges import request as charge_request
from tests.books import account_locked, balances, connected, waiting_for_locks
from tests.conftest import ClientFor, Keys
from tests.databases import Urls

SINGLE, BATCH = "/v1/billing/charges", "/v1/billing/charges/batch"


def new_user() -> User:
    return {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}


async def send(client: httpx.AsyncClient, charges: Sequence[object], **headers: str) -> dict[str, Any]:
    answer = await client.post(BATCH, json={"charges": charges}, headers=headers)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    assert len(reply["results"]) == len(charges) == reply["processed"] + reply["replayed"] + reply["failed"]
    return reply


def statuses(reply: dict[str, Any]) -> list[int]:
    return [result["status"] for result in reply["results"]]


async def test_each_charge_has_its_own_result(agent: httpx.AsyncClient, user: User) -> None:
    """Three free uses: the charges of one user are decided in their order."""
    other = new_user()
    charges = [
        body(user, "a"),
        body(user, "b", 200, metadata={"agent_id": "datum"}, description="An answer"),
        body(other, "a"),
        body(user, "c"),
        body(user, "a"),
        body(user, "b", 100),
        {**body(user, "d"), "amount_minor": "1"},
        None,
        body(other),
    ]
    reply = await send(agent, charges)
    assert statuses(reply) == [201, 201, 201, 402, 409, 422, 422, 422, 201]
    assert (reply["processed"], reply["replayed"], reply["failed"]) == (4, 1, 4)
    results = reply["results"]
    assert [result["idempotency_key"] for result in results] == ["a", "b", "a", "c", "a", "b", "d", None, None]
    assert [result["success"] for result in results] == [status in (201, 409) for status in statuses(reply)]
    bodies = [result["body"] for result in results]
    assert bodies[4]["charge_id"] == bodies[0]["charge_id"] != bodies[2]["charge_id"]
    assert (bodies[4]["code"], bodies[5]["code"]) == ("charge_exists", "idempotency_key_reused")
    assert bodies[3]["remedies"] == []
    assert bodies[6]["detail"][0]["loc"] == ["body", "amount_minor"]
    for place in (0, 1):
        found = await agent.get(f"{SINGLE}/{bodies[place]['charge_id']}")
        assert found.json() == bodies[place]


MALFORMED: list[Any] = [
    {"amount_minor": 0},
    {"amount_minor": 2**63},
    {"amount_minor": 1.5, "currency": "usd dollars"},
    {"amount_minor": True},
    {"description": "x" * 1001},
    {"description": "a\0b"},
    {"idempotency_key": ""},
    {"idempotency_key": "x" * 256},
    {"metadata": {"agent_id": "x" * 256}},
    {"metadata": [[]]},
    {"oauth_provider": "google"},
    {"oauth_provider": None},
    {"external_id": ""},
    {"external_id": None, "user_id": "ann"},
    {"currency": "EUR"},
    {"amount_minor": 2**63 - 1},
    {"amount_minor": 10**6},
]


@pytest.mark.parametrize("change", MALFORMED, ids=str)
async def test_a_result_is_the_answer_of_the_single_route(change: Any, agent: httpx.AsyncClient, user: User) -> None:
    charge = {**body(user, "k"), **change}
    single = await agent.post(SINGLE, json=charge)
    reply = await send(agent, [charge, body(user, "good")])
    assert statuses(reply) == [single.status_code, 201]
    ours, theirs = reply["results"][0]["body"], single.json()
    assert ours.pop("request_id") != theirs.pop("request_id")
    assert ours == theirs


@pytest.mark.parametrize("item", [[], 5, "text", True, [[[]]], {}, {"charges": []}])
async def test_what_is_no_charge_fails_alone(item: Any, agent: httpx.AsyncClient, user: User) -> None:
    reply = await send(agent, [item, body(user, "k")])
    assert statuses(reply) == [422, 201]
    assert reply["results"][0]["body"]["code"] in ("validation_error", "identity_required")


HOSTILE = [
    b'{"charges": {}}',
    b'{"charges": null}',
    b"{}",
    b"[]",
    b'{"charges": [' + b"[" * 100_000,
    b'{"charges": [' + b",".join([b"1"] * 1001) + b"]}",
    b"\xff",
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
async def test_what_is_no_batch_is_refused_whole(content: bytes, agent: httpx.AsyncClient) -> None:
    answer = await agent.post(BATCH, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text


async def test_values_that_no_answer_can_repeat(agent: httpx.AsyncClient, user: User) -> None:
    named = json.dumps(user)[1:-1]
    texts = ['"\\ud800"', "NaN", "1e400", '"\\u0000"', "9" * 4_000, '{"a": 1}']
    items = ",".join(f'{{{named}, "amount_minor": 100, "idempotency_key": {text}}}' for text in texts)
    content = f'{{"charges": [{items}]}}'.encode()
    answer = await agent.post(BATCH, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert statuses(answer.json()) == [422] * len(texts)
    too_large = [body(user, f"k{n}", description="x" * 1000) for n in range(1000)]
    assert (await agent.post(BATCH, json={"charges": too_large})).status_code == 413


async def test_fastapi_answers_as_the_fast_path(app: FastAPI, agent: httpx.AsyncClient, user: User) -> None:
    charges = {"charges": [body(user, "a"), body(user, "a", 200), None, body(user, "b", 1000)]}
    await agent.post(BATCH, json=charges)
    fast = await agent.post(BATCH, json=charges)
    app.dependency_overrides[new_user] = new_user  # overrides nothing, but there is one
    try:
        slow = await agent.post(BATCH, json=charges)
    finally:
        del app.dependency_overrides[new_user]
    replies = [answer.json() for answer in (fast, slow)]
    for results in zip(*(reply["results"] for reply in replies), strict=True):
        assert len({result["body"].pop("request_id") for result in results}) == 2
    assert replies[0] == replies[1]
    assert statuses(replies[0]) == [409, 422, 422, 402]


async def test_a_repeated_batch_changes_nothing(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    charges = [body(user, "a"), body(user, "b"), body(user, "c")]
    first = await agent.post(BATCH, json={"charges": charges})
    assert "Idempotency-Replayed" not in first.headers
    assert first.headers["Cache-Control"] == "no-store"
    account = first.json()["results"][0]["body"]["account_id"]
    before = await balances(database, account)
    again = await agent.post(BATCH, json={"charges": charges})
    assert statuses(again.json()) == [409] * 3
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await agent.post(SINGLE, json=charges[0])).status_code == 409
    assert await balances(database, account) == before
    mixed = await agent.post(BATCH, json={"charges": [*charges, body(user, "d")]})
    assert statuses(mixed.json()) == [409, 409, 409, 402]
    assert "Idempotency-Replayed" not in mixed.headers


async def test_the_header_with_a_key_does_not_make_charges_of_a_batch_one(agent: httpx.AsyncClient, user: User) -> None:
    reply = await send(agent, [body(user), body(user)], **{"Idempotency-Key": "k"})
    assert statuses(reply) == [201, 201]


async def test_concurrent_batches_and_single_charges_charge_each_key_once(
    agent: httpx.AsyncClient, billing: BillingService, user: User, identity: Identity, now: Any, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now, paid=200)
    charges = [body(user, f"k{n}") for n in range(150)]
    batches = [agent.post(BATCH, json={"charges": charges[::step]}) for step in (1, -1, 1)]
    answers = await asyncio.gather(*batches, *(agent.post(SINGLE, json=charge) for charge in charges[:20]))
    found = Counter(status for answer in answers[:3] for status in statuses(answer.json()))
    found.update(answer.status_code for answer in answers[3:])
    assert found == {201: 150, 409: 320}
    assert sum((await balances(database, account_id)).values()) == 203 - 150


async def test_parallel_batches_never_overspend(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    batches = [[body(user, f"{batch}-{n}") for n in range(10)] for batch in range(8)]
    replies = await asyncio.gather(*(send(agent, charges) for charges in batches))
    assert Counter(status for reply in replies for status in statuses(reply)) == {201: 3, 402: 77}


async def test_a_long_batch_is_split_into_transactions(
    agent: httpx.AsyncClient, billing: BillingService, user: User, identity: Identity, now: Any, database: Urls
) -> None:
    """So that others get the account's lock in between."""
    account_id = await open_account(billing, identity, now, paid=1000)
    reply = await send(agent, [body(user, f"k{n}") for n in range(1000)])
    assert (reply["processed"], reply["failed"]) == (1000, 0)
    async with connected(database) as connection:
        sizes = await connection.fetch(
            "SELECT count(*) AS size FROM charges WHERE account_id = $1 GROUP BY xmin", account_id
        )
        order = await connection.fetch(
            "SELECT idempotency_key FROM charges WHERE account_id = $1 ORDER BY entry_no", account_id
        )
    assert max(row["size"] for row in sizes) <= ROUND
    assert [row["idempotency_key"] for row in order] == [f"k{n}" for n in range(1000)]
    assert (await send(agent, []))["results"] == []


async def test_many_users_and_their_profiles(agent: httpx.AsyncClient, database: Urls) -> None:
    users = [new_user() for _ in range(40)]
    charges = [body(user, "k", display_name=f"Ada {n}") for n in range(2) for user in users]
    assert statuses(await send(agent, charges)) == [201] * 40 + [409] * 40
    assert statuses(await send(agent, [body(users[0], "l", display_name="Grace")])) == [201]
    async with connected(database) as connection:
        names = await connection.fetch(
            "SELECT display_name, count(*) AS n FROM account_profiles NATURAL JOIN account_identities"
            " WHERE external_id = ANY ($1) GROUP BY display_name",
            [user["external_id"] for user in users],
        )
    assert {row["display_name"]: row["n"] for row in names} == {"Ada 0": 39, "Grace": 1}


async def test_suspended_accounts_do_not_affect_others(
    agent: httpx.AsyncClient, billing: BillingService, user: User, identity: Identity, now: Any
) -> None:
    account_id = await open_account(billing, identity, now)
    await billing.accounts.set_status(account_id, "suspended", "spam", now)
    reply = await send(agent, [body(user, "a"), body(new_user(), "a"), body(user, "b")])
    assert statuses(reply) == [403, 201, 403]
    assert reply["results"][0]["body"]["code"] == "account_suspended"


async def test_charges_after_a_failed_transaction_of_their_account_are_not_tried(
    app: FastAPI, agent: httpx.AsyncClient, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that their order stays: the caller repeats all of them."""
    tried: list[ChargeSeries] = []
    charge_in_order = app.state.billing.charge_in_order

    async def failing_once(series: ChargeSeries) -> Any:
        tried.append(series)
        if len(tried) == 1:
            raise Busy
        return await charge_in_order(series)

    monkeypatch.setattr(app.state.billing, "charge_in_order", failing_once)
    monkeypatch.setattr("app.billing.batches.ROUND", 2)
    charges = [*(body(user, f"k{n}") for n in range(3)), body(new_user(), "k")]
    assert statuses(await send(agent, charges)) == [503, 503, 503, 201]
    assert len(tried) == 2  # the other user's is the second
    assert statuses(await send(agent, charges)) == [201, 201, 201, 409]


async def test_a_locked_account_is_busy_and_the_others_are_charged(
    agent: httpx.AsyncClient, billing: BillingService, user: User, identity: Identity, now: Any, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now)
    other = new_user()
    async with account_locked(database, account_id):
        reply = await send(agent, [body(user, "a"), body(other, "a"), body(user, "b")])
        whole = await agent.post(BATCH, json={"charges": [body(user, "a"), body(user, "b")]})
    assert statuses(reply) == [503, 201, 503]
    assert reply["results"][0]["body"]["code"] == "busy"
    assert (whole.status_code, whole.headers["Retry-After"]) == (503, "1")
    assert statuses(await send(agent, [body(user, "a"), body(other, "a"), body(user, "b")])) == [201, 409, 201]


async def test_batches_need_an_api_key_that_may_charge(
    agent: httpx.AsyncClient, client_for: ClientFor, keys: Keys, person: httpx.AsyncClient, user: User, db: Database
) -> None:
    charges = {"charges": [body(user, "k")]}
    assert (await client_for(keys.reader).post(BATCH, json=charges)).status_code == 403
    assert (await client_for(None).post(BATCH, json=charges)).status_code == 401
    assert (await person.post(BATCH, json=charges)).status_code == 401
    live = await send(agent, [body(user, "k")])
    test = await send(client_for(keys.test), [body(user, "k")])
    assert statuses(live) == statuses(test) == [201]


@pytest.mark.parametrize("series_first", [True, False])
async def test_one_key_in_both_routes_of_one_transaction_is_charged_once(
    billing: BillingService, identity: Identity, now: datetime, database: Urls, series_first: bool
) -> None:
    """Both wait for the account's lock, so that one transaction decides them."""
    account_id = await open_account(billing, identity, now, paid=10)
    single = charge_request(account_id, now, "k")
    series = ChargeSeries(account_id, [charge_request(account_id, now, key) for key in ("a", "k")])

    async def one() -> list[str]:
        return [type(await billing.charge(single)).__name__]

    async def many() -> list[str]:
        return [type(outcome).__name__ for outcome in await billing.charge_in_order(series)]

    async with account_locked(database, account_id):
        first, second = (many, one) if series_first else (one, many)
        tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
        await waiting_for_locks(database, 1)
    outcomes = [name for task in tasks for name in await task]
    assert Counter(outcomes) == {"New": 2, "Replayed": 1}
    assert sum((await balances(database, str(account_id))).values()) == 13 - 2  # three free uses, and ten credits
