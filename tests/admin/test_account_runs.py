"""Runs in the back office: admins raise budgets, end pauses, and set the burn rate; each change is audited."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.admin.conftest import Office
from tests.admin.people import Person, somebody

RUNS, CHARGES = "/v1/billing/runs", "/v1/billing/charges"
REASON = {"reason": "a ticket"}
OFF: dict[str, Any] = {"credits_per_minute": None, "money_per_minute": []}


@pytest.fixture
async def person(office: Office) -> Person:
    return await somebody(office)


@pytest.fixture
async def agent(office: Office, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with person.agent(office) as agent:
        yield agent


async def register(agent: httpx.AsyncClient, person: Person, run_id: str, **body: Any) -> None:
    answer = await agent.post(RUNS, json={**person.user, "run_id": run_id, **body})
    assert answer.status_code == 201, answer.text


async def charge(agent: httpx.AsyncClient, person: Person, credits: int, run_id: str | None) -> tuple[int, str | None]:
    answer = await agent.post(CHARGES, json={**person.user, "amount_minor": credits * 100, "run_id": run_id})
    return answer.status_code, answer.json().get("code")


async def set_rate(admin: httpx.AsyncClient, **rate: Any) -> None:
    version = (await admin.get("/admin/config/burn_rate")).json()["version"]
    answer = await admin.put("/admin/config/burn_rate", json={**OFF, **rate, **REASON, "version": version})
    assert answer.status_code == 200, answer.text


async def test_an_admin_raises_and_removes_a_budget_and_ends_a_pause(
    office: Office, person: Person, agent: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    await register(agent, person, "r", budget={"amount_minor": 200})
    assert await charge(agent, person, 3, "r") == (402, "run_budget_exceeded")
    path = f"/admin/users/{person.account_id}/runs"
    run, _ = (await support.get(path)).json()["runs"]  # newest first: every person has one
    assert (run["run_id"], run["budget"]["amount_minor"]) == ("r", 200)
    one = f"{path}/{run['run_uuid']}"
    raised = await support.patch(one, json={"budget": {"amount_minor": 300}, **REASON})
    assert (raised.status_code, raised.json()["budget"]["amount_minor"]) == (200, 300)
    assert (await support.patch(one, json={"budget": {"amount_minor": 300}, **REASON})).status_code == 200
    assert await charge(agent, person, 3, "r") == (201, None)
    assert (await support.patch(one, json={"status": "paused", **REASON})).json()["pause_reason"] == "requested"
    assert await charge(agent, person, 1, "r") == (402, "run_paused")
    resumed = await support.patch(one, json={"status": "open", "budget": None, **REASON})
    assert (resumed.json()["status"], resumed.json()["budget"]) == ("open", None)
    assert await charge(agent, person, 1, "r") == (201, None)
    receipt = (await support.get(one)).json()
    assert (receipt["spent"]["amount_minor"], receipt["calls"][0]["calls"]) == (400, 2)
    rows = [row for row in await office.audit("account.change_run") if row["target_id"] == str(person.account_id)]
    assert len(rows) == 3  # the repeat changed nothing
    assert '"run_uuid"' in str(rows[0]["after"])


async def test_unknown_runs_and_bad_changes_are_refused(person: Person, support: httpx.AsyncClient) -> None:
    path = f"/admin/users/{person.account_id}/runs/{uuid.uuid4()}"
    for answer in (await support.get(path), await support.patch(path, json={"status": "closed", **REASON})):
        assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")
    bad: list[dict[str, Any]] = [{"status": "lost"}, {"budget": {"amount": 1}}, {"budget": {}}]
    for body in bad:
        assert (await support.patch(path, json={**body, **REASON})).status_code == 422
    assert (await support.patch(path, json={"status": "closed"})).status_code == 422


async def test_runs_are_listed_in_pages(person: Person, agent: httpx.AsyncClient, viewer: httpx.AsyncClient) -> None:
    for number in range(3):
        await register(agent, person, f"r{number}")
    path = f"/admin/users/{person.account_id}/runs"
    first = (await viewer.get(path, params={"limit": 2})).json()
    assert [run["run_id"] for run in first["runs"]] == ["r2", "r1"]
    last = (await viewer.get(path, params={"cursor": first["next_cursor"]})).json()
    assert ([run["run_id"] for run in last["runs"][:1]], len(last["runs"]), last["next_cursor"]) == (["r0"], 2, None)


async def test_an_admin_sets_the_rate_and_resumes_the_use_of_a_key(
    office: Office, person: Person, agent: httpx.AsyncClient, admin: httpx.AsyncClient, support: httpx.AsyncClient
) -> None:
    path = f"/admin/users/{person.account_id}/paused-keys"
    await set_rate(admin, credits_per_minute=2)
    try:
        assert await charge(agent, person, 3, None) == (402, "burn_rate_exceeded")
        assert await charge(agent, person, 1, None) == (402, "burn_rate_exceeded")
        [key] = (await support.get(path)).json()["keys"]
        for resumed in (True, False):
            answer = await support.post(f"{path}/{key['key_id']}/resume", json=REASON)
            assert answer.json() == {"resumed": resumed}
        assert (await support.get(path)).json() == {"keys": []}
        assert await charge(agent, person, 1, None) == (201, None)
    finally:
        await set_rate(admin)
    assert await charge(agent, person, 3, None) == (201, None)
    rows = [row for row in await office.audit("account.resume_key") if row["target_id"] == str(person.account_id)]
    assert len(rows) == 1


@pytest.mark.parametrize(
    "rate",
    [
        {"credits_per_minute": 0},
        {"credits_per_minute": "5"},
        {"money_per_minute": [{"currency": "USD", "amount": "0"}]},
        {"money_per_minute": [{"currency": "USD", "amount": 5}]},
        {"money_per_minute": [{"currency": "usd", "amount": "5"}]},
        {"money_per_minute": [{"currency": "USD", "amount": "5"}, {"currency": "USD", "amount": "6"}]},
    ],
)
async def test_a_bad_rate_is_refused(rate: dict[str, Any], admin: httpx.AsyncClient) -> None:
    version = (await admin.get("/admin/config/burn_rate")).json()["version"]
    answer = await admin.put("/admin/config/burn_rate", json={**OFF, **rate, **REASON, "version": version})
    assert answer.status_code == 422, answer.text
