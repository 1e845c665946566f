"""Failures of the edge itself, in the envelopes that the API has on the same routes; and the forwarded routes."""

import asyncio
import re

import httpx
import pytest

from app.http.envelopes import ENVELOPES, envelope_of, z_billing
from app.http.protocol import MAX_HEAD_BYTES
from app.http.schemas import CodedErrorReply, ErrorReply, NamedErrorReply
from tests.edge.caddy import CADDYFILE, Edge

MAX_BODY_BYTES = 1_048_576
Z, SECOND, PLAIN = "/v1/usage", "/api/billing/topup", "/v1/billing/check"


def checked(answer: httpx.Response, status: int, code: str, word: str) -> None:
    """Fail unless the answer is Caddy's, in the envelope of its path."""
    body, path = answer.json(), answer.request.url.path
    assert (answer.status_code, body["request_id"]) == (status, answer.headers["X-Request-ID"])
    assert body["request_id"] != "mine"
    assert answer.headers["Content-Type"] == "application/json"
    envelope = envelope_of(path)
    if envelope is z_billing:
        reply = CodedErrorReply.model_validate(body, strict=True)
        assert (reply.code, reply.error.code, reply.error.message) == (code, word, reply.detail)
    elif envelope is not None:
        named = NamedErrorReply.model_validate(body, strict=True)
        assert (named.code, named.message) == ("BILLING_UNAVAILABLE" if status == 503 else code, named.detail)
        assert named.error
    else:
        ErrorReply.model_validate(body, strict=True)
        assert (body["code"], set(body)) == (code, set(ErrorReply.model_fields))


async def test_without_a_replica(alone: Edge) -> None:
    async with alone.client() as client:
        answers = await asyncio.gather(*(client.post(path, json={}) for path in (Z, SECOND, PLAIN)))
    for answer in answers:
        checked(answer, 503, "busy", "unavailable")
        assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("path", [Z, SECOND, PLAIN])
async def test_a_body_that_is_too_long(path: str, edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.post(path, content=b"x" * (MAX_BODY_BYTES + 1), headers={"X-Request-ID": "mine"})
    checked(answer, 413, "body_too_large", "bad_request")


@pytest.mark.parametrize("path", ["/api/billing", "/api/v1/events/x", "/metrics"])
async def test_a_path_that_is_not_public(path: str, edge: Edge) -> None:
    async with edge.client() as client:
        answer = await client.get(path, headers={"X-Request-ID": "mine"})
    checked(answer, 404, "not_found", "not_found")


@pytest.mark.parametrize(
    "path",
    [
        *("/api/billing/balance", "/api/billing/payment/stripe/create", "/api/keys", "/api/keys/7"),
        *("/api/subscriptions/zero-pro", "/api/v1/events", "/v1/usage/events/a%2Fb", "/v1/accounts/me"),
        *("/webhooks/stripe", "/webhooks/lago", "/ws/balance", "/.well-known/ciris-billing-keys.json"),
    ],
)
async def test_a_public_path_reaches_the_api(path: str, edge: Edge) -> None:
    """Only the API answers with the caller's request id."""
    async with edge.client() as client:
        answer = await client.post(path, json={}, headers={"X-Request-ID": "mine"})
    assert answer.headers["X-Request-ID"] == "mine"
    assert answer.json()["request_id"] == "mine"
    assert ("error" in answer.json()) is (envelope_of(path) is not None)


def test_caddy_and_the_api_have_the_same_table() -> None:
    text = CADDYFILE.read_text(encoding="utf-8")
    for name, is_z_billing in (("z_billing", True), ("second_layer", False)):
        found = re.search(rf"@{name} path (.*)", text)
        assert found is not None
        expected = [path for path, envelope in ENVELOPES.items() if (envelope is z_billing) is is_z_billing]
        assert found[1].split() == [each for path in expected for each in (path, f"{path}/*")]


@pytest.mark.parametrize("path", [Z, SECOND, PLAIN])
async def test_a_head_that_is_too_large_for_the_api(path: str, edge: Edge) -> None:
    """Caddy lets it pass: Caddy's own answer would be a line of text."""
    async with edge.client() as client:
        answer = await client.get(path, headers={"X": "x" * MAX_HEAD_BYTES})
    assert (answer.status_code, answer.json()["code"]) == (431, "head_too_large")
    assert ("error" in answer.json()) is (envelope_of(path) is not None)
