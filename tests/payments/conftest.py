"""A separate shop for each test: the application in this process on a separate database, and the local Stripe."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from app.accounts.directory import Identity, Profile
from app.auth.caller import Environment, Permission
from app.billing.service import BillingService
from app.db import Database
from app.demo.stripe.webhooks import signature
from app.payments.facts import PaymentFacts
from app.payments.service import Payment, PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.settings import Settings
from app.verification import verify_books
from tests.books import balances, connected
from tests.conftest import ACTOR, make_key, running_app, settings_for
from tests.databases import Urls
from tests.servers import LocalStripe, running_stripe

TEST_SECRET = "whsec_of_the_test_environment"
Event = dict[str, Any]


@dataclass(frozen=True)
class Shop:
    """No event is delivered automatically: a test takes Stripe's events and delivers them as it likes."""

    app: FastAPI
    urls: Urls
    settings: Settings
    local: LocalStripe
    http: httpx.AsyncClient
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def db(self) -> Database:
        db: Database = self.app.state.db
        return db

    @property
    def billing(self) -> BillingService:
        billing: BillingService = self.app.state.billing
        return billing

    @property
    def payments(self) -> PaymentService:
        payments: PaymentService = self.app.state.payments
        return payments

    async def account(self, environment: Environment = "live") -> UUID:
        identity = Identity(environment, "oauth:google", f"{uuid.uuid4()}@example.com")
        return await self.billing.accounts.directory.resolve(identity, Profile(), ACTOR, self.now)

    async def open(self, account_id: UUID, **options: Any) -> Payment:
        return await self.payments.open_purchase("live", account_id, now=self.now, **options)

    async def stripe(self, method: str, path: str, **fields: Any) -> Any:
        """Ask the local Stripe, as its account."""
        form, query = (fields, None) if method == "POST" else (None, fields)
        headers = {"Authorization": f"Bearer {self.local.secret_key}"}
        url = f"{self.local.url}/v1/{path}"
        answer = await self.http.request(method, url, data=form, params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def control(self, path: str, /, **fields: Any) -> Any:
        return (await self.http.post(f"{self.local.url}/_control/{path}", json=fields)).json()

    async def pay(self, payment_id: str) -> None:
        await self.stripe("POST", f"payment_intents/{payment_id}/confirm", payment_method="pm_card_visa")

    async def confirm(self, payment_id: str, method: str) -> None:
        await self.stripe("POST", f"payment_intents/{payment_id}/confirm", payment_method=method)

    async def refund(self, payment_id: str, amount_minor: int) -> None:
        await self.stripe("POST", "refunds", payment_intent=payment_id, amount=amount_minor)

    async def intents(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self.stripe("GET", "payment_intents", limit=100))["data"]
        return listed

    async def events(self, *kinds: str) -> list[Event]:
        """Stripe's events of these types, oldest first."""
        listed = (await self.stripe("GET", "events", limit=100))["data"]
        return [event for event in listed[::-1] if event["type"] in kinds]

    async def deliver(self, event: Event) -> None:
        payload = json.dumps(event).encode()
        header = signature(self.local.webhook_secret, payload, int(time.time()))
        await self.payments.handle_webhook(payload, header, self.now)

    async def deliver_all(self, kinds: tuple[str, ...]) -> None:
        for event in await self.events(*kinds):
            await self.deliver(event)

    async def balances(self, account_id: UUID) -> tuple[int, int]:
        """The paid pool and the debt."""
        pools = await balances(self.urls, account_id)
        return pools["paid"], pools["debt"]

    async def money(self, account_id: UUID) -> tuple[int, int]:
        """The money and its debt, in nanos."""
        pools = await balances(self.urls, account_id)
        return pools.get("money", 0), pools.get("money_debt", 0)

    async def purchases(self, account_id: UUID) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM purchases WHERE account_id = $1 ORDER BY created_at", account_id)

    async def jobs(self, task: str) -> list[dict[str, Any]]:
        """The arguments of the jobs that wait for the worker."""
        rows = await self.rows("SELECT args::text FROM procrastinate_jobs WHERE task_name = $1 ORDER BY id", task)
        return [json.loads(row["args"]) for row in rows]

    async def inbox(self) -> dict[str, str]:
        """Return the outcome of each received event."""
        rows = await self.rows("SELECT event_id, outcome FROM payment_events")
        return {row["event_id"]: row["outcome"] for row in rows}

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        async with connected(self.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql, *values)]

    async def execute(self, sql: str, *values: object) -> None:
        async with connected(self.urls) as connection:
            await connection.execute(sql, *values)

    async def client(self, environment: Environment = "live") -> httpx.AsyncClient:
        """A client of the API with a key for everything in one environment.."""
        headers = {"X-API-Key": await make_key(self.db, environment, *Permission)}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://billing", headers=headers)


def with_settings(**settings: object) -> pytest.MarkDecorator:
    """A test whose shop has these settings."""
    return pytest.mark.parametrize("shop", [settings], indirect=True, ids=[""])


@pytest.fixture
def forgotten_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stripe forgets the idempotency keys of refunds at once, as it does after a day."""
    refund = StripeGateway.refund

    async def refund_with_a_new_key(*args: Any, idempotency_key: str, **options: Any) -> PaymentFacts:
        return await refund(*args, idempotency_key=f"{idempotency_key} {uuid.uuid4()}", **options)

    monkeypatch.setattr(StripeGateway, "refund", refund_with_a_new_key)


@pytest.fixture
async def shop(own_database: Urls, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """With the settings that a test names by `with_settings`."""
    with running_stripe() as local:
        defaults: dict[str, Any] = {
            "stripe_live": local.keys,
            "stripe_test": {**local.keys, "webhook_secret": TEST_SECRET},
            "stripe_api_base": local.url,
            "stripe_timeout_s": 2.5,
            "database_timeout_s": 2,
            "free_uses": 0,
            "packs": {"standard": {"price_minor": 500, "credits": 20}, "large": {"price_minor": 2000, "credits": 100}},
        }
        settings = settings_for(own_database, **{**defaults, **getattr(request, "param", {})})
        async with running_app(settings) as app, httpx.AsyncClient(timeout=10) as http:
            yield Shop(app, own_database, settings, local, http)
            verification = await verify_books(app.state.db, datetime.now(UTC))
            assert verification.ok, verification.problem
