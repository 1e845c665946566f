"""Cost records over HTTP: opened once, added to, settled once, and charged exactly."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.accounts.erasure import forget_texts
from app.configuration.service import Configuration
from app.cost_records.erasure import TEXTS
from app.cost_records.service import CostRecordService
from app.db import Database
from app.ledger.batching import Batcher
from tests.metering.conftest import PROVIDER, Desk, llm
from tests.support.wallets import DOLLAR

PATH = "/v1/cost-records"
CALLS = {"type": "api_calls", "endpoint": "/tiered", "count": 600}
"""1 dollar per thousand, half above 1,000 in a month."""


def opening(user_id: str, **more: Any) -> dict[str, Any]:
    return {"request_id": uuid.uuid4().hex, "user_id": user_id, "tool": "search", "query": "who pays?", **more}


async def opened(desk: Desk, user_id: str, *items: Mapping[str, Any], **more: Any) -> str:
    """The id of a new record with these items."""
    answer = await desk.router.post(PATH, json=opening(user_id, **more))
    assert answer.status_code == 201, answer.text
    record_id = str(answer.json()["record_id"])
    for item in items:
        added = await add(desk, record_id, **item)
        assert added.status_code == 201, added.text
    return record_id


async def add(desk: Desk, record_id: str, **item: Any) -> httpx.Response:
    return await desk.router.post(f"{PATH}/{record_id}/items", json={"item_id": uuid.uuid4().hex, **item})


async def complete(desk: Desk, record_id: str, status: str = "completed", **more: Any) -> httpx.Response:
    return await desk.router.post(f"{PATH}/{record_id}/complete", json={"status": status, **more})


async def get(desk: Desk, record_id: str) -> dict[str, Any]:
    answer = await desk.reader.get(f"{PATH}/{record_id}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def records_of(desk: Desk) -> CostRecordService:
    """The worker's service."""
    return CostRecordService(desk.db, Batcher(desk.db), Configuration(desk.db, desk.app.state.settings))


async def expire(desk: Desk, record_id: str) -> None:
    """Run the worker's job right after the record's expiry."""
    at = datetime.fromisoformat((await get(desk, record_id))["expires_at"])
    await records_of(desk).expire(at + timedelta(milliseconds=1))


async def test_completed_work_is_charged_the_sum_of_its_items_once(desk: Desk, user: str) -> None:
    record_id = await opened(desk, user, {"metric": llm()}, {"cost": "0.000000001"}, agent_id="scout", run_id="run")
    assert await desk.wallet(user) == (10 * DOLLAR, 0)
    body = (await complete(desk, record_id, execution_time_ms=120)).json()
    assert (body["status"], body["cost"], body["charged"], body["debt"]) == (
        *("completed", "0.004500001", "0.004500001", "0.000000"),
    )
    assert (body["cost_cents"], body["execution_time_ms"], body["item_count"]) == (1, 120, 2)
    for _ in range(3):
        again = await complete(desk, record_id, execution_time_ms=7)
        assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()) == (200, "true", body)
    assert await desk.wallet(user) == (10 * DOLLAR - 4_500_001, 0)


async def test_a_charge_is_one_event_of_the_usage_reports(desk: Desk, user: str) -> None:
    record_id = await opened(
        desk, user, {"metric": llm()}, {"metric": llm(1, 1)}, {"metric": CALLS}, agent_id="scout", request_id="r-1"
    )
    settled = (await complete(desk, record_id)).json()
    [event] = (await desk.reader.get("/v1/usage", params={"user_id": user})).json()["events"]
    assert event["transaction_id"] == settled["transaction_id"]
    assert {name: event[name] for name in ("meter", "model", "tool", "agent_id", "status", "cost")} == {
        "meter": "cost-record",
        "model": "claude-3-5-sonnet",
        "tool": "search",
        "agent_id": "scout",
        "status": "charged",
        "cost": "0.604518",
    }
    [row] = await desk.events(user)
    assert row["occurred_at"] == datetime.fromisoformat(settled["created_at"]) or row["occurred_at"] < row["created_at"]
    found = await desk.reader.get(f"/v1/usage/events/{event['event_id']}", params={"user_id": user})
    assert (found.status_code, found.json()["lines"]) == (200, [])
    params = {"user_id": user, "group_by": "tool"}
    [group] = (await desk.reader.get("/v1/usage", params=params)).json()["groups"]
    assert group["cost"] == "0.604518"
    assert await desk.wallet(user) == (10 * DOLLAR - 604_518_000, 0)


async def test_items_of_several_models_name_none(desk: Desk, user: str) -> None:
    other = {**llm(1, 1, "gpt-4o-mini"), "provider": "openai"}
    record_id = await opened(desk, user, {"metric": llm(1, 1)}, {"metric": other}, {"metric": llm(1, 1)})
    await complete(desk, record_id)
    [row] = await desk.events(user)
    assert (row["provider"], row["model"]) == (None, None)
    assert '"input_uncached": 3' in row["quantities"]


async def test_failed_work_is_never_charged_and_kept(desk: Desk, user: str) -> None:
    record_id = await opened(desk, user, {"metric": llm()})
    for _ in range(2):
        body = (await complete(desk, record_id, "failed", execution_time_ms=5, error_message="no answer")).json()
        assert (body["status"], body["cost"], body["charged"], body["transaction_id"]) == (
            *("failed", "0.004500", "0.000000", None),
        )
    assert (await get(desk, record_id))["error_message"] == "no answer"
    assert await desk.events(user) == []
    assert await desk.wallet(user) == (10 * DOLLAR, 0)


@pytest.mark.parametrize(("first", "second"), [("completed", "failed"), ("failed", "completed")])
async def test_the_first_outcome_wins_and_the_other_caller_learns_it(
    desk: Desk, user: str, first: str, second: str
) -> None:
    record_id = await opened(desk, user, {"metric": llm()})
    await complete(desk, record_id, first)
    charged = "0.004500" if first == "completed" else "0.000000"
    for _ in range(2):
        answer = await complete(desk, record_id, second)
        assert (answer.status_code, answer.json()["code"]) == (409, "cost_record_settled")
        assert answer.json()["error"]["details"] == {"status": first, "cost": "0.004500", "charged": charged}
    assert (await get(desk, record_id))["charged"] == charged


async def test_a_request_id_opens_one_record_of_its_account(desk: Desk, user: str) -> None:
    body = opening(user, estimate="0.5")
    first = await desk.router.post(PATH, json=body)
    again = await desk.other.post(PATH, json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    opened_at, expires_at = (datetime.fromisoformat(first.json()[name]) for name in ("created_at", "expires_at"))
    assert (expires_at - opened_at, first.json()["on_expiry"]) == (timedelta(hours=1), "charge_reported")
    stranger = await desk.router.post(PATH, json={**body, "user_id": await desk.user()})
    assert stranger.status_code == 201


@pytest.mark.parametrize(
    "changes",
    [
        {"tool": "other"},
        {"query": "another"},
        {"estimate": "0.6"},
        {"estimate": None},
        {"estimate": None, "estimate_cents": 50},
        {"agent_id": "a"},
        {"run_id": "r"},
        {"expires_in_s": 60},
        {"on_expiry": "charge_nothing"},
    ],
)
async def test_another_body_under_a_request_id_is_refused(desk: Desk, user: str, changes: dict[str, Any]) -> None:
    body = opening(user, estimate="0.5")
    assert (await desk.router.post(PATH, json=body)).status_code == 201
    answer = await desk.router.post(PATH, json={**body, **changes})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_id_reused")


async def test_an_item_is_added_once(desk: Desk, user: str) -> None:
    record_id = await opened(desk, user)
    item = {"item_id": "call", "metric": llm()}
    answers = [await add(desk, record_id, **item) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["cost"] == "0.004500"
    for change in ({"metric": llm(1001)}, {"cost": "1"}, {"metric": None, "cost": "1"}):
        answer = await add(desk, record_id, **{**item, **change})
        assert (answer.status_code, answer.json()["code"]) == (422, "item_id_reused")
    await complete(desk, record_id)
    assert (await add(desk, record_id, **item)).status_code == 200
    late = await add(desk, record_id, metric=llm())
    assert (late.status_code, late.json()["code"]) == (409, "cost_record_settled")
    detail = await get(desk, record_id)
    assert [(part["item_id"], part["type"], part["cost"]) for part in detail["items"]] == [
        ("call", "llm_tokens", "0.004500")
    ]


async def test_an_item_is_priced_when_it_is_reported_and_calls_fall_with_the_month(desk: Desk, user: str) -> None:
    """600 of 1,000 dear calls, then the other 400 and 200 cheap ones; usage events count on."""
    record_id = await opened(desk, user)
    costs = [(await add(desk, record_id, metric=CALLS)).json()["item"]["cost"] for _ in range(2)]
    assert costs == ["0.600000", "0.500000"]
    event = {"event_id": "e", "user_id": user, "metric": CALLS}
    assert (await desk.router.post("/v1/usage", json=event)).json()["cost"] == "0.300000"
    assert (await complete(desk, record_id, "failed")).json()["charged"] == "0.000000"


async def test_what_money_does_not_cover_becomes_debt_whatever_the_policy(desk: Desk) -> None:
    user = await desk.user(1)
    body = (await complete(desk, await opened(desk, user, {"cost": "0.03"}))).json()
    assert (body["charged"], body["debt"]) == ("0.030000", "0.020000")
    assert await desk.wallet(user) == (0, 20_000_000)
    [row] = await desk.events(user)
    assert (row["status"], row["debt_nanos"]) == ("debt", 20_000_000)


@pytest.mark.parametrize("state", ["suspended", "closed"])
async def test_work_of_an_inactive_account_does_not_begin_but_is_charged(desk: Desk, user: str, state: str) -> None:
    record_id = await opened(desk, user, {"metric": llm()})
    reason = "because" if state == "suspended" else None
    await desk.rows(
        "UPDATE accounts SET status = $2, status_reason = $3 WHERE account_id = $1",
        await desk.account_id(user),
        state,
        reason,
    )
    answer = await desk.router.post(PATH, json=opening(user))
    assert (answer.status_code, answer.json()["code"]) == (403, f"account_{state}")
    assert (await add(desk, record_id, metric=llm())).status_code == 201
    assert (await complete(desk, record_id)).json()["charged"] == "0.009000"


async def test_an_account_that_is_not_billed_is_recorded(desk: Desk) -> None:
    user = await desk.user()
    await desk.rows("UPDATE accounts SET billing_enabled = false WHERE account_id = $1", await desk.account_id(user))
    body = (await complete(desk, await opened(desk, user, {"metric": llm()}))).json()
    assert (body["cost"], body["charged"], body["debt"]) == ("0.004500", "0.000000", "0.000000")
    assert [row["status"] for row in await desk.events(user)] == ["recorded"]
    assert await desk.wallet(user) == (0, 0)


async def test_work_without_a_user_is_recorded_and_never_charged(desk: Desk) -> None:
    client = f"secret-{uuid.uuid4().hex}"
    body = {"request_id": "r", "tool": "search", "client_key": client, "estimate": "1"}
    first = (await desk.router.post(PATH, json=body)).json()
    again = await desk.router.post(PATH, json=body)
    assert (again.status_code, again.json()) == (200, first)
    assert (await desk.router.post(PATH, json={**body, "tool": "x"})).json()["code"] == "request_id_reused"
    other = (await desk.router.post(PATH, json={**body, "client_key": client + "2"})).json()
    assert other["record_id"] != first["record_id"]
    record_id = first["record_id"]
    assert [(await add(desk, record_id, item_id="i", metric=llm())).status_code for _ in range(2)] == [201, 200]
    settled = (await complete(desk, record_id)).json()
    assert (settled["status"], settled["cost"], settled["charged"]) == ("completed", "0.004500", "0.000000")
    assert (await complete(desk, record_id, "failed")).status_code == 409
    rows = await desk.rows("SELECT to_jsonb(r)::text AS text FROM cost_records r WHERE client_key <> ''")
    assert rows
    assert [row for row in rows if client in row["text"]] == []


@pytest.mark.parametrize(("on_expiry", "charged"), [("charge_reported", "0.004500"), ("charge_nothing", "0.000000")])
async def test_a_record_that_is_left_open_is_settled_by_its_policy(
    desk: Desk, user: str, on_expiry: str, charged: str
) -> None:
    record_id = await opened(desk, user, {"metric": llm()}, on_expiry=on_expiry, expires_in_s=60)
    await records_of(desk).expire(datetime.now(UTC))
    assert (await get(desk, record_id))["status"] == "open"
    for _ in range(2):
        await expire(desk, record_id)
        record = await get(desk, record_id)
        assert (record["status"], record["charged"]) == ("expired", charged)
    late = await complete(desk, record_id)
    assert (late.status_code, late.json()["error"]["details"]["status"]) == (409, "expired")
    assert await desk.wallet(user) == (10 * DOLLAR - (4_500_000 if charged == "0.004500" else 0), 0)


async def test_many_records_expire_in_bounded_transactions(
    desk: Desk, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cost_records.service.EXPIRED_AT_ONCE", 3)
    records = [await opened(desk, user, {"cost": "0.01"}, expires_in_s=1) for _ in range(8)]
    nobody = {"request_id": uuid.uuid4().hex, "tool": "search", "client_key": "c", "expires_in_s": 1}
    records.append((await desk.router.post(PATH, json=nobody)).json()["record_id"])
    await records_of(desk).expire(datetime.now(UTC) + timedelta(seconds=2))
    assert {(await get(desk, record_id))["status"] for record_id in records} == {"expired"}
    assert await desk.wallet(user) == (10 * DOLLAR - 80_000_000, 0)


async def test_a_late_completion_counts_until_the_record_is_settled(desk: Desk, user: str) -> None:
    record_id = await opened(desk, user, {"metric": llm()}, on_expiry="charge_nothing")
    await desk.rows("UPDATE cost_records SET expires_at = now() - interval '1 day' WHERE status = 'open'")
    assert (await complete(desk, record_id)).json()["charged"] == "0.004500"


async def test_an_open_record_counts_with_the_larger_of_its_estimate_and_its_sum(desk: Desk, user: str) -> None:
    service, account_id = records_of(desk), await desk.account_id(user)

    async def amount() -> int:
        async with desk.db.transaction() as tx:
            return await service.open_amount(tx, account_id)

    assert await amount() == 0
    below = await opened(desk, user, {"cost": "0.1"}, estimate="0.5")
    above = await opened(desk, user, {"cost": "0.7"}, estimate="0.5")
    await opened(desk, user, {"cost": "0.2"})
    assert await amount() == 1_400_000_000
    await complete(desk, below)
    await complete(desk, above, "failed")
    assert await amount() == 200_000_000


async def test_work_of_an_erased_person_is_charged_without_their_texts(desk: Desk, user: str) -> None:
    """Work of a person who was erased since is charged, without the texts that may name them."""
    record_id = await opened(desk, user, {"metric": llm()}, agent_id="scout", run_id="run of Ann")
    await desk.rows(
        "UPDATE accounts SET status = 'closed', erased_at = now() WHERE account_id = $1", await desk.account_id(user)
    )
    assert (await add(desk, record_id, metric=llm())).json()["code"] == "account_closed"
    assert (await complete(desk, record_id, error_message="Ann")).json()["error_message"] is None
    [row] = await desk.events(user)
    assert (row["agent_id"], row["run_id"], row["attribution"]) == ("scout", None, None)


async def test_the_user_is_the_keys(desk: Desk, user: str) -> None:
    by_identity = {"request_id": "x", "tool": "t", "oauth_provider": PROVIDER, "external_id": user}
    first = await desk.nameless.post(PATH, json=by_identity)
    assert first.status_code == 201, first.text
    again = await desk.writer.post(PATH, json={"request_id": "x", "tool": "t", "user_id": user.upper()})
    assert (again.status_code, again.json()["record_id"]) == (200, first.json()["record_id"])


async def test_erasure_removes_the_callers_texts(desk: Desk, user: str) -> None:
    names = {"request_id": "Ann 1", "query": "Ann 2", "run_id": "Ann 3"}
    item = {"item_id": "Ann 4", "metric": {"type": "api_calls", "endpoint": "/Ann", "count": 1}}
    record_id = await opened(desk, user, item, agent_id="scout", **names)
    await complete(desk, record_id, "failed", error_message="Ann 5")
    tables = ("cost_records", "cost_record_items")

    async def texts() -> str:
        account_id = await desk.account_id(user)
        selects = (f"SELECT to_jsonb(t)::text AS text FROM {table} t WHERE account_id = $1" for table in tables)
        return "".join([row["text"] for select in selects for row in await desk.rows(select, account_id)])

    assert (await texts()).count("Ann") == 7  # the endpoint also in the raw metric
    await forget_texts(desk.db, await desk.account_id(user), TEXTS)
    assert "Ann" not in await texts()
    record = await get(desk, record_id)
    assert (record["agent_id"], record["cost"], record["items"][0]["item_id"]) == ("scout", "0.000010", None)


async def test_a_record_is_opened_only_once_an_upgrade_is_finished(
    desk: Desk, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def older(_: Database) -> str:
        return "0028"

    monkeypatch.setattr("app.db.version_mark.oldest_running", older)
    monkeypatch.setattr(desk.app.state.version_mark, "_oldest", "")
    for body in (opening(user), {"request_id": "r", "tool": "t", "client_key": "c"}):
        answer = await desk.router.post(PATH, json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "upgrade_in_progress")
        assert answer.headers["Retry-After"]
