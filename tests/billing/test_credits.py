"""Credits given: each once, in whole credits, by any caller that may mint."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.billing.service import BillingService
from app.ledger.pools import MAX_CREDITS
from tests.billing.test_charges import User, body
from tests.books import account_locked, balances, connected, counts
from tests.databases import Urls

CREDIT_FIELDS = {
    "credit_id",
    "account_id",
    "amount_minor",
    "currency",
    "balance_after",
    "transaction_type",
    "external_transaction_id",
    "description",
    "created_at",
}
CREDITS = "/v1/billing/credits"


def credit(user: User, amount_minor: int = 2000, **fields: object) -> dict[str, Any]:
    return {**user, "amount_minor": amount_minor, "currency": "USD", "transaction_type": "grant", **fields}


@pytest.fixture
async def opened(minter: httpx.AsyncClient, user: User) -> UUID:
    """The user's account."""
    return UUID((await minter.post("/v1/billing/accounts", json=user)).json()["account_id"])


@pytest.mark.parametrize("kind", ["purchase", "grant", "refund", "adjustment", "bonus"])
async def test_each_kind_is_given_and_said_back(
    minter: httpx.AsyncClient, user: User, opened: UUID, kind: str, database: Urls
) -> None:
    sent = credit(user, transaction_type=kind, external_transaction_id="pi_1", description="for you")
    answer = await minter.post(CREDITS, json=sent)
    assert answer.status_code == 201
    assert set(answer.json()) == CREDIT_FIELDS
    said = {name: answer.json()[name] for name in ("amount_minor", "currency", "balance_after", "transaction_type")}
    assert said == {"amount_minor": 2000, "currency": "USD", "balance_after": 2000, "transaction_type": kind}
    assert (answer.json()["external_transaction_id"], answer.json()["description"]) == ("pi_1", "for you")
    assert answer.json()["account_id"] == str(opened)
    assert (await balances(database, opened))["paid"] == 20


async def test_credit_for_nobody_is_404_and_makes_nobody(minter: httpx.AsyncClient, user: User) -> None:
    answer = await minter.post(CREDITS, json=credit(user))
    assert (answer.status_code, answer.json()["code"]) == (404, "account_not_found")
    assert (await minter.get("/v1/billing/transactions", params=user)).json()["total_count"] == 0
    assert (await minter.get(f"/v1/billing/accounts/oauth:google/{user['external_id']}")).status_code == 404


async def test_agents_key_must_not_mint(agent: httpx.AsyncClient, user: User, opened: UUID) -> None:
    answer = await agent.post(CREDITS, json=credit(user))
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_permission")
    assert answer.json()["detail"] == "Missing required permission: billing:credit"


async def test_of_fifty_equal_credits_exactly_one_is_given(
    minter: httpx.AsyncClient, user: User, opened: UUID, database: Urls
) -> None:
    sent = credit(user, idempotency_key="storm")
    answers = await asyncio.gather(*(minter.post(CREDITS, json=sent) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}
    first = next(answer.json() for answer in answers if answer.status_code == 201)
    for replay in (answer for answer in answers if answer.status_code == 409):
        assert replay.headers["X-Existing-Credit-ID"] == first["credit_id"]
        assert {name: replay.json()[name] for name in CREDIT_FIELDS} == first
        assert (replay.json()["detail"], replay.json()["code"]) == ("Credit already exists", "credit_exists")
    assert (await balances(database, opened))["paid"] == 20


async def test_parallel_credits_charges_and_suspensions_add_up(
    minter: httpx.AsyncClient, billing: BillingService, user: User, opened: UUID, now: Any, database: Urls
) -> None:
    """Everything that moves one account at once: nothing is lost, nothing is made, the entries have no gap."""

    async def suspend_and_reopen() -> None:
        await billing.accounts.set_status(opened, "suspended", "for a moment", now)
        await billing.accounts.set_status(opened, "active", None, now)

    given = [minter.post(CREDITS, json=credit(user, 300, idempotency_key=f"c{i}")) for i in range(20)]
    taken = [minter.post("/v1/billing/charges", json=body(user, f"k{i}", 200)) for i in range(40)]
    answers = await asyncio.gather(*given, *taken, *(suspend_and_reopen() for _ in range(4)))
    statuses = [answer.status_code for answer in answers[:60] if answer is not None]
    assert statuses[:20] == [201] * 20
    assert set(statuses[20:]) <= {201, 402, 403}
    charged = Counter(statuses[20:])[201]
    assert sum((await balances(database, opened)).values()) == 3 + 60 - 2 * charged
    async with connected(database) as connection:
        numbers = await connection.fetch(
            "SELECT entry_no FROM ledger_entries WHERE account_id = $1 ORDER BY entry_no", opened
        )
    assert [row["entry_no"] for row in numbers] == list(range(1, len(numbers) + 1))


async def test_replay_of_a_credit_writes_nothing_and_another_one_is_refused(
    minter: httpx.AsyncClient, user: User, opened: UUID, database: Urls
) -> None:
    await minter.post(CREDITS, json=credit(user, idempotency_key="key"))
    before = await counts(database)
    again = await minter.post(CREDITS, json=credit(user, idempotency_key="key", description="other words"))
    assert again.status_code == 409
    for changes in ({"amount_minor": 2100}, {"currency": "EUR"}, {"transaction_type": "bonus"}):
        answer = await minter.post(CREDITS, json={**credit(user, idempotency_key="key"), **changes})
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert await counts(database) == before


async def test_a_charges_key_and_a_credits_key_are_apart(minter: httpx.AsyncClient, user: User, opened: UUID) -> None:
    assert (await minter.post("/v1/billing/charges", json=body(user, "same", 2000))).status_code == 402
    assert (await minter.post(CREDITS, json=credit(user, idempotency_key="same"))).status_code == 201
    assert (await minter.post("/v1/billing/charges", json=body(user, "same", 2000))).status_code == 201
    tool = {**user, "product_type": "web_search", "idempotency_key": "same"}
    assert (await minter.post("/v1/tools/charge", json=tool)).status_code == 200


@pytest.mark.parametrize("amount", [0, 1, 99, 150, -100, 100.0, 1e30, "100", True, None, 2**63])
async def test_only_whole_credits_are_given(
    minter: httpx.AsyncClient, user: User, opened: UUID, amount: object, database: Urls
) -> None:
    answer = await minter.post(CREDITS, json={**credit(user), "amount_minor": amount})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert answer.json()["detail"][0]["loc"] == ["body", "amount_minor"]
    assert (await balances(database, opened))["paid"] == 0


async def test_balance_that_would_not_fit_64_bits_is_refused(
    minter: httpx.AsyncClient, user: User, opened: UUID, database: Urls
) -> None:
    assert (await minter.post(CREDITS, json=credit(user, MAX_CREDITS * 100))).status_code == 201
    answer = await minter.post(CREDITS, json=credit(user, 100))
    assert (answer.status_code, answer.json()["code"]) == (422, "balance_limit_exceeded")
    assert (await balances(database, opened))["paid"] == MAX_CREDITS
    charged = await minter.post("/v1/billing/charges", json=body(user, None, 2**63 - 1))
    assert charged.status_code == 201  # rounded up, it takes one credit more than the paid pool holds: a free use
    assert (await balances(database, opened)) == {"daily_free": 0, "free": 0, "paid": 2, "debt": 0}


async def test_currency_is_the_accounts(minter: httpx.AsyncClient, user: User, opened: UUID) -> None:
    for path, sent in ((CREDITS, credit(user)), ("/v1/billing/charges", body(user))):
        wrong = await minter.post(path, json={**sent, "currency": "EUR"})
        assert (wrong.status_code, wrong.json()["code"]) == (422, "currency_mismatch")
        assert (await minter.post(path, json={**sent, "currency": "usd"})).json()["currency"] == "USD"


async def test_suspended_account_may_receive_but_not_spend(
    minter: httpx.AsyncClient, billing: BillingService, user: User, opened: UUID, now: Any
) -> None:
    await billing.accounts.set_status(opened, "suspended", "chargeback", now)
    assert (await minter.post(CREDITS, json=credit(user))).status_code == 201
    assert (await minter.post("/v1/billing/charges", json=body(user))).status_code == 403
    check = (await minter.post("/v1/billing/check", json=user)).json()
    assert (check["has_credit"], check["credits_remaining"], check["daily_free_uses_remaining"]) == (False, 20, 0)


async def test_credit_that_cannot_lock_its_account_answers_503_and_gives_nothing(
    minter: httpx.AsyncClient, user: User, opened: UUID, database: Urls
) -> None:
    async with account_locked(database, opened), asyncio.timeout(5):
        answer = await minter.post(CREDITS, json=credit(user, idempotency_key="key"))
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await balances(database, opened))["paid"] == 0
    assert (await minter.post(CREDITS, json=credit(user, idempotency_key="key"))).status_code == 201
