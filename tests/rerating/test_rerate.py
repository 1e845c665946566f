"""`ciris-billing prices rerate`: its report, charges and returns, on real books."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.accounts.erasure import erase_person
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.holds.service import HoldService
from app.ledger.locked_account import lock_account
from tests.conftest import ACTOR
from tests.holds.conftest import capture, done, held
from tests.metering.conftest import Desk, llm, put_in_force, usage
from tests.metering.test_cost_records import CALLS, complete, opened
from tests.processes import run_command
from tests.rerating.conftest import DONE, FAILED, UNUSABLE, double_prices, effect, entries, report, rerate
from tests.servers import environment
from tests.support.wallets import DOLLAR, give, locked

COST = 4_500_000
"""Of one event of `llm()`, in nanos."""
CHEAP = {"id": "free", "meter": "llm_tokens", "percent": "-100"}


async def account_with(desk: Desk, nanos: int, events: int = 1, **more: Any) -> tuple[str, UUID]:
    """A user with so much money who has reported so many events, each of COST."""
    user = await desk.user()
    if nanos:
        await desk.give(user, nanos)
    for _ in range(events):
        await report(desk, usage(user, **more))
    return user, await desk.account_id(user)


async def test_captured_holds_keep_their_price(desk: Desk) -> None:
    user, account_id = await account_with(desk, DOLLAR)
    now = datetime.now(UTC)
    # Not the server's own services, which belong to the loop of its thread.
    billing = BillingService(desk.db, Configuration(desk.db, desk.app.state.settings))
    holds = HoldService(desk.db, billing.batcher, billing.configuration)
    hold = await held(holds, account_id, DOLLAR // 2, now, money=True)
    done(await holds.run(capture(hold, DOLLAR // 4, now)))
    await double_prices(desk)
    [shown] = effect(desk, "--apply", "--reason", "double")["accounts"]
    assert (shown["events"], shown["changed"], shown["stated"]) == (2, 1, 1)
    assert await desk.wallet(user) == (DOLLAR - DOLLAR // 4 - 2 * COST, 0)


async def switch_billing(desk: Desk, account_id: UUID, enabled: bool) -> None:
    await desk.rows("UPDATE accounts SET billing_enabled = $2 WHERE account_id = $1", account_id, enabled)


async def test_without_apply_the_effect_is_shown_and_nothing_is_written(desk: Desk) -> None:
    user, account_id = await account_with(desk, DOLLAR, events=2)
    await account_with(desk, DOLLAR, metric={"type": "compute", "cpu_hours": "1", "memory_gb_hours": "1"})
    assert effect(desk)["totals"][0]["changed"] == 0
    entries_now = "SELECT xmin::text, * FROM ledger_entries ORDER BY account_id, entry_no"
    before = await desk.wallet(user), await desk.rows(entries_now)
    version = await double_prices(desk)
    shown = effect(desk)
    assert (shown["applied"], shown["version"]) == (False, None)
    assert shown["accounts"] == [
        {
            "account_id": str(account_id),
            "currency": "USD",
            "events": 2,
            "changed": 2,
            "old": "0.009000",
            "new": "0.018000",
            "difference": "0.009000",
            "recorded_difference": "0.000000",
            "stated": 0,
            "unpriced": 0,
            "corrected_events": 0,
            "corrected": "0.000000",
            "skipped": None,
        }
    ]
    [total] = shown["totals"]
    assert (total["accounts"], total["events"], total["changed"]) == (2, 3, 2)
    assert (total["old"], total["new"], total["difference"]) == ("0.089000", "0.098000", "0.009000")
    assert effect(desk, "--version", str(version))["totals"] == shown["totals"]
    assert effect(desk, "--version", "1")["totals"][0]["changed"] == 0
    assert (
        await desk.wallet(user),
        await desk.rows("SELECT xmin::text, * FROM ledger_entries ORDER BY 2, 3"),
    ) == before
    for table in ("reratings", "account_corrections", "usage_corrections", "admin_audit_log"):
        assert await desk.rows(f"SELECT * FROM {table}") == []


async def test_a_dearer_price_is_charged_to_the_balance_and_then_owed(desk: Desk) -> None:
    """One account can pay, one in part, one is suspended, one has reached its debt limit: the work is done."""
    rich, rich_id = await account_with(desk, DOLLAR)
    poor, poor_id = await account_with(desk, 5_000_000)
    stopped, stopped_id = await account_with(desk, 4_500_000)
    await desk.rows(
        "UPDATE accounts SET status = 'suspended', status_reason = 'tests' WHERE account_id = $1", stopped_id
    )
    await double_prices(desk)
    shown = effect(desk, "--apply")
    assert {row["account_id"]: row["corrected"] for row in shown["accounts"]} == dict.fromkeys(
        map(str, (rich_id, poor_id, stopped_id)), "0.004500"
    )
    assert await entries(desk, rich_id) == [("money", -COST)]
    assert await entries(desk, poor_id) == [("money", -500_000), ("money_debt", 4_000_000)]
    assert await desk.wallet(poor) == (0, 4_000_000)
    assert await desk.wallet(stopped) == (0, COST)
    [used] = await desk.rows("SELECT money_used_nanos FROM accounts WHERE account_id = $1", poor_id)
    assert used["money_used_nanos"] == 2 * COST
    assert await desk.wallet(rich) == (DOLLAR - 2 * COST, 0)


async def test_a_second_run_changes_nothing(desk: Desk) -> None:
    _user, account_id = await account_with(desk, DOLLAR, events=3)
    stored = await desk.rows("SELECT * FROM usage_events")
    await double_prices(desk)
    effect(desk, "--apply")
    before = await desk.rows("SELECT * FROM ledger_entries ORDER BY account_id, entry_no")
    again = effect(desk, "--apply")
    assert again["accounts"] == []
    assert again["totals"][0]["corrected_events"] == 0
    assert await desk.rows("SELECT * FROM ledger_entries ORDER BY account_id, entry_no") == before
    assert len(await desk.rows("SELECT * FROM reratings")) == 1
    assert await desk.rows("SELECT * FROM usage_events") == stored
    assert await entries(desk, account_id) == [("money", -3 * COST)]
    assert run_command(environment(desk.urls), "ledger", "verify").status == DONE


async def test_a_corrected_event_is_corrected_from_its_corrected_price(desk: Desk) -> None:
    user, account_id = await account_with(desk, DOLLAR)
    await double_prices(desk)
    effect(desk, "--apply")
    await double_prices(desk, 3)
    shown = effect(desk, "--apply")
    assert (shown["accounts"][0]["old"], shown["accounts"][0]["new"]) == ("0.009000", "0.013500")
    assert effect(desk, "--apply", "--version", "1")["accounts"][0]["corrected"] == "-0.009000"
    assert await entries(desk, account_id) == [("money", -COST), ("money", -COST), ("money", 2 * COST)]
    assert await desk.wallet(user) == (DOLLAR - COST, 0)
    found = await desk.rows("SELECT * FROM usage_corrections ORDER BY correction_no")
    assert [row["correction_no"] for row in found] == [1, 2, 3]
    assert [row["cost_after_nanos"] for row in found] == [2 * COST, 3 * COST, COST]
    assert [row["price_version"] for row in found] == [2, 3, 1]


async def test_what_costs_less_reduces_the_debt_and_then_is_money(desk: Desk) -> None:
    """Two dollars were owed for 3,000 tokens; they become free."""
    user, account_id = await account_with(desk, 10 * COST, events=12)
    assert await desk.wallet(user) == (0, 2 * COST)
    await put_in_force(desk.db, datetime(2026, 1, 2, tzinfo=UTC), markups=[CHEAP])
    shown = effect(desk, "--apply")
    assert shown["accounts"][0]["corrected"] == "-0.054000"
    assert await entries(desk, account_id) == [("money_debt", -2 * COST), ("money", 10 * COST)]
    assert await desk.wallet(user) == (10 * COST, 0)


@pytest.mark.parametrize(
    ("state", "grant", "expected"),
    [
        ("open", 5, [("grant", 4 * COST)]),
        ("used_up", 3, [("money", COST), ("grant", 3 * COST)]),
        ("expired", 3, [("money", 4 * COST)]),
        ("ended", 4, [("money", 4 * COST)]),
    ],
)
async def test_a_grant_gets_back_what_it_paid_unless_it_can_no_longer_be_spent(
    desk: Desk, state: str, grant: int, expected: list[tuple[str, int]]
) -> None:
    """Four events; the money pays the part that the grant does not."""
    user = await desk.user()
    account_id, now = await desk.account_id(user), datetime.now(UTC)
    grant_id = await give(desk.db, account_id, grant * COST, now, unit="USD", expires_at=now + timedelta(hours=1))
    for _ in range(3):
        await report(desk, usage(user))
    if state == "ended":
        async with locked(desk.db, account_id, now) as account:
            account.end_lot(account.lots[grant_id], ACTOR, now)
    await desk.give(user, 2 * COST)
    await report(desk, usage(user))
    if state == "expired":
        await desk.rows("UPDATE grants SET expires_at = now() WHERE grant_id = $1", grant_id)
    await put_in_force(desk.db, datetime(2026, 1, 2, tzinfo=UTC), markups=[CHEAP])
    effect(desk, "--apply")
    assert sorted(await entries(desk, account_id)) == sorted(expected)
    if expected[-1][0] == "grant":
        await report(desk, usage(user, metric={"type": "tool_calls", "tool": "search"}, cost="0.0135"))  # spendable
        [lot] = await desk.rows("SELECT remaining FROM grants WHERE grant_id = $1", grant_id)
        assert lot["remaining"] == (grant - 3) * COST


async def test_a_gift_that_returns_to_a_grant_pays_no_debt(desk: Desk) -> None:
    user = await desk.user()
    account_id, now = await desk.account_id(user), datetime.now(UTC)
    await give(desk.db, account_id, 2 * COST, now, unit="USD")
    for _ in range(3):
        await report(desk, usage(user))
    assert await desk.wallet(user) == (0, COST)
    await put_in_force(desk.db, datetime(2026, 1, 2, tzinfo=UTC), markups=[{**CHEAP, "percent": "-50"}])
    effect(desk, "--apply")
    assert await entries(desk, account_id) == [("grant", COST // 2), ("money_debt", -COST)]


async def test_stated_refused_and_unpriced_events_keep_their_price(desk: Desk) -> None:
    user, account_id = await account_with(desk, DOLLAR, cost_cents=7)
    assert (await desk.router.post("/v1/usage", json=usage(user, cost_cents=9000))).status_code == 402
    await report(desk, usage(user, metric={"type": "compute", "cpu_hours": "1", "memory_gb_hours": "0"}))
    await report(desk, usage(user))
    await double_prices(desk, compute=None)
    shown = effect(desk, "--apply")["accounts"][0]
    assert {name: shown[name] for name in ("events", "changed", "stated", "unpriced", "old", "corrected")} == {
        "events": 3,
        "changed": 1,
        "stated": 1,
        "unpriced": 1,
        "old": "0.134500",
        "corrected": "0.004500",
    }
    assert await entries(desk, account_id) == [("money", -COST)]


async def test_free_events_stay_free_unless_the_rule_is_gone(desk: Desk) -> None:
    await put_in_force(desk.db, datetime(2026, 1, 2, tzinfo=UTC), markups=[CHEAP])
    _user, account_id = await account_with(desk, DOLLAR)
    await double_prices(desk, at=datetime(2026, 1, 3, tzinfo=UTC), markups=[CHEAP])
    assert effect(desk, "--apply")["accounts"][0]["difference"] == "0.000000"  # only the cost at list prices changes
    assert await entries(desk, account_id) == []
    await double_prices(desk, at=datetime(2026, 1, 4, tzinfo=UTC))
    assert effect(desk, "--apply")["accounts"][0]["corrected"] == "0.009000"
    assert await entries(desk, account_id) == [("money", -2 * COST)]


async def test_usage_of_accounts_that_are_not_billed_is_corrected_in_reports_only(desk: Desk) -> None:
    user = await desk.user(100)
    account_id = await desk.account_id(user)
    await switch_billing(desk, account_id, False)
    await report(desk, usage(user))
    await double_prices(desk)
    shown = effect(desk, "--apply")["accounts"][0]
    assert (shown["old"], shown["new"], shown["recorded_difference"]) == ("0.000000", "0.000000", "0.004500")
    assert (shown["corrected_events"], shown["corrected"]) == (1, "0.000000")
    assert await entries(desk, account_id) == []
    [group] = (await desk.reader.get("/v1/usage", params={"user_id": user, "group_by": "model"})).json()["groups"]
    assert (group["recorded_cost"], group["cost"], group["correction"]) == ("0.009000", "0.000000", "0.000000")


async def test_an_account_whose_billing_was_switched_off_since_is_not_charged(desk: Desk) -> None:
    """It gets back what it paid too much. Once it is billed again, what costs more is charged."""
    _user, account_id = await account_with(desk, DOLLAR)
    await switch_billing(desk, account_id, False)
    await double_prices(desk)
    shown = effect(desk, "--apply")["accounts"][0]
    assert (shown["difference"], shown["corrected"], shown["skipped"]) == ("0.004500", "0.000000", "billing_off")
    assert await desk.rows("SELECT * FROM reratings") == []
    await switch_billing(desk, account_id, True)
    effect(desk, "--apply")
    await switch_billing(desk, account_id, False)
    assert effect(desk, "--apply", "--version", "1")["accounts"][0]["corrected"] == "-0.004500"
    assert await entries(desk, account_id) == [("money", -COST), ("money", COST)]


async def test_erased_accounts_are_left_out(desk: Desk) -> None:
    _user, account_id = await account_with(desk, DOLLAR)
    async with desk.db.transaction() as tx:
        await lock_account(tx, account_id)
        await erase_person(tx, account_id, datetime.now(UTC))
    await double_prices(desk)
    assert effect(desk, "--apply") | {"from": 0, "to": 0} == {
        "environment": "live",
        "from": 0,
        "to": 0,
        "version": None,
        "applied": True,
        "accounts": [],
        "totals": [],
    }


async def test_a_cost_record_is_the_sum_of_its_items_new_prices(desk: Desk) -> None:
    """An item with a stated cost keeps it. Failed and open work is not charged, so there is nothing to correct."""
    user = await desk.user(100)
    account_id = await desk.account_id(user)
    done = await opened(desk, user, {"metric": llm()}, {"metric": llm()}, {"cost": "0.01"})
    failed, _ = await opened(desk, user, {"metric": llm()}), await opened(desk, user, {"metric": llm()})
    await complete(desk, done)
    await complete(desk, failed, "failed")
    await double_prices(desk)
    shown = effect(desk, "--apply")["accounts"][0]
    assert (shown["events"], shown["old"], shown["new"], shown["corrected"]) == (1, "0.019000", "0.028000", "0.009000")
    assert effect(desk, "--apply")["accounts"] == []
    assert effect(desk, "--apply", "--version", "1")["accounts"][0]["corrected"] == "-0.009000"
    assert await entries(desk, account_id) == [("money", -2 * COST), ("money", 2 * COST)]
    await put_in_force(desk.db, datetime(2026, 1, 5, tzinfo=UTC), llm=[])
    assert effect(desk, "--apply")["accounts"][0]["unpriced"] == 1


async def test_tiers_count_the_months_quantity_in_the_order_of_recording(desk: Desk) -> None:
    """Four times 600 calls, of which one is an item: tiers from 1,000 on, then from 1,500 on, then none."""
    user = await desk.user(10_000)
    for number in range(4):
        if number == 2:
            await complete(desk, await opened(desk, user, {"metric": CALLS}))
        else:
            await report(desk, usage(user, metric=CALLS))
    costs = [row["cost_nanos"] for row in await desk.events(user)]
    assert sum(costs) == 17 * DOLLAR // 10  # 1,000 calls for 1 dollar, and 1,400 for half a dollar a thousand
    assert effect(desk)["totals"][0]["changed"] == 0

    def calls(**tier: Any) -> list[dict[str, Any]]:
        return [{"id": "tiered", "endpoint": "/tiered", "price": "1", **tier}]

    for number, (rows, expected) in enumerate(
        [
            (calls(tiers=[{"above": "1500", "price": "0.5"}]), "1.950000"),
            (calls(), "2.400000"),
            (calls(tiers=[{"above": "1000", "price": "0.5"}]), "1.700000"),
        ],
        2,
    ):
        await put_in_force(desk.db, datetime(2026, 1, number, tzinfo=UTC), api_calls=rows)
        assert effect(desk, "--apply")["accounts"][0]["new"] == expected
    assert [row["cost_nanos"] for row in await desk.events(user)] == costs
    assert sum(delta for _, delta in await entries(desk, await desk.account_id(user))) == 0


async def test_the_period_is_half_open_and_by_the_events_own_time(desk: Desk) -> None:
    user = await desk.user(100)
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    for day in range(3):
        await report(desk, usage(user, time=(begin + timedelta(days=day)).isoformat()))
    await double_prices(desk)
    until = (begin + timedelta(days=2)).isoformat()
    found = effect(desk, "--to", until, since=(begin + timedelta(days=1)).isoformat())
    assert found["totals"][0]["events"] == 1
    account_id = str(await desk.account_id(user))
    assert len(effect(desk, "--account-id", account_id)["accounts"]) == 1
    other = str(await desk.account_id(await desk.user()))
    assert effect(desk, "--account-id", other)["accounts"] == []
    assert effect(desk, "--environment", "test")["accounts"] == []


async def test_corrections_wait_until_an_upgrade_is_finished(desk: Desk) -> None:
    _, account_id = await account_with(desk, DOLLAR)
    await double_prices(desk)
    mark = "This schema works with versions of the service that know revision 0032."
    await desk.rows(f"COMMENT ON TABLE alembic_version IS '{mark}'")
    refused = rerate(desk, "--apply")
    assert (refused.status, "upgrade" in refused.err) == (UNUSABLE, True)
    assert len(effect(desk)["accounts"]) == 1
    assert await entries(desk, account_id) == []


async def test_an_account_whose_amounts_are_full_is_named_and_stops_no_other(desk: Desk) -> None:
    _, full = await account_with(desk, DOLLAR)
    _, other = await account_with(desk, DOLLAR)
    await double_prices(desk)
    set_used = "UPDATE accounts SET money_used_nanos = $2 WHERE account_id = $1"
    await desk.rows(set_used, full, 2**63 - 1)
    done = rerate(desk, "--apply")
    assert (done.status, str(full) in done.err) == (FAILED, True)
    await desk.rows(set_used, full, COST)
    assert await entries(desk, other) == [("money", -COST)]
    assert await entries(desk, full) == []
    effect(desk, "--apply")
    assert await entries(desk, full) == [("money", -COST)]
