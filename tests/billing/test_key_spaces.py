"""Idempotency keys of API keys, users and admins are kept apart."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.accounts.directory import Identity
from app.auth.caller import Actor, CallerKind
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.db import new_id
from app.ledger.outcomes import New, Refused, Replayed
from app.ledger.pools import Credits
from tests.billing.test_charges import body, open_account
from tests.books import balances
from tests.conftest import Keys
from tests.databases import Urls

KEY, PERSON = Actor("api_key", "0123456789abcdef"), Actor("user", "a token's digest")


@pytest.fixture
def agent(client_with: Callable[..., httpx.AsyncClient], keys: Keys) -> httpx.AsyncClient:
    return client_with(**{"X-API-Key": keys.agent})


async def by_key(client: httpx.AsyncClient, key: str, **user: str) -> httpx.Response:
    return await client.get("/v1/billing/charges/by-key", params={"idempotency_key": key, **user})


# --- attacks ---------------------------------------------------------------------------------------------------


async def test_a_user_cannot_pay_for_an_agents_charge_under_its_key(
    agent: httpx.AsyncClient,
    person: httpx.AsyncClient,
    user: dict[str, str],
    billing: BillingService,
    identity: Identity,
    now: datetime,
    database: Urls,
) -> None:
    account_id = await open_account(billing, identity, now, paid=100)
    key = "charge:interaction-1"
    decoy = await person.post("/v1/billing/charges", json={"amount_minor": 1, "idempotency_key": key})
    assert decoy.status_code == 201
    real = await agent.post("/v1/billing/charges", json=body(user, key, amount_minor=5000))
    assert (real.status_code, real.json()["amount_minor"]) == (201, 5000)
    assert await balances(database, account_id) == {"daily_free": 0, "free": 0, "paid": 52, "debt": 0}
    for client, amount_minor, first in ((agent, 5000, real), (person, 1, decoy)):
        again = await client.post("/v1/billing/charges", json=body(user, key, amount_minor=amount_minor))
        assert (again.status_code, again.json()["charge_id"]) == (409, first.json()["charge_id"])
        found = await by_key(client, key, **user)
        assert found.json() == first.json()
    assert (await balances(database, account_id))["paid"] == 52


@pytest.mark.parametrize("amount_minor", [1, 5000], ids=["another amount", "the same amount"])
async def test_a_race_of_both_callers_charges_each_once(
    amount_minor: int,
    agent: httpx.AsyncClient,
    person: httpx.AsyncClient,
    user: dict[str, str],
    billing: BillingService,
    identity: Identity,
    now: datetime,
    database: Urls,
) -> None:
    account_id = await open_account(billing, identity, now, paid=200)
    agents = body(user, "k", amount_minor=5000)
    answers = await asyncio.gather(
        *(
            client.post("/v1/billing/charges", json=sent)
            for _ in range(15)
            for client, sent in ((person, {"amount_minor": amount_minor, "idempotency_key": "k"}), (agent, agents))
        )
    )
    assert Counter(answer.status_code for answer in answers) == {201: 2, 409: 28}
    assert len({answer.json()["charge_id"] for answer in answers[0::2]}) == 1
    assert len({answer.json()["charge_id"] for answer in answers[1::2]}) == 1
    cost = 50 + -(-amount_minor // 100)
    assert sum((await balances(database, account_id)).values()) == 203 - cost


async def test_one_batch_keeps_kinds_apart(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now, paid=10)
    requests = [
        ChargeRequest(account_id, amount_minor, None, actor, now, idempotency_key="k")
        for actor, amount_minor in ((PERSON, 100), (KEY, 500), (PERSON, 100), (KEY, 500), (KEY, 600))
    ]
    outcomes = await billing.charge_many(requests)
    assert [type(outcome) for outcome in outcomes] == [New, New, Replayed, Replayed, Refused]
    assert sum((await balances(database, account_id)).values()) == 13 - 6


async def test_a_key_credits_once_for_each_kind_of_caller(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    """The command line is an admin: its key is also that of a correction in the back office."""
    account_id = await open_account(billing, identity, now)
    replayed: dict[CallerKind | None, list[bool]] = {}
    for actor in (KEY, Actor("system", "ciris-billing"), KEY, Actor("admin", str(new_id()))):
        credit = await billing.credit(
            account_id,
            credits=Credits(5),
            currency=None,
            transaction_type="grant",
            actor=actor,
            now=now,
            idempotency_key="k",
        )
        replayed.setdefault(actor.kind, []).append(credit.replayed)
    assert replayed == {"key": [False, True], "admin": [False, True]}
    assert (await balances(database, account_id))["paid"] == 10


# --- asking whether a charge happened ---------------------------------------------------------------------------


async def test_by_key_answers_the_callers_own_charge(
    agent: httpx.AsyncClient, person: httpx.AsyncClient, user: dict[str, str]
) -> None:
    charge = body(user, "k/ä?&=1", metadata={"agent_id": "datum"}, description="An answer")
    made = (await agent.post("/v1/billing/charges", json=charge)).json()
    found = await by_key(agent, "k/ä?&=1", **user)
    assert (found.status_code, found.json()) == (200, made)
    for answer in (await by_key(person, "k/ä?&=1"), await by_key(agent, "other", **user)):
        assert (answer.status_code, answer.json()["code"]) == (404, "charge_not_found")
        assert answer.headers["Cache-Control"] == "no-store"
    assert found.headers["Cache-Control"] == "no-store"
    assert "Idempotency-Replayed" not in found.headers


async def test_by_key_shows_a_token_its_own_account_only(
    agent: httpx.AsyncClient, person: httpx.AsyncClient, user: dict[str, str]
) -> None:
    other = {**user, "external_id": f"other-{user['external_id']}"}
    await agent.post("/v1/billing/charges", json=body(other, "k"))
    mine = (await person.post("/v1/billing/charges", json={"amount_minor": 100, "idempotency_key": "k"})).json()
    assert (await by_key(person, "k", **other)).json() == mine


async def test_by_key_answers_neither_another_operation_nor_another_environment(
    minter: httpx.AsyncClient, client_with: Callable[..., httpx.AsyncClient], keys: Keys, user: dict[str, str]
) -> None:
    """The key "k" of a tool's charge, a hold, a credit, and of a charge in the test environment."""
    await minter.post("/v1/billing/accounts", json=user)
    others: dict[str, dict[str, Any]] = {
        "/v1/tools/charge": {"product_type": "image_gen"},
        "/v1/billing/holds": {"amount_minor": 100},
        "/v1/billing/credits": {"amount_minor": 100, "transaction_type": "grant"},
    }
    for path, work in others.items():
        assert (await minter.post(path, json={**user, **work, "idempotency_key": "k"})).status_code in (200, 201)
    of_test = client_with(**{"X-API-Key": keys.test})
    made = await of_test.post("/v1/billing/charges", json=body(user, "k"))
    assert made.status_code == 201
    answer = await by_key(minter, "k", **user)
    assert (answer.status_code, answer.json()["code"]) == (404, "charge_not_found")
    assert (await by_key(of_test, "k", **user)).json() == made.json()


async def test_by_key_writes_nothing(agent: httpx.AsyncClient, client_with: Any, keys: Keys) -> None:
    nobody = {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}
    for key in (keys.agent, keys.reader, keys.test):
        answer = await by_key(client_with(**{"X-API-Key": key}), "k", **nobody)
        assert (answer.status_code, answer.json()["code"]) == (404, "charge_not_found")
    assert (await agent.get(f"/v1/billing/accounts/oauth:google/{nobody['external_id']}")).status_code == 404


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({}, 422, "validation_error"),
        ({"idempotency_key": ""}, 422, "validation_error"),
        ({"idempotency_key": "x" * 256}, 422, "validation_error"),
        ({"idempotency_key": "a\0b"}, 422, "validation_error"),
        ({"idempotency_key": "k", "oauth_provider": "google"}, 422, "validation_error"),
        ({"idempotency_key": "k", "oauth_provider": "oauth:google"}, 422, "identity_required"),
    ],
)
async def test_by_key_refuses_what_names_no_charge(
    sent: dict[str, str], status: int, code: str, agent: httpx.AsyncClient
) -> None:
    answer = await agent.get("/v1/billing/charges/by-key", params=sent)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_by_key_needs_a_caller(client_with: Callable[..., httpx.AsyncClient]) -> None:
    assert (await by_key(client_with(), "k")).status_code == 401
