"""Reports of a rerating: the command's output, the audit log, the account's history, reports and breakdowns."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.admin.users.timeline import list_timeline
from app.metering.report_queries import Scope, largest_sums
from app.neighbours.movements import list_described
from tests.metering.conftest import Desk, usage
from tests.rerating.conftest import FAILED, WRONG, double_prices, effect, report, rerate
from tests.rerating.test_rerate import COST, account_with
from tests.support.wallets import DOLLAR


async def test_the_effect_can_be_read_as_csv_and_as_lines(desk: Desk) -> None:
    _, account_id = await account_with(desk, DOLLAR)
    await double_prices(desk)
    rows = list(csv.DictReader(io.StringIO(rerate(desk, "--csv").out)))
    assert [(row["account_id"], row["difference"]) for row in rows] == [
        (str(account_id), "0.004500"),
        ("total", "0.004500"),
    ]
    shown = rerate(desk)
    assert "Nothing was written: repeat with --apply" in shown.err
    assert [line.split("  ")[0] for line in shown.out.splitlines()] == [f"account_id={account_id}", "total=USD"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--from", "2026-01-02", "--to", "2026-01-02"], FAILED, "from must be before to"),
        (["--from", "yesterday"], WRONG, "--from"),
        (["--from", "1999-01-01"], WRONG, "must lie in the years"),
        (["--to", "9999-01-01"], WRONG, "--to"),
        (["--version", "99"], FAILED, "99"),
        (["--version", "0"], WRONG, "--version"),
        (["--account-id", "nobody"], WRONG, "--account-id"),
    ],
)
async def test_wrong_arguments_are_named(desk: Desk, arguments: list[str], status: int, message: str) -> None:
    done = rerate(desk, *arguments)
    assert (done.status, done.out) == (status, "")
    assert message in done.err


async def test_both_ends_of_a_run_are_in_the_audit_log(desk: Desk) -> None:
    await account_with(desk, DOLLAR)
    await double_prices(desk)
    effect(desk, "--apply", "--reason", "a wrong price")
    [run] = await desk.rows("SELECT * FROM reratings")
    begun, ended = await desk.rows("SELECT * FROM admin_audit_log ORDER BY audit_id")
    assert (begun["action"], ended["action"]) == ("usage.rerate", "usage.rerated")
    assert {row["target_id"] for row in (begun, ended)} == {str(run["rerating_id"])}
    assert {row["reason"] for row in (begun, ended, run)} == {"a wrong price"}
    assert {row["address"] for row in (begun, ended)} == {"ciris-billing"}
    assert "2026-01-01" in begun["after"]
    assert str(COST) in ended["after"]


async def test_the_history_calls_it_a_correction(desk: Desk) -> None:
    _user, account_id = await account_with(desk, DOLLAR)
    await double_prices(desk)
    effect(desk, "--apply")
    effect(desk, "--apply", "--version", "1")
    found = await list_described(desk.db, account_id, limit=10, offset=0)
    assert [(entry.description, entry.movement.reason, entry.movement.amount_nanos) for entry in found[:2]] == [
        ("Correction of usage", "correction", COST),
        ("Correction of usage", "usage", -COST),
    ]


async def test_the_timeline_shows_what_a_correction_moved(desk: Desk) -> None:
    _user, account_id = await account_with(desk, DOLLAR)
    await double_prices(desk)
    effect(desk, "--apply", "--reason", "A typing error")
    effect(desk, "--apply", "--version", "1")
    async with desk.db.read() as db:
        found = await list_timeline(db, account_id, ["money"], before=None, limit=10)
        [older] = await list_timeline(db, account_id, ["money"], before=found[0]["id"], limit=1)
    moved = [[(move["pool"], move["delta"], move["balance_after"]) for move in entry["moves"]] for entry in found]
    assert [entry["title"] for entry in found] == ["correction", "correction"]
    assert moved == [[("money", COST, DOLLAR - COST)], [("money", -COST, DOLLAR - 2 * COST)]]
    assert [entry["details"]["reason"] for entry in found] == ["Prices were corrected", "A typing error"]
    assert older == found[1]


async def test_reports_show_corrections_on_the_events_day_and_in_the_margin(desk: Desk) -> None:
    user = await desk.user(100)
    day = datetime.now(UTC) - timedelta(days=2)
    await report(desk, usage(user, time=day.isoformat(), agent_id="a"))
    await report(desk, usage(user, metric={"type": "compute", "cpu_hours": "1", "memory_gb_hours": "0"}))
    await double_prices(desk, markups=[{"id": "up", "meter": "llm_tokens", "percent": "100"}])
    effect(desk, "--apply")
    answer = await desk.reader.get("/v1/usage", params={"user_id": user, "group_by": ["model"], "interval": "day"})
    groups = {group["period"][:10]: group for group in answer.json()["groups"]}
    first = groups[day.date().isoformat()]
    assert (first["cost"], first["correction"], first["provider_cost"]) == ("0.004500", "0.013500", "0.009000")
    assert (first["events"], first["quantities"]) == (1, {"input_uncached": "1000", "output_text": "100"})
    scope = Scope("live", day - timedelta(days=1), datetime.now(UTC), await desk.account_id(user), {})
    async with desk.db.read() as session:
        sums = await largest_sums(session, scope, ["model"], None, 10)
    assert {row["key_0"]: row["margin_nanos"] for row in sums} == {"claude-3-5-sonnet": 9_000_000, "": 0}
    second = groups[datetime.now(UTC).date().isoformat()]
    assert (second["cost"], second["correction"]) == ("0.060000", "0.000000")


async def test_the_breakdown_of_a_corrected_event_explains_its_new_cost(desk: Desk) -> None:
    user, _ = await account_with(desk, DOLLAR)
    body = usage(user, metric={"type": "compute", "cpu_hours": "1", "memory_gb_hours": "0"})
    await report(desk, body)
    version = await double_prices(desk)
    effect(desk, "--apply")
    [event] = [row for row in await desk.events(user) if row["meter"] == "llm_tokens"]
    path = "/v1/usage/events/"
    found = (await desk.reader.get(path + event["event_id"], params={"user_id": user})).json()
    corrected = found["corrected"]
    assert (found["cost"], found["price_version"]) == ("0.004500", 1)
    assert (corrected["cost"], corrected["provider_cost"]) == ("0.009000", "0.009000")
    assert (corrected["price_version"], len(corrected["lines"])) == (version, 2)
    assert sum(Decimal(line["amount"]) for line in corrected["lines"]) == Decimal("0.009")
    other = (await desk.reader.get(path + body["event_id"], params={"user_id": user})).json()
    assert other["corrected"] is None
