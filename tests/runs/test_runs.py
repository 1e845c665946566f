"""Runs over HTTP: registered once, below other runs, changed downwards, and bounds on what they spend."""

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from app.ledger.runs import MAX_DEPTH
from app.runs import service
from tests.metering.conftest import PROVIDER, Desk
from tests.runs.conftest import CHARGES, HOLDS, RUNS, TOOLS, Agent, refusal, statuses


async def test_a_run_is_registered_once(agent: Agent) -> None:
    body = {"run_id": "r", "budget": {"amount_minor": 500}, "metadata": {"task": "tidy"}}
    first = await agent.post(RUNS, **body)
    assert first.status_code == 201, first.text
    run = first.json()
    assert (run["run_id"], run["parent_run_id"], run["depth"], run["status"]) == ("r", None, 1, "open")
    assert run["budget"] == run["remaining"] == {"amount_minor": 500, "amount": None}
    assert (run["spent"], run["uses"]) == ({"amount_minor": 0, "amount": "0.000000"}, 0)
    assert run["metadata"] == {"task": "tidy"}
    repeat = await agent.post(RUNS, **body)
    assert (repeat.status_code, repeat.headers["Idempotency-Replayed"], repeat.json()) == (200, "true", run)
    assert (await agent.change("r", credits=3)).status_code == 200
    assert (await agent.post(RUNS, **body)).status_code == 200  # a repeat of the request, after a change of the run


@pytest.mark.parametrize(
    "changes", [{"budget": {"amount_minor": 600}}, {"budget": None}, {"metadata": {}}, {"parent_run_id": "above"}]
)
async def test_another_run_with_a_used_id_is_refused(changes: dict[str, Any], agent: Agent) -> None:
    await agent.register("above")
    body = {"run_id": "r", "budget": {"amount_minor": 500}, "metadata": {"task": "tidy"}}
    await agent.post(RUNS, **body)
    answer = await agent.post(RUNS, **{**body, **changes})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "run_id_reused", "run_id")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"run_id": None}, "run_id"),
        ({"run_id": ""}, "run_id"),
        ({"run_id": "."}, "run_id"),
        ({"run_id": ".."}, "run_id"),
        ({"run_id": "x" * 256}, "run_id"),
        ({"run_id": "a\0b"}, "run_id"),
        ({"parent_run_id": "unknown"}, "parent_run_id"),
        ({"parent_run_id": "r"}, "parent_run_id"),
        ({"parent_run_id": ""}, "parent_run_id"),
        ({"budget": {}}, "budget"),
        ({"budget": {"amount_minor": 100, "amount": "1"}}, "budget"),
        ({"budget": {"amount_minor": 150}}, "amount_minor"),
        ({"budget": {"amount_minor": -100}}, "amount_minor"),
        ({"budget": {"amount_minor": 2**63}}, "amount_minor"),
        ({"budget": {"amount_minor": "100"}}, "amount_minor"),
        ({"budget": {"amount": 1}}, "amount"),
        ({"budget": {"amount": "-1"}}, "amount"),
        ({"budget": {"amount": "1e3"}}, "amount"),
        ({"budget": 5}, "budget"),
        ({"metadata": {"a": "\0"}}, "metadata"),
        ({"metadata": {"a": "x" * 20_000}}, "metadata"),
        ({"metadata": []}, "metadata"),
    ],
)
async def test_bad_input_is_refused_by_its_field(changes: dict[str, Any], field: str, agent: Agent) -> None:
    answer = await agent.post(RUNS, **{"run_id": "r", **changes})
    assert answer.status_code == 422, answer.text
    assert field in answer.text


async def test_runs_nest_to_a_depth_of_32(agent: Agent) -> None:
    parent: dict[str, Any] = {}
    for depth in range(1, MAX_DEPTH + 1):
        run = await agent.register(f"r{depth}", **parent, credits=40 if depth == 1 else 1000)
        assert run["depth"] == depth
        parent = {"parent_run_id": f"r{depth}"}
    too_deep = await agent.post(RUNS, run_id="r33", **parent)
    assert (too_deep.status_code, too_deep.json()["field"]) == (422, "parent_run_id")
    assert (await agent.charge(40, "r32")).status_code == 201
    assert refusal(await agent.charge(1, "r32")) == (402, "run_budget_exceeded", "r1")
    assert [await agent.spent(f"r{depth}") for depth in (1, 16, 32)] == [(40, "0.000000", 1)] * 3


async def test_a_budget_is_spent_to_the_last_unit_and_no_further(agent: Agent) -> None:
    await agent.register("r", credits=10)
    assert statuses([await agent.charge(7, "r"), await agent.charge(3, "r")]) == [201, 201]
    refused = await agent.charge(1, "r")
    assert refusal(refused) == (402, "run_budget_exceeded", "r")
    [asks] = refused.json()["remedies"]
    assert asks["type"] == "request_approval"
    assert refused.json() | {"detail": "", "request_id": ""} == {
        "detail": "",
        "code": "run_budget_exceeded",
        "request_id": "",
        "run": {
            "run_id": "r",
            "status": "open",
            "pause_reason": None,
            "unit": "credits",
            "budget": "10",
            "spent": "10",
        },
        "required": "1",
        "retryable": False,
        "remedies": [asks],
        "approval_id": asks["approval_id"],
    }


async def test_a_refusal_names_the_largest_amount_that_every_ancestor_allows(agent: Agent) -> None:
    await agent.register("root", credits=10)
    await agent.register("a", parent_run_id="root", credits=8)
    await agent.register("b", parent_run_id="root", credits=9)
    assert (await agent.charge(6, "b")).status_code == 201
    refused = await agent.charge(9, "a")
    assert refusal(refused) == (402, "run_budget_exceeded", "root")
    remedy = refused.json()["remedies"][0]
    assert (remedy["type"], remedy["amount_minor"]) == ("smaller_amount", 400)
    assert (await agent.charge(4, "a")).status_code == 201
    assert [(await agent.spent(run))[0] for run in ("root", "a", "b")] == [10, 4, 6]


async def test_credits_and_money_have_separate_budgets(agent: Agent) -> None:
    await agent.register("r", money="1.50")
    assert statuses([await agent.charge(500, "r"), await agent.use(100, "r"), await agent.use(50, "r")]) == [
        201,
        200,
        200,
    ]
    refused = await agent.use(1, "r")
    assert refused.status_code == 402, refused.text
    body = refused.json()
    assert (body["code"], body["run"]["budget"], body["run"]["spent"]) == (
        "run_budget_exceeded",
        "1.500000",
        "1.500000",
    )
    assert body["error"]["code"] == "insufficient_credits"
    assert await agent.spent("r") == (500, "1.500000", 3)


async def test_work_without_a_registered_run_is_bound_by_none(agent: Agent) -> None:
    await agent.register("r", credits=0)
    answers = [await agent.charge(5, None), await agent.charge(5, "somewhere"), await agent.charge(5, "r")]
    assert statuses(answers) == [201, 201, 402]


async def test_a_replay_spends_nothing_in_its_run_whatever_run_it_names(agent: Agent) -> None:
    await agent.register("r", credits=10)
    await agent.register("other", credits=10)
    runs = ("r", "r", "other", None)
    answers = [await agent.charge(5, run, idempotency_key="k") for run in runs]
    assert statuses(answers) == [201, 409, 409, 409]
    used = [await agent.post(TOOLS, product_type="search", run_id=run, idempotency_key="t") for run in runs]
    assert statuses(used) == [200] * 4
    assert [await agent.spent(run) for run in ("r", "other")] == [(7, "0.000000", 2), (0, "0.000000", 0)]


async def test_a_budget_is_lowered_by_a_key_and_raised_by_no_key(agent: Agent) -> None:
    await agent.register("r", credits=10)
    await agent.charge(6, "r")
    lowered = await agent.change("r", credits=4)
    assert lowered.status_code == 200, lowered.text
    assert lowered.json()["remaining"] == {"amount_minor": 0, "amount": None}
    assert refusal(await agent.charge(1, "r")) == (402, "run_budget_exceeded", "r")
    for body in ({"credits": 5}, {"budget": None}):
        raised = await agent.change("r", **body)
        assert (raised.status_code, raised.json()["code"]) == (403, "person_required")
    other_unit = await agent.change("r", money="1")
    assert (other_unit.status_code, other_unit.json()["field"]) == (422, "budget")
    assert (await agent.change("r", credits=4)).json() == lowered.json()  # the same again changes nothing
    assert (await agent.get("r"))["budget"] == {"amount_minor": 400, "amount": None}


async def test_a_run_without_a_budget_gets_one(agent: Agent) -> None:
    await agent.register("r")
    assert (await agent.charge(6, "r")).status_code == 201
    assert (await agent.change("r", credits=7)).json()["remaining"] == {"amount_minor": 100, "amount": None}
    assert statuses([await agent.charge(2, "r"), await agent.charge(1, "r")]) == [402, 201]


async def test_a_paused_run_and_the_runs_below_it_start_no_work(agent: Agent) -> None:
    await agent.register("root")
    await agent.register("r", parent_run_id="root")
    paused = await agent.change("root", status="paused")
    assert (paused.json()["status"], paused.json()["pause_reason"]) == ("paused", "requested")
    for answer in (
        await agent.charge(1, "r"),
        await agent.use(1, "r"),
        await agent.hold(1, "r"),
        await agent.post(TOOLS, product_type="search", run_id="r"),
        await agent.post("/v1/cost-records", request_id=uuid.uuid4().hex, tool="t", run_id="r"),
        await agent.post(RUNS, run_id="new", parent_run_id="r"),
    ):
        assert refusal(answer) == (402, "run_paused", "root")
    resumed = await agent.change("root", status="open")
    assert (resumed.status_code, resumed.json()["code"]) == (403, "person_required")
    assert (await agent.change("root", status="paused")).json() == paused.json()
    assert await agent.spent("root") == (0, "0.000000", 0)


async def test_a_closed_run_stays_closed(agent: Agent) -> None:
    await agent.register("r", credits=5)
    closed = await agent.change("r", status="closed")
    assert closed.json()["closed_at"] is not None
    assert (await agent.change("r", status="closed")).json() == closed.json()
    for body in ({"credits": 1}, {"status": "paused"}, {"status": "open"}):
        answer = await agent.change("r", **body)
        assert (answer.status_code, answer.json()["code"]) == (409, "run_ended")
    assert refusal(await agent.charge(1, "r")) == (402, "run_closed", "r")
    assert refusal(await agent.post(RUNS, run_id="below", parent_run_id="r")) == (402, "run_closed", "r")


async def test_the_number_of_runs_that_are_not_closed_is_bounded(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_OPEN", 2)
    await agent.register("a")
    await agent.register("b")
    await agent.change("b", status="paused")
    refused = await agent.post(RUNS, run_id="c")
    assert (refused.status_code, refused.json()["code"]) == (422, "too_many_runs")
    assert (await agent.post(RUNS, run_id="a")).status_code == 200
    await agent.change("a", status="closed")
    await agent.register("c")


async def test_runs_are_listed_newest_first(agent: Agent) -> None:
    for number in range(5):
        await agent.register(f"r{number}", **({"parent_run_id": "r0"} if number else {}))
    pages, before = [], None
    while True:
        query: dict[str, Any] = {"user_id": agent.user_id, "limit": 2, **({} if before is None else {"before": before})}
        page = (await agent.http.get(RUNS, params=query)).json()
        pages.append([(run["run_id"], run["parent_run_id"]) for run in page["runs"]])
        if not page["has_more"]:
            break
        before = page["runs"][-1]["run_id"]
    assert pages == [[("r4", "r0"), ("r3", "r0")], [("r2", "r0"), ("r1", "r0")], [("r0", None)]]
    unknown = await agent.http.get(RUNS, params={"user_id": agent.user_id, "before": "nothing"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "run_not_found")
    nobody = await agent.http.get(RUNS, params={"user_id": str(uuid.uuid4())})
    assert nobody.json() == {"runs": [], "has_more": False}


@pytest.mark.parametrize("run_id", ["a/b", "a//b/", "ü ?#%", "%2F", "...", "0" * 255, "receipts", "-"])
async def test_any_text_is_an_id(run_id: str, agent: Agent) -> None:
    await agent.register(run_id)
    path = f"{RUNS}/{''.join(f'%{byte:02X}' for byte in run_id.encode())}"
    found = await agent.http.get(path, params={"user_id": agent.user_id})
    assert (found.status_code, found.json()["run_id"]) == (200, run_id)


async def test_runs_are_their_users_own(agent: Agent, desk: Desk) -> None:
    await agent.register("r", credits=1)
    other = Agent(desk, agent.http, await desk.user(100))
    for answer in (
        await other.change("r", credits=0),
        await agent.http.get(f"{RUNS}/r", params={"user_id": other.user_id}),
        await agent.http.get(f"{RUNS}/r", params={"user_id": str(uuid.uuid4())}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")
    assert (await other.post(RUNS, run_id="r")).status_code == 201


async def test_permissions(agent: Agent, desk: Desk) -> None:
    """A key without billing:write reads; one without billing:read does not."""
    await agent.register("r")
    identity = {"oauth_provider": PROVIDER, "external_id": agent.user_id}
    answers = [
        await desk.reader.post(RUNS, json={"user_id": agent.user_id, "run_id": "n"}),
        await desk.reader.get(f"{RUNS}/r", params={"user_id": agent.user_id}),
        await desk.nobody.get(f"{RUNS}/r", params={"user_id": agent.user_id}),
        await desk.stranger.get(f"{RUNS}/r", params=identity),
    ]
    assert statuses(answers) == [403, 403, 401, 200]


async def test_until_the_upgrade_is_finished_no_run_is_registered(
    agent: Agent, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def older(_: object) -> str:
        return "0036"

    monkeypatch.setattr("app.db.version_mark.oldest_running", older)
    monkeypatch.setattr(desk.app.state.version_mark, "_oldest", "")
    answer = await agent.post(RUNS, run_id="r")
    assert (answer.status_code, answer.json()["code"]) == (503, "upgrade_in_progress")


CHARGE: Mapping[str, object] = {"amount_minor": 100}


@pytest.mark.parametrize("path", [CHARGES, TOOLS, HOLDS])
async def test_a_run_id_may_be_a_number(path: str, agent: Agent) -> None:
    await agent.register("7")
    answer = await agent.post(path, amount_minor=100, product_type="search", run_id=7)
    assert answer.status_code in (200, 201), answer.text
    assert (await agent.spent("7"))[2] == 1


@pytest.mark.parametrize("path", [CHARGES, TOOLS])
@pytest.mark.parametrize("run_id", ["", "x" * 256, "a\0b", ["r"], {"a": 1}, True])
async def test_a_bad_run_id_is_refused(path: str, run_id: object, agent: Agent) -> None:
    answer = await agent.post(path, amount_minor=100, product_type="search", run_id=run_id)
    assert answer.status_code == 422
    assert "run_id" in answer.text


async def test_the_body_of_a_refusal_is_documented(agent: Agent) -> None:
    described = (await agent.http.get("/openapi.json")).json()
    operation = described["paths"]["/v1/billing/runs"]["post"]
    assert operation["responses"]["402"]["content"]["application/json"]["schema"]["$ref"].endswith("NotAllowedReply")


async def test_a_run_keeps_its_budget_when_the_last_limit_is_removed(agent: Agent) -> None:
    await agent.register("r", credits=5)
    limit = {"user_id": agent.user_id, "window": "day", "unit": "credits", "amount": "100"}
    limit_id = (await agent.http.put("/v1/billing/limits", json=limit)).json()["id"]
    assert (await agent.http.delete(f"/v1/billing/limits/{limit_id}")).status_code == 200
    assert statuses([await agent.charge(5, "r"), await agent.charge(1, "r")]) == [201, 402]
