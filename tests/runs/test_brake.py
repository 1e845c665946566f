"""The burn-rate brake: spending too fast is refused, pauses the run or the use of the key, and raises an alert."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms, parse_key
from app.auth.api_keys.service import rotate_key
from app.auth.caller import Permission
from app.configuration.sections import BURN_RATE
from app.configuration.service import Configuration
from app.db import new_id
from app.ledger.brake import AccountBrake, Brake, BurnRateExceeded, KeyUse
from app.ledger.limits import Spending
from app.ledger.runs import Run
from app.runs.service import RunChange, RunService
from app.settings import Mode
from app.worker.app import create_worker
from app.worker.services import running_services
from tests.conftest import make_usage_key
from tests.metering.conftest import PROVIDER, Desk, client
from tests.metering.test_cost_records import records_of
from tests.runs.conftest import TOOLS, USAGE, Agent, refusal, statuses
from tests.runs.test_runs_work import add, complete, opened
from tests.support.row_values import ACCOUNT, ADMIN
from tests.support.wallets import DOLLAR

NOON = datetime(2026, 6, 1, 12, 0, 30, tzinfo=UTC)


class Clock:
    """The time of the batcher's transactions."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("app.ledger.run_hooks", "app.ledger.limit_queries"):
        monkeypatch.setattr(f"{module}.utc_now", clock)
    return clock


@pytest.fixture
def brake(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten credits, and a dollar and a half, per minute."""
    monkeypatch.setattr("app.billing.service.brake_of", lambda _: Brake(10, {"USD": 3 * DOLLAR // 2}))


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


EXCEEDED = (402, "burn_rate_exceeded")


async def resume(agent: Agent, run_id: str) -> None:
    service = RunService(agent.desk.db, records_of(agent.desk))
    account_id = await agent.desk.account_id(agent.user_id)
    run = await service.find(account_id, run_id)
    async with agent.desk.db.transaction() as tx:
        await service.change_in(tx, account_id, run["run_uuid"], RunChange(status="open"), NOON)


async def resume_keys(agent: Agent) -> list[str]:
    """Resume all keys of the account. Return them."""
    service = RunService(agent.desk.db, records_of(agent.desk))
    account_id = await agent.desk.account_id(agent.user_id)
    keys = [row["key_id"] for row in await service.paused_keys(account_id)]
    for key_id in keys:
        async with agent.desk.db.transaction() as tx:
            assert await service.resume_key_in(tx, account_id, key_id, NOON)
            assert not await service.resume_key_in(tx, account_id, key_id, NOON)
    return keys


async def alerts(agent: Agent) -> list[tuple[object, ...]]:
    """Do the jobs that are due. Return the alerts about the account."""
    settings = agent.desk.app.state.settings
    async with running_services(settings) as services:
        queue = create_worker(settings, services)
        async with queue.open_async():
            await queue.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)
    rows = await agent.desk.rows(
        "SELECT rule, status, observed, threshold, subject FROM alerts WHERE $1 = ANY (account_ids) ORDER BY alert_id",
        await agent.desk.account_id(agent.user_id),
    )
    return [tuple(row.values()) for row in rows]


@pytest.mark.usefixtures("brake")
async def test_a_run_is_paused_by_the_unit_above_the_rate(agent: Agent) -> None:
    await agent.register("r")
    assert statuses([await agent.charge(7, "r"), await agent.charge(3, "r")]) == [201, 201]
    refused = await agent.charge(1, "r")
    assert code(refused) == EXCEEDED
    assert refused.headers["Cache-Control"] == "no-store"
    body = refused.json()
    assert body["brake"] == {"run_id": "r", "unit": "credits", "per_minute": "10", "spent": "10"}
    assert (body["retryable"], body["remedies"]) == (False, [])
    assert refusal(await agent.charge(1, "r")) == (402, "run_paused", "r")
    run = await agent.get("r")
    assert (run["status"], run["pause_reason"], run["spent"]["amount_minor"]) == ("paused", "burn_rate", 1000)
    assert (await agent.charge(1, None)).status_code == 201  # the key's other use continues
    await resume(agent, "r")
    assert statuses([await agent.charge(10, "r"), await agent.charge(1, "r")]) == [201, 402]


@pytest.mark.usefixtures("brake")
@pytest.mark.parametrize("run", ["r", None])
async def test_a_capture_beyond_its_hold_gets_what_the_minute_leaves(agent: Agent, run: str | None) -> None:
    await agent.register("r")
    held = (await agent.hold(2, run)).json()
    assert (await agent.charge(5, run)).status_code == 201
    path = f"/v1/billing/holds/{held['hold_id']}/capture"
    done = (await agent.post(path, amount_minor=2000, overage="charge_what_fits")).json()
    assert (done["captured_minor"], done["overage_minor"]) == (200, 300), done


@pytest.mark.usefixtures("brake")
async def test_spending_without_a_registered_run_pauses_the_accounts_use_of_the_key(agent: Agent, desk: Desk) -> None:
    """Unregistered ids do not evade the brake."""
    answers = [await agent.charge(4, None), await agent.charge(4, "a"), await agent.charge(2, "b")]
    assert statuses(answers) == [201] * 3
    assert code(await agent.charge(1, "c")) == EXCEEDED
    for answer in (
        await agent.charge(1, None),
        await agent.use(1, None),
        await agent.hold(1, None),
        await agent.post(TOOLS, product_type="search"),
        await agent.post("/v1/cost-records", request_id="x", tool="t"),
    ):
        assert code(answer) == EXCEEDED
    key = await make_usage_key(desk.db, UsageTerms(PROVIDER), "live", Permission.WRITE)
    async with client(desk.url, key) as other_key:
        assert (await Agent(desk, other_key, agent.user_id).charge(1, None)).status_code == 201
    other_user = Agent(desk, agent.http, await desk.user(100))
    assert (await other_user.charge(1, None)).status_code == 201
    await agent.register("r")
    assert (await agent.charge(1, "r")).status_code == 201
    assert len(await resume_keys(agent)) == 1
    assert statuses([await agent.charge(10, None), await agent.charge(1, None)]) == [201, 402]


@pytest.mark.usefixtures("brake")
async def test_a_minute_begins_again(agent: Agent, clock: Clock) -> None:
    await agent.register("r")
    for run in ("r", None):
        clock.now = NOON
        assert (await agent.charge(10, run)).status_code == 201
        clock.now = NOON.replace(second=59, microsecond=999_999)
        assert (await agent.charge(1, run)).status_code == 402
        if run is None:
            await resume_keys(agent)
        else:
            await resume(agent, run)
        assert (await agent.charge(10, run)).status_code == 201
        clock.now = NOON.replace(minute=1, second=0)
        assert (await agent.charge(10, run)).status_code == 201
        clock.now = NOON  # another process, whose clock is behind
        assert (await agent.charge(1, run)).status_code == 402


@pytest.mark.usefixtures("brake")
async def test_replays_and_checks_never_count(agent: Agent) -> None:
    await agent.register("r")
    for run in ("r", None):
        first = await agent.charge(10, run, idempotency_key=f"k{run}")
        assert first.status_code == 201
        for _ in range(3):
            assert (await agent.charge(10, run, idempotency_key=f"k{run}")).status_code == 409
            checked = await agent.post("/v1/billing/check")
            assert checked.json()["has_credit"]
            await agent.post("/v1/usage/check", required_cents=5000)
    event: dict[str, Any] = {"event_id": "e"}
    answers = [await agent.use(150, "r", **event) for _ in range(3)]
    assert statuses(answers) == [200, 409, 409]
    assert code(await agent.use(1, "r")) == EXCEEDED
    [alert] = await alerts(agent)
    assert alert[:4] == ("burn_rate", "open", 151, 150)


@pytest.mark.usefixtures("brake")
async def test_work_that_is_refused_for_another_reason_does_not_count(agent: Agent) -> None:
    await agent.register("r", credits=5)
    assert refusal(await agent.charge(6, "r")) == (402, "run_budget_exceeded", "r")
    assert (await agent.charge(5, "r")).status_code == 201
    assert (await agent.charge(1, "r", currency="EUR")).status_code == 422
    assert (await agent.get("r"))["status"] == "open"


@pytest.mark.usefixtures("brake")
async def test_sub_runs_count_in_their_ancestors(agent: Agent) -> None:
    await agent.register("root")
    for name in ("a", "b"):
        await agent.register(name, parent_run_id="root")
    assert statuses([await agent.charge(6, "a"), await agent.charge(4, "b")]) == [201, 201]
    refused = await agent.charge(1, "b")
    assert (code(refused), refused.json()["brake"]["run_id"]) == (EXCEEDED, "root")
    assert refusal(await agent.charge(1, "a")) == (402, "run_paused", "root")
    assert [(await agent.get(run))["status"] for run in ("root", "a", "b")] == ["paused", "open", "open"]


@pytest.mark.usefixtures("brake")
async def test_holds_and_records_count_at_their_opening(agent: Agent, clock: Clock) -> None:
    clock.now = datetime.now(UTC) + timedelta(hours=1)  # later than any request's own time: nothing is corrected
    await agent.register("r")
    hold = await agent.hold(10, "r")
    await agent.settle(hold, "capture", amount_minor=100)
    assert code(await agent.hold(1, "r")) == EXCEEDED
    await agent.register("m")
    record = await opened(agent, "m", estimate_cents=150)
    assert (await add(agent, record, 10)).status_code == 201
    await complete(agent, record, "completed")
    assert code(await agent.use(1, "m")) == EXCEEDED


@pytest.mark.usefixtures("brake")
async def test_work_that_is_done_is_not_refused_and_pauses(agent: Agent, desk: Desk) -> None:
    await agent.register("r")
    record = await opened(agent, "r")
    assert (
        statuses([await add(agent, record, 150), await add(agent, record, 1), await add(agent, record, 100)])
        == [201] * 3
    )
    assert refusal(await agent.use(1, "r")) == (402, "run_paused", "r")
    body = {"user_id": agent.user_id, "metric": {"type": "api_calls", "endpoint": "/", "count": 1}, "cost_cents": 200}
    for number in range(2):
        assert (await desk.debtor.post(USAGE, json={**body, "event_id": f"d{number}"})).status_code == 200
    assert len(await resume_keys(agent)) == 1


@pytest.mark.usefixtures("brake")
async def test_each_pause_raises_an_alert(agent: Agent) -> None:
    await agent.register("r")
    assert await alerts(agent) == []
    await agent.charge(10, "r")
    await agent.charge(5, "r")
    await agent.charge(5, "r")
    [first] = await alerts(agent)
    assert first[:4] == ("burn_rate", "open", 15, 10)
    assert first[4] != "r"  # a run's own id is a caller's text
    await agent.desk.rows(
        "UPDATE alerts SET status = 'dismissed', decided_at = now(), decided_by = 'a' WHERE subject = $1 RETURNING 1",
        first[4],
    )
    await resume(agent, "r")
    await agent.charge(11, "r")
    assert await alerts(agent) == [first]  # the same alert, open again
    await agent.charge(11, None)
    assert len(await alerts(agent)) == 2


async def test_an_account_without_limits_pays_no_statement_while_the_brake_is_off(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def fail(*_: object) -> None:
        read.append("read")

    for name in ("find_key_uses", "find_with_ancestors", "store_spent", "store_key_uses"):
        monkeypatch.setattr(f"app.ledger.run_queries.{name}", fail)
    for name in ("limit_queries.find_in_force", "limit_queries.store_counters", "approval_queries.find_of_limits"):
        monkeypatch.setattr(f"app.ledger.{name}", fail)
    assert statuses([await agent.charge(50, "r"), await agent.charge(50, None)]) == [201, 201]
    assert read == []


@pytest.mark.parametrize(
    ("mode", "credits", "money"), [(Mode.PRODUCTION, None, []), (Mode.DEMO, 500, [{"currency": "USD", "amount": "20"}])]
)
async def test_the_brake_is_off_by_default_and_on_in_the_demo(
    mode: Mode, credits: int | None, money: list[dict[str, str]], desk: Desk
) -> None:
    settings = desk.app.state.settings.model_copy(update={"mode": mode})
    config = await Configuration(desk.db, settings).current()
    document = config.document(BURN_RATE)
    assert document.model_dump() == {"credits_per_minute": credits, "money_per_minute": money}


@pytest.mark.usefixtures("brake")
async def test_the_brake_on_a_key_follows_its_rotation(agent: Agent, desk: Desk) -> None:
    """Both keys of a grace period spend from one rate, and are paused and resumed together."""
    text = await make_usage_key(desk.db, UsageTerms(PROVIDER), "live", Permission.WRITE)
    parsed = parse_key(text)
    assert parsed is not None
    async with client(desk.url, text) as http:
        old = Agent(desk, http, agent.user_id)
        assert (await old.charge(6, None)).status_code == 201
        async with desk.db.transaction() as tx:
            successor = await rotate_key(tx, parsed[1], grace_s=3600, now=datetime.now(UTC))
        async with client(desk.url, successor.secret_text) as new_http:
            new = Agent(desk, new_http, agent.user_id)
            assert statuses([await new.charge(4, None), await old.hold(1, None)]) == [201, 402]
            for one in (old, new):
                assert code(await one.charge(1, None)) == EXCEEDED
            service = RunService(desk.db, records_of(desk))
            account_id = await desk.account_id(agent.user_id)
            assert [row["key_id"] for row in await service.paused_keys(account_id)] == [parsed[1]]
            async with desk.db.transaction() as tx:
                assert await service.resume_key_in(tx, account_id, successor.key_id, NOON)
            assert statuses([await new.charge(10, None), await old.charge(1, None)]) == [201, 402]


# --- pure ---


def test_a_paused_use_of_a_line_counts_before_another() -> None:
    """A version before stores a use for each key of a line."""
    line = ("a", "b")
    for uses in permutations([KeyUse(ACCOUNT, "a", paused_at=NOON, keys=line), KeyUse(ACCOUNT, "b", keys=line)]):
        brake = AccountBrake(ACCOUNT, Brake(10, {}), NOON)
        for use in uses:
            brake.add(use)
        for key in line:
            with pytest.raises(BurnRateExceeded):
                brake.require(Spending("credit", 1, key=key), [])
        brake.require(Spending("credit", 1, key="c"), [])


def test_of_two_uses_of_a_line_the_one_that_has_spent_more_counts() -> None:
    """Both keys spent first in one transaction."""
    line = ("a", "b")
    spent = [KeyUse(ACCOUNT, key, minute_start=NOON, minute_credits=n, keys=line) for key, n in (("a", 4), ("b", 9))]
    for uses in permutations(spent):
        brake = AccountBrake(ACCOUNT, Brake(10, {}), NOON)
        for use in uses:
            brake.add(use)
        assert [brake.room(Spending("credit", 10, key=key), [], 10) for key in line] == [1, 1]


def test_the_first_run_of_the_chain_that_is_too_fast_is_paused() -> None:
    run = Run(ACCOUNT, ADMIN, "r", [], None, None, "open", None, 0, 0, 0)
    brake = AccountBrake(ACCOUNT, Brake(10, {}), NOON)
    spending = Spending("credit", 10, run="r")
    brake.require(spending, [run])
    brake.count(spending, [run])
    with pytest.raises(BurnRateExceeded):
        brake.require(Spending("credit", 1, run="r"), [run])
    assert (run.status, run.pause_reason, len(brake.braked)) == ("paused", "burn_rate", 1)
    assert brake.keys == {}


@pytest.mark.parametrize(("opened_at", "left"), [(NOON, 4), (NOON - timedelta(minutes=1), 0)])
def test_a_settlement_corrects_its_own_minute(opened_at: datetime, left: int) -> None:
    brake = AccountBrake(ACCOUNT, Brake(10, {}), NOON)
    brake.count(Spending("credit", 10, key="k"), [])
    brake.adjust(Spending("credit", -4, key="k"), [], opened_at, new_id())
    assert brake.room(Spending("credit", 9, key="k"), [], 9) == left


@pytest.mark.parametrize(("opened_after_s", "left"), [(-1, 5), (1, 9)])
def test_a_settlement_corrects_no_counts_from_before_the_end_of_a_pause(opened_after_s: int, left: int) -> None:
    use = KeyUse(ACCOUNT, "k", minute_start=NOON, minute_credits=5)
    brake = AccountBrake(ACCOUNT, Brake(10, {}), NOON, {"k": use})
    opened_at = NOON + timedelta(seconds=opened_after_s)
    brake.adjust(Spending("credit", -4, key="k"), [], opened_at, new_id())
    assert brake.room(Spending("credit", 10, key="k"), [], 10) == left


@pytest.mark.parametrize("is_registered_first", [True, False])
def test_a_settlement_corrects_what_counted_the_opening(is_registered_first: bool) -> None:
    """The use of the key counts a hold whose run, also one below a known run, is registered later."""
    ids = sorted([new_id(), new_id()], reverse=not is_registered_first)
    root = Run(ACCOUNT, UUID(int=0), "root", [], None, None, "open", None, 0, 0, 0)
    run = Run(ACCOUNT, ids[0], "r", [root.run_uuid], None, None, "open", None, 0, 0, 0)
    chain = [run, root]
    brake = AccountBrake(ACCOUNT, Brake(10, {}), NOON)
    brake.count(Spending("credit", 4, key="k", run="r"), chain if is_registered_first else [])
    brake.count(Spending("credit", 5, key="k", run="r"), chain)
    brake.adjust(Spending("credit", -4, key="k", run="r"), chain, NOON, ids[1])
    assert [brake.room(Spending("credit", 10, key="k"), subjects, 10) for subjects in ([], [run], [root])] == [10, 5, 5]


def test_amounts_without_a_rate_are_free() -> None:
    brake = AccountBrake(ACCOUNT, Brake(None, {"EUR": 1}), NOON, {"k": KeyUse(ACCOUNT, "k")})
    for unit in ("credit", "USD"):
        brake.require(Spending(unit, 10**12, key="k"), [])
        brake.count(Spending(unit, 10**12, key="k"), [])
    assert brake.room(Spending("USD", 7, key="k"), [], 7) == 7
    assert brake.keys["k"] == KeyUse(ACCOUNT, "k")
