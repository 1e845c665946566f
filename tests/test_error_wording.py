"""Errors that callers cause by a wrong header say what to send instead."""

import gzip
import json

import httpx
import pytest

from tests.conftest import ClientFor, Keys

PATHS = ("/v1/billing/check", "/v1/billing/accounts", "/v1/tools/charge")
"""Routes that go KeyRoute's short way, and one that goes FastAPI's."""
JSON, UNCOMPRESSED = (
    "Send the body as JSON, with the header Content-Type: application/json",
    "Send the body uncompressed",
)
BODY = json.dumps({"oauth_provider": "oauth:google", "external_id": "words@example.com"}).encode()
GZIPPED = gzip.compress(BODY, mtime=0)


def sentence(answer: httpx.Response) -> str:
    detail = answer.json()["detail"]
    return detail if isinstance(detail, str) else " | ".join(error["msg"] for error in detail)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("content", "headers", "status", "says"),
    [
        (BODY, {}, 422, JSON),
        (b"", {}, 422, JSON),
        (BODY, {"Content-Type": "text/plain"}, 422, JSON),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 422, JSON),
        (GZIPPED, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 400, UNCOMPRESSED),
        (GZIPPED, {"Content-Encoding": "gzip"}, 422, UNCOMPRESSED),
        (b"{\x00", {"Content-Type": "application/json", "Content-Encoding": "br"}, 422, UNCOMPRESSED),
        (
            GZIPPED,
            {"Content-Type": "application/json"},
            400,
            "Send the body as JSON in UTF-8, uncompressed",
        ),
        (b"{", {"Content-Type": "application/json"}, 422, "JSON decode error"),
        (b"[]", {"Content-Type": "application/json"}, 422, "valid dictionary"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_body_that_cannot_be_read_says_how_to_send_it(
    agent: httpx.AsyncClient, path: str, content: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    answer = await agent.post(path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert says in sentence(answer)


@pytest.mark.parametrize("path", ["/v1/billing/check", "/v1/billing/accounts"])
async def test_a_credential_in_the_wrong_header_says_where_it_belongs(
    client_for: ClientFor, keys: Keys, path: str
) -> None:
    """A user's token is accepted by the first route only."""
    client = client_for(None)
    for headers, says in (
        ({"Authorization": f"Bearer {keys.agent}"}, "in the header X-API-Key"),
        ({"Authorization": keys.agent}, "in the header X-API-Key"),
        ({"Authorization": f"ApiKey {keys.agent}"}, "in the header X-API-Key"),
        ({"X-API-Key": f"Bearer {keys.agent}"}, "in the header X-API-Key without Bearer"),
        ({"X-API-Key": "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}, "in the header Authorization after Bearer"),
        ({}, "X-API-Key"),
    ):
        answer = await client.post(path, content=BODY, headers={"Content-Type": "application/json", **headers})
        assert answer.status_code == 401
        assert says in sentence(answer), headers
        assert keys.agent not in answer.text
        assert "WWW-Authenticate" in answer.headers
