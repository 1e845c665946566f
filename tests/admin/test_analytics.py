"""Reports against the books counted by hand: the same before any roll-up, in the middle of it, after it, and with more
that came since."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.analytics.checks import ROLLUP_CHECKS, TOTALS
from app.analytics.days import Days
from app.analytics.rollup import SETTLED, attribute_step, meter_step, roll_up, roll_up_step
from app.analytics.sources import first_id_at
from app.analytics.usage_reports import sum_credits_by_key
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.ledger.outcomes import New
from app.metering.llm_usage import LlmUsageReport, record_llm_usage
from app.tools.service import ProductInventoryService
from tests.admin.analytics_books import read_books
from tests.admin.analytics_expected import AGENT, HISTORY_DAYS, Expected, exact, ranges
from tests.admin.analytics_fill import fill
from tests.admin.conftest import Office
from tests.books import connected
from tests.conftest import ACTOR
from tests.databases import Urls

URL = "/admin/analytics"


@pytest.fixture(scope="module")
async def filled(office: Office) -> Office:
    await fill(office.urls, accounts=150, uses=3000, days=HISTORY_DAYS)
    return office


async def ask(client: httpx.AsyncClient, report: str, days: Days, **params: Any) -> dict[str, Any]:
    period = {"environment": days.environment, "from": str(days.first), "to": str(days.last)}
    answer = await client.get(f"{URL}/{report}", params={**period, **params})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = exact(answer.json())
    assert {name: body.pop(name) for name in period} == period
    return body


async def pages(client: httpx.AsyncClient, days: Days, order: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await ask(client, "margin/interactions", days, order=order, limit=40, **cursor)
        found += page["interactions"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def check(office: Office, client: httpx.AsyncClient, selected: Sequence[Days] | None = None) -> None:
    """Every report, for every range, is what the books say."""
    books = await read_books(office.urls)
    for days in selected or ranges():
        by_hand = Expected(books, days)
        assert await ask(client, "overview", days) == by_hand.overview()
        assert await ask(client, "daily", days) == by_hand.daily()
        assert await ask(client, "products", days) == by_hand.by("products", "product_type")
        assert await ask(client, "agents", days) == by_hand.by("agents", "agent_id")
        assert await ask(client, "keys", days) == by_hand.by("keys", "key_id", name=None)
        for by, field in (("meter", "meter"), ("model", "model"), ("agent", "agent_id"), ("key", "key_id")):
            assert (await ask(client, "metered", days, by=by))["sums"] == by_hand.metered(field)
        top = (await ask(client, "users", days, limit=7))["users"]
        assert [(user["account_id"], user["uses"], user["credits"]) for user in top] == by_hand.users()
        assert await ask(client, "cohorts", days) == by_hand.cohorts()
        await check_margins(client, days, by_hand)


async def check_margins(client: httpx.AsyncClient, days: Days, by_hand: Expected) -> None:
    models, prices = by_hand.models(), by_hand.prices()
    assert (await ask(client, "models", days))["models"] == models
    assert (await ask(client, "margin/models", days))["models"] == by_hand.margin_models()
    assert (await ask(client, "margin/agents", days))["agents"] == by_hand.margin_agents()
    assert (await ask(client, "margin/tools", days))["tools"] == by_hand.margin_tools()
    overview = await ask(client, "margin/overview", days)
    assert {
        p["currency"]: (p["net_minor"], p["credits_sold"], p["credits_entered"]) for p in overview["prices"]
    } == prices
    assert overview["period"] == by_hand.margins(days, prices)
    assert overview["previous"] == by_hand.margins(days.previous, prices)
    assert overview["sales"] == by_hand.period(days)["sales"]
    daily = (await ask(client, "margin/daily", days))["days"]
    assert daily == [
        {"day": str(day), "margins": by_hand.margins(Days(days.environment, day, day), prices)} for day in days.each()
    ]
    newest = sorted(by_hand.interactions, key=lambda i: (i.day, i.first_id), reverse=True)
    dearest = sorted(by_hand.interactions, key=lambda i: (i.cost_cents, i.first_id), reverse=True)
    for order, expected in (("newest", newest), ("cost", dearest)):
        listed = [
            (i["interaction_id"], i["model"], i["llm_calls"], i["cost_cents"], i["paid_spent"])
            for i in await pages(client, days, order)
        ]
        assert listed == [
            (i.interaction_id, i.model, i.llm_calls, i.cost_cents, sum(c[2] for c in i.charges) if i.charges else None)
            for i in expected
        ]


async def check_keys(office: Office) -> None:
    by_key: Counter[str] = Counter()
    for use in (await read_books(office.urls)).uses:
        if use.key_id is not None and use.credits:
            by_key[use.key_id] += use.credits
    async with office.db.consistent_read() as session:
        assert await sum_credits_by_key(session, [*by_key, "unknown"]) == by_key
        assert len(by_key) > 1


async def proof(urls: Urls) -> None:
    async with connected(urls) as connection:
        for name, sql in (ROLLUP_CHECKS | TOTALS).items():
            assert await connection.fetchval(sql) is None, name


async def write_more(office: Office) -> None:
    """Charges, tool uses and LLM reports through the services, of now; also of an interaction that is in the sums."""
    billing: BillingService = office.app.state.billing
    tools: ProductInventoryService = office.app.state.tools
    now = datetime.now(UTC)
    rows = await office.rows(
        "SELECT DISTINCT ON (account_id) account_id, interaction_id FROM llm_usage JOIN accounts USING (account_id) "
        "WHERE status = 'active' AND paid > 3 AND NOT EXISTS (SELECT FROM charges c WHERE c.account_id = "
        "llm_usage.account_id AND c.idempotency_key = 'charge:' || interaction_id) "
        "ORDER BY account_id, interaction_id LIMIT 9"
    )
    for n, row in enumerate(rows):
        account_id = row["account_id"]
        # A charge of today pays for an interaction whose reports are in the sums, or about to come.
        key = f"charge:{row['interaction_id'] if n % 3 == 0 else f'late-{n}'}"
        request = ChargeRequest(
            account_id, 100, None, AGENT, now, idempotency_key=key, details={"agent_id": f"late-{n % 2}"}
        )
        assert isinstance(await billing.charge(request), New)
        await tools.charge(account_id, "web_search", actor=ACTOR, now=now)
        for interaction_id in (row["interaction_id"], f"late-{n}"):
            report = LlmUsageReport(interaction_id, None, 1, 10, 2, ["model-c"], Decimal("0.1234567891"), 1, 0, 0)
            await record_llm_usage(office.db, account_id, report, now)


async def test_reports_are_the_books_at_every_moment_of_a_roll_up(filled: Office, viewer: httpx.AsyncClient) -> None:
    today = datetime.now(UTC).date()
    some = [Days("live", today - timedelta(days=20), today - timedelta(days=6)), Days("live", today, today)]
    until = first_id_at(datetime.now(UTC) - SETTLED)
    await check(filled, viewer, some)
    for _ in range(3):
        async with filled.db.transaction() as tx:
            assert await roll_up_step(tx, until, rows=400)
        await proof(filled.urls)
    # The attribution has not begun (as right after it was introduced); then it lags behind the sums.
    for _ in range(2):
        await check(filled, viewer, some)
        async with filled.db.transaction() as tx:
            assert await attribute_step(tx, rows=300)
            assert await meter_step(tx, rows=200)
        await proof(filled.urls)
    await check(filled, viewer, some)
    await check_keys(filled)
    await asyncio.gather(*(roll_up(filled.db, datetime.now(UTC)) for _ in range(4)))
    await proof(filled.urls)
    [left] = await filled.rows(
        "SELECT (SELECT count(*) FROM charges WHERE charge_id >= rolled_up_to) AS n, "
        "(SELECT sum(uses) FROM usage_days) AS uses FROM rollup_state"
    )
    assert left["n"] == 0
    assert left["uses"] > 2000
    await check(filled, viewer)
    await write_more(filled)
    await check(filled, viewer, [*some, ranges()[2]])
    await check_keys(filled)
    await roll_up(filled.db, datetime.now(UTC) + SETTLED)
    await proof(filled.urls)
    await check(filled, viewer, [*some, ranges()[2]])
