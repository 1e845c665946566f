"""A service whose books real calls write, a local Stripe whose events a test hands over, and people at both ends."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from app.accounts.directory import Identity
from app.admin.audit.log import record_by_system
from app.auth.admins.admins import Role, add_admin
from app.auth.caller import Permission
from app.db import Database
from app.payments import settlement
from app.payments.stripe_objects import HANDLED
from app.risk.service import look
from tests.books import connected
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls
from tests.servers import LocalStripe, running_stripe
from tests.support.configurable_service import DOMAIN, SECRET


class Shop:
    """The application, a local Stripe whose events the test hands over, and people at both ends."""

    def __init__(self, app: FastAPI, urls: Urls, stripe: LocalStripe) -> None:
        self.app, self.urls, self.stripe = app, urls, stripe
        self.db: Database = app.state.db
        self.now = datetime.now(UTC)
        self.record = record_by_system

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://127.0.0.1", headers=headers)

    async def look(self, now: datetime | None = None) -> int:
        return await look(self.db, self.db, self.app.state.billing, self.record, now or self.now)

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        async with connected(self.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql, *values)]

    async def set_rule(self, rule: str, **changes: object) -> None:
        for name, value in changes.items():
            async with connected(self.urls) as connection:
                await connection.execute(f"UPDATE alert_rules SET {name} = $2 WHERE rule = $1", rule, value)

    async def alerts(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM alerts ORDER BY alert_id")

    async def status(self, account_id: UUID) -> tuple[str, str | None]:
        [row] = await self.rows("SELECT status, status_reason FROM accounts WHERE account_id = $1", account_id)
        return row["status"], row["status_reason"]

    async def events(self) -> None:
        """Book all events of Stripe, as its webhooks would."""
        gateway, until = self.app.state.gateway, datetime.now(UTC) + timedelta(days=1)
        for event in await gateway.events_between("live", HANDLED, self.now - timedelta(days=1), until) or ():
            if event.facts is not None:
                async with self.db.transaction() as tx:
                    await settlement.apply(tx, "live", event.facts, datetime.now(UTC))


@pytest.fixture
async def shop(own_database: Urls) -> AsyncIterator[Shop]:
    with running_stripe() as stripe:
        settings = settings_for(
            own_database,
            stripe_live=stripe.keys,
            stripe_api_base=stripe.url,
            admin_session_secret=SECRET,
            public_url="http://127.0.0.1",
        )
        async with running_app(settings) as app:
            yield Shop(app, own_database, stripe)


@pytest.fixture
async def agent(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with shop.client(**{"X-API-Key": await make_key(shop.db, "live", *Permission)}) as agent:
        yield agent


async def office(shop: Shop, role: Role = "support") -> httpx.AsyncClient:
    async with shop.db.transaction() as tx:
        await add_admin(tx, f"{role}@{DOMAIN}", role, now=datetime.now(UTC))
        token = await shop.app.state.admin_sessions.open_for_script(tx, f"{role}@{DOMAIN}", now=datetime.now(UTC))
    return shop.client(Authorization=f"Bearer {token}")


def person() -> dict[str, str]:
    return {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}


async def buy(shop: Shop, agent: httpx.AsyncClient, who: dict[str, str], card: str = "pm_card_visa") -> str:
    """Buy a pack and pay it at Stripe, without delivering an event. Return its payment's id."""
    sold = (await agent.post("/v1/billing/purchases", json={**who, "idempotency_key": uuid.uuid4().hex})).json()
    async with httpx.AsyncClient(base_url=shop.stripe.url, auth=(sold["publishable_key"], "")) as browser:
        paid = await browser.post(
            f"/v1/payment_intents/{sold['payment_id']}/confirm",
            data={"client_secret": sold["client_secret"], "payment_method": card},
        )
        assert paid.status_code == 200, paid.text
    return str(sold["payment_id"])


async def account_of(shop: Shop, who: dict[str, str]) -> UUID:
    identity = Identity("live", who["oauth_provider"], who["external_id"])
    account_id = await shop.app.state.billing.accounts.directory.find(identity)
    assert isinstance(account_id, UUID)
    return account_id


async def spender(shop: Shop, agent: httpx.AsyncClient, *, usual: int, today: int) -> UUID:
    """Open an account that spent `usual` credits on each of four days, and `today` today."""
    who = person()
    await agent.post("/v1/billing/accounts", json=who)
    grant = {**who, "amount_minor": 1_000_000, "transaction_type": "grant"}
    assert (await agent.post("/v1/billing/credits", json=grant)).status_code == 201
    account_id = await account_of(shop, who)
    for days in (4, 3, 2, 1, 0):
        credits = usual if days else today
        charge = await agent.post("/v1/billing/charges", json={**who, "amount_minor": 100 * credits})
        assert charge.status_code == 201
        if days:
            async with connected(shop.urls) as connection:
                await connection.execute(
                    "UPDATE charges SET created_at = $2 WHERE charge_id = $1",
                    UUID(charge.json()["charge_id"]),
                    shop.now - timedelta(days=days),
                )
    return account_id
