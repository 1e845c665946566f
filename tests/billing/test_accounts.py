"""Accounts: one per identity, also in races of creators, and the profile that they store of the person."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from app.accounts.directory import AccountDirectory, Identity
from app.billing.service import BillingService
from tests.books import balances, connected
from tests.conftest import ClientFor, Keys
from tests.databases import Urls

ACCOUNT_FIELDS = {
    "account_id",
    "oauth_provider",
    "external_id",
    "wa_id",
    "tenant_id",
    "customer_email",
    "display_name",
    "balance_minor",
    "paid_credits",
    "free_uses_remaining",
    "total_uses",
    "currency",
    "plan_name",
    "status",
    "marketing_opt_in",
    "marketing_opt_in_at",
    "marketing_opt_in_source",
    "created_at",
    "updated_at",
}
User = dict[str, str]
SetClock = Callable[[datetime], None]


async def account(client: httpx.AsyncClient, user: User) -> dict[str, Any]:
    answer = await client.get(f"/v1/billing/accounts/{user['oauth_provider']}/{quote(user['external_id'])}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_first_calls_of_every_kind_at_once_make_one_account(
    agent: httpx.AsyncClient, user: User, database: Urls
) -> None:
    """Fifty calls that all find no account: one account, one opening grant, and the charges have it."""
    charge = {**user, "amount_minor": 100}
    usage = {
        **user,
        "interaction_id": "i",
        "total_llm_calls": 1,
        "total_prompt_tokens": 1,
        "total_completion_tokens": 1,
        "models_used": [],
        "actual_cost_cents": 0.1,
        "duration_ms": 1,
    }
    calls: list[Callable[[], Awaitable[httpx.Response]]] = [
        lambda: agent.post("/v1/billing/check", json=user),
        lambda: agent.post("/v1/billing/charges", json=charge),
        lambda: agent.post("/v1/billing/accounts", json=user),
        lambda: agent.get("/v1/tools/balance", params=user),
        lambda: agent.post("/v1/billing/litellm/usage", json=usage),
    ]
    answers = await asyncio.gather(*(call() for _ in range(10) for call in calls))
    statuses = Counter(answer.status_code for answer in answers)
    assert sum(statuses[code] for code in (200, 201, 402)) == 50, statuses
    async with connected(database) as connection:
        ids = await connection.fetch(
            "SELECT account_id FROM account_identities WHERE external_id = $1", user["external_id"]
        )
        assert len(ids) == 1
        opened = await connection.fetch(
            "SELECT delta FROM ledger_entries WHERE account_id = $1 AND kind = 'opening_grant'", ids[0]["account_id"]
        )
    assert [row["delta"] for row in opened] == [3]
    assert Counter(a.status_code for a in answers if a.request.url.path == "/v1/billing/charges") == {201: 3, 402: 7}
    assert await balances(database, ids[0]["account_id"]) == {"daily_free": 0, "free": 0, "paid": 0, "debt": 0}


async def test_live_and_test_are_two_worlds(client_for: ClientFor, keys: Keys, user: User) -> None:
    live, test = client_for(keys.credit), client_for(keys.test)
    charged = (await live.post("/v1/billing/charges", json={**user, "amount_minor": 100})).json()
    path = f"/v1/billing/accounts/{charged['account_id']}"
    assert (await live.get(path)).status_code == 200
    assert (await test.get(path)).status_code == 404
    assert (await test.get(f"/v1/billing/accounts/oauth:google/{user['external_id']}")).status_code == 404
    assert (await test.get(f"/v1/billing/charges/{charged['charge_id']}")).status_code == 404
    assert (await test.get("/v1/billing/transactions", params=user)).json()["total_count"] == 0
    credit = {**user, "amount_minor": 100, "transaction_type": "grant"}
    assert (await test.post("/v1/billing/credits", json=credit)).status_code == 404
    other = (await test.post("/v1/billing/check", json=user)).json()
    assert (other["free_uses_remaining"], other["total_uses"]) == (3, 0)
    assert (await account(live, user))["total_uses"] == 1
    assert (await account(test, user))["account_id"] != charged["account_id"]


@pytest.mark.parametrize(
    ("provider", "external_id"),
    [
        ("oauth:discord", "urn:user:1:2"),
        ("oauth:google", "tenants/a/users/b"),
        ("oauth:google", "a//b/"),
        ("oauth:x:y/z?", "plain"),
        ("oauth:google", "ünïcödé 😀 %2F+& #?"),
        ("oauth:google", "00000000-0000-0000-0000-000000000000"),
        ("oauth:google", "x" * 200),
    ],
)
async def test_colons_slashes_and_any_text_name_a_user(
    agent: httpx.AsyncClient, provider: str, external_id: str
) -> None:
    unique = f"{external_id}{uuid.uuid4().hex}"
    opened = await agent.post("/v1/billing/accounts", json={"oauth_provider": provider, "external_id": unique})
    assert opened.status_code == 201
    path = f"/v1/billing/accounts/{quote(provider, safe='')}/{quote(unique, safe='')}"
    found = await agent.get(path)
    if "/" in provider:  # the server splits paths after decoding them: such a provider has its account by id only
        found = await agent.get(f"/v1/billing/accounts/{opened.json()['account_id']}")
    assert found.status_code == 200, found.text
    assert (found.json()["oauth_provider"], found.json()["external_id"]) == (provider, unique)


async def test_attributes_are_not_identity(agent: httpx.AsyncClient, user: User) -> None:
    """The agent sends wa_id and tenant_id, the proxy never does: the same account."""
    sent = {**user, "amount_minor": 100, "wa_id": "wa-1", "tenant_id": "acme"}
    by_agent = (await agent.post("/v1/billing/charges", json=sent)).json()
    by_proxy = (await agent.post("/v1/billing/charges", json={**user, "amount_minor": 1})).json()
    assert by_agent["account_id"] == by_proxy["account_id"]
    assert ((await account(agent, user))["wa_id"], (await account(agent, user))["tenant_id"]) == ("wa-1", "acme")


async def test_unknown_accounts_and_charges_are_404_and_stay_unknown(agent: httpx.AsyncClient, user: User) -> None:
    by_user = f"/v1/billing/accounts/oauth:google/{user['external_id']}"
    for path, code in (
        (f"/v1/billing/accounts/{uuid.uuid4()}", "account_not_found"),
        (by_user, "account_not_found"),
        (f"/v1/billing/charges/{uuid.uuid4()}", "charge_not_found"),
    ):
        answer = await agent.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert (await agent.get(by_user)).status_code == 404  # asking made none


async def test_created_is_201_and_existed_is_200(agent: httpx.AsyncClient, user: User) -> None:
    first = await agent.post("/v1/billing/accounts", json={**user, "plan_name": "pro", "currency": "eur"})
    again = await agent.post("/v1/billing/accounts", json={**user, "plan_name": "other", "currency": "USD"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert set(first.json()) == set(again.json()) == ACCOUNT_FIELDS
    assert again.json() == first.json()  # the initial values count only on creation
    assert (first.json()["plan_name"], first.json()["currency"]) == ("pro", "EUR")
    by_id = await agent.get(f"/v1/billing/accounts/{first.json()['account_id']}")
    assert by_id.json() == first.json() == await account(agent, user)


async def test_initial_balance_needs_the_right_to_mint(
    agent: httpx.AsyncClient, minter: httpx.AsyncClient, user: User, database: Urls
) -> None:
    rich = {**user, "initial_balance_minor": 500}
    refused = await agent.post("/v1/billing/accounts", json=rich)
    assert (refused.status_code, refused.json()["detail"]) == (403, "Missing required permission: billing:credit")
    assert (await agent.get(f"/v1/billing/accounts/oauth:google/{user['external_id']}")).status_code == 404
    opened = await minter.post("/v1/billing/accounts", json=rich)
    assert opened.status_code == 201
    assert (opened.json()["balance_minor"], opened.json()["paid_credits"]) == (500, 5)
    again = await minter.post("/v1/billing/accounts", json={**rich, "initial_balance_minor": 900})
    assert (again.status_code, again.json()["balance_minor"]) == (200, 500)
    assert (await balances(database, opened.json()["account_id"]))["paid"] == 5
    nothing = await agent.post("/v1/billing/accounts", json={**user, "initial_balance_minor": 0})
    assert nothing.status_code == 200
    ignored = await agent.post("/v1/billing/accounts", json={**rich, "initial_balance_minor": 900})
    assert (ignored.status_code, ignored.json()["balance_minor"]) == (200, 500), "it counts only when it creates"


async def test_an_account_that_is_erased_meanwhile_is_not_created_with_what_its_caller_may_not_mint(
    agent: httpx.AsyncClient, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is there when the permission is asked for. The same request then creates it again."""
    answers, find = [UUID(int=0)], AccountDirectory.find

    async def erased_meanwhile(self: AccountDirectory, identity: Identity) -> UUID | None:
        return answers.pop() if answers else await find(self, identity)

    monkeypatch.setattr(AccountDirectory, "find", erased_meanwhile)
    created = await agent.post("/v1/billing/accounts", json={**user, "initial_balance_minor": 500})
    assert (created.status_code, created.json()["balance_minor"]) == (201, 0)


@pytest.mark.parametrize("amount", [1, 150, -100, 100.0, "100", True, 2**63])
async def test_granted_amounts_are_whole_credits(minter: httpx.AsyncClient, user: User, amount: object) -> None:
    """Also for an account that exists: a malformed amount is one, whether it counts or not."""
    if amount in (1, -100):
        await minter.post("/v1/billing/accounts", json=user)
    opened = await minter.post("/v1/billing/accounts", json={**user, "initial_balance_minor": amount})
    assert (opened.status_code, opened.json()["code"]) == (422, "validation_error")


async def test_profile_keeps_what_it_knows_until_it_is_told_otherwise(agent: httpx.AsyncClient, user: User) -> None:
    profile = {
        "customer_email": "a@example.com",
        "display_name": "Ada",
        "wa_id": "1",
        "tenant_id": 42,
    }  # chat platforms number their users
    await agent.post("/v1/billing/check", json={**user, **profile})
    await agent.post("/v1/billing/check", json={**user, **dict.fromkeys(profile)})
    await agent.post("/v1/billing/charges", json={**user, "amount_minor": 1, "display_name": "Ada L."})
    known = await account(agent, user)
    assert (known["customer_email"], known["display_name"]) == ("a@example.com", "Ada L.")
    assert (known["wa_id"], known["tenant_id"]) == ("1", "42")


async def test_consent_keeps_its_time_and_source_and_can_be_withdrawn(
    agent: httpx.AsyncClient, user: User, set_clock: SetClock
) -> None:
    def consent(known: dict[str, Any]) -> tuple[bool, str | None, str | None]:
        return (known["marketing_opt_in"], known["marketing_opt_in_at"], known["marketing_opt_in_source"])

    def day(number: int) -> datetime:
        return datetime(2030, 1, number, tzinfo=UTC)

    async def check(number: int, **fields: object) -> tuple[bool, str | None, str | None]:
        set_clock(day(number))
        assert (await agent.post("/v1/billing/check", json={**user, **fields})).status_code == 200
        return consent(await account(agent, user))

    assert await check(1) == (False, None, None)
    assert await check(2, marketing_opt_in_source="nothing was given") == (False, None, None)
    given = (True, "2030-01-03T00:00:00.000Z", "signup")
    assert await check(3, marketing_opt_in=True, marketing_opt_in_source="signup") == given
    assert await check(4, marketing_opt_in=True, marketing_opt_in_source="signup") == given
    assert await check(5, marketing_opt_in=None, marketing_opt_in_source=None) == given
    withdrawn = await check(6, marketing_opt_in=False, marketing_opt_in_source="settings page")
    assert withdrawn == (False, "2030-01-06T00:00:00.000Z", "settings page")
    assert await check(7, marketing_opt_in=True) == (True, "2030-01-07T00:00:00.000Z", None)


async def test_check_that_tells_nothing_new_writes_nothing(
    agent: httpx.AsyncClient, user: User, database: Urls
) -> None:
    request = {**user, "customer_email": "a@example.com", "marketing_opt_in": True, "context": {"agent_id": "datum"}}
    await agent.post("/v1/billing/check", json=request)
    account_id = UUID((await account(agent, user))["account_id"])

    async def versions() -> list[object]:
        async with connected(database) as connection:
            return [
                await connection.fetchval(f"SELECT xmin FROM {table} WHERE account_id = $1", account_id)
                for table in ("accounts", "account_profiles", "account_identities")
            ]

    before = await versions()
    for _ in range(5):
        await agent.post("/v1/billing/check", json=request)
        await agent.post("/v1/billing/credits/check", json=user)
    assert await versions() == before


async def test_closed_account_spends_and_receives_nothing(
    minter: httpx.AsyncClient, billing: BillingService, user: User, now: datetime
) -> None:
    opened = (await minter.post("/v1/billing/accounts", json={**user, "initial_balance_minor": 700})).json()
    await billing.accounts.set_status(UUID(opened["account_id"]), "closed", None, now)
    charge = await minter.post("/v1/billing/charges", json={**user, "amount_minor": 100})
    credit = await minter.post("/v1/billing/credits", json={**user, "amount_minor": 100, "transaction_type": "grant"})
    assert [(a.status_code, a.json()["code"]) for a in (charge, credit)] == [(403, "account_closed")] * 2
    check = (await minter.post("/v1/billing/check", json=user)).json()
    assert (check["has_credit"], check["reason"], check["purchase_required"]) == (False, "Account closed", False)
    assert (check["credits_remaining"], check["free_uses_remaining"]) == (7, 0)
    assert (await account(minter, user))["status"] == "closed"


async def test_consent_told_again_keeps_its_first_source(agent: httpx.AsyncClient, user: User) -> None:
    for source in ("signup", "a default of the proxy"):
        request = {**user, "marketing_opt_in": True, "marketing_opt_in_source": source}
        await agent.post("/v1/billing/check", json=request)
    account = await agent.get(f"/v1/billing/accounts/{user['oauth_provider']}/{user['external_id']}")
    assert account.json()["marketing_opt_in_source"] == "signup"


async def test_replay_records_no_profile(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    charge = {**user, "amount_minor": 100, "currency": "USD", "idempotency_key": "k"}
    for name, status in (("First", 201), ("Second", 409)):
        answer = await agent.post("/v1/billing/charges", json={**charge, "display_name": name})
        assert answer.status_code == status
    account = await agent.get(f"/v1/billing/accounts/{user['oauth_provider']}/{user['external_id']}")
    assert account.json()["display_name"] == "First"


async def test_a_profile_that_cannot_be_recorded_does_not_make_a_committed_charge_a_failure(
    minter: httpx.AsyncClient, user: User, database: Urls
) -> None:
    """The answer would tell the agent to block its user's message, which is paid for."""
    known = (await minter.post("/v1/billing/accounts", json={**user, "display_name": "before"})).json()
    new = {**user, "display_name": "after"}
    async with connected(database) as connection, connection.transaction():
        await connection.execute("SELECT FROM account_profiles WHERE account_id = $1 FOR UPDATE", known["account_id"])
        charge, use = await asyncio.gather(
            minter.post("/v1/billing/charges", json={**new, "amount_minor": 100}),
            minter.post("/v1/tools/charge", json={**new, "product_type": "web_search"}),
        )
    assert (charge.status_code, use.status_code) == (201, 200)
    assert (await account(minter, user))["display_name"] == "before"
    assert (await minter.post("/v1/billing/charges", json={**new, "amount_minor": 100})).status_code == 201
    assert (await account(minter, user))["display_name"] == "after"
