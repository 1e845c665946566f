"""Revenue, cost and margin of a small shop: every figure can be worked out by hand, and all pages agree."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.analytics.checks import ROLLUP_CHECKS
from app.analytics.erasure import forget_interactions
from app.analytics.rollup import SETTLED, roll_up, roll_up_step
from app.analytics.sources import first_id_at
from app.auth.caller import Actor
from app.billing.posting import ChargeRequest
from app.ledger.outcomes import New
from app.ledger.pools import Credits
from app.metering.llm_usage import LlmUsageReport, record_llm_usage
from tests.admin.shops import open_shop, sign_in
from tests.admin.test_purchases import bought
from tests.books import connected
from tests.conftest import ACTOR
from tests.databases import Urls
from tests.payments.conftest import Shop

MARGIN = "/admin/analytics/margin"
CENTS_PER_CREDIT = 25  # $5.00 for 20
AGENT = Actor("api_key", "0123456789abcdef")


@pytest.fixture
async def shop(own_database: Urls) -> AsyncIterator[Shop]:
    async with open_shop(own_database) as shop:
        yield shop


@pytest.fixture
async def viewer(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with await sign_in(shop, "viewer") as client:
        yield client


@pytest.fixture
async def buyer(shop: Shop) -> UUID:
    """With 20 bought credits, and nothing free."""
    account_id: UUID = (await bought(shop))["account_id"]
    return account_id


async def charge(
    shop: Shop, account_id: UUID, key: str, agent: str = "helper", credits: int = 1, actor: Actor = AGENT
) -> None:
    request = ChargeRequest(
        account_id,
        100 * credits,
        None,
        actor,
        datetime.now(UTC),
        idempotency_key=key,
        details={"agent_id": agent},
    )
    assert isinstance(await shop.billing.charge(request), New)


async def report(
    shop: Shop, account_id: UUID, interaction_id: str, cents: str, *models: str, calls: int = 1, tokens: int = 100
) -> None:
    usage = LlmUsageReport(interaction_id, None, calls, tokens, 0, list(models), Decimal(cents), 1, 0, 0)
    await record_llm_usage(shop.db, account_id, usage, datetime.now(UTC))


async def rolled_up(shop: Shop) -> None:
    """All reports are in the sums: the mark waits for transactions that were open when it moved."""
    for _ in range(100):
        await roll_up(shop.db, datetime.now(UTC) + SETTLED)
        [row] = await shop.rows(
            "SELECT count(*) AS n FROM llm_usage, rollup_state WHERE usage_log_id >= attributed_up_to"
        )
        if row["n"] == 0:
            return
    raise AssertionError("the mark does not move")


async def ask(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def models(client: httpx.AsyncClient) -> dict[str | None, Any]:
    """Paid credits, cost and margin by model."""
    rows = (await ask(client, f"{MARGIN}/models"))["models"]
    names = ("paid_spent", "cost_cents", "margin_cents")
    return {row["model"]: tuple(Decimal(row[name]) for name in names) for row in rows}


async def test_the_model_that_costs_more_than_it_earns_shows(
    shop: Shop, viewer: httpx.AsyncClient, buyer: UUID
) -> None:
    """`large` costs 40 cents an interaction that brings 25; the SDK's keys count like plain ones."""
    await charge(shop, buyer, "cheap one")
    await charge(shop, buyer, "charge:dear one")
    await charge(shop, buyer, "never reported")
    await charge(shop, buyer, "dear one", actor=Actor("user", "d"))  # a user's own key names no interaction
    await report(shop, buyer, "cheap one", "3", "small")
    await report(shop, buyer, "dear one", "40", "large")
    assert await models(viewer) == {"large": (1, 40, -15), "small": (1, 3, 22), None: (2, 0, 50)}


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        # By the cost of the models' own calls: 1 to 3. The call that names both is split likewise.
        ([("2", "a"), ("6", "b"), ("4", "a", "b")], {"a": ("0.25", "3"), "b": ("0.75", "9")}),
        # Without any cost per model, by tokens.
        ([("0", "a"), ("0", "b"), ("9", "a", "b")], {"a": ("0.5", "4.5"), "b": ("0.5", "4.5")}),
        # Nothing is known of either.
        ([("1", "a", "b", "c")], {"a": ("0.3333333333", "0.3333333333"), "b": ("0.3333333334", "0.3333333334")}),
    ],
)
async def test_interaction_of_several_models_is_split(
    shop: Shop,
    viewer: httpx.AsyncClient,
    buyer: UUID,
    reports: list[tuple[str, ...]],
    expected: dict[str, tuple[str, str]],
) -> None:
    await charge(shop, buyer, "mixed")
    for cents, *names in reports:
        await report(shop, buyer, "mixed", cents, *names)
    by_model = await models(viewer)
    for model, (paid, cost) in expected.items():
        assert by_model[model] == (Decimal(paid), Decimal(cost), Decimal(paid) * CENTS_PER_CREDIT - Decimal(cost))
    assert sum(paid for paid, _, _ in by_model.values()) == 1
    assert sum(cost for _, cost, _ in by_model.values()) == sum(Decimal(cents) for cents, *_ in reports)


async def test_summary_beyond_its_calls_is_split_by_what_the_calls_cost(
    shop: Shop, viewer: httpx.AsyncClient, buyer: UUID
) -> None:
    await charge(shop, buyer, "long")
    await report(shop, buyer, "long", "1", "a")
    await report(shop, buyer, "long", "3", "b")
    await report(shop, buyer, "long", "10", "a", "b", calls=5, tokens=500)
    by_model = await models(viewer)
    assert {model: cost for model, (_, cost, _) in by_model.items()} == {"a": Decimal("2.5"), "b": Decimal("7.5")}


async def test_tools_revenue_is_no_revenue_of_interactions(shop: Shop, viewer: httpx.AsyncClient, buyer: UUID) -> None:
    """A tool's own credits are given, so they earn nothing; LLM cost is subtracted from interactions alone."""
    now = datetime.now(UTC)
    await charge(shop, buyer, "one", credits=2)
    await report(shop, buyer, "one", "5", "small")
    await shop.app.state.tools.grant(buyer, "image_gen", Credits(1), actor=ACTOR, now=now)
    for _ in range(7):  # five are free, one was given, one costs ten credits
        await shop.app.state.tools.charge(buyer, "image_gen", actor=ACTOR, now=now)
    [margin] = (await ask(viewer, f"{MARGIN}/overview"))["period"]
    figures = {name: Decimal(value) for name, value in margin.items() if name != "currency"}
    assert figures == {
        "paid_spent": 12,
        "tool_paid_spent": 10,
        "revenue_cents": 300,
        "interaction_revenue_cents": 50,
        "tool_revenue_cents": 250,
        "interactions": 1,
        "cost_cents": 5,
        "margin_cents": 45,
    }
    [tool] = (await ask(viewer, f"{MARGIN}/tools"))["tools"]
    assert (tool["uses"], tool["product_free"], tool["product_paid"], tool["paid_spent"]) == (7, 5, 1, 10)
    assert Decimal(tool["revenue_cents"]) == 250


async def test_pages_say_the_same_of_the_same_days(shop: Shop, viewer: httpx.AsyncClient, buyer: UUID) -> None:
    """Revenue is what was spent, net sales are what was received, wherever they appear; parts add up to the whole."""
    await charge(shop, buyer, "one", agent="a")
    await charge(shop, buyer, "two", agent="b", credits=3)
    await report(shop, buyer, "two", "80", "large")
    await shop.refund((await bought(shop))["payment_intent_id"], 100)
    await shop.deliver_all(("charge.refunded",))
    overview = (await ask(viewer, "/admin/analytics/overview"))["period"]
    margins = await ask(viewer, f"{MARGIN}/overview")
    [revenue], [margin] = overview["revenue"], margins["period"]
    assert revenue == {name: margin[name] for name in revenue}
    assert overview["sales"] == margins["sales"]
    # 900 cents stayed of 36 credits that stayed.
    assert (overview["sales"][0]["net_minor"], revenue["revenue_cents"]) == (900, f"{4 * CENTS_PER_CREDIT}.0000000000")
    agents = (await ask(viewer, f"{MARGIN}/agents"))["agents"]
    assert {row["agent_id"]: Decimal(row["margin_cents"]) for row in agents} == {"a": 25, "b": 75 - 80}
    for part in ("agents", "models"):
        rows = (await ask(viewer, f"{MARGIN}/{part}"))[part]
        assert sum(Decimal(row["revenue_cents"]) for row in rows) == Decimal(margin["interaction_revenue_cents"])
        assert sum(Decimal(row["cost_cents"]) for row in rows) == Decimal(margin["cost_cents"])


async def test_reports_and_charges_count_in_every_order(shop: Shop, viewer: httpx.AsyncClient, buyer: UUID) -> None:
    """Rolled up between any two of them, by workers of this version or of the one before, which moves one mark."""

    async def rolled_up_by_the_version_before() -> None:
        async with shop.db.transaction() as tx:
            await roll_up_step(tx, first_id_at(datetime.now(UTC)))

    async def rolled_up_by_this_version() -> None:
        await rolled_up(shop)

    old, new = rolled_up_by_the_version_before, rolled_up_by_this_version
    for n, roll in enumerate((old, new, old)):
        await charge(shop, buyer, f"first {n}")
        await report(shop, buyer, f"then {n}", "2", "a")
        await roll()
        await report(shop, buyer, f"first {n}", "2", "a")
        await charge(shop, buyer, f"charge:then {n}")
        await roll()
        await report(shop, buyer, f"then {n}", "6", "b")
        assert (await models(viewer))["a"][:2] == (Decimal("1.25") * (n + 1), 4 * (n + 1))
    await rolled_up(shop)
    assert await models(viewer) == {
        "a": (Decimal("3.75"), 12, Decimal("81.75")),
        "b": (Decimal("2.25"), 18, Decimal("38.25")),
    }
    async with connected(shop.urls) as connection:
        assert [await connection.fetchval(sql) for sql in ROLLUP_CHECKS.values()] == [None] * len(ROLLUP_CHECKS)


async def test_an_interactions_new_name_is_the_attributions(shop: Shop, viewer: httpx.AsyncClient, buyer: UUID) -> None:
    """Erasing a person renames interactions. The foreign key renames the shares, for workers of every version."""
    await charge(shop, buyer, "mail@example.com")
    await report(shop, buyer, "mail@example.com", "2", "a")
    await rolled_up(shop)
    before = await models(viewer)
    await forget_interactions(shop.db, buyer)
    for table in ("interaction_calls", "interaction_shares"):
        [row] = await shop.rows(f"SELECT interaction_id FROM {table}")
        assert row["interaction_id"] != "mail@example.com"
    assert await models(viewer) == before
