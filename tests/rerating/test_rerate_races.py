"""Reratings through SIGKILL and races, and the property that the books add up to the new prices."""

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.admin.audit.log import record_by_system
from app.metering.events import usage_of
from app.pricing.book import BookDocument
from app.pricing.compiled import PriceBook
from app.pricing.engine import Priced, price
from app.pricing.service import PriceBooks
from app.rerating import service
from app.rerating.service import Period, Reratings
from tests.books import account_locked, waiting_for_locks
from tests.metering.conftest import BEGINNING, BOOK, Desk, llm, put_in_force, usage
from tests.processes import Process
from tests.rerating.conftest import DONE, double_prices, effect, entries, report, rerating
from tests.rerating.test_rerate import COST, account_with
from tests.support.wallets import DOLLAR, give

ACCOUNTS = 8
SPENT = """
    SELECT coalesce(sum(CASE pool WHEN 'money_debt' THEN delta ELSE -delta END), 0)::bigint AS nanos
      FROM ledger_entries WHERE account_id = $1 AND cause_type IN ('usage_event', 'cost_record', 'correction')
"""


async def corrections(desk: Desk) -> int:
    [row] = await desk.rows("SELECT count(*) AS number FROM account_corrections")
    return int(row["number"])


async def corrected(desk: Desk, process: Process, expected: int) -> None:
    """Until so many accounts are corrected, or the run has ended."""
    for _ in range(10_000):
        if process.poll() is not None or await corrections(desk) >= expected:
            return
    raise AssertionError("the run does not get on")


async def test_a_run_that_is_killed_is_continued_when_it_is_repeated(desk: Desk) -> None:
    """It is killed while it waits for an account's lock, in the middle of the accounts, until all are corrected."""
    accounts = [(await account_with(desk, DOLLAR, events=2))[1] for _ in range(ACCOUNTS)]
    await double_prices(desk)
    for place in (0, 3, 6):
        async with account_locked(desk.urls, accounts[place]):
            with rerating(desk):
                await waiting_for_locks(desk.urls, 1)
        assert await corrections(desk) == place
    assert effect(desk, "--apply")["totals"][0]["corrected_events"] == 2 * (ACCOUNTS - 6)
    for account_id in accounts:
        assert await entries(desk, account_id) == [("money", -2 * COST)]
    assert len(await desk.rows("SELECT * FROM usage_corrections")) == 2 * ACCOUNTS
    begun = await desk.rows("SELECT * FROM admin_audit_log WHERE action = 'usage.rerate'")
    assert len(begun) == len(await desk.rows("SELECT * FROM reratings")) == 3


async def test_a_run_that_is_killed_at_any_moment_corrects_each_account_once(desk: Desk) -> None:
    accounts = [(await account_with(desk, DOLLAR))[1] for _ in range(ACCOUNTS)]
    await double_prices(desk)
    for expected in (1, 3, 5, 7):
        with rerating(desk) as process:
            await corrected(desk, process, expected)
    effect(desk, "--apply")
    for account_id in accounts:
        assert await entries(desk, account_id) == [("money", -COST)]


async def test_two_runs_at_once_correct_each_account_once(desk: Desk) -> None:
    accounts = [(await account_with(desk, DOLLAR, events=2))[1] for _ in range(ACCOUNTS)]
    await double_prices(desk)
    with rerating(desk) as first, rerating(desk) as second:
        async with account_locked(desk.urls, accounts[0]):
            await waiting_for_locks(desk.urls, 2)
        assert [await asyncio.to_thread(run.wait, 30) for run in (first, second)] == [DONE, DONE]
    for account_id in accounts:
        assert await entries(desk, account_id) == [("money", -2 * COST)]
    assert len(await desk.rows("SELECT * FROM usage_corrections")) == 2 * ACCOUNTS


async def test_events_that_are_reported_during_a_run_are_charged_once(desk: Desk) -> None:
    user, account_id = await account_with(desk, DOLLAR, events=3)
    await double_prices(desk)
    with rerating(desk) as run:
        await asyncio.gather(*(report(desk, usage(user)) for _ in range(20)))
        assert await asyncio.to_thread(run.wait, 30) == DONE
    assert await desk.wallet(user) == (DOLLAR - 2 * 23 * COST, 0)
    assert await entries(desk, account_id) == [("money", -3 * COST)]


async def test_an_account_with_very_many_events_is_corrected_in_parts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PART_EVENTS", 3)
    monkeypatch.setattr(service, "EVENTS_AT_ONCE", 2)
    _, account_id = await account_with(desk, DOLLAR, events=7)
    await double_prices(desk)
    [found] = await rerated(desk)
    assert (found.corrected_events, found.corrected_nanos) == (7, 7 * COST)
    assert await entries(desk, account_id) == [("money", -3 * COST), ("money", -3 * COST), ("money", -COST)]


async def test_accounts_are_found_page_by_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ACCOUNTS_AT_ONCE", 2)
    accounts = [(await account_with(desk, DOLLAR))[1] for _ in range(4)]
    await desk.user()
    assert [found.account_id for found in await rerated(desk)] == accounts


async def rerated(desk: Desk, version: int | None = None) -> list[service.Effect]:
    period = Period("live", BEGINNING, datetime.now(UTC) + timedelta(minutes=1), version)
    reratings = Reratings(desk.db, PriceBooks(desk.db), record_by_system)
    return [found async for found in reratings.run(period, reason="tests", apply=True)]


def drawn_event(draw: random.Random, user: str) -> dict[str, Any]:
    metric: dict[str, Any] = draw.choice(
        [
            llm(draw.randrange(5_000), draw.randrange(500)),
            llm(draw.randrange(5_000), draw.randrange(500), "gpt-4o-mini", provider="openai"),
            {"type": "compute", "cpu_hours": str(draw.randrange(100) / 1000), "memory_gb_hours": "0.001"},
            {"type": "tool_calls", "tool": "search", "count": draw.randrange(4)},
        ]
    )
    stated = {"cost": f"0.00{draw.randrange(9)}"} if draw.random() < 0.2 else {}
    age = timedelta(seconds=draw.randrange(86_400 * 20))
    return usage(user, metric=metric, time=(datetime.now(UTC) - age).isoformat(), **stated)


def drawn_book(draw: random.Random) -> dict[str, Any]:
    llm_rows = [
        {**row, "modes": {}, "prices": {name: str(draw.randrange(20)) for name in row["prices"]}}
        for row in BOOK["llm"]
        if draw.random() < 0.8
    ]
    percent = draw.choice(["-100", "-37.5", "0", "12.5", "300"])
    return {
        "llm": llm_rows,
        "markups": [{"id": "all", "meter": "llm_tokens", "percent": percent}],
        "minimum_charge": draw.choice(["0", "0.001"]),
        "rounding": draw.choice(["exact", "up_to_minor"]),
    }


@pytest.mark.parametrize("seed", range(4))
async def test_after_any_reratings_the_entries_of_usage_are_the_new_prices(desk: Desk, seed: int) -> None:
    """Accounts with grants, money and debts; events of several meters, some with a stated cost; three books in turn."""
    draw = random.Random(seed)
    users = [await desk.user(draw.randrange(1, 20)) for _ in range(4)]
    accounts = {user: await desk.account_id(user) for user in users}
    now = datetime.now(UTC)
    for account_id in accounts.values():
        for _ in range(draw.randrange(3)):
            await give(desk.db, account_id, draw.randrange(1, DOLLAR // 50), now, unit="USD")
    for _ in range(40):
        await report(desk, drawn_event(draw, draw.choice(users)))
    costs = {row["usage_id"]: row["cost_nanos"] for row in await desk.rows("SELECT * FROM usage_events")}
    events = await desk.rows(
        "SELECT usage_id, account_id, meter, provider, model, quantities::text AS quantities, plan_name, tool,"
        " stated_nanos, occurred_at FROM usage_events"
    )
    for day in range(3):
        document = BookDocument.model_validate({**BOOK, **drawn_book(draw)})
        await put_in_force(desk.db, BEGINNING + timedelta(days=day + 1), **document.model_dump(mode="json"))
        await rerated(desk)
        for event in events:
            costs[event["usage_id"]] = new_price(PriceBook.of(document), event, costs[event["usage_id"]])
        for account_id in accounts.values():
            own = [event["usage_id"] for event in events if event["account_id"] == account_id]
            await require_spent(desk, account_id, sum(costs[usage_id] for usage_id in own))
        if draw.random() < 0.5:
            await desk.give(draw.choice(users), draw.randrange(1, DOLLAR // 10))


def new_price(book: PriceBook, event: dict[str, Any], before: int) -> int:
    """The price of an event by the engine, or the one before if there is none."""
    if event["stated_nanos"] is not None:
        return before
    found = price(
        book,
        usage_of(event["meter"], event["provider"], event["model"], json.loads(event["quantities"])),
        at=event["occurred_at"],
        plan=event["plan_name"],
        tool=event["tool"],
    )
    return found.cost_nanos if isinstance(found, Priced) else before


async def require_spent(desk: Desk, account_id: UUID, expected: int) -> None:
    [row] = await desk.rows(SPENT, account_id)
    assert row["nanos"] == expected
