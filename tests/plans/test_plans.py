"""Plans as admins change them, and as everyone reads them, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.configuration.sections import PLANS
from tests.admin.shops import open_shop, sign_in
from tests.databases import Urls
from tests.payments.conftest import Shop

CONFIG = "/admin/config/plans"
NAMES = ["free", "standard", "pro", "enterprise"]


@pytest.fixture
async def shop(own_database: Urls) -> AsyncIterator[Shop]:
    async with open_shop(own_database, cors_origins=["https://app.example.com"]) as shop:
        yield shop


@pytest.fixture
async def admin(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with await sign_in(shop, "admin") as client:
        yield client


@pytest.fixture
async def visitor(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://billing") as client:
        yield client


async def current(admin: httpx.AsyncClient) -> tuple[int, list[dict[str, Any]]]:
    answer = (await admin.get(CONFIG)).json()
    return answer["version"], answer["plans"]


async def save(admin: httpx.AsyncClient, version: int, plans: list[dict[str, Any]]) -> httpx.Response:
    return await admin.put(CONFIG, json={"version": version, "reason": "a test", "plans": plans})


async def listed(visitor: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = await visitor.get("/v1/plans")
    assert answer.status_code == 200, answer.text
    plans: list[dict[str, Any]] = answer.json()["plans"]
    return plans


async def test_visitors_read_the_shipped_plans(visitor: httpx.AsyncClient) -> None:
    free, standard, pro, enterprise = await listed(visitor)
    assert standard == {
        "plan": "standard",
        "title": "Standard",
        "prices": [{"interval": "month", "currency": "USD", "amount_minor": 2000, "currency_digits": 2}],
        "by_agreement": False,
        "grants": [
            {
                "unit": "USD",
                "amount_minor": None,
                "amount": "25.000000",
                "cadence": "month",
                "expires": "never",
                "expires_after_days": None,
                "rollover": "none",
            }
        ],
        "purchase_discount_percent": "10",
        "features": ["$25.00 of usage a month", "10 % off purchases"],
    }
    assert [plan["plan"] for plan in (free, standard, pro, enterprise)] == NAMES
    assert (free["prices"], enterprise["prices"], enterprise["by_agreement"]) == ([], [], True)
    page = await visitor.get("/v1/plans", headers={"Origin": "https://app.example.com"})
    assert page.headers["Access-Control-Allow-Origin"] == "https://app.example.com"


async def test_a_change_is_listed_without_stripes_ids(admin: httpx.AsyncClient, visitor: httpx.AsyncClient) -> None:
    version, plans = await current(admin)
    plans[1]["prices"][0]["stripe_price_live"] = "price_live_1"
    plans[1]["grants"] = [{"unit": "credit", "amount": "100", "cadence": "day"}]
    assert (await save(admin, version, plans)).status_code == 200
    standard = (await listed(visitor))[1]
    assert [(grant["unit"], grant["amount_minor"], grant["amount"]) for grant in standard["grants"]] == [
        ("credit", 10_000, None)
    ]
    assert "stripe" not in str(standard)


async def test_a_plan_is_withdrawn_and_never_removed(
    shop: Shop, admin: httpx.AsyncClient, visitor: httpx.AsyncClient
) -> None:
    version, plans = await current(admin)
    assert (version, [plan["name"] for plan in plans]) == (0, NAMES)
    refused = await save(admin, 0, [plan for plan in plans if plan["name"] != "standard"])
    assert (refused.status_code, refused.json()["field"]) == (422, "plans")
    assert "standard cannot be removed: set withdrawn instead" in refused.json()["detail"]
    withdrawn = [{**plan, "withdrawn": plan["name"] == "standard"} for plan in plans]
    assert (await save(admin, 0, [*withdrawn, {"name": "team", "title": "Team"}])).status_code == 200
    assert [plan["plan"] for plan in await listed(visitor)] == ["free", "team", "pro", "enterprise"]
    # Not even by a return to the settings, which have no plan of this name.
    reset = await admin.post(f"{CONFIG}/reset", json={"version": 1, "reason": "back"})
    assert (reset.status_code, reset.json()["field"]) == (422, "plans")
    history = (await admin.get(f"{CONFIG}/versions")).json()["versions"]
    assert [plan["name"] for plan in history[0]["document"]["plans"]] == [*NAMES, "team"]


async def test_the_terms_of_earlier_versions_stay_readable(shop: Shop, admin: httpx.AsyncClient) -> None:
    _, plans = await current(admin)
    for version, amount in enumerate((3000, 4000)):
        plans[1]["prices"][0]["amount_minor"] = amount
        assert (await save(admin, version, plans)).status_code == 200
    editor = shop.app.state.configuration_editor

    async def price_at(version: int) -> int | None:
        async with shop.db.read() as session:
            document = await editor.document_at(session, PLANS, version)
        return None if document is None else document["plans"][1]["prices"][0]["amount_minor"]

    assert [await price_at(version) for version in (0, 1, 2, 3)] == [2000, 3000, 4000, None]


async def test_the_plan_of_an_account_is_any_word(shop: Shop, admin: httpx.AsyncClient) -> None:
    """Clients name plans that no document has, as they always did."""
    _, plans = await current(admin)
    assert (await save(admin, 0, [{**plan, "withdrawn": True} for plan in plans])).status_code == 200
    user = {"oauth_provider": "oauth:google", "external_id": "any-word"}
    async with await shop.client() as agent:
        created = await agent.post("/v1/billing/accounts", json={**user, "plan_name": "Trial of 2019"})
        assert (created.status_code, created.json()["plan_name"]) == (201, "Trial of 2019")
        checked = await agent.post("/v1/billing/credits/check", json=user)
    assert checked.json()["plan_name"] == "Trial of 2019"


async def test_visitors_are_limited_by_address(own_database: Urls) -> None:
    async with (
        open_shop(own_database, rate_limit_per_address=2) as shop,
        httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://billing") as visitor,
    ):
        answers = [await visitor.get("/v1/plans") for _ in range(4)]
        assert 429 in {answer.status_code for answer in answers}
        assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)
