"""Balances of tools: free uses that accrue by the day, reads that write nothing, and the owner of each balance."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.accounts.directory import Identity
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.ledger.outcomes import New
from app.ledger.pools import Credits
from app.settings import Settings
from app.tools.service import ProductInventoryService
from tests.auth.test_user_tokens import issuer, mint
from tests.billing.test_charges import User, open_account
from tests.books import account_locked, balances, connected, counts
from tests.conftest import ACTOR, ClientFor, Keys, running_app, settings_for
from tests.databases import Urls
from tests.demo.oidc_server import running_oidc
from tests.tools.test_tool_charges import CHARGE, NOTHING, entries, open_with, paid_by, said, spend_free_images, tool

BALANCE, CHECK = "/v1/tools/balance", "/v1/tools/check"
CREATED = datetime(2031, 5, 1, 23, 59, 59, 999_999, tzinfo=UTC)
MIDNIGHT = datetime(2031, 5, 2, tzinfo=UTC)
SetClock = Callable[[datetime], None]


def balance(
    product: str = "web_search", *, price_minor: int = 100, free: int = 0, paid: int = 0, main: int = 0, uses: int = 0
) -> dict[str, Any]:
    return {
        "product_type": product,
        "free_remaining": free,
        "paid_credits": paid,
        "main_pool_credits": main,
        "total_available": free + paid + main,
        "price_minor": price_minor,
        "total_uses": uses,
    }


def check_of(balance: dict[str, Any], *, has_credit: bool) -> dict[str, Any]:
    kept = {name: value for name, value in balance.items() if name not in ("price_minor", "total_uses")}
    return {**kept, "has_credit": has_credit}


async def read(client: httpx.AsyncClient, path: str, query: dict[str, str]) -> dict[str, Any]:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def free_left(client: httpx.AsyncClient, user: User, product: str = "web_search") -> int:
    left: int = (await read(client, f"{BALANCE}/{product}", user))["free_remaining"]
    return left


async def use(client: httpx.AsyncClient, user: User, times: int, product: str = "web_search") -> None:
    for _ in range(times):
        assert (await client.post(CHARGE, json=tool(user, product=product))).json()["used_free"] is True


async def test_free_uses_accrue_each_utc_midnight_from_the_accounts_first_day_up_to_the_cap(
    agent: httpx.AsyncClient, user: User, set_clock: SetClock
) -> None:
    """Ten at first, three a day, thirteen at most: days without a request count as well."""
    set_clock(CREATED)
    await agent.post("/v1/billing/check", json=user)
    assert await free_left(agent, user) == 10
    for later in (timedelta(0), timedelta(hours=23), timedelta(days=1), timedelta(days=400)):
        set_clock(MIDNIGHT + later)
        assert (await free_left(agent, user), await free_left(agent, user, "image_gen")) == (13, 5)
    set_clock(MIDNIGHT)
    await use(agent, user, 13)
    assert (await agent.post(CHARGE, json=tool(user))).status_code == 402
    for days, left in {0: 0, 1: 3, 2: 6, 3: 9, 4: 12, 5: 13, 6: 13}.items():
        set_clock(MIDNIGHT + timedelta(days=days + 1) - timedelta(microseconds=1))
        assert await free_left(agent, user) == left
    set_clock(MIDNIGHT + timedelta(days=2))
    await use(agent, user, 1)
    set_clock(MIDNIGHT + timedelta(days=4))
    assert await free_left(agent, user) == 11


async def test_accrual_is_posted_when_a_use_needs_it(
    agent: httpx.AsyncClient,
    billing: BillingService,
    user: User,
    identity: Identity,
    set_clock: SetClock,
    database: Urls,
) -> None:
    set_clock(CREATED)
    await use(agent, user, 2)
    set_clock(MIDNIGHT)
    await use(agent, user, 1)
    set_clock(MIDNIGHT + timedelta(days=3))
    assert said(await agent.post(CHARGE, json=tool(user))) == paid_by("free", cost_minor=0, uses=4, free=12)
    account_id = await billing.accounts.find_account_id(identity)
    assert await entries(database, account_id) == [
        ("free", 3, 3, "opening_grant", "account"),
        ("web_search/free", 10, 10, "opening_grant", "tool_usage"),
        ("web_search/free", -1, 9, "tool_charge", "tool_usage"),
        ("web_search/free", -1, 8, "tool_charge", "tool_usage"),
        ("web_search/free", 3, 11, "daily_allowance", "tool_usage"),
        ("web_search/free", -1, 10, "tool_charge", "tool_usage"),
        ("web_search/free", 3, 13, "daily_allowance", "tool_usage"),  # of nine: the cap
        ("web_search/free", -1, 12, "tool_charge", "tool_usage"),
    ]
    assert (await balances(database, account_id))["web_search/free"] == 12


async def test_clock_that_steps_back_gives_no_day_twice(
    agent: httpx.AsyncClient, user: User, set_clock: SetClock
) -> None:
    set_clock(MIDNIGHT - timedelta(days=1))
    await agent.post("/v1/billing/check", json=user)
    set_clock(MIDNIGHT)
    await use(agent, user, 12)
    set_clock(CREATED)
    assert await free_left(agent, user) == 1
    await use(agent, user, 1)
    assert (await agent.post(CHARGE, json=tool(user))).status_code == 402
    set_clock(MIDNIGHT)
    assert await free_left(agent, user) == 0
    assert (await agent.post(CHARGE, json=tool(user))).status_code == 402


async def test_catalogue_is_configuration(
    db: Database, billing: BillingService, identity: Identity, database: Urls
) -> None:
    """A product that is new accrues from the account's first day; a cap that is lowered takes nothing away."""

    def selling(**product: int) -> ProductInventoryService:
        settings = settings_for(database, products={"summary": {"price_credits": 4, "initial_free": 6, **product}})
        return ProductInventoryService(db, Configuration(db, settings), billing)

    account_id = await open_account(billing, identity, CREATED, paid=9)
    today = MIDNIGHT + timedelta(days=1)
    generous, strict = selling(daily_free=2, free_cap=100), selling(daily_free=2, free_cap=3)
    assert (await generous.balance(account_id, "summary", today)).free == 6 + 2 + 2
    outcome = await generous.charge(account_id, "summary", actor=ACTOR, now=today)
    assert isinstance(outcome, New)
    assert (outcome.record.free, outcome.record.main_pool) == (9, 2)
    [found] = await strict.balances(account_id, today + timedelta(days=30))
    assert (found.product_type, found.free, found.price_credits) == ("summary", 9, 4)
    outcome = await strict.charge(account_id, "summary", actor=ACTOR, now=today + timedelta(days=30))
    assert isinstance(outcome, New)
    assert outcome.record.free == 8
    assert (await balances(database, account_id))["summary/free"] == 8


async def test_reads_show_what_a_charge_would_get(
    minter: httpx.AsyncClient, app: FastAPI, user: User, now: datetime, set_clock: SetClock
) -> None:
    set_clock(now)
    account_id = await open_with(minter, user, paid=29)
    await app.state.tools.grant(account_id, "image_gen", Credits(4), actor=ACTOR, now=now)
    await use(minter, user, 1)
    images = balance("image_gen", price_minor=1000, free=5, paid=4, main=2)
    searches = balance(free=9, main=29, uses=1)
    assert await read(minter, f"{BALANCE}/image_gen", user) == images
    assert await read(minter, f"{BALANCE}/web_search", user) == searches
    assert await read(minter, BALANCE, user) == {"balances": [searches, images]}
    assert await read(minter, f"{CHECK}/image_gen", user) == check_of(images, has_credit=True)
    for left in range(images["total_available"], 0, -1):
        found = await read(minter, f"{CHECK}/image_gen", user)
        assert (found["total_available"], found["has_credit"]) == (left, True)
        said(await minter.post(CHARGE, json=tool(user, product="image_gen")))
    nothing = check_of(balance("image_gen"), has_credit=False)
    assert await read(minter, f"{CHECK}/image_gen", user) == nothing
    drained = {"main_pool_credits": 9, "total_available": 18}
    assert await read(minter, f"{BALANCE}/web_search", user) == {**searches, **drained}
    assert (await minter.post(CHARGE, json=tool(user, product="image_gen"))).status_code == 402


async def test_grant_of_paid_uses_is_in_the_ledger(
    app: FastAPI, billing: BillingService, identity: Identity, database: Urls
) -> None:
    account_id = await open_account(billing, identity, CREATED)
    granted = [
        await app.state.tools.grant(account_id, "web_search", Credits(uses), actor=ACTOR, now=MIDNIGHT)
        for uses in (4, 1)
    ]
    assert granted == [4, 5]
    found = await app.state.tools.balance(account_id, "web_search", MIDNIGHT)
    assert (found.free, found.paid, found.total_uses) == (13, 5, 0)
    assert await entries(database, account_id) == [
        ("free", 3, 3, "opening_grant", "account"),
        ("web_search/free", 10, 10, "opening_grant", "tool_grant"),
        ("web_search/free", 3, 13, "daily_allowance", "tool_grant"),
        ("web_search/paid", 4, 4, "grant", "tool_grant"),
        ("web_search/paid", 1, 5, "grant", "tool_grant"),
    ]


async def versions(urls: Urls) -> Any:
    async with connected(urls) as connection:
        return await connection.fetchval("SELECT sum(xmin::text::bigint) FROM product_inventory")


async def test_reads_write_nothing_and_take_no_lock(
    agent: httpx.AsyncClient,
    billing: BillingService,
    user: User,
    identity: Identity,
    set_clock: SetClock,
    database: Urls,
) -> None:
    set_clock(CREATED)
    await use(agent, user, 1)
    set_clock(MIDNIGHT + timedelta(days=5))  # there is something to accrue
    before = (await counts(database), await versions(database))
    async with account_locked(database, await billing.accounts.find_account_id(identity)):
        for path in (BALANCE, f"{BALANCE}/web_search", f"{BALANCE}/image_gen", f"{CHECK}/web_search"):
            await read(agent, path, user)
    assert (await counts(database), await versions(database)) == before


@pytest.mark.parametrize("path", [BALANCE, f"{BALANCE}/web_search", f"{CHECK}/web_search"])
async def test_read_that_names_a_new_user_opens_the_account_but_no_inventory(
    agent: httpx.AsyncClient, billing: BillingService, user: User, identity: Identity, database: Urls, path: str
) -> None:
    found = await read(agent, path, user)
    expected = balance(free=10)
    if path == BALANCE:
        assert found == {"balances": [expected, balance("image_gen", price_minor=1000, free=5)]}
    else:
        assert found == (expected if path.startswith(BALANCE) else check_of(expected, has_credit=True))
    assert await balances(database, await billing.accounts.find_account_id(identity)) == {**NOTHING, "free": 3}


@pytest.mark.parametrize("product", ["nope", "WEB_SEARCH", "web_search ", "web_search/free", "ünïcode"])
async def test_unknown_product_is_400_everywhere(agent: httpx.AsyncClient, user: User, product: str) -> None:
    answers = [await agent.post(CHARGE, json=tool(user, "key", product))]
    if "/" not in product:  # in a path it would be another route
        answers += [await agent.get(f"{path}/{product}", params=user) for path in (BALANCE, CHECK)]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_product_type")
        assert answer.json()["detail"] == f"Unknown product type: {product}"
    assert said(await agent.post(CHARGE, json=tool(user, "key")))["total_uses"] == 1  # the key is still free


async def test_key_must_name_a_user(agent: httpx.AsyncClient, user: User) -> None:
    for left_out in user:
        query = {name: value for name, value in user.items() if name != left_out}
        answers = [await agent.get(path, params=query) for path in (BALANCE, f"{BALANCE}/web_search", f"{CHECK}/nope")]
        answers.append(await agent.post(CHARGE, json=tool(query)))
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (422, "identity_required")
            assert left_out in answer.json()["detail"]


async def test_test_key_and_live_key_see_two_worlds(
    agent: httpx.AsyncClient, client_for: ClientFor, keys: Keys, user: User
) -> None:
    tester = client_for(keys.test)
    await spend_free_images(agent, user)
    assert await free_left(agent, user, "image_gen") == 0
    assert await read(tester, f"{BALANCE}/image_gen", user) == balance("image_gen", price_minor=1000, free=5)
    first = await agent.post(CHARGE, json=tool(user, "key"))
    other = await tester.post(CHARGE, json=tool(user, "key"))
    assert said(other) == said(first) == paid_by("free", cost_minor=0, uses=1, free=9)
    await open_with(tester, user, paid=30)
    assert (await read(agent, f"{BALANCE}/image_gen", user))["main_pool_credits"] == 0


async def test_end_user_reads_own_balances_and_cannot_charge(settings: Settings, keys: Keys, user: User) -> None:
    """The token's identity wins over the query's."""
    with running_oidc() as oidc:
        token = mint(oidc, sub=user["external_id"])
        async with (
            running_app(settings.model_copy(update={"issuers": [issuer(oidc)]})) as app,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://billing") as client,
        ):
            own = {"oauth_provider": "oauth:local", "external_id": user["external_id"]}
            await client.post(CHARGE, json=tool(own), headers={"X-API-Key": keys.agent})
            client.headers["Authorization"] = f"Bearer {token}"
            for query in ({}, user):
                assert await read(client, f"{BALANCE}/web_search", query) == balance(free=9, uses=1)
                assert (await read(client, BALANCE, query))["balances"][0] == balance(free=9, uses=1)
                assert await read(client, f"{CHECK}/web_search", query) == check_of(balance(free=9), has_credit=True)
            refused = await client.post(CHARGE, json=tool(own))
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")


async def test_first_use_creates_the_account(
    agent: httpx.AsyncClient, billing: BillingService, user: User, identity: Identity, database: Urls
) -> None:
    answer = await agent.post(CHARGE, json=tool(user, customer_email="me@example.com"))
    assert said(answer) == paid_by("free", cost_minor=0, uses=1, free=9)
    account_id = await billing.accounts.find_account_id(identity)
    assert await entries(database, account_id) == [
        ("free", 3, 3, "opening_grant", "account"),
        ("web_search/free", 10, 10, "opening_grant", "tool_usage"),
        ("web_search/free", -1, 9, "tool_charge", "tool_usage"),
    ]
    account = await billing.accounts.account("live", account_id, datetime.now(UTC))
    assert account["customer_email"] == "me@example.com"


@pytest.mark.parametrize(
    ("status", "reason", "detail"),
    [("suspended", "chargeback", "Account suspended: chargeback"), ("closed", None, "Account closed")],
)
async def test_account_that_is_not_active_is_refused_but_its_replays_are_answered(
    minter: httpx.AsyncClient,
    billing: BillingService,
    user: User,
    now: datetime,
    database: Urls,
    status: str,
    reason: str | None,
    detail: str,
) -> None:
    account_id = await open_with(minter, user, paid=5)
    first = await minter.post(CHARGE, json=tool(user, "before"))
    await billing.accounts.set_status(account_id, status, reason, now)
    shown = balance(main=5, uses=1)  # the paid uses, nothing free
    assert await read(minter, f"{BALANCE}/web_search", user) == shown
    assert await read(minter, f"{CHECK}/web_search", user) == check_of(shown, has_credit=False)
    before = await counts(database)
    refused = await minter.post(CHARGE, json=tool(user, "after"))
    assert (refused.status_code, refused.json()["detail"]) == (403, detail)
    assert refused.json()["code"] == f"account_{status}"
    assert (await minter.post(CHARGE, json=tool(user, "before"))).json() == first.json()
    assert await counts(database) == before
    await billing.accounts.set_status(account_id, "active", None, now)
    assert said(await minter.post(CHARGE, json=tool(user, "after")))["total_uses"] == 2


async def test_reads_need_a_key_and_a_charge_the_permission_to_write(
    client_for: ClientFor, keys: Keys, user: User
) -> None:
    answer = await client_for(keys.reader).post(CHARGE, json=tool(user))
    assert (answer.status_code, answer.json()["code"]) == (403, "missing_permission")
    assert answer.json()["detail"] == "Missing required permission: billing:write"
    assert (await client_for(None).post(CHARGE, json=tool(user))).status_code == 401
    nobody = await client_for(keys.agent).get("/v1/billing/accounts/oauth:google/" + user["external_id"])
    assert nobody.status_code == 404
    for path in (BALANCE, f"{BALANCE}/web_search", f"{CHECK}/web_search"):
        assert (await client_for(None).get(path, params=user)).status_code == 401
        await read(client_for(keys.reader), path, user)
