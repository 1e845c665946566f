"""A shop whose one-time grants are on: the application in this process, and the local Stripe."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.clock import request_time
from app.verification import verify_books
from app.worker.app import create_worker
from app.worker.services import running_services
from tests.admin.shops import open_shop, sign_in
from tests.conftest import make_usage_key
from tests.databases import Urls, create_database, drop_database
from tests.live.reading import until
from tests.payments.conftest import Shop

PROVIDER = "oauth:zero"
CONFIG = "/admin/config/one_time_grants"
SIGNUP, DAILY, REFERRAL = (f"/v1/credits/{name}-grant" for name in ("signup", "daily", "referral"))
OFFERS: Mapping[str, Any] = {
    "currency": "USD",
    "signup": {"amount": "5.00", "expires_after_days": 30},
    "daily": {"amount": "0.50", "expires_after_days": 1},
    "referral_inviter": {"amount": "2.00"},
    "referral_invitee": {"amount": "3.00"},
}
SUCCEEDED = ("payment_intent.succeeded",)


@dataclass
class Promotion:
    """A shop, its admin, and a service with a key for money."""

    shop: Shop
    admin: httpx.AsyncClient
    service: httpx.AsyncClient

    async def offer(self, **changes: Any) -> None:
        configuration = self.shop.app.state.configuration
        before = (await configuration.current()).changes
        version = (await self.admin.get(CONFIG)).json()["version"]

        async def known() -> bool:
            return bool((await configuration.current()).changes != before)

        body = {"version": version, "reason": "a test", **OFFERS, **changes}
        changed = await self.admin.put(CONFIG, json=body)
        assert changed.status_code == 200, changed.text
        if changed.json()["version"] != version:
            await until(known)

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.service.post(path, json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def refer(self, inviter: str, invitee: str) -> dict[str, Any]:
        return await self.post(REFERRAL, inviter_user_id=inviter, invitee_user_id=invitee)

    async def account_id(self, user_id: str) -> UUID:
        [row] = await self.shop.rows("SELECT account_id FROM account_identities WHERE external_id = $1", user_id)
        return UUID(str(row["account_id"]))

    async def grants(self, user_id: str) -> list[tuple[str, int]]:
        """The sources and the amounts, in cents, of the user's grants, by source."""
        rows = await self.shop.rows(
            "SELECT source, amount FROM grants JOIN account_identities USING (account_id)"
            " WHERE external_id = $1 ORDER BY source, amount",
            user_id,
        )
        return [(row["source"], row["amount"] // 10**7) for row in rows]

    async def pay(self, user_id: str) -> None:
        """Buy a pack, pay it, and deliver Stripe's event."""
        payment = await self.shop.open(await self.account_id(user_id))
        await self.shop.pay(payment.payment_id)
        for event in await self.shop.events(*SUCCEEDED):
            if event["data"]["object"]["id"] == payment.payment_id:
                await self.shop.deliver(event)

    async def work(self) -> None:
        """Do every job that is due."""
        async with running_services(self.shop.settings) as services:
            queue = create_worker(self.shop.settings, services)
            async with queue.open_async():
                await queue.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)

    def set_clock(self, to: datetime) -> None:
        self.shop.app.dependency_overrides[request_time] = lambda: to

    def reset_clock(self) -> None:
        self.shop.app.dependency_overrides.pop(request_time, None)


@asynccontextmanager
async def open_promotion(urls: Urls, **settings: object) -> AsyncIterator[Promotion]:
    async with open_shop(urls, **settings) as shop:
        key = await make_usage_key(shop.db, UsageTerms(PROVIDER), "live", Permission.MONEY_CREDIT)
        transport, headers = httpx.ASGITransport(shop.app), {"X-API-Key": key}
        service = httpx.AsyncClient(transport=transport, base_url="http://billing", headers=headers)
        async with await sign_in(shop, "admin") as admin, service:
            yield Promotion(shop, admin, service)
        verification = await verify_books(shop.db, datetime.now(UTC))
        assert verification.ok, verification.problem


@pytest.fixture(scope="package")
async def shared() -> AsyncIterator[Promotion]:
    name = f"promotions_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with open_promotion(urls) as promotion:
        await promotion.offer()
        yield promotion
    await drop_database(name)


@pytest.fixture
def promotion(shared: Promotion) -> Promotion:
    """The shop that tests share. None of them changes its offers."""
    shared.reset_clock()
    return shared


@pytest.fixture
async def own_promotion(own_database: Urls) -> AsyncIterator[Promotion]:
    """A separate shop, whose offers the test changes. All are off."""
    async with open_promotion(own_database) as promotion:
        yield promotion


def new_user() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def user_id() -> str:
    """A user without an account."""
    return new_user()


@pytest.fixture
def other_id() -> str:
    return new_user()
