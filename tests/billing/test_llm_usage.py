"""Reports of LLM usage: values that real proxies send are recorded, impossible usage is rejected."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.books import connected
from tests.databases import Urls

USAGE = "/v1/billing/litellm/usage"
REPORT: dict[str, Any] = {
    "interaction_id": "i",
    "total_llm_calls": 1,
    "total_prompt_tokens": 10,
    "total_completion_tokens": 5,
    "models_used": ["m"],
    "actual_cost_cents": 0.5,
    "duration_ms": 9,
    "error_count": 1,
    "fallback_count": 2,
}


async def reported(urls: Urls, external_id: str, provider: str = "oauth:google") -> list[dict[str, Any]]:
    names = ", ".join(REPORT)
    async with connected(urls) as connection:
        rows = await connection.fetch(
            f"SELECT {names} FROM llm_usage JOIN account_identities USING (account_id)"
            " WHERE external_id = $1 AND oauth_provider = $2",
            external_id,
            provider,
        )
    return [dict(row) for row in rows]


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [
        ({}, {}),
        ({"total_prompt_tokens": None}, {"total_prompt_tokens": 0}),
        ({"total_completion_tokens": None}, {"total_completion_tokens": 0}),
        ({"error_count": None, "fallback_count": None}, {"error_count": 0, "fallback_count": 0}),
        ({"duration_ms": 1234.4}, {"duration_ms": 1234}),
        ({"duration_ms": 1234.6}, {"duration_ms": 1235}),
        ({"duration_ms": 0.2}, {"duration_ms": 0}),
        ({"duration_ms": 12.0}, {"duration_ms": 12}),
    ],
)
async def test_what_proxies_send_is_recorded(
    sent: dict[str, Any], recorded: dict[str, Any], agent: httpx.AsyncClient, user: dict[str, str], database: Urls
) -> None:
    answer = await agent.post(USAGE, json={**user, **REPORT, **sent})
    assert answer.status_code == 201, answer.text
    [row] = await reported(database, user["external_id"])
    assert row == {**REPORT, "actual_cost_cents": Decimal("0.5"), **recorded}


@pytest.mark.parametrize(
    "sent",
    [
        {"total_prompt_tokens": -1},
        {"total_completion_tokens": 0.5},
        {"total_llm_calls": None},
        {"duration_ms": -0.4},
        {"duration_ms": 1e300},
        {"duration_ms": 2**63},
        {"duration_ms": None},
        {"duration_ms": "long"},
        {"actual_cost_cents": -0.0147},
        {"actual_cost_cents": None},
        {"oauth_provider": ""},
        {"oauth_provider": "oauth:"},
        {"oauth_provider": "a\0b"},
        {"oauth_provider": "x" * 250},
        {"oauth_provider": 7},
    ],
)
async def test_what_no_usage_can_be_is_refused(
    sent: dict[str, Any], agent: httpx.AsyncClient, user: dict[str, str]
) -> None:
    answer = await agent.post(USAGE, json={**user, **REPORT, **sent})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


@pytest.mark.parametrize("sent", ["NaN", "Infinity", "-Infinity"])
async def test_what_is_no_number_is_refused(sent: str, agent: httpx.AsyncClient, user: dict[str, str]) -> None:
    for name in ("duration_ms", "actual_cost_cents", "total_prompt_tokens"):
        fields = ", ".join(f'"{key}": "{value}"' for key, value in user.items())
        body = f'{{{fields}, "interaction_id": "i", "models_used": [], "total_llm_calls": 1, "{name}": {sent}}}'
        answer = await agent.post(USAGE, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
        assert name in answer.text


@pytest.mark.parametrize("provider", ["google", "oauth:google"])
async def test_a_bare_provider_is_the_same_user(
    provider: str, agent: httpx.AsyncClient, user: dict[str, str], database: Urls
) -> None:
    """On this endpoint only: elsewhere this provider identifies no user."""
    checked = await agent.post("/v1/billing/check", json=user)
    assert checked.status_code == 200
    named = {**user, "oauth_provider": provider}
    assert (await agent.post(USAGE, json={**named, **REPORT})).status_code == 201
    assert len(await reported(database, user["external_id"])) == 1
    status = 200 if provider.startswith("oauth:") else 422
    assert (await agent.post("/v1/billing/check", json=named)).status_code == status
