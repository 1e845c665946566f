"""Days of money and grants over real requests: each event on its own day, each credit in the pool that paid it."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.analytics.checks import ROLLUP_CHECKS
from app.analytics.rollup import SETTLED, attribute_step, meter_step, roll_up, roll_up_step
from app.analytics.sources import first_id_at
from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.verification import verify_books
from tests.admin.conftest import Office
from tests.books import connected
from tests.conftest import make_usage_key
from tests.databases import Urls, alembic
from tests.metering.conftest import put_in_force, usage
from tests.support.earlier_version import verification_before
from tests.support.wallets import DOLLAR

PROVIDER = "oauth:zero"
PERMISSIONS = (
    *(Permission.READ, Permission.WRITE, Permission.CREDIT),
    *(Permission.USAGE_READ, Permission.USAGE_WRITE, Permission.USAGE_SET_COST, Permission.MONEY_CREDIT),
)
TERMS = UsageTerms(PROVIDER, "router", "debt", debt_limit_nanos=100 * DOLLAR, max_cost_nanos=100 * DOLLAR)
NONE = {"cost": "0.000000", "debt": "0.000000", "granted": "0.000000", "ended": "0.000000", "purchased": "0.000000"}


@dataclass
class Shop:
    """A service with a key that charges, reports usage and gives money, and the reports of its back office."""

    office: Office
    api: httpx.AsyncClient
    viewer: httpx.AsyncClient

    async def post(self, path: str, body: dict[str, Any], status: int = 201) -> dict[str, Any]:
        answer = await self.api.post(path, json=body)
        assert answer.status_code == status, answer.text
        reply: dict[str, Any] = answer.json()
        return reply

    async def user(self, *, money: str = "", credits: int = 0, grant: int = 0) -> str:
        """A new user with money and paid credits, and with a grant of credits and of a tenth of a dollar."""
        user = str(uuid.uuid4())
        await self.post("/v1/usage/check", {"user_id": user, "required_cents": 0}, 200)
        gift = {"oauth_provider": PROVIDER, "external_id": user}
        if money:
            await self.post("/v1/credits/add", {"user_id": user, "amount_cents": int(money), "reason": "gift"}, 200)
        if credits:
            paid = {**gift, "amount_minor": 100 * credits, "transaction_type": "purchase"}
            await self.post("/v1/billing/credits", paid)
        if grant:
            await self.post("/v1/billing/grants", {**gift, "amount_minor": 100 * grant})
            await self.post("/v1/billing/grants", {**gift, "amount": "0.10"})
        return user

    async def report(self, user: str, cents: int, days_ago: int = 0) -> None:
        at = datetime.now(UTC) - timedelta(days=days_ago)
        event = usage(user, cost_cents=cents, time=at.isoformat(), agent_id="helper")
        await self.post("/v1/usage", event, 200)

    async def days(self) -> dict[str, dict[str, Any]]:
        """The figures of each of the last days."""
        since = str(datetime.now(UTC).date() - timedelta(days=20))
        answer = await self.viewer.get("/admin/analytics/daily", params={"from": since})
        assert answer.status_code == 200, answer.text
        return {row["day"]: row for row in answer.json()["days"]}

    async def money(self, day: date) -> dict[str, Any]:
        [money] = (await self.days())[str(day)]["money"] or [NONE]
        return {name: money[name] for name in NONE}

    async def settle(self) -> None:
        await roll_up(self.office.db, datetime.now(UTC) + SETTLED)

    async def verify(self) -> None:
        assert (await verify_books(self.office.db, datetime.now(UTC))).problem is None


@pytest.fixture(scope="module")
async def shop(office: Office) -> AsyncIterator[Shop]:
    await put_in_force(office.db)
    key = await make_usage_key(office.db, TERMS, "live", *PERMISSIONS)
    transport = httpx.ASGITransport(office.app)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={"X-API-Key": key}) as api,
        office.client("viewer") as viewer,
    ):
        yield Shop(office, api, viewer)


def ago(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days)


@pytest.mark.parametrize("rolled_up", [False, True])
async def test_an_event_that_arrives_late_is_added_to_the_day_of_its_own_time(shop: Shop, rolled_up: bool) -> None:
    user = await shop.user(money="500")
    day, today = ago(12 + rolled_up), ago(0)
    await shop.report(user, 100)
    await shop.settle()
    before, of_today = await shop.days(), await shop.money(today)
    await shop.report(user, 3, days_ago=12 + rolled_up)
    await shop.report(user, 4, days_ago=12 + rolled_up)
    if rolled_up:
        await shop.settle()
    after = await shop.days()
    assert before[str(day)]["money"] == []
    [money] = after[str(day)]["money"]
    assert (money["cost"], money["events"]) == ("0.070000", 2)
    assert after[str(day)]["active_users"] == before[str(day)]["active_users"] + 1
    assert await shop.money(today) == of_today
    await shop.verify()


async def test_an_event_on_debt_counts_its_cost_and_its_debt_on_its_day(shop: Shop) -> None:
    user = await shop.user(money="10")
    day = ago(6)
    await shop.report(user, 25, days_ago=6)
    assert await shop.money(day) == {**NONE, "cost": "0.250000", "debt": "0.150000"}
    await shop.settle()
    assert await shop.money(day) == {**NONE, "cost": "0.250000", "debt": "0.150000"}
    await shop.verify()


async def test_the_credits_of_all_pools_add_up_to_the_credits_spent(shop: Shop) -> None:
    user = await shop.user(credits=5, grant=7)
    body = {"oauth_provider": PROVIDER, "external_id": user, "metadata": {"agent_id": "pools"}}

    async def spent() -> dict[str, Any]:
        answer = await shop.viewer.get("/admin/analytics/agents")
        rows = {row["agent_id"]: row["spent"] for row in answer.json()["agents"]}
        found: dict[str, Any] = rows["pools"]
        return found

    for credits, pools in ((9, {"grants": 7, "free": 2, "paid": 0}), (5, {"grants": 7, "free": 3, "paid": 4})):
        await shop.post("/v1/billing/charges", {**body, "amount_minor": 100 * credits})
        assert await spent() == {"daily_free": 0, **pools}
        await shop.settle()
        assert await spent() == {"daily_free": 0, **pools}
        await shop.verify()


async def test_money_and_grants_are_in_the_overview(shop: Shop) -> None:
    async def overview() -> dict[str, Any]:
        answer = await shop.viewer.get("/admin/analytics/overview")
        reply: dict[str, Any] = answer.json()
        return reply

    def amounts(reply: dict[str, Any]) -> tuple[Decimal, ...]:
        [money], [balance] = reply["period"]["money"], reply["now"]["money"]
        return tuple(
            Decimal(row[name])
            for row, name in ((money, "granted"), (money, "cost"), (balance, "balance"), (balance, "grants"))
        )

    await shop.user(money="100", grant=3)
    before = await overview()
    user = await shop.user(money="300", grant=4)
    await shop.report(user, 30)
    after = await overview()
    cents = [100 * (a - b) for a, b in zip(amounts(after), amounts(before), strict=True)]
    assert cents == [310, 30, 280, 0]
    assert after["period"]["credits"]["grants_given"] == before["period"]["credits"]["grants_given"] + 4
    assert after["now"]["grants_outstanding"] == before["now"]["grants_outstanding"] + 4


async def test_usage_events_are_summed_by_meter_model_agent_and_key(shop: Shop) -> None:
    await shop.report(await shop.user(money="100"), 5)
    groups = {}
    for by in ("meter", "model", "agent", "key"):
        answer = await shop.viewer.get("/admin/analytics/metered", params={"by": by})
        assert answer.status_code == 200, answer.text
        groups[by] = {(row["group"], row["provider"], row["name"]) for row in answer.json()["sums"]}
    [key] = await shop.office.rows("SELECT key_id FROM api_keys WHERE name = 'tests'")
    assert groups == {
        "meter": {("llm_tokens", None, None)},
        "model": {("claude-3-5-sonnet", "anthropic", None)},
        "agent": {("helper", None, None)},
        "key": {(key["key_id"], None, "tests")},
    }
    refused = await shop.viewer.get("/admin/analytics/metered", params={"by": "user"})
    assert refused.status_code == 422


async def test_what_a_worker_of_an_earlier_version_leaves_out_is_added_later(shop: Shop) -> None:
    """It moves its own marks only. Its own proof finds no fault in days that hold no uses."""
    await shop.settle()
    user = await shop.user(money="100", credits=2, grant=3)
    body = {"oauth_provider": PROVIDER, "external_id": user, "amount_minor": 400, "metadata": {"agent_id": "earlier"}}
    await shop.post("/v1/billing/charges", body)
    await shop.report(user, 8, days_ago=9)
    expected = await shop.days()
    until = first_id_at(datetime.now(UTC))
    async with shop.office.db.transaction() as tx:
        assert await roll_up_step(tx, until)
        assert await attribute_step(tx)
    assert await shop.days() == expected
    await shop.verify()
    async with shop.office.db.transaction() as tx:
        assert await meter_step(tx)
        assert not await meter_step(tx)
    assert await shop.days() == expected
    await shop.verify()
    async with connected(shop.office.urls) as connection:
        for name, check in verification_before("0025")["checks"].items():
            if name in ROLLUP_CHECKS:
                assert await connection.fetchval(check) is None, name


@pytest.mark.parametrize("rows", [1, 2, 5])
async def test_a_long_backlog_is_added_in_steps(shop: Shop, rows: int) -> None:
    """The window of time widens from the beginning of all ids until it holds enough events."""
    await shop.settle()
    user = await shop.user(money="100")
    for cents in (1, 2, 3):
        await shop.report(user, cents)
    expected = await shop.money(ago(0))
    async with connected(shop.office.urls) as connection:
        await connection.execute("UPDATE rollup_state SET metered_up_to = '00000000-0000-0000-0000-000000000000'")
        await connection.execute("DELETE FROM metered_days")
        await connection.execute("UPDATE usage_days SET grants = 0")
        await connection.execute("UPDATE account_days SET events = 0, cost_nanos = 0")
    await shop.verify()
    assert await shop.money(ago(0)) == expected
    [events] = await shop.office.rows("SELECT count(*) AS n FROM usage_events")
    steps, more = 0, True
    until = first_id_at(datetime.now(UTC))
    async with shop.office.db.transaction() as tx:
        await roll_up_step(tx, until)
    while more:
        async with shop.office.db.transaction() as tx:
            more = await meter_step(tx, rows=rows)
        steps += more
    assert steps >= events["n"] / rows
    assert await shop.money(ago(0)) == expected
    await shop.verify()


async def test_the_migration_counts_what_was_written_before_it(shop: Shop) -> None:
    """Without events and grants the sums are complete at once; else the worker adds the events and grants."""
    await shop.report(await shop.user(money="10"), 1)
    await shop.settle()
    expected = await shop.days()
    alembic(shop.office.urls, "downgrade", "0032")
    alembic(shop.office.urls, "upgrade", "head")
    [state] = await shop.office.rows("SELECT metered_up_to, rolled_up_to FROM rollup_state")
    assert state["metered_up_to"].int == 0 < state["rolled_up_to"].int
    assert await shop.days() == expected
    await shop.settle()
    assert await shop.days() == expected
    await shop.verify()


async def test_the_migration_of_books_without_money_leaves_nothing_to_add(own_database: Urls) -> None:
    alembic(own_database, "downgrade", "0032")
    mark = first_id_at(datetime.now(UTC))
    async with connected(own_database) as connection:
        await connection.execute("UPDATE rollup_state SET rolled_up_to = $1", mark)
        alembic(own_database, "upgrade", "head")
        assert await connection.fetchval("SELECT metered_up_to FROM rollup_state") == mark
