"""Each interaction counts once, each use is in the sums once, and the proof finds a sum that is wrong."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError

from app.analytics import llm_reports, margin_reports, metered_reports, money_reports, usage_reports
from app.analytics.checks import ROLLUP_CHECKS, TOTALS
from app.analytics.days import Days
from app.analytics.rollup import SETTLED, database_time, roll_up, roll_up_step
from app.analytics.sources import ALL_IDS, first_id_at, interactions
from app.auth.caller import Permission
from app.db import ID_CLOCK, Database, Session, time_of
from app.verification import verify_books
from tests.admin.analytics_fill import fill
from tests.admin.conftest import Office
from tests.books import connected
from tests.conftest import make_key, settings_for
from tests.databases import Urls

USAGE = "/v1/billing/litellm/usage"
URL = "/admin/analytics"
BOOKS = ("charges", "ledger_entries", "product_usage_log", "llm_usage")


@pytest.fixture(scope="module", autouse=True)
async def rolled_up(office: Office) -> Office:
    """Filled before anything is rolled up: its ids are of the past."""
    await fill(office.urls, accounts=60, uses=2000, days=20)
    await roll_up(office.db, datetime.now(UTC))
    async with connected(office.urls) as connection:
        await connection.execute("VACUUM ANALYZE")
    return office


@pytest.fixture
async def proxy(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    key = await make_key(office.db, "live", Permission.READ, Permission.WRITE)
    transport = httpx.ASGITransport(office.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={"X-API-Key": key}) as proxy:
        yield proxy


async def report(proxy: httpx.AsyncClient, user: str, interaction_id: str, calls: int, cents: str, **more: Any) -> str:
    body = {
        "oauth_provider": "oauth:google",
        "external_id": user,
        "interaction_id": interaction_id,
        "total_llm_calls": calls,
        "total_prompt_tokens": 10 * calls,
        "total_completion_tokens": calls,
        "models_used": ["m"],
        "actual_cost_cents": cents,
        "duration_ms": 1,
        **more,
    }
    answer = await proxy.post(USAGE, json=body)
    assert answer.status_code == 201, answer.text
    usage_log_id: str = answer.json()["usage_log_id"]
    return usage_log_id


async def calls_and_cost(viewer: httpx.AsyncClient, interaction_id: str) -> tuple[int, Decimal]:
    """Calls and cost of an interaction, which stands once in the list of today's."""
    answer = await viewer.get(f"{URL}/margin/interactions", params={"limit": 200})
    [row] = [row for row in answer.json()["interactions"] if row["interaction_id"] == interaction_id]
    return row["llm_calls"], Decimal(row["cost_cents"])


REPORTS = ((1, "0.1"), (1, "0.0000000001"), (1, "0.25"))


@pytest.mark.parametrize(("summary", "cost"), [("0.3", "0.3500000001"), ("0.4", "0.4")])
@pytest.mark.parametrize("rolled", [False, True])
async def test_calls_and_their_summary_count_once_in_every_order(
    office: Office, proxy: httpx.AsyncClient, viewer: httpx.AsyncClient, summary: str, cost: str, rolled: bool
) -> None:
    """Also when the sums are brought up to date between any two of them."""
    run = uuid.uuid4().hex
    orders = list(itertools.permutations((*REPORTS, (3, summary))))
    for n, order in enumerate(orders[:: 5 if rolled else 3]):
        for calls, cents in order:
            await report(proxy, run, f"{run}-{n}", calls, cents)
            if rolled:
                await roll_up(office.db, datetime.now(UTC) + SETTLED)
        assert await calls_and_cost(viewer, f"{run}-{n}") == (3, Decimal(cost))


async def test_summary_or_calls_alone_count(proxy: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    run = uuid.uuid4().hex
    await report(proxy, run, f"{run}-summary", 12, "1.5")
    await report(proxy, run, f"{run}-call", 1, "0.125")
    assert await calls_and_cost(viewer, f"{run}-summary") == (12, Decimal("1.5"))
    assert await calls_and_cost(viewer, f"{run}-call") == (1, Decimal("0.125"))


async def test_call_that_is_reported_again_is_the_same_report(
    office: Office, proxy: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    """Racing or later; the key belongs to the interaction."""
    run = uuid.uuid4().hex
    once = [report(proxy, run, run, 1, "0.5", call_id="call") for _ in range(12)]
    [usage_log_id] = set(await asyncio.gather(*once))
    assert await report(proxy, run, run, 1, "9", call_id="call") == usage_log_id
    assert await calls_and_cost(viewer, run) == (1, Decimal("0.5"))
    assert await report(proxy, run, run, 1, "0.5", call_id="other") != usage_log_id
    assert await report(proxy, run, f"{run}-2", 1, "0.5", call_id="call") != usage_log_id
    assert await calls_and_cost(viewer, run) == (2, Decimal(1))
    [row] = await office.rows("SELECT count(*) AS n FROM llm_usage WHERE interaction_id = $1", run)
    assert row["n"] == 2


async def test_racing_reports_of_an_interaction_all_count(
    office: Office, proxy: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    run = uuid.uuid4().hex
    finished = False

    async def keep_rolling_up() -> None:
        while not finished:
            await roll_up(office.db, datetime.now(UTC) - SETTLED)
            await asyncio.sleep(0.01)

    rolling = asyncio.create_task(keep_rolling_up())
    await asyncio.gather(*(report(proxy, run, run, 1, "0.01") for _ in range(20)))
    finished = True
    await rolling
    assert await calls_and_cost(viewer, run) == (20, Decimal("0.20"))


async def test_what_was_reported_before_the_mark_is_not_read_again(
    rolled_up: Office, proxy: httpx.AsyncClient, viewer: httpx.AsyncClient
) -> None:
    """A new report is added to the stored totals of its interaction, so older reports are not needed."""
    run = uuid.uuid4().hex
    for n in range(3):
        await report(proxy, run, run, 1, "0.01", models_used=[f"m{n}"])
    last = UUID(await report(proxy, run, run, 9, "0.02", models_used=["m0"]))
    # By the clock of ids, which may be some milliseconds ahead of the wall clock.
    await roll_up(rolled_up.db, time_of(last) + timedelta(milliseconds=1) + SETTLED)
    await asyncio.sleep(0.002)
    await report(proxy, run, run, 1, "0.01", models_used=["a"])
    [state] = await rolled_up.rows("SELECT rolled_up_to FROM rollup_state")
    async with connected(rolled_up.urls) as connection:
        away = connection.transaction()
        await away.start()
        old = "DELETE FROM llm_usage WHERE interaction_id = $1 AND usage_log_id < $2"
        assert await connection.execute(old, run, state["rolled_up_to"]) == "DELETE 4"
        statement = f"SELECT * FROM ({interactions('$1', '$2')}) i WHERE interaction_id = $3"
        [row] = await connection.fetch(statement, state["rolled_up_to"], ALL_IDS, run)
        await away.rollback()
    assert (row["llm_calls"], row["cost_cents"], row["model"]) == (9, Decimal("0.04"), "a + m0 + m1 + m2")
    assert await calls_and_cost(viewer, run) == (9, Decimal("0.04"))


def _off_by(wrong_ns: int) -> int:
    return time.time_ns() + wrong_ns


async def test_process_whose_clock_is_minutes_behind_is_counted_all_the_same(
    rolled_up: Office, proxy: httpx.AsyncClient, viewer: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, minutes = uuid.uuid4().hex, 5 * 60 * 10**9
    for state in ("_ahead_ns", "_behind_ms"):  # restored afterwards: other tests compare ids with the wall clock
        monkeypatch.setattr(ID_CLOCK, state, getattr(ID_CLOCK, state))
    for wrong in (-minutes, minutes, 0):  # the clock is correct at the end
        clocks = SimpleNamespace(time_ns=partial(_off_by, wrong), monotonic_ns=time.monotonic_ns)
        monkeypatch.setattr("app.db.ids.time", clocks)
        await asyncio.sleep(0.5)  # two heartbeats
        usage_log_id = UUID(await report(proxy, run, f"{run}{wrong}", 1, "0.5"))
        assert abs((usage_log_id.int >> 80) / 1000 - time.time()) < 6
        await roll_up(rolled_up.db, await database_time(rolled_up.db))
        assert await calls_and_cost(viewer, f"{run}{wrong}") == (1, Decimal("0.5"))


# --- the sums -----------------------------------------------------------------------------------------------------


async def sums(office: Office) -> list[dict[str, Any]]:
    return await office.rows(
        "SELECT (SELECT sum(uses) FROM usage_days) AS uses, (SELECT sum(uses) FROM account_days) AS by_account, "
        "(SELECT sum(accounts) FROM active_days) AS active, (SELECT sum(interactions) FROM llm_days) AS interactions, "
        "rolled_up_to FROM rollup_state"
    )


async def test_roll_up_that_dies_in_the_middle_leaves_nothing(rolled_up: Office, proxy: httpx.AsyncClient) -> None:
    await report(proxy, uuid.uuid4().hex, uuid.uuid4().hex, 1, "1")
    before = await sums(rolled_up)
    until = first_id_at(datetime.now(UTC))

    async def die() -> None:
        async with rolled_up.db.transaction() as tx:
            assert await roll_up_step(tx, until)
            pid = (await tx.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await rolled_up.rows("SELECT pg_terminate_backend($1)", pid)
            await asyncio.sleep(0.2)

    with pytest.raises(DBAPIError):
        await die()
    assert await sums(rolled_up) == before
    await asyncio.gather(*(roll_up(rolled_up.db, datetime.now(UTC) + SETTLED) for _ in range(3)))
    [after] = await sums(rolled_up)
    [reported] = await rolled_up.rows("SELECT count(DISTINCT (account_id, interaction_id)) AS n FROM llm_usage")
    assert after["interactions"] == reported["n"]


REPORTED: dict[str, Callable[[Session, Days], Awaitable[Sequence[Mapping[str, Any]]]]] = {
    "days": usage_reports.list_days,
    "by product": partial(usage_reports.list_by, dimension="product_type"),
    "top accounts": partial(usage_reports.list_top_accounts, limit=100),
    "cohorts": usage_reports.list_cohort_weeks,
    "movements": money_reports.list_movements,
    "money": metered_reports.list_money_days,
    "prices": money_reports.list_prices,
    "models": margin_reports.list_models,
    "models by currency": margin_reports.list_models_by_currency,
    "no model": margin_reports.list_unattributed,
    "agents": margin_reports.list_agents,
    "tools": margin_reports.list_tools,
    "margins": margin_reports.list_margin_days,
    "newest": partial(llm_reports.list_interactions, order="newest", after=None, limit=50),
    "dearest": partial(llm_reports.list_interactions, order="cost", after=None, limit=50),
}


async def test_no_report_reads_the_books_of_uses_from_end_to_end(rolled_up: Office) -> None:
    """The reports' own statements with EXPLAIN before them."""
    await roll_up(rolled_up.db, datetime.now(UTC) + SETTLED)
    async with connected(rolled_up.urls) as connection:
        await connection.execute("ANALYZE")
    db = Database(settings_for(rolled_up.urls).database_url)

    def explained(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        is_report = any(f"FROM {book}" in statement for book in BOOKS)
        return f"EXPLAIN {statement}" if is_report else statement, parameters

    today = datetime.now(UTC).date()
    year = Days("live", today - timedelta(days=365), today)
    plans = {}
    event.listen(Engine, "before_cursor_execute", explained, retval=True)
    try:
        async with db.consistent_read() as session:
            for name, report in REPORTED.items():
                plans[name] = "\n".join(str(row["QUERY PLAN"]) for row in await report(session, year))
    finally:
        event.remove(Engine, "before_cursor_execute", explained)
        await db.close()
    for name, plan in plans.items():
        assert "Index" in plan, name
        assert not [book for book in BOOKS if f"Seq Scan on {book}" in plan], (name, plan)


@pytest.mark.parametrize("limit", [1, 3, 8, 40, 100])
@pytest.mark.parametrize("back", [0, 8])
async def test_top_accounts_are_the_same_however_few_are_looked_at_first(
    rolled_up: Office, limit: int, back: int
) -> None:
    today = datetime.now(UTC).date()
    days = Days("live", today - timedelta(days=365), today - timedelta(days=back))
    async with rolled_up.db.consistent_read() as session:
        everybody = await usage_reports.list_top_accounts(session, days, limit, candidates=1000)
        for few in (1, 5, 10, 20, 40):
            assert await usage_reports.list_top_accounts(session, days, limit, candidates=few) == everybody


SPOILT = {
    "a day's credits of grants that are not the books'": "UPDATE usage_days SET grants = grants + 1",
    "a day's usage events that are not the books'": "UPDATE metered_days SET debt_nanos = debt_nanos + 1",
    "an account's day of usage events that is not the books'": "UPDATE account_days SET events = events + 1",
    "days of money and grants that do not add up to the balances": "DELETE FROM metered_days",
    "a day's uses that are not the books'": "UPDATE usage_days SET paid = paid + 1",
    "an account's day that is not the books'": "UPDATE account_days SET uses = uses + 1",
    "an account's day that points to a wrong one": "UPDATE account_days SET previous_day = previous_day - 1",
    "a count of active accounts that is not the accounts'": "DELETE FROM active_days",
    "a cohort's week that is not its accounts'": "UPDATE cohort_weeks SET active = active - 1",
    "an interaction that is not its reports'": "UPDATE llm_interactions SET cost_cents = cost_cents + 0.0000000001",
    "a day's LLM calls that are not its interactions'": "UPDATE llm_days SET interactions = 0",
    "a model's calls that are not its reports'": "UPDATE interaction_calls SET llm_calls = llm_calls + 1",
    "an interaction's shares that are not its charges' and calls'": "UPDATE interaction_shares SET paid = paid + 1",
    "a day's attribution that is not its shares'": "UPDATE attribution_days SET cost_cents = cost_cents + 1",
}


async def differences(connection: "asyncpg.Connection[asyncpg.Record]") -> set[str]:
    return {name for name, sql in (ROLLUP_CHECKS | TOTALS).items() if await connection.fetchval(sql) is not None}


@pytest.mark.parametrize("name", SPOILT)
async def test_wrong_sum_is_found(rolled_up: Office, name: str) -> None:
    async with connected(rolled_up.urls) as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await differences(connection) == set()
        await connection.execute(SPOILT[name])
        assert name in await differences(connection)
        await transaction.rollback()


async def test_verification_of_the_ledger_names_a_wrong_sum(own_database: Urls) -> None:
    db = Database(settings_for(own_database).database_url)
    assert (await verify_books(db, datetime.now(UTC))).ok
    async with connected(own_database) as connection:
        await connection.execute("INSERT INTO active_days VALUES ('live', '2026-01-02', '-infinity', 3)")
    found = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert found.problem == (
        "a count of active accounts that is not the accounts': active live/2026-01-02/-infinity: books 0, sums 3"
    )


# --- what may be asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"from": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"from": "2025-01-01", "to": "2026-01-02"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-02-30"}, "to"),
        ({"from": "1999-12-31", "to": "2000-01-01"}, "from"),
        ({"to": "9999-12-31"}, "to"),
        ({"environment": "prod"}, "environment"),
    ],
)
async def test_days_that_cannot_be_are_refused(viewer: httpx.AsyncClient, params: dict[str, str], named: str) -> None:
    for path in ("overview", "daily", "cohorts", "users", "margin/overview", "margin/interactions"):
        answer = await viewer.get(f"{URL}/{path}", params=params)
        assert answer.status_code == 422, path
        detail = answer.json()["detail"]
        assert named in (detail if isinstance(detail, str) else detail[0]["loc"])


async def test_longest_range_is_a_leap_year(viewer: httpx.AsyncClient) -> None:
    answer = await viewer.get(f"{URL}/daily", params={"from": "2024-01-01", "to": "2024-12-31"})
    assert len(answer.json()["days"]) == 366


@pytest.mark.parametrize("order", ["newest", "cost"])
@pytest.mark.parametrize(
    "cursor",
    ["x", "2026-02-30_" + str(uuid.UUID(int=1)), "NaN_" + str(uuid.UUID(int=1)), "1e9_" + str(uuid.UUID(int=1))],
)
async def test_cursor_of_our_making_only(viewer: httpx.AsyncClient, order: str, cursor: str) -> None:
    answer = await viewer.get(f"{URL}/margin/interactions", params={"order": order, "cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_charge_that_takes_longer_than_a_minute_is_counted(office: Office, proxy: httpx.AsyncClient) -> None:
    """A charge gets its id before it waits, here for a lock on the ledger."""
    user = {"oauth_provider": "oauth:google", "external_id": str(uuid.uuid4())}
    assert (await proxy.post("/v1/billing/credits/check", json=user)).status_code == 200
    async with connected(office.urls) as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE ledger_entries IN SHARE MODE")
            charge = asyncio.create_task(
                proxy.post("/v1/billing/charges", json={**user, "amount_minor": 1, "currency": "USD"})
            )
            await asyncio.sleep(0.5)
            await roll_up(office.db, datetime.now(UTC) + timedelta(seconds=61))
        assert (await charge).status_code == 201
    await roll_up(office.db, datetime.now(UTC) + SETTLED)
    async with connected(office.urls) as connection:
        assert await differences(connection) == set()
