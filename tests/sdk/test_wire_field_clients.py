"""The service as clients in the field use it: the guide's examples to the letter, strict readers, odd senders."""

import asyncio
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ConfigDict

from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.settings import Settings
from tests.conftest import ClientFor, Keys

User = dict[str, str]


class StrictCheck(BaseModel):
    """A strict client's model of the check's reply: no other field, no other type."""

    model_config = ConfigDict(strict=True, extra="forbid")

    has_credit: bool
    credits_remaining: int
    free_uses_remaining: int
    daily_free_uses_remaining: int
    daily_free_uses_limit: int
    total_uses: int
    plan_name: str
    reason: str | None
    purchase_required: bool
    purchase_price_minor: int | None
    purchase_uses: int | None


GUIDE_EXAMPLE = {
    "credits_remaining": 0,
    "free_uses_remaining": 0,
    "plan_name": "free",
    "reason": None,
    "purchase_required": False,
    "purchase_price_minor": None,
    "purchase_uses": None,
}


async def check(client: httpx.AsyncClient, user: User) -> dict[str, Any]:
    answer = await client.post("/v1/billing/credits/check", json={**user, "context": {}})
    assert answer.status_code == 200
    body = StrictCheck.model_validate_json(answer.content).model_dump()
    daily = body.pop("daily_free_uses_remaining"), body.pop("daily_free_uses_limit")
    assert daily == (0, 0)
    return body


async def charge(client: httpx.AsyncClient, user: User, key: str, **fields: object) -> httpx.Response:
    body = {**user, "amount_minor": 100, "currency": "USD", "idempotency_key": key, "metadata": {}, **fields}
    return await client.post("/v1/billing/charges", json=body)


async def test_check_of_each_kind_of_user(
    minter: httpx.AsyncClient, db: Database, settings: Settings, user: User
) -> None:
    new = {"has_credit": True, "free_uses_remaining": 3, "total_uses": 0}
    assert await check(minter, user) == {**GUIDE_EXAMPLE, **new}
    for number in range(3):
        assert (await charge(minter, user, f"m-{number}")).status_code == 201
    exhausted = {
        "has_credit": False,
        "total_uses": 3,
        "reason": "No free uses or credits remaining",
        "purchase_required": True,
        "purchase_price_minor": 500,
        "purchase_uses": 20,
    }
    assert await check(minter, user) == {**GUIDE_EXAMPLE, **exhausted}
    given = {**user, "amount_minor": 1500, "currency": "USD", "description": "15", "transaction_type": "grant"}
    assert (await minter.post("/v1/billing/credits", json=given)).status_code == 201
    paid = {"has_credit": True, "credits_remaining": 15, "total_uses": 3}
    assert await check(minter, user) == {**GUIDE_EXAMPLE, **paid}
    path = f"/v1/billing/accounts/{user['oauth_provider']}/{user['external_id']}"
    account_id = uuid.UUID((await minter.get(path)).json()["account_id"])
    await BillingService(db, Configuration(db, settings)).accounts.set_status(
        account_id, "suspended", "chargebacks", datetime.now(UTC)
    )
    suspended = {"has_credit": False, "credits_remaining": 15, "total_uses": 3, "reason": "Account suspended"}
    assert await check(minter, user) == {**GUIDE_EXAMPLE, **suspended}
    refused = await charge(minter, user, "m-4")
    assert (refused.status_code, refused.json()["detail"]) == (403, "Account suspended: chargebacks")


async def test_charge_of_the_guide(minter: httpx.AsyncClient, user: User) -> None:
    for number in range(3):
        await charge(minter, user, f"free-{number}")
    bought = {**user, "amount_minor": 2000, "currency": "USD", "transaction_type": "purchase"}
    await minter.post("/v1/billing/credits", json=bought)
    metadata = {
        "message_id": "msg-abc-123",
        "agent_id": "datum",
        "channel_id": "discord:123456789",
        "request_id": "req-xyz-789",
    }
    answer = await charge(
        minter,
        {**user, "wa_id": "wa-123", "tenant_id": "tenant-acme"},
        "msg-msg-abc-123",
        description="Agent interaction - datum",
        metadata={**metadata, "response_length": 3},
    )
    body = answer.json()
    assert (answer.status_code, body["metadata"]) == (201, metadata)
    assert (body["amount_minor"], body["currency"], body["balance_after"]) == (100, "USD", 1900)
    assert body["description"] == "Agent interaction - datum"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["created_at"])
    assert [str(uuid.UUID(body[name])) for name in ("charge_id", "account_id")]


@pytest.mark.parametrize("provider", ["oauth:google", "oauth:discord", "oauth:wa", "oauth:api"])
@pytest.mark.parametrize("external_id", ["user@example.com", "wa/2025/user:1", "discord:123:456"])
async def test_senders_differ_and_name_the_same_user(agent: httpx.AsyncClient, provider: str, external_id: str) -> None:
    """The agent always sends wa_id and a description, the proxy neither; one sends 100, the other 1."""
    user = {"oauth_provider": provider, "external_id": f"{external_id}-{uuid.uuid4()}"}
    of_agent: dict[str, object] = {
        **user,
        "wa_id": "wa-1",
        "tenant_id": None,
        "amount_minor": 100,
        "currency": "USD",
        "metadata": {},
    }
    of_proxy = {**user, "amount_minor": 1, "idempotency_key": "interaction-1"}
    assert (await agent.post("/v1/billing/charges", json={**of_agent, "description": "x"})).status_code == 201
    assert (await agent.post("/v1/billing/charges", json=of_proxy)).status_code == 201
    assert (await check(agent, user))["total_uses"] == 2
    assert (await check(agent, {**user, "wa_id": "wa-2"}))["total_uses"] == 2


async def test_proxy_posts_the_same_charge_after_every_llm_call(agent: httpx.AsyncClient, user: User) -> None:
    body = {**user, "amount_minor": 1, "idempotency_key": "interaction-1"}
    answers = [await agent.post("/v1/billing/charges", json=body) for _ in range(12)]
    together = await asyncio.gather(*(agent.post("/v1/billing/charges", json=body) for _ in range(12)))
    assert [answer.status_code for answer in answers + together] == [201] + [409] * 23
    assert len({answer.json()["charge_id"] for answer in answers + together}) == 1
    assert (await check(agent, user))["total_uses"] == 1


async def test_tool_charge_answers_200_to_everything_that_is_paid(agent: httpx.AsyncClient, user: User) -> None:
    """The request of the service's own documentation, nulls included, and its replay."""
    body = {
        "product_type": "web_search",
        **user,
        "wa_id": None,
        "tenant_id": None,
        "idempotency_key": "unique-key",
        "request_id": "req-123",
    }
    answers = [await agent.post("/v1/tools/charge", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json()["free_remaining"] == 9
    unknown = await agent.post("/v1/tools/charge", json={**body, "product_type": "telepathy"})
    assert (unknown.status_code, unknown.json()["detail"]) == (400, "Unknown product type: telepathy")


async def test_table_of_status_codes(agent: httpx.AsyncClient, client_for: ClientFor, keys: Keys, user: User) -> None:
    assert (await charge(agent, user, "1")).status_code == 201
    assert (await charge(agent, user, "1")).status_code == 409
    assert (await charge(agent, user, "1", amount_minor=200)).status_code == 422
    assert (await charge(agent, user, "2", amount_minor=300)).status_code == 402
    assert (await charge(client_for(keys.reader), user, "3")).status_code == 403
    assert (await charge(client_for(None), user, "3")).status_code == 401
    assert (await charge(agent, {}, "3")).status_code == 422
    broken = await agent.post("/v1/billing/charges", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 422
    assert (await agent.get(f"/v1/billing/accounts/{uuid.uuid4()}")).status_code == 404
    assert (await agent.post("/v1/billing/purchases", json=user)).status_code == 503


async def test_purchase_prompt_can_be_written_from_the_check(agent: httpx.AsyncClient, user: User) -> None:
    for number in range(3):
        await charge(agent, user, f"m-{number}")
    body = await check(agent, user)
    prompt = (
        f"You've used your {body['total_uses']} free tries! Purchase {body['purchase_uses']} more uses "
        f"for ${body['purchase_price_minor'] / 100:.2f} to continue."
    )
    assert prompt == "You've used your 3 free tries! Purchase 20 more uses for $5.00 to continue."
