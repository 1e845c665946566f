"""Reports of usage: filters, groups, pages, single events with their breakdown."""

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.admin.test_extreme_dates import BEYOND
from tests.metering.conftest import Desk, llm, put_in_force, usage

PATH = "/v1/usage"


async def get(desk: Desk, user: str, path: str = "", **query: Any) -> dict[str, Any]:
    answer = await desk.reader.get(f"{PATH}{path}", params={"user_id": user, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def filled(desk: Desk) -> str:
    """A user with six events, a day apart; the oldest is five days old."""
    user = await desk.user(100)
    begin = datetime.now(UTC) - timedelta(days=5, hours=1)
    for day in range(5):
        body = usage(
            user, f"day/{day}", llm(model=("claude-3-5-sonnet", "gpt-4o-mini")[day % 2]), tool=f"tool-{day % 2}"
        )
        if day % 2:
            body["metric"]["provider"] = "openai"
        body |= {"time": (begin + timedelta(days=day)).isoformat(), "agent_id": "a", "run_id": f"run-{day}"}
        assert (await desk.router.post(PATH, json=body)).status_code == 200
    assert (await desk.router.post(PATH, json=usage(user, "dear", cost_cents=5000))).status_code == 402
    return user


async def test_events_are_listed_newest_first_in_pages(desk: Desk) -> None:
    user = await filled(desk)
    ids, cursor = [], None
    for _ in range(3):
        page = await get(desk, user, limit=2, **({} if cursor is None else {"cursor": cursor}))
        ids += [event["event_id"] for event in page["events"]]
        cursor = page["next_cursor"]
    assert ids == ["dear", "day/4", "day/3", "day/2", "day/1", "day/0"]
    assert cursor is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"model": "gpt-4o-mini"}, ["day/3", "day/1"]),
        ({"provider": "openai", "tool": "tool-1"}, ["day/3", "day/1"]),
        ({"run": "run-2"}, ["day/2"]),
        ({"status": "refused"}, ["dear"]),
        ({"agent": "a", "meter": "llm_tokens", "tool": "tool-0"}, ["day/4", "day/2", "day/0"]),
        ({"agent": "nobody"}, []),
        ({"source": "router", "run": "run-0"}, ["day/0"]),
        ({"key": "{key}", "run": "run-1"}, ["day/1"]),
        ({"key": "0" * 16}, []),
        ({"meter": "compute"}, []),
    ],
)
async def test_filters(desk: Desk, filters: dict[str, str], expected: list[str]) -> None:
    user = await filled(desk)
    key_id = desk.router.headers["X-API-Key"].split("_")[2]
    filters = {name: value.format(key=key_id) for name, value in filters.items()}
    assert [event["event_id"] for event in (await get(desk, user, **filters))["events"]] == expected


async def test_times_are_half_open(desk: Desk) -> None:
    user = await filled(desk)
    times = [event["time"] for event in (await get(desk, user))["events"]]
    found = await get(desk, user, **{"from": times[4], "to": times[2]})
    assert [event["event_id"] for event in found["events"]] == ["day/1"] or [
        event["event_id"] for event in found["events"]
    ] == ["day/2", "day/1"]  # times are shown to the millisecond


async def test_sums_by_model_and_by_day(desk: Desk) -> None:
    user = await filled(desk)
    groups = (await get(desk, user, group_by=["model", "tool"]))["groups"]
    told = [(group["group"], group["events"], group["refused"], group["cost"]) for group in groups]
    assert told == [
        ({"model": "claude-3-5-sonnet", "tool": ""}, 0, 1, "0.000000"),
        ({"model": "claude-3-5-sonnet", "tool": "tool-0"}, 3, 0, "0.013500"),
        ({"model": "gpt-4o-mini", "tool": "tool-1"}, 2, 0, "0.000420"),
    ]
    assert groups[1]["quantities"] == {"input_uncached": "3000", "output_text": "300"}
    days = (await get(desk, user, interval="day"))["groups"]
    assert [day["events"] for day in days] == [1, 1, 1, 1, 1, 0][: len(days)]
    assert [day["period"] for day in days] == sorted(day["period"] for day in days)
    for interval in ("hour", "month"):
        assert sum(group["events"] for group in (await get(desk, user, interval=interval))["groups"]) == 5


@pytest.mark.parametrize(
    ("dimension", "groups"),
    [
        ("meter", {"llm_tokens": 5}),
        ("provider", {"anthropic": 3, "openai": 2}),
        ("agent", {"": 0, "a": 5}),
        ("tool", {"": 0, "tool-0": 3, "tool-1": 2}),
        ("key", {"{key}": 5}),
        ("status", {"charged": 5, "refused": 0}),
        ("source", {"router": 5}),
    ],
)
async def test_sums_by_each_attribute(desk: Desk, dimension: str, groups: dict[str, int]) -> None:
    user = await filled(desk)
    key_id = desk.router.headers["X-API-Key"].split("_")[2]
    found = (await get(desk, user, group_by=dimension))["groups"]
    expected = {name.format(key=key_id): events for name, events in groups.items()}
    assert {group["group"][dimension]: group["events"] for group in found} == expected


@pytest.mark.parametrize(("interval", "period"), [("hour", "%Y-%m-%dT%H:00:00Z"), ("day", "%Y-%m-%dT00:00:00Z")])
async def test_sums_by_time_are_of_utc(desk: Desk, user: str, interval: str, period: str) -> None:
    at = datetime.now(UTC) - timedelta(days=2, hours=3)
    for offset in (0, 11):
        moment = at.astimezone(timezone(timedelta(hours=offset)))
        await desk.router.post(PATH, json=usage(user, time=moment.isoformat()))
    [group] = (await get(desk, user, interval=interval))["groups"]
    assert (group["period"], group["events"], group["cost"]) == (at.strftime(period), 2, "0.009000")


async def test_an_agent_is_found_by_every_spelling_of_its_uuid(desk: Desk, user: str) -> None:
    agent = str(uuid.uuid4())
    await desk.router.post(PATH, json=usage(user, agent_id=agent.upper()))
    for spelling in (agent, agent.upper(), agent.replace("-", "")):
        [event] = (await get(desk, user, agent=spelling))["events"]
        assert event["agent_id"] == agent


async def test_headers_name_the_run_and_the_request_of_an_event(desk: Desk, user: str) -> None:
    headers = {"x-litellm-trace-id": "trace-1", "x-litellm-call-id": "call-1"}
    for path, body in ((PATH, usage(user, "one")), (f"{PATH}/batch", {"events": [usage(user, "two")]})):
        await desk.router.post(path, json=body, headers=headers)
    await desk.router.post(PATH, json=usage(user, "own", run_id="own-run"), headers=headers)
    found = (await get(desk, user))["events"]
    assert [(event["run_id"], event["request_id"]) for event in found] == [
        ("own-run", "call-1"),
        ("trace-1", "call-1"),
        ("trace-1", "call-1"),
    ]
    assert {event["service_name"] for event in found} == {"unknown"}


async def test_groups_have_pages(desk: Desk) -> None:
    user = await filled(desk)
    runs, cursor = [], None
    for _ in range(3):
        page = await get(desk, user, group_by="run", limit=2, **({} if cursor is None else {"cursor": cursor}))
        runs += [group["group"]["run"] for group in page["groups"]]
        cursor = page["next_cursor"]
    assert runs == ["", *(f"run-{day}" for day in range(5))]
    assert cursor is None


NAMES = (
    "tab\tname",
    "\u202e\ufeff",
    "\x85",
    "no\u00a0break",
    "line\u2028end",
    "Є" * 255,
    "\x01" * 255,
    "\U0001f600" * 255,
)


async def test_pages_of_groups_continue_after_any_name(desk: Desk, user: str) -> None:
    for name in NAMES:
        event = usage(user, metric=llm(model=name, provider=name), cost_cents=0)
        event |= {"agent_id": name, "tool": name, "run_id": name}
        assert (await desk.router.post(PATH, json=event)).status_code == 200
    group_by = ["provider", "model", "agent", "tool", "run"]
    models: list[str] = []
    cursor: dict[str, str] = {}
    for _ in NAMES:
        page = await get(desk, user, group_by=group_by, limit=1, **cursor)
        models += [group["group"]["model"] for group in page["groups"]]
        cursor = {"cursor": page["next_cursor"]}
    assert (sorted(models), page["next_cursor"]) == (sorted(NAMES), None)


async def test_the_whole_environment_is_reported_without_a_user(desk: Desk, user: str) -> None:
    await desk.router.post(PATH, json=usage(user, run_id=user))
    everything = (await desk.reader.get(PATH, params={"run": user})).json()["events"]
    assert len(everything) == 1
    assert (await desk.test.get(PATH, params={"run": user})).json()["events"] == []
    groups = (await desk.reader.get(PATH, params={"group_by": "key"})).json()["groups"]
    assert all(group["group"]["key"] for group in groups)


async def test_an_event_shows_its_breakdown_and_its_attribution(desk: Desk, user: str) -> None:
    body = usage(
        user, "a/b?c d", metadata={"why": [1]}, run_id="r", parent_run_id="p", conversation="c", request_id="q"
    )
    headers = {"X-Service-Name": "the-router", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    charged = (await desk.router.post(PATH, json=body, headers=headers)).json()
    await put_in_force(desk.db, datetime.now(UTC) + timedelta(days=300), llm=[], markups=[])  # changes nothing stored
    event = await get(desk, user, "/events/a%2Fb%3Fc%20d")
    same = ("cost", "cost_cents", "balance", "balance_cents", "transaction_id", "time")
    assert [event[name] for name in same] == [charged[name] for name in same]
    [listed] = (await get(desk, user))["events"]
    assert [listed[name] for name in same] == [charged[name] for name in same]
    assert (listed["cost_cents"], listed["balance_cents"]) == (1, 999)
    assert [(line["item"], line["quantity"], line["amount"]) for line in event["lines"]] == [
        ("input_uncached", "1000", "0.003"),
        ("output_text", "100", "0.0015"),
    ]
    attribution = ("run_id", "parent_run_id", "conversation", "request_id", "service_name", "traceparent")
    assert [event[name] for name in attribution] == ["r", "p", "c", "q", "the-router", headers["traceparent"]]
    assert (event["metadata"], event["raw"]) == ({"why": [1]}, body["metric"])
    assert event["provider_cost"] == "0.004500"
    [stored] = await desk.events(user)
    assert json.loads(stored["price"]) == {"rows": ["sonnet"]}
    assert json.loads(stored["quantities"]) == {"input_uncached": 1000, "output_text": 100}
    assert stored["price_version"] == event["price_version"]


async def test_a_refused_event_is_found_until_it_is_recorded(desk: Desk) -> None:
    user = await desk.user()
    for _ in range(2):
        await desk.router.post(PATH, json=usage(user, "late"))
    refused = await get(desk, user, "/events/late")
    assert (refused["status"], refused["attempts"], refused["refusal"]) == ("refused", 2, "insufficient_money")
    await desk.give(user, 10**9)
    await desk.router.post(PATH, json=usage(user, "late"))
    assert (await get(desk, user, "/events/late"))["status"] == "charged"


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/events/none", {}, 404, "event_not_found"),
        ("/events/none", {"user_id": "somebody else"}, 404, "account_not_found"),
        ("", {"user_id": "somebody else"}, 404, "account_not_found"),
        ("", {"cursor": "x"}, 422, "invalid_request"),
        ("", {"cursor": "WyJhIiwiYiJd"}, 422, "invalid_request"),
        ("", {"group_by": "model", "cursor": "WzEsMl0"}, 422, "invalid_request"),
        ("", {"group_by": "secret"}, 422, "validation_error"),
        ("", {"interval": "year"}, 422, "validation_error"),
        ("", {"limit": 501}, 422, "validation_error"),
        ("", {"from": "yesterday"}, 422, "validation_error"),
        ("", {"from": "0001-01-01T00:00:00Z"}, 422, "validation_error"),
        ("", {"agent": "a\0"}, 422, "validation_error"),
        ("", {"user_id": ""}, 422, "validation_error"),
    ],
)
async def test_a_wrong_question_is_refused(
    desk: Desk, user: str, path: str, query: dict[str, Any], status: int, code: str
) -> None:
    answer = await desk.reader.get(f"{PATH}{path}", params={"user_id": user, **query})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_reports_need_the_permission(desk: Desk, user: str) -> None:
    for client, status in ((desk.writer, 403), (desk.stranger, 403), (desk.nobody, 401)):
        for path in ("", "/events/x"):
            assert (await client.get(f"{PATH}{path}", params={"user_id": user})).status_code == status
    assert (await desk.router.get(f"{PATH}/me")).status_code == 401


@pytest.mark.parametrize("moment", BEYOND)
async def test_times_lie_in_the_years_2000_to_2200(desk: Desk, user: str, moment: str) -> None:
    for name in ("from", "to"):
        answer = await desk.reader.get(PATH, params={"user_id": user, name: moment})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    for path, body in (("", usage(user)), ("/quote", {"metric": llm()})):
        answer = await desk.router.post(f"{PATH}{path}", json={**body, "time": moment})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
