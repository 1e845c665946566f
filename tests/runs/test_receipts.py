"""The receipt of a run: a tree of runs, with what each of them did and what it cost."""

from typing import Any

import httpx
import pytest

from app.accounts.erasure import BOOKS, forget_texts
from app.runs import receipt
from app.runs import service as run_service
from app.runs.receipt_queries import MAX_CALLS
from app.tools.erasure import TEXTS
from tests.metering.conftest import Desk, llm
from tests.runs.conftest import RUNS, TOOLS, Agent
from tests.runs.test_runs_work import add, complete, expire_holds, opened


def calls(node: dict[str, Any]) -> list[tuple[object, ...]]:
    """(kind, agent, tool, model, outcome, calls, attempts, credits, money, credits returned, money returned)."""
    return [
        (
            *(call[name] for name in ("kind", "agent_id", "tool", "model", "outcome", "calls", "attempts")),
            *(call["spent"]["amount_minor"] // 100, call["spent"]["amount"]),
            *(call["returned"]["amount_minor"] // 100, call["returned"]["amount"]),
        )
        for call in node["calls"]
    ]


def total(node: dict[str, Any]) -> tuple[int, float]:
    """(credits, money) of all calls of a tree."""
    own = node["calls"]
    below = [total(run) for run in node["runs"]]
    return (
        sum(call["spent"]["amount_minor"] for call in own) // 100 + sum(pair[0] for pair in below),
        round(sum(float(call["spent"]["amount"]) for call in own) + sum(pair[1] for pair in below), 6),
    )


async def test_a_receipt_lists_all_kinds_of_work(agent: Agent) -> None:
    await agent.register("root", credits=100)
    await agent.register("r", parent_run_id="root")
    for _ in range(2):
        await agent.charge(3, "root", metadata={"agent_id": "scout"})
    await agent.charge(1, "root")
    await agent.post(TOOLS, product_type="search", run_id="root")
    await agent.use(0, "r", metric=llm(), cost_cents=12, agent_id="scout", tool="write")
    await agent.use(999_00, "r", event_id="dear")
    await agent.use(999_00, "r", event_id="dear")
    captured, released, _ = [await agent.hold(9, "r", metadata={"agent_id": "scout"}) for _ in range(3)]
    await agent.settle(captured, "capture", amount_minor=400)
    await agent.settle(released, "release")
    done, failed = [await opened(agent, "r", agent_id="scout", estimate_cents=20) for _ in range(2)]
    for record in (done, failed):
        await add(agent, record, 30)
    await complete(agent, done, "completed")
    await complete(agent, failed, "failed")
    await opened(agent, "r", estimate_cents=20)
    root = await agent.get("root")
    zero = "0.000000"
    assert calls(root) == [
        ("charge", "scout", None, None, "charged", 2, 0, 6, zero, 0, zero),
        ("charge", None, None, None, "charged", 1, 0, 1, zero, 0, zero),
        ("tool_charge", None, "search", None, "charged", 1, 0, 2, zero, 0, zero),
    ]
    [run] = root["runs"]
    assert (run["run_id"], run["depth"], run["runs"], run["is_complete"]) == ("r", 2, [], True)
    assert calls(run) == [
        ("usage", "scout", "write", "claude-3-5-sonnet", "charged", 1, 0, 0, "0.120000", 0, zero),
        ("usage", None, None, "api_calls", "refused", 1, 2, 0, zero, 0, zero),
        ("hold", "scout", None, None, "captured", 1, 0, 4, zero, 5, zero),
        ("hold", "scout", None, None, "held", 1, 0, 9, zero, 0, zero),
        ("hold", "scout", None, None, "released", 1, 0, 0, zero, 9, zero),
        ("cost_record", "scout", "search", None, "completed", 1, 0, 0, "0.300000", 0, zero),
        ("cost_record", "scout", "search", None, "failed", 1, 0, 0, zero, 0, "0.300000"),
        ("cost_record", None, "search", None, "open", 1, 0, 0, "0.200000", 0, zero),
    ]
    for node in (root, run):
        assert total(node) == (node["spent"]["amount_minor"] // 100, float(node["spent"]["amount"]))
    assert root["uses"] == 3 + 1 + 1 + 2 + 2


@pytest.mark.parametrize(
    ("on_expiry", "spent", "returned"), [("release", 0, 8), ("capture_reported", 3, 5), ("capture_all", 8, 0)]
)
async def test_a_receipt_has_what_a_cut_stream_paid(
    on_expiry: str, spent: int, returned: int, agent: Agent, desk: Desk
) -> None:
    """Its process has died: the hold with the reported progress expires, and is settled by its policy."""
    await agent.register("root", credits=10)
    await agent.register("r", parent_run_id="root")
    stream = await agent.hold(8, "r", on_expiry=on_expiry, metadata={"agent_id": "scout"})
    await agent.settle(stream, "report", amount_minor=300)
    await expire_holds(desk, 901)
    root = await agent.get("root")
    zero = "0.000000"
    assert calls(root["runs"][0]) == [("hold", "scout", None, None, "expired", 1, 0, spent, zero, returned, zero)]
    assert [node["spent"]["amount_minor"] for node in (root, root["runs"][0])] == [spent * 100] * 2


async def test_a_receipt_begins_at_the_run_that_was_asked_for(agent: Agent) -> None:
    for run, parent in (("root", None), ("a", "root"), ("b", "root"), ("a1", "a"), ("a2", "a"), ("a11", "a1")):
        await agent.register(run, **({} if parent is None else {"parent_run_id": parent}))
        await agent.charge(1, run)

    def tree(node: dict[str, Any]) -> Any:
        return {node["run_id"]: [tree(run) for run in node["runs"]]}

    assert tree(await agent.get("root")) == {"root": [{"a": [{"a1": [{"a11": []}]}, {"a2": []}]}, {"b": []}]}
    assert tree(await agent.get("a")) == {"a": [{"a1": [{"a11": []}]}, {"a2": []}]}
    assert [total(await agent.get(run))[0] for run in ("root", "a", "a11")] == [6, 4, 1]


async def test_a_receipt_is_bounded(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (receipt, run_service):
        monkeypatch.setattr(module, "MAX_RUNS", 3)
    monkeypatch.setattr(receipt, "MAX_GROUPS", 2)
    await agent.register("root")
    for number in range(2):
        await agent.register(f"r{number}", parent_run_id="root")
    for name in ("x", "y"):
        await agent.charge(1, "r0", metadata={"agent_id": name})
    whole = await agent.get("root")
    assert (whole["is_complete"], len(whole["runs"]), whole["runs"][0]["is_complete"]) == (True, 2, True)
    await agent.charge(1, "r0", metadata={"agent_id": "z"})
    await agent.register("r2", parent_run_id="root")
    part = await agent.get("root")
    assert (part["is_complete"], [run["run_id"] for run in part["runs"]]) == (False, ["r0", "r1"])
    [r0, r1] = part["runs"]
    assert (r0["is_complete"], len(r0["calls"]), r1["is_complete"]) == (False, 2, True)
    assert (part["spent"]["amount_minor"], r0["spent"]["amount_minor"]) == (300, 300)


@pytest.mark.parametrize(("events", "is_complete"), [(MAX_CALLS, True), (MAX_CALLS + 1, False)])
async def test_a_receipt_says_that_a_run_did_more_than_it_lists(
    events: int, is_complete: bool, agent: Agent, desk: Desk
) -> None:
    await agent.register("r")
    await agent.charge(1, "r")
    copies = """
        INSERT INTO charges (account_id, charge_id, entry_no, operation, amount_minor, currency, cost, from_daily_free,
                             from_free, from_paid, paid_after, metadata, created_at, run_id)
        SELECT account_id, gen_random_uuid(), -n, operation, amount_minor, currency, cost, from_daily_free, from_free,
               from_paid, paid_after, metadata, created_at, run_id
          FROM charges, generate_series(2, $1::bigint) n WHERE run_id = 'r' AND account_id = $2 RETURNING 1
        """
    account_id = await desk.account_id(agent.user_id)
    await desk.rows(copies, events, account_id)
    try:
        node = await agent.get("r")
    finally:  # the books must verify
        await desk.rows("DELETE FROM charges WHERE account_id = $1 AND entry_no < 0 RETURNING 1", account_id)
    assert (node["is_complete"], node["spent"]["amount_minor"]) == (is_complete, 100)


async def test_a_bad_token_reads_and_registers_nothing(agent: Agent, desk: Desk) -> None:
    await agent.register("r", credits=3)
    async with httpx.AsyncClient(base_url=desk.url) as nobody:
        for path in (RUNS, f"{RUNS}/r"):
            refused = await nobody.get(path, headers={"Authorization": "Bearer x.y.z"})
            assert (refused.status_code, refused.json()["code"]) == (401, "invalid_token")
        answer = await nobody.post(RUNS, json={"run_id": "n"}, headers={"Authorization": "Bearer x.y.z"})
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthorized"


async def test_erased_persons_have_no_runs_by_name(agent: Agent, desk: Desk) -> None:
    await agent.register("by Ann", metadata={"for": "Ann"})
    await agent.charge(1, "by Ann")
    await agent.post(TOOLS, product_type="search", run_id="by Ann")
    account_id = await desk.account_id(agent.user_id)
    tables = ("runs", "charges", "product_usage_log")

    async def texts() -> str:
        selects = (f"SELECT to_jsonb(t)::text AS text FROM {table} t WHERE account_id = $1" for table in tables)
        return "".join([row["text"] for select in selects for row in await desk.rows(select, account_id)])

    assert (await texts()).count("Ann") == 5  # of the tool use, also the charge that paid for it
    await forget_texts(desk.db, account_id, (*BOOKS, TEXTS))
    assert "Ann" not in await texts()
