"""The header `Idempotency-Key`: it does what the body's key does, where the body has none."""

import httpx
import pytest

from app.http.idempotency import HEADER

User = dict[str, str]
PAID = {"amount_minor": 100, "currency": "USD"}
GIVEN = {**PAID, "description": "by header", "transaction_type": "grant"}
TOOL = {"product_type": "web_search"}


@pytest.mark.parametrize(
    ("path", "body", "first", "again"),
    [
        ("/v1/billing/charges", PAID, 201, 409),
        ("/v1/billing/credits", GIVEN, 201, 409),
        ("/v1/tools/charge", TOOL, 200, 200),
    ],
)
async def test_the_header_counts_where_the_body_has_no_key(
    path: str, body: dict[str, object], first: int, again: int, minter: httpx.AsyncClient, user: User
) -> None:
    await minter.post("/v1/billing/accounts", json=user)
    keys: list[dict[str, str | None]] = [{}, {}, {"idempotency_key": None}, {"idempotency_key": "of the body"}]
    answers = [await minter.post(path, json={**user, **body, **key}, headers={HEADER: "h"}) for key in keys]
    assert [answer.status_code for answer in answers] == [first, again, again, first]
    named = [
        answer.json().get("charge_id") or answer.json().get("credit_id") or answer.json()["usage_log_id"]
        for answer in answers
    ]
    assert len(set(named[:3])) == 1
    assert named[3] != named[0]
    replayed = [answer.headers.get("Idempotency-Replayed") for answer in answers]
    assert replayed == [None, "true", "true", None]
    by_body = await minter.post(path, json={**user, **body, "idempotency_key": "h"})
    assert by_body.status_code == again, "it is the same key, wherever it stands"


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_header_that_cannot_be_a_key_is_422_and_charges_nothing(
    key: str, agent: httpx.AsyncClient, user: User
) -> None:
    for path, body in (("/v1/billing/charges", PAID), ("/v1/tools/charge", TOOL)):
        answer = await agent.post(path, json={**user, **body}, headers={HEADER: key})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["header", HEADER]
    assert (await agent.get("/v1/billing/transactions", params=user)).json()["total_count"] == 0
