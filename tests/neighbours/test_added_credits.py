"""`POST /v1/credits/add`, as the control plane and the operators' scripts of Z-Billing call it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from tests.conftest import make_usage_key
from tests.metering.conftest import PROVIDER, Desk, usage
from tests.neighbours.conftest import ORIGIN, ClientOf
from tests.neighbours.strict import read, z_error
from tests.support.wallets import DOLLAR

ADD = "/v1/credits/add"
NO_CENTS: tuple[Any, ...] = (1.5, "5", None, True, 2**63, 2**63 - 1, [], {})
ADDED: dict[str, type] = {"balance_cents": int, "transaction_id": str, "balance": str}


@pytest.fixture(scope="module")
async def minting_key(desk: Desk) -> str:
    return await make_usage_key(desk.db, UsageTerms(PROVIDER), "live", Permission.MONEY_CREDIT)


@pytest.fixture
async def operator(desk: Desk, minting_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the key where Z-Billing's clients have it."""
    headers = {"X-Admin-Key": minting_key, "X-Admin-Id": "ops"}
    async with httpx.AsyncClient(base_url=desk.url, headers=headers, timeout=30) as client:
        yield client


def body(user_id: str, cents: Any = 500, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "amount_cents": cents, "reason": "welcome", **more}


async def test_the_control_planes_setup(
    operator: httpx.AsyncClient, desk: Desk, client_of: ClientOf, user_id: str
) -> None:
    """A check with 0 creates the account; then adding works, and a check finds the money."""
    missing = await operator.post(ADD, json=body(user_id))
    assert z_error(missing) == (404, "not_found", "Account not found")
    checked = await desk.reader.post("/v1/usage/check", json={"user_id": user_id, "required_cents": 0})
    assert checked.json()["balance_cents"] == 0
    added = await operator.post(ADD, json=body(user_id.upper().replace("-", ""), 500))
    assert added.status_code == 200, added.text
    found = read(added.json(), ADDED)
    assert (found["balance_cents"], found["balance"]) == (500, "5.000000")
    checked = await desk.reader.post("/v1/usage/check", json={"user_id": user_id, "required_cents": 500})
    assert checked.json()["sufficient"] is True
    own = client_of(user_id)
    [transaction] = (await own.get("/v1/credits/transactions")).json()["transactions"]
    names = ("id", "amount_cents", "transaction_type", "balance_after_cents", "description")
    assert [transaction[name] for name in names] == [found["transaction_id"], 500, "bonus", 500, "welcome"]
    account = (await own.get("/v1/accounts/me")).json()
    assert (account["lifetime_granted_cents"], account["lifetime_purchased_cents"]) == (500, 0)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        *(({"amount_cents": negative}, 400) for negative in (0, -1, -(2**63))),
        *(({"amount_cents": wrong}, 422) for wrong in NO_CENTS),
        *(({"reason": wrong}, 422) for wrong in (None, 5, "x" * 256, "a\0b")),
        *(({"user_id": wrong}, 422) for wrong in ("", 5, "x" * 256, "a\0b", None)),
        *(({"idempotency_key": wrong}, 422) for wrong in ("", "x" * 256, 5)),
        ({"external_id": "another"}, 422),
    ],
)
async def test_bad_input(
    change: dict[str, Any], status: int, operator: httpx.AsyncClient, desk: Desk, user_id: str
) -> None:
    await desk.reader.post("/v1/usage/check", json={"user_id": user_id, "required_cents": 0})
    refused = await operator.post(ADD, json={**body(user_id), **change})
    assert z_error(refused)[:2] == (status, "bad_request")
    assert next(iter(change)) in refused.text
    assert await desk.wallet(user_id) == (0, 0)


async def test_a_key_adds_once(operator: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await desk.reader.post("/v1/usage/check", json={"user_id": user_id, "required_cents": 0})
    headers = {"Idempotency-Key": "gift-1"}
    answers = await asyncio.gather(*(operator.post(ADD, json=body(user_id, 250), headers=headers) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.text for answer in answers}) == 1
    assert sorted("Idempotency-Replayed" in answer.headers for answer in answers) == [False, *[True] * 4]
    assert await desk.wallet(user_id) == (5 * DOLLAR // 2, 0)
    other = await operator.post(ADD, json=body(user_id, 251), headers=headers)
    assert z_error(other)[:2] == (422, "bad_request")
    assert other.json()["code"] == "idempotency_key_reused"
    again = await operator.post(ADD, json=body(user_id, 250))
    assert again.json()["balance_cents"] == 500


async def test_the_balance_is_shown_rounded_down(operator: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await desk.reader.post("/v1/usage/check", json={"user_id": user_id, "required_cents": 0})
    await desk.give(user_id, 9_999_999)
    added = (await operator.post(ADD, json=body(user_id, 1))).json()
    assert (added["balance_cents"], added["balance"]) == (1, "0.019999999")


async def test_a_gift_pays_no_debt(operator: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await desk.debtor.post("/v1/usage", json=usage(user_id, cost="1.5"))
    added = await operator.post(ADD, json=body(user_id, 100))
    assert added.json()["balance_cents"] == 100
    assert await desk.wallet(user_id) == (DOLLAR, 3 * DOLLAR // 2)


async def test_the_balance_cannot_exceed_64_bits(operator: httpx.AsyncClient, desk: Desk, user_id: str) -> None:
    await desk.reader.post("/v1/usage/check", json={"user_id": user_id, "required_cents": 0})
    most = (2**63 - 1) // (DOLLAR // 100)
    assert (await operator.post(ADD, json=body(user_id, most))).json()["balance_cents"] == most
    refused = await operator.post(ADD, json=body(user_id, 1))
    assert z_error(refused)[:2] == (422, "bad_request")
    assert refused.json()["field"] == "amount_cents"


@pytest.mark.parametrize("header", ["X-API-Key", "X-Admin-Key"])
async def test_only_keys_that_may_add_money(
    header: str, desk: Desk, client_of: ClientOf, user_id: str, minting_key: str
) -> None:
    await desk.reader.post("/v1/usage/check", json={"user_id": user_id, "required_cents": 0})
    content = body(user_id)
    agent = desk.router.headers["X-API-Key"]
    assert z_error(await desk.nobody.post(ADD, json=content, headers={header: agent}))[:2] == (403, "forbidden")
    unknown = f"cbk_live_{uuid.uuid4().hex}"
    for wrong in (unknown, "x", "test-token:user"):
        refused = await desk.nobody.post(ADD, json=content, headers={header: wrong})
        assert z_error(refused) == (401, "unauthorized", "unauthorized")
    assert z_error(await client_of(user_id).post(ADD, json=content))[0] == 401
    both = {"X-API-Key": minting_key, "X-Admin-Key": minting_key}
    assert z_error(await desk.nobody.post(ADD, json=content, headers=both))[0] == 401
    assert (await desk.nobody.post(ADD, json=content, headers={header: minting_key})).status_code == 200
    page = await desk.nobody.options(ADD, headers={"Origin": ORIGIN, "Access-Control-Request-Method": "POST"})
    assert "Access-Control-Allow-Origin" not in page.headers
