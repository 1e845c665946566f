"""The back office finds why a request was refused, by its request id."""

import asyncio
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.db import first_id_at
from app.ledger.money import NANOS_PER_UNIT
from app.refusals import log
from app.refusals.log import RefusalLog, forget_refusals
from app.refusals.schemas import NotAllowedReply
from tests.admin.conftest import Office
from tests.conftest import make_key, make_usage_key
from tests.metering.conftest import put_in_force

REFUSALS = "/admin/refusals"
CHARGES = "/v1/billing/charges"
TERMS = UsageTerms("oauth:google", "tests", max_cost_nanos=NANOS_PER_UNIT)


def charge(user: str, credits: int = 50, key: str = "k") -> dict[str, Any]:
    return {
        "oauth_provider": "oauth:google",
        "external_id": user,
        "amount_minor": credits * 100,
        "idempotency_key": key,
        "customer_email": f"{user}@example.com",
    }


@pytest.fixture
async def agent(office: Office) -> Any:
    key = await make_key(office.db, "live", Permission.READ, Permission.WRITE)
    async with office.client(None) as client:
        client.headers["X-API-Key"] = key
        yield client


@pytest.fixture
def user() -> str:
    return uuid.uuid4().hex


def refusal_log(office: Office) -> RefusalLog:
    found: RefusalLog = office.app.state.refusal_log
    return found


async def found(client: httpx.AsyncClient, **query: object) -> list[dict[str, Any]]:
    answer = await client.get(REFUSALS, params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    refusals: list[dict[str, Any]] = answer.json()["refusals"]
    return refusals


async def test_a_request_id_leads_to_the_refusal(
    office: Office, viewer: httpx.AsyncClient, agent: httpx.AsyncClient, user: str
) -> None:
    request_id = uuid.uuid4().hex
    answer = await agent.post(CHARGES, json=charge(user), headers={"X-Request-ID": request_id})
    assert answer.status_code == 402
    await refusal_log(office).flush()
    [refusal] = await found(viewer, request_id=request_id)
    body = answer.json()
    assert {**refusal["figures"], "detail": refusal["detail"], "code": refusal["code"]} == {
        name: value for name, value in body.items() if name != "request_id"
    }
    assert (refusal["route"], refusal["key_name"]) == (CHARGES, "tests")
    assert refusal["person"]["customer_email"] == f"{user}@example.com"
    assert await found(viewer, account_id=refusal["account_id"]) == [refusal]
    assert await found(viewer, request_id=f"{request_id}x") == []
    assert await found(viewer, account_id=uuid.uuid4()) == []


async def test_each_route_that_refuses_is_kept(
    office: Office, viewer: httpx.AsyncClient, agent: httpx.AsyncClient, user: str
) -> None:
    holds, batch = "/v1/billing/holds", f"{CHARGES}/batch"
    hold = {**charge(user), "idempotency_key": "h"}
    request_id = uuid.uuid4().hex
    headers = {"X-Request-ID": request_id}
    refused = [
        await agent.post(holds, json=hold, headers=headers),
        await agent.post(CHARGES, json=charge(user), headers={**headers, "Content-Type": "application/json; a=b"}),
    ]
    assert [answer.status_code for answer in refused] == [402, 402]
    many = [charge(user, key=f"b{n}") for n in range(3)]
    assert (await agent.post(batch, json={"charges": many}, headers=headers)).status_code == 200
    await refusal_log(office).flush()
    routes = [refusal["route"] for refusal in await found(viewer, request_id=request_id)]
    assert routes == [batch, batch, batch, CHARGES, holds]
    page = (await viewer.get(REFUSALS, params={"request_id": request_id, "limit": 3})).json()
    rest = await found(viewer, request_id=request_id, limit=3, cursor=page["next_cursor"])
    assert [refusal["route"] for refusal in rest] == [CHARGES, holds]


async def test_a_double_charge_that_a_key_refuses_is_kept_without_the_texts_of_the_first(
    office: Office, admin: httpx.AsyncClient, viewer: httpx.AsyncClient, user: str
) -> None:
    """By the single route and by a batch. The books have no trace of either."""
    key = {"environment": "live", "name": "Agent 8", "permissions": ["billing:write"], "double_charges": "refuse"}
    headers = {"X-API-Key": (await admin.post("/admin/api-keys", json=key)).json()["api_key"]}
    work = {**charge(user, 1), "description": f"For {user}", "metadata": {"request_id": user}}
    async with office.client(None) as agent:
        first = (await agent.post(CHARGES, json=work, headers=headers)).json()
        assert (await agent.post(CHARGES, json=work, headers=headers)).json()["code"] == "charge_exists"
        answer = await agent.post(CHARGES, json={**work, "idempotency_key": "again"}, headers=headers)
        many = {"charges": [{**work, "idempotency_key": "batch"}, work]}
        assert (await agent.post(f"{CHARGES}/batch", json=many, headers=headers)).status_code == 200
    assert (answer.status_code, answer.headers["Cache-Control"]) == (409, "no-store")
    await refusal_log(office).flush()
    kept = await found(viewer, account_id=first["account_id"])
    assert [(row["route"], row["code"]) for row in kept] == [
        (f"{CHARGES}/batch", "probable_double_charge"),
        (CHARGES, "probable_double_charge"),
    ]
    assert kept[1]["request_id"] == answer.json()["request_id"]
    assert kept[1]["key_name"] == "Agent 8"
    members = ("charge_id", "amount_minor", "currency", "created_at")
    assert [row["figures"] for row in kept] == [{name: first[name] for name in members}] * 2
    by_code = {"account_id": first["account_id"], "code": "probable_double_charge"}
    assert await found(viewer, **by_code) == kept
    assert await found(viewer, **{**by_code, "code": "insufficient_credits"}) == []


SPENDING: dict[str, dict[str, Any]] = {
    CHARGES: {"amount_minor": 100},
    "/v1/billing/holds": {"amount_minor": 100},
    "/v1/tools/charge": {"product_type": "web_search"},
    "/v1/cost-records": {"request_id": "r", "tool": "search"},
}
RUN = {"run_id": "run-7"}
LIMIT = {"window": "day", "unit": "uses", "amount": "0"}


@pytest.fixture
async def controller(office: Office) -> Any:
    """An API key that may do everything."""
    key = await make_usage_key(office.db, TERMS, "live", *Permission)
    async with office.client(None) as client:
        client.headers["X-API-Key"] = key
        yield client


@pytest.mark.parametrize(
    ("code", "method", "path", "body"),
    [
        ("limit_exceeded", "PUT", "/v1/billing/limits", LIMIT),
        ("approval_required", "PUT", "/v1/billing/limits", {**LIMIT, "action": "ask"}),
        ("run_paused", "PATCH", f"/v1/billing/runs/{RUN['run_id']}", {"status": "paused"}),
        ("run_closed", "PATCH", f"/v1/billing/runs/{RUN['run_id']}", {"status": "closed"}),
    ],
)
async def test_refusals_by_limits_and_runs_are_kept_and_described(
    code: str,
    method: str,
    path: str,
    body: dict[str, Any],
    office: Office,
    viewer: httpx.AsyncClient,
    controller: httpx.AsyncClient,
    user: str,
) -> None:
    work, headers = {"user_id": user, **RUN}, {"X-Request-ID": uuid.uuid4().hex}
    assert (await controller.post("/v1/billing/runs", json=work)).status_code == 201
    assert (await controller.request(method, path, json={"user_id": user, **body})).status_code == 200
    figures = {}
    for route, amount in SPENDING.items():
        answer = await controller.post(route, json={**work, **amount}, headers=headers)
        content = answer.json()
        assert (answer.status_code, content["code"], content["retryable"]) == (402, code, False), content
        assert answer.headers["Cache-Control"] == "no-store"
        assert content.keys() <= NotAllowedReply.model_validate(content).model_fields_set | {"error"}
        assert "NotAllowedReply" in str(office.app.openapi()["paths"][route]["post"]["responses"]["402"])
        figures[route] = {name: content[name] for name in content.keys() - {"detail", "code", "request_id", "error"}}
    batch = {"charges": [{**work, **SPENDING[CHARGES]}]}
    [result] = (await controller.post(f"{CHARGES}/batch", json=batch, headers=headers)).json()["results"]
    assert (result["status"], result["body"]["code"]) == (402, code)
    await refusal_log(office).flush()
    kept = await found(viewer, request_id=headers["X-Request-ID"])
    assert {refusal["code"] for refusal in kept} == {code}
    assert {refusal["route"] for refusal in kept} == {*figures, f"{CHARGES}/batch"}
    assert {refusal["route"]: refusal["figures"] for refusal in kept if refusal["route"] in figures} == figures


async def test_the_refusal_of_a_single_cloudevent_is_kept(office: Office, viewer: httpx.AsyncClient, user: str) -> None:
    await put_in_force(office.db)
    key = await make_usage_key(office.db, replace(TERMS, debt_limit_nanos=0), "live", *Permission)
    headers = {"X-API-Key": key, "X-Request-ID": uuid.uuid4().hex, "Content-Type": "application/cloudevents+json"}
    event = {"specversion": "1.0", "id": "e", "source": "/tests", "type": "llm_tokens", "subject": user}
    usage = {"provider": "anthropic", "model": "claude-3-5-sonnet", "input_tokens": 1000, "output_tokens": 100}
    async with office.client(None) as client:
        answer = await client.post("/v1/events", json={**event, "data": usage}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_money"), answer.text
    await refusal_log(office).flush()
    [refusal] = await found(viewer, request_id=headers["X-Request-ID"])
    assert (refusal["route"], refusal["code"]) == ("/v1/events", "insufficient_money")


async def test_what_is_kept_is_bounded(
    office: Office,
    viewer: httpx.AsyncClient,
    agent: httpx.AsyncClient,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An agent that repeats a refused request without end does not fill the table."""
    await refusal_log(office).flush()
    answers = await asyncio.gather(*(agent.post(CHARGES, json=charge(user, key=f"k{n}")) for n in range(30)))
    assert {answer.status_code for answer in answers} == {402}
    other = uuid.uuid4().hex
    assert (await agent.post(CHARGES, json=charge(other))).status_code == 402
    await refusal_log(office).flush()
    [first] = await office.rows("SELECT account_id FROM account_identities WHERE external_id = $1", user)
    assert len(await found(viewer, account_id=first["account_id"])) == log.MAX_OF_ACCOUNT
    monkeypatch.setattr(log, "MAX_COLLECTED", 2)
    for number in range(5):
        await agent.post(CHARGES, json=charge(uuid.uuid4().hex), headers={"X-Request-ID": f"bounded-{number}"})
    await refusal_log(office).flush()
    assert sum([len(await found(viewer, request_id=f"bounded-{number}")) for number in range(5)]) == 2


async def test_a_failed_write_is_repeated(
    office: Office, viewer: httpx.AsyncClient, agent: httpx.AsyncClient, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise OSError

    headers = {"X-Request-ID": uuid.uuid4().hex}
    await agent.post(CHARGES, json=charge(user), headers=headers)
    with monkeypatch.context() as patch:
        patch.setattr("app.refusals.queries.insert_refusals", fail)
        await refusal_log(office).flush()
    assert await found(viewer, request_id=headers["X-Request-ID"]) == []
    await refusal_log(office).flush()
    assert len(await found(viewer, request_id=headers["X-Request-ID"])) == 1


async def test_old_refusals_are_deleted(
    office: Office, viewer: httpx.AsyncClient, agent: httpx.AsyncClient, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "DELETED_AT_ONCE", 2)
    headers = {"X-Request-ID": uuid.uuid4().hex}
    await agent.post(CHARGES, json=charge(user), headers=headers)
    await refusal_log(office).flush()
    [young] = await found(viewer, request_id=headers["X-Request-ID"])
    now = datetime.now(UTC)
    for number in range(5):
        old = first_id_at(now - log.KEPT - timedelta(seconds=number + 1))
        await office.rows(
            "INSERT INTO refused_requests (account_id, refusal_id, route, code, detail, figures, created_at)"
            " VALUES ($1, $2, '', '', '', $3, now())",
            uuid.UUID(young["account_id"]),
            old,
            json.dumps({}),
        )
    assert await forget_refusals(office.db, now) == 5
    assert await found(viewer, account_id=young["account_id"]) == [young]


@pytest.mark.parametrize("query", [{"request_id": ""}, {"request_id": "\0"}, {"account_id": "x"}, {"limit": "0"}])
async def test_bad_filters_are_named(query: dict[str, str], viewer: httpx.AsyncClient) -> None:
    answer = await viewer.get(REFUSALS, params=query)
    assert answer.status_code == 422
    assert next(iter(query)) in answer.text
