"""Work in runs: holds, cost records and usage count when they begin, and their settlement corrects the count."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.worker.services import running_services
from tests.metering.conftest import Desk
from tests.runs.conftest import RECORDS, RUNS, TOOLS, USAGE, Agent, refusal, statuses


async def expire_holds(desk: Desk, seconds: int) -> None:
    """Run the worker's job as it runs later."""
    async with running_services(desk.app.state.settings) as services:
        await services.holds.expire(datetime.now(UTC) + timedelta(seconds=seconds))


async def opened(agent: Agent, run_id: str | None, **body: Any) -> str:
    """The id of a new cost record."""
    answer = await agent.post(RECORDS, request_id=uuid.uuid4().hex, tool="search", run_id=run_id, **body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["record_id"])


async def add(agent: Agent, record_id: str, cents: int) -> httpx.Response:
    item = {"item_id": uuid.uuid4().hex, "cost_cents": cents}
    return await agent.http.post(f"{RECORDS}/{record_id}/items", json=item)


async def complete(agent: Agent, record_id: str, status: str) -> httpx.Response:
    return await agent.http.post(f"{RECORDS}/{record_id}/complete", json={"status": status})


# --- holds ---


async def test_a_hold_counts_when_it_is_opened_and_its_capture_returns_the_rest(agent: Agent) -> None:
    await agent.register("root", credits=12)
    await agent.register("r", parent_run_id="root", credits=10)
    hold = await agent.hold(8, "r")
    assert refusal(await agent.hold(3, "r")) == (402, "run_budget_exceeded", "r")
    assert refusal(await agent.charge(5, "root")) == (402, "run_budget_exceeded", "root")
    assert (await agent.settle(hold, "capture", amount_minor=500)).status_code == 200
    assert [await agent.spent(run) for run in ("root", "r")] == [(5, "0.000000", 1)] * 2
    assert statuses([await agent.charge(5, "r"), await agent.charge(1, "r"), await agent.charge(2, "root")]) == [
        201,
        402,
        201,
    ]


async def test_a_released_hold_counts_nothing(agent: Agent) -> None:
    await agent.register("root", credits=8)
    await agent.register("r", parent_run_id="root")
    hold = await agent.hold(8, "r")
    await agent.settle(hold, "release", outcome="client_abort")
    again = await agent.settle(hold, "release", outcome="client_abort")
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (200, "true")
    assert [await agent.spent(run) for run in ("root", "r")] == [(0, "0.000000", 0)] * 2


@pytest.mark.parametrize("by_the_next_charge", [False, True])
async def test_an_expired_hold_counts_what_was_reported(by_the_next_charge: bool, agent: Agent, desk: Desk) -> None:
    await agent.register("root", credits=10)
    await agent.register("r", parent_run_id="root")
    hold = await agent.hold(8, "r", on_expiry="capture_reported", expires_in_s=60)
    await agent.settle(hold, "report", amount_minor=300)
    if by_the_next_charge:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await desk.rows(
            "UPDATE holds SET expires_at = $1 WHERE account_id = $2 RETURNING 1",
            past,
            await desk.account_id(agent.user_id),
        )
        await desk.rows(
            "UPDATE accounts SET holds_expire_at = $1 WHERE account_id = $2 RETURNING 1",
            past,
            await desk.account_id(agent.user_id),
        )
        assert (await agent.charge(7, "root")).status_code == 201
        assert await agent.spent("root") == (10, "0.000000", 2)
    else:
        await expire_holds(desk, 61)
        assert await agent.spent("root") == (3, "0.000000", 1)
    assert await agent.spent("r") == (3, "0.000000", 1)


async def test_a_capture_beyond_the_hold_charges_what_every_ancestor_leaves(agent: Agent) -> None:
    await agent.register("root", credits=7)
    await agent.register("r", parent_run_id="root", credits=20)
    hold = await agent.hold(5, "r")
    captured = await agent.settle(hold, "capture", amount_minor=1000, overage="charge_what_fits")
    assert (captured.json()["captured_minor"], captured.json()["overage_minor"]) == (500, 200)
    assert [(await agent.spent(run))[0] for run in ("root", "r")] == [7, 7]


async def test_open_holds_of_a_paused_or_closed_run_are_settled(agent: Agent) -> None:
    await agent.register("root", credits=20)
    await agent.register("r", parent_run_id="root")
    holds = [await agent.hold(5, "r") for _ in range(3)]
    await agent.change("r", status="paused")
    captured = await agent.settle(holds[0], "capture", amount_minor=900, overage="charge_what_fits")
    assert (captured.json()["captured_minor"], captured.json()["overage_minor"]) == (500, 0)
    await agent.change("r", status="closed")
    assert (await agent.settle(holds[1], "capture", amount_minor=200)).status_code == 200
    assert (await agent.settle(holds[2], "release")).status_code == 200
    assert [await agent.spent(run) for run in ("root", "r")] == [(7, "0.000000", 2)] * 2
    assert (await agent.change("root", credits=7)).status_code == 200
    assert (await agent.charge(1, "root")).status_code == 402


async def test_a_hold_is_captured_after_the_budget_was_lowered_below_it(agent: Agent) -> None:
    await agent.register("r", credits=10)
    hold = await agent.hold(8, "r")
    assert (await agent.change("r", credits=2)).status_code == 200
    assert (await agent.settle(hold, "capture", amount_minor=800)).status_code == 200
    assert await agent.spent("r") == (8, "0.000000", 1)
    assert refusal(await agent.charge(1, "r")) == (402, "run_budget_exceeded", "r")


async def test_work_that_was_open_at_the_registration_counts(agent: Agent) -> None:
    """Else its settlement would give back what was never counted."""
    holds = [await agent.hold(4, "r"), await agent.hold(4, "r")]
    record = await opened(agent, "r", estimate_cents=100)
    await agent.charge(50, "r")  # done before the registration
    await agent.register("root", credits=20)
    run = await agent.register("r", parent_run_id="root", credits=20)
    assert (run["spent"], run["uses"]) == ({"amount_minor": 800, "amount": "1.000000"}, 3)
    assert await agent.spent("root") == (8, "1.000000", 3)
    await agent.settle(holds[0], "release")
    await agent.settle(holds[1], "capture", amount_minor=100)
    await add(agent, record, 30)
    await complete(agent, record, "completed")
    assert [await agent.spent(run) for run in ("root", "r")] == [(1, "0.300000", 2)] * 2


async def test_money_holds(agent: Agent) -> None:
    await agent.register("r", money="2")
    hold = await agent.post("/v1/billing/holds", amount="2.00", run_id="r")
    assert (await agent.use(1, "r")).status_code == 402
    await agent.settle(hold, "capture", amount="0.50")
    assert await agent.spent("r") == (0, "0.500000", 1)
    assert statuses([await agent.use(150, "r"), await agent.use(1, "r")]) == [200, 402]


# --- cost records ---


async def test_a_cost_record_counts_the_larger_of_its_estimate_and_its_sum(agent: Agent) -> None:
    await agent.register("root", money="5")
    await agent.register("r", parent_run_id="root", money="3")
    record = await opened(agent, "r", estimate_cents=200)
    assert refusal(await agent.post(RECORDS, request_id="x", tool="t", run_id="r", estimate_cents=101)) == (
        402,
        "run_budget_exceeded",
        "r",
    )
    assert (await add(agent, record, 50)).status_code == 201
    assert await agent.spent("root") == (0, "2.000000", 1)
    assert (await add(agent, record, 400)).status_code == 201  # work that is done: beyond the budget, not refused
    assert [await agent.spent(run) for run in ("root", "r")] == [(0, "4.500000", 1)] * 2
    assert (await complete(agent, record, "completed")).status_code == 200
    assert [await agent.spent(run) for run in ("root", "r")] == [(0, "4.500000", 1)] * 2
    assert statuses([await agent.use(1, "r"), await agent.use(51, "root"), await agent.use(50, "root")]) == [
        402,
        402,
        200,
    ]


async def test_failed_work_counts_nothing(agent: Agent) -> None:
    await agent.register("r", money="3")
    record = await opened(agent, "r", estimate_cents=300)
    await add(agent, record, 70)
    assert (await agent.use(1, "r")).status_code == 402
    await complete(agent, record, "failed")
    assert await agent.spent("r") == (0, "0.000000", 0)
    assert (await agent.use(300, "r")).status_code == 200


# --- usage ---


async def test_a_batch_of_usage_spans_several_runs(agent: Agent) -> None:
    await agent.register("root", money="1")
    await agent.register("a", parent_run_id="root", money="0.60")
    await agent.register("b", parent_run_id="root")
    metric = {"type": "api_calls", "endpoint": "/", "count": 1}
    plan = [("a", 40), ("b", 30), ("a", 30), ("b", 30), ("elsewhere", 500), ("a", 20), ("b", 10), ("b", 1), (None, 5)]
    events = [
        {"user_id": agent.user_id, "event_id": uuid.uuid4().hex, "metric": metric, "cost_cents": cents, "run_id": run}
        for run, cents in plan
    ]
    answer = await agent.http.post(f"{USAGE}/batch", json={"events": events})
    taken = [result["success"] for result in answer.json()["results"]]
    assert taken == [True, True, False, True, True, False, False, False, True]
    assert [(await agent.spent(run))[1] for run in ("root", "a", "b")] == ["1.000000", "0.400000", "0.600000"]
    repeat = await agent.http.post(f"{USAGE}/batch", json={"events": events})
    assert [result["success"] for result in repeat.json()["results"]].count(True) == 0
    assert (await agent.spent("root"))[1] == "1.000000"


async def test_refused_usage_is_recorded_and_may_be_sent_again(agent: Agent) -> None:
    await agent.register("r", money="1")
    event = {"event_id": "e", "cost_cents": 60}
    hold = await agent.post("/v1/billing/holds", amount="0.50", run_id="r")
    refused = [await agent.use(60, "r", **event) for _ in range(3)]
    assert statuses(refused) == [402] * 3
    [row] = await agent.desk.events(agent.user_id)
    assert (row["status"], row["refusal"]) == ("refused", "run_budget_exceeded")
    await agent.settle(hold, "release")
    assert statuses([await agent.use(60, "r", **event), await agent.use(60, "r", **event)]) == [200, 409]
    assert await agent.spent("r") == (0, "0.600000", 1)


async def test_usage_that_may_become_debt_counts_and_is_not_refused(agent: Agent, desk: Desk) -> None:
    await agent.register("root", money="1")
    await agent.register("r", parent_run_id="root")
    metric = {"type": "api_calls", "endpoint": "/", "count": 1}
    body = {"user_id": agent.user_id, "event_id": "d", "metric": metric, "cost_cents": 300, "run_id": "r"}
    assert (await desk.debtor.post(USAGE, json=body)).status_code == 200
    assert [await agent.spent(run) for run in ("root", "r")] == [(0, "3.000000", 1)] * 2
    assert (await agent.use(1, "r")).status_code == 402


# --- tools and other refusals ---


async def test_tool_charges_count_the_credits_that_they_spend(agent: Agent) -> None:
    await agent.register("r", credits=5)
    answers = [await agent.post(TOOLS, product_type="search", run_id="r") for _ in range(3)]
    assert statuses(answers) == [200, 200, 402]
    remedy = answers[2].json()["remedies"][0]
    assert remedy == {"type": "smaller_amount", "amount_minor": 100, "amount": None, "currency": None}
    assert await agent.spent("r") == (4, "0.000000", 2)


async def test_work_that_is_refused_for_another_reason_counts_nothing(agent: Agent) -> None:
    await agent.register("r", credits=10_000)
    poor = await agent.charge(5_000, "r")
    assert (poor.status_code, poor.json()["code"]) == (402, "insufficient_credits")
    assert (await agent.hold(5_000, "r")).status_code == 402
    assert (await agent.charge(1, "r", currency="EUR")).status_code == 422
    assert await agent.spent("r") == (0, "0.000000", 0)


async def test_the_run_of_work_is_stored(agent: Agent, desk: Desk) -> None:
    await agent.charge(1, "r")
    await agent.post(TOOLS, product_type="search", run_id="r")
    await agent.charge(1, None)
    account_id = await desk.account_id(agent.user_id)
    charges = await desk.rows("SELECT run_id FROM charges WHERE account_id = $1 ORDER BY charge_id", account_id)
    assert [row["run_id"] for row in charges] == ["r", "r", None]
    [use] = await desk.rows("SELECT run_id FROM product_usage_log WHERE account_id = $1", account_id)
    assert use["run_id"] == "r"


async def test_a_suspended_account_registers_no_run(agent: Agent, desk: Desk) -> None:
    account_id = await desk.account_id(agent.user_id)
    await desk.rows(
        "UPDATE accounts SET status = 'suspended', status_reason = 'tests' WHERE account_id = $1 RETURNING 1",
        account_id,
    )
    answer = await agent.post(RUNS, run_id="r")
    assert (answer.status_code, answer.json()["code"]) == (403, "account_suspended")
