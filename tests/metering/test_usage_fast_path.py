"""The hot routes of usage: answered without FastAPI's dependencies exactly as with them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.metering.conftest import Desk, llm

USAGE = "/v1/usage"
GOOD: dict[str, dict[str, Any]] = {
    USAGE: {"event_id": "one", "metric": llm()},
    f"{USAGE}/batch": {"events": [{"event_id": "one", "metric": llm()}, {"event_id": 5}, None]},
    f"{USAGE}/check": {"required_cents": 0, "provider": "anthropic", "model": "claude-3-5-sonnet"},
    f"{USAGE}/compute": {"event_id": "two", "cpu_hours": 0.25, "memory_gb_hours": 0.5},
    f"{USAGE}/quote": {"metric": llm()},
    "/v1/cost-records": {"request_id": "one", "tool": "search"},
}
BODIES: list[bytes | dict[str, Any]] = [
    {},
    {
        "event_id": "three",
        "metric": {"type": "no such"},
        "cpu_hours": -1,
        "required_cents": "5",
        "events": {},
        "tool": "",
    },
    {"event_id": "\0", "metric": llm(), "cpu_hours": 1, "memory_gb_hours": 1, "required_cents": -1, "events": []},
    {"event_id": "four", "metric": llm(model="unknown"), "cost_cents": -1, "required_cents": 2**70},
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff",
    b'{"required_cents": NaN}',
    b"[" * 100_000,
]
JSON = {"Content-Type": "application/json"}


@contextmanager
def fastapis_way(app: FastAPI) -> Iterator[None]:
    app.dependency_overrides[fastapis_way] = fastapis_way  # overrides nothing, but there is one
    try:
        yield
    finally:
        del app.dependency_overrides[fastapis_way]


def comparable(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and body, without what is new with each request."""
    changing = ("x-request-id", "content-length", "date")
    headers = {name: value for name, value in answer.headers.items() if name not in changing}
    body = answer.json()
    body.pop("request_id", None)
    return answer.status_code, headers, body


@pytest.mark.parametrize("path", GOOD)
async def test_both_ways_answer_alike(desk: Desk, user: str, path: str) -> None:
    for given in [GOOD[path], *BODIES]:
        content = given if isinstance(given, bytes) else _of(user, given)
        first = await desk.router.post(path, content=content, headers=JSON)  # both ways then repeat it
        assert first.is_success or given is not GOOD[path], first.text
        for headers in (JSON, {"Content-Type": "text/plain"}, {}):
            short = await desk.router.post(path, content=content, headers=headers)
            with fastapis_way(desk.app):
                longer = await desk.router.post(path, content=content, headers=headers)
            assert comparable(short) == comparable(longer), (content[:200], headers)


def _of(user: str, given: dict[str, Any]) -> bytes:
    """Return a body, or the items of a batch, with their user."""
    events = given.get("events")
    if isinstance(events, list):
        given = {**given, "events": [{"user_id": user, **item} if isinstance(item, dict) else item for item in events]}
    return json.dumps({"user_id": user, **given}).encode()


@pytest.mark.parametrize("path", GOOD)
async def test_both_ways_refuse_alike(desk: Desk, user: str, path: str) -> None:
    content = _of(user, GOOD[path])
    for key in ("", "x", desk.reader.headers["X-API-Key"]):
        headers = {**JSON, "X-API-Key": key}
        async with httpx.AsyncClient(base_url=desk.url) as client:
            short = await client.post(path, content=content, headers=headers)
            with fastapis_way(desk.app):
                longer = await client.post(path, content=content, headers=headers)
        assert comparable(short) == comparable(longer), key
