"""The example agent that reads nothing but refusals: it shrinks, buys, waits, asks, and finishes."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.clock import request_time
from app.db import Database
from app.issuers import Issuer
from app.main import create_app
from patient_agent import Agent, GaveUp
from tests.conftest import make_usage_key, settings_for
from tests.databases import Urls
from tests.demo.oidc_server import SPA, WEB, RunningOIDC, running_oidc
from tests.metering.conftest import PROVIDER, client
from tests.servers import LocalStripe, free_port, running_stripe, serving

APPROVALS = "/v1/accounts/me/approvals"
CREDITS = {"window": "minute", "unit": "credits"}
TERMS = UsageTerms(PROVIDER, "agents", max_cost_nanos=1)


@dataclass
class ServiceAndUser:
    """A service with the local Stripe and an issuer; its caller, who may do everything; and a user with 3 credits."""

    app: FastAPI
    url: str
    stripe: LocalStripe
    oidc: RunningOIDC
    caller: httpx.AsyncClient
    user: dict[str, str]
    requests: list[str]

    async def wait(self, until: datetime) -> None:
        self.app.dependency_overrides[request_time] = lambda: until + timedelta(milliseconds=1)

    async def tell(self, what: str, about: dict[str, Any]) -> None:
        self.requests.append(what)
        if what == "pay":
            await self.pay(about)
        else:
            await self.decide(about["approval_id"], "approve")

    async def pay(self, purchase: dict[str, Any], card: str = "pm_card_visa") -> None:
        async with httpx.AsyncClient(base_url=self.stripe.url, auth=(purchase["publishable_key"], "")) as browser:
            form = {"client_secret": purchase["client_secret"], "payment_method": card}
            answer = await browser.post(f"/v1/payment_intents/{purchase['payment_id']}/confirm", data=form)
            assert answer.status_code == 200, answer.text

    async def decide(self, approval_id: str, decision: str) -> None:
        token = self.oidc.mint(sub=self.user["user_id"], jti=uuid.uuid4().hex, aud=SPA.client_id)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30) as person:
            answer = await person.post(f"{APPROVALS}/{approval_id}/{decision}", json={})
            assert answer.status_code == 200, answer.text

    async def limit(self, amount: int, **fields: str) -> None:
        body = {**self.user, **CREDITS, "amount": str(amount), **fields}
        answer = await self.caller.put("/v1/billing/limits", json=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def service(own_database: Urls) -> AsyncIterator[ServiceAndUser]:
    port = free_port()
    with running_stripe(f"http://127.0.0.1:{port}/v1/billing/webhooks/stripe") as stripe, running_oidc() as oidc:
        issuer = Issuer(
            issuer=oidc.issuer,
            jwks_url=oidc.jwks_url,
            audiences=[WEB.client_id, SPA.client_id],
            interactive_audiences=[SPA.client_id],
            provider=PROVIDER,
        )
        settings = settings_for(
            own_database,
            issuers=[issuer],
            free_uses=0,
            stripe_live=stripe.keys,
            stripe_api_base=stripe.url,
            port=port,
        )
        app = create_app(settings)
        db = Database(SecretStr(own_database.service))
        key = await make_usage_key(db, TERMS, "live", *Permission)
        await db.close()
        with serving(app, port) as url:
            async with client(url, key) as caller:
                user = {"user_id": str(uuid.uuid4())}
                body = {**user, "amount_minor": 300, "transaction_type": "grant"}
                assert (await caller.post("/v1/billing/accounts", json=user)).status_code == 201
                assert (await caller.post("/v1/billing/credits", json=body)).status_code == 201
                yield ServiceAndUser(app, url, stripe, oidc, caller, user, [])


async def test_the_agent_shrinks_buys_waits_asks_and_finishes(service: ServiceAndUser) -> None:
    await service.limit(8)
    await service.limit(10, window="day", action="ask")
    agent = Agent(service.caller, service.user, wait=service.wait, tell=service.tell)
    assert await agent.spend(12) == [3, 5, 2, 2]
    assert agent.followed == [
        *("smaller_amount", "purchase"),  # 3 credits are there; 20 more are bought
        *("smaller_amount", "wait"),  # the minute allows 8
        *("smaller_amount", "request_approval"),  # the day allows 10 without a person
    ]
    assert service.requests == ["pay", "approve"]
    account = (await service.caller.get("/v1/billing/accounts/by-user", params=service.user)).json()
    assert account["paid_credits"] == 3 + 20 - 12


async def test_the_agent_gives_up_when_a_person_says_no(service: ServiceAndUser) -> None:
    async def deny(what: str, about: dict[str, Any]) -> None:
        await service.decide(about["approval_id"], "deny")

    await service.limit(2, window="day", action="ask")
    agent = Agent(service.caller, service.user, tell=deny)
    with pytest.raises(GaveUp, match="denied"):
        await agent.spend(3)
    assert agent.followed == ["smaller_amount"]


async def test_the_agent_gives_up_without_a_remedy(service: ServiceAndUser) -> None:
    await service.limit(0, window="lifetime")
    with pytest.raises(GaveUp, match="lifetime limit"):
        await Agent(service.caller, service.user).spend(1)


async def test_the_agent_does_not_wait_for_an_approval_that_another_request_has_used() -> None:
    used = httpx.MockTransport(lambda _: httpx.Response(200, json={"status": "used"}))
    async with httpx.AsyncClient(transport=used, base_url="http://billing.test") as billing:
        with pytest.raises(GaveUp, match="used"):
            await Agent(billing, {})._follow({"remedies": [{"type": "request_approval", "approval_id": "a"}]}, 1)
