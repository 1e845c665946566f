"""The usage explorer: every filter and grouping, exact sums and margins, pages, files, and the breakdown of a price."""

import csv
import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.caller import Actor
from app.ledger.entries import Cause, Kind
from app.metering.attribution import Attribution
from app.metering.events import StatedCost, Terms, UsageEvent
from app.pricing.usage import Compute, LlmTokens, Usage
from tests.admin.conftest import Office
from tests.admin.test_users import open_account
from tests.conftest import ACTOR
from tests.metering.conftest import put_in_force
from tests.support.wallets import DOLLAR, locked

KEY = Actor("api_key", "0123456789abcdef")
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
SONNET = LlmTokens("anthropic", "claude-3-5-sonnet", {"input_uncached": 1000, "output_text": 100})
MINI = LlmTokens("openai", "gpt-4o-mini", {"input_uncached": 1000, "output_text": 1000, "cache_read": 3})
"""0.0045 and 0.00075045 dollars."""


@dataclass(frozen=True)
class Reported:
    """Accounts with usage: one on the plan `pro`, whose prices are twice the list prices, and one without money."""

    pro: UUID
    poor: UUID
    since: str
    until: str

    @property
    def days(self) -> Mapping[str, str]:
        return {"from": self.since, "to": self.until}


@pytest.fixture(scope="module")
async def reported(office: Office) -> Reported:
    await put_in_force(office.db)
    now = datetime.now(UTC)
    pro = await open_account(office, "pro@example.com", plan_name="pro")
    poor = await open_account(office)
    async with locked(office.db, pro, now) as account:
        account.give_money(100 * DOLLAR, Kind.OPENING_GRANT, Cause("account", pro), ACTOR, now)

    async def report(account_id: UUID, event_id: str, usage: Usage, hours: int, **more: Any) -> None:
        event = UsageEvent("router", event_id, usage, occurred_at=NOON + timedelta(hours=hours), **more)
        terms = Terms(KEY, now, max_stated_nanos=DOLLAR)
        await office.app.state.usage.record_one(account_id, event, terms)

    of_run = Attribution(agent_id="helper", tool="search", run_id="run-1")
    await report(pro, "sonnet-1", SONNET, 0, attribution=of_run)
    await report(pro, "sonnet-2", SONNET, 1, attribution=of_run)
    await report(pro, "mini", MINI, 1)
    await report(pro, "hours", Compute(Decimal("0.5"), Decimal(2)), 2)
    await report(pro, "stated", LlmTokens("acme", "new", {"output_text": 1}), 3, stated=StatedCost("nanos", 7))
    await report(poor, "unpaid", SONNET, 0)
    return Reported(pro, poor, str(NOON.date()), str(NOON.date()))


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(f"/admin/usage/{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["stated", "hours", "mini", "sonnet-2", "unpaid", "sonnet-1"]),
        ({"model": "gpt-4o-mini"}, ["mini"]),
        ({"provider": "anthropic"}, ["sonnet-2", "unpaid", "sonnet-1"]),
        ({"meter": "compute"}, ["hours"]),
        ({"agent": "helper", "tool": "search"}, ["sonnet-2", "sonnet-1"]),
        ({"run": "run-1"}, ["sonnet-2", "sonnet-1"]),
        ({"key": KEY.id, "status": "refused"}, ["unpaid"]),
        ({"source": "router", "plan": "pro", "model": "new"}, ["stated"]),
        ({"environment": "test"}, []),
        ({"agent": "nobody"}, []),
    ],
)
async def test_filters(
    viewer: httpx.AsyncClient, reported: Reported, filters: dict[str, str], expected: list[str]
) -> None:
    ids: list[str] = []
    cursor: dict[str, str] = {}
    while True:  # by pages of two: each event is on one page
        page = await get(viewer, "events", limit=2, **reported.days, **filters, **cursor)
        ids += [event["event_id"] for event in page["events"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    # Two events have the same time: their order is the order of recording, newest first.
    assert ids == expected


async def test_events_name_their_user(viewer: httpx.AsyncClient, reported: Reported) -> None:
    [event] = (await get(viewer, "events", **reported.days, account_id=reported.poor))["events"]
    assert (event["account_id"], event["person"]["erased"]) == (str(reported.poor), False)
    assert (event["status"], event["refusal"], event["cost"]) == ("refused", "insufficient_money", "0.004500")
    mine = await get(viewer, "events", **reported.days, account_id=reported.pro)
    assert {event["person"]["external_id"] for event in mine["events"]} == {"pro@example.com"}


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        (
            ["model"],
            {
                ("",): ("0.140000", "0.070000", "0.070000"),
                ("claude-3-5-sonnet",): ("0.018000", "0.009000", "0.009000"),
                ("gpt-4o-mini",): ("0.0015009", "0.00075045", "0.00075045"),
                ("new",): ("0.000000007", "0.000000", "0.000000"),
            },
        ),
        (["user", "plan"], {("pro", "pro"): ("0.159500907", "0.07975045", "0.07975045"), ("poor", None): None}),
        (["tool", "status"], {("", "charged"): None, ("", "refused"): None, ("search", "charged"): None}),
        (["agent", "run"], {("", ""): None, ("helper", "run-1"): ("0.018000", "0.009000", "0.009000")}),
        (["key", "source", "meter"], {(KEY.id, "router", "compute"): None, (KEY.id, "router", "llm_tokens"): None}),
    ],
)
async def test_sums(
    viewer: httpx.AsyncClient, reported: Reported, group_by: list[str], expected: dict[Any, Any]
) -> None:
    names = {str(reported.pro): "pro", str(reported.poor): "poor"}
    sums = (await get(viewer, "sums", **reported.days, group_by=group_by))["sums"]
    found = {}
    for one in sums:
        values = [names.get(value, value) for value in one["group"].values()]
        key = tuple(None if values[0] == "poor" and place else value for place, value in enumerate(values))
        found[key] = (one["cost"], one["provider_cost"], one["margin"])
    assert set(found) == set(expected)
    assert {key: found[key] for key, value in expected.items() if value} == {k: v for k, v in expected.items() if v}
    assert sum(one["events"] for one in sums) == 5
    assert sum(one["refused"] for one in sums) == 1
    assert sum(one["without_provider_cost"] for one in sums) == 1


async def test_sums_of_users_name_them(viewer: httpx.AsyncClient, reported: Reported) -> None:
    sums = (await get(viewer, "sums", **reported.days, group_by=["plan", "user"], status="charged"))["sums"]
    assert [one["person"]["external_id"] for one in sums] == ["pro@example.com"]


@pytest.mark.parametrize(("interval", "events"), [("hour", [1, 2, 1, 1]), ("day", [5]), ("month", [5])])
async def test_sums_by_time(viewer: httpx.AsyncClient, reported: Reported, interval: str, events: list[int]) -> None:
    sums = (await get(viewer, "sums", **reported.days, interval=interval))["sums"]
    assert [one["events"] for one in sums] == events
    assert (
        sums[0]["period"]
        == {
            "hour": f"{NOON:%Y-%m-%dT12:00:00Z}",
            "day": f"{NOON:%Y-%m-%dT00:00:00Z}",
            "month": f"{NOON:%Y-%m-01T00:00:00Z}",
        }[interval]
    )


async def test_the_highest_cost_is_first_in_pages(viewer: httpx.AsyncClient, reported: Reported) -> None:
    expected = ["", "claude-3-5-sonnet", "gpt-4o-mini", "new"]
    query = {**reported.days, "group_by": "model", "order": "cost", "limit": 1}
    models: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await get(viewer, "sums", **query, **cursor)
        models += [one["group"]["model"] for one in page["sums"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert models == expected


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("events", {"status": "paid"}, "status"),
        ("events", {"from": "2026-02-01", "to": "2026-01-01"}, "from"),
        ("events", {"from": "2024-01-01", "to": "2026-01-01"}, "from"),
        ("events", {"cursor": "bm9uZQ"}, "cursor"),
        ("events", {"account_id": "somebody"}, "account_id"),
        ("events", {"model": "m\0"}, "model"),
        ("events", {"limit": 201}, "limit"),
        ("sums", {"group_by": "colour"}, "group_by"),
        ("sums", {"interval": "week"}, "interval"),
        ("sums", {"interval": "day", "order": "cost"}, "order"),
        ("sums", {"group_by": "model", "order": "cost", "cursor": "WyItMSIsIm0iLCJVU0QiXQ"}, "cursor"),
        ("sums", {"group_by": "model", "cursor": "WyJhIl0"}, "cursor"),
    ],
)
async def test_bad_input_is_named(viewer: httpx.AsyncClient, path: str, query: dict[str, Any], field: str) -> None:
    answer = await viewer.get(f"/admin/usage/{path}", params=query)
    assert 400 <= answer.status_code < 500
    assert field in answer.text


async def test_the_file_has_every_event(office: Office, support: httpx.AsyncClient, reported: Reported) -> None:
    answer = await support.get("/admin/usage/events.csv", params={**reported.days, "model": "claude-3-5-sonnet"})
    assert answer.status_code == 200
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert [row["event_id"] for row in rows] == ["sonnet-2", "unpaid", "sonnet-1"]
    assert [row["cost"] for row in rows] == ["0.009000", "0.004500", "0.009000"]
    recorded = (await office.audit("list.export"))[-1]
    assert (recorded["target_id"], "claude" in recorded["after"]) == ("usage", False)


async def test_an_event_has_the_breakdown_of_its_price(viewer: httpx.AsyncClient, reported: Reported) -> None:
    async def detail(event_id: str) -> dict[str, Any]:
        rows = (await get(viewer, "events", **reported.days))["events"]
        [row] = [row for row in rows if row["event_id"] == event_id]
        return dict(await get(viewer, f"events/{row['account_id']}/{row['transaction_id']}"))

    mini = await detail("mini")
    assert sum(Decimal(line["amount"]) for line in mini["lines"]) == Decimal(mini["cost"]) == Decimal("0.0015009")
    assert [line["kind"] for line in mini["lines"]] == ["usage", "usage", "usage", "markup"]
    assert (mini["margin"], mini["person"]["external_id"], mini["attempts"]) == ("0.00075045", "pro@example.com", 0)
    stated = await detail("stated")
    assert (stated["lines"], stated["margin"], stated["cost"]) == ([], None, "0.000000007")
    unpaid = await detail("unpaid")
    assert (unpaid["attempts"], unpaid["margin"]) == (1, None)
    missing = await viewer.get(f"/admin/usage/events/{reported.pro}/{uuid.uuid4()}")
    assert (missing.status_code, missing.json()["code"]) == (404, "event_not_found")
