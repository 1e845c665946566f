"""A server that sells plans, with the local Stripe, its worker, and buyers."""

import asyncio
import json
import uuid
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from app.plans.document import Plan, PlanGrant, Plans
from app.worker.services import Services
from tests.books import connected
from tests.databases import Urls
from tests.demo.oidc_server import RunningOIDC
from tests.metering.conftest import Desk
from tests.servers import LocalStripe

FRONTEND = "https://app.example/web"
CHECKOUT, ME, CHANGE = "/v1/subscriptions/checkout", "/v1/subscriptions/me", "/v1/subscriptions/change"
PRICES = {"calm": (1000, 10_000), "standard": (2000, 20_000), "pro": (5000, 48_000)}
GRANTED = {"standard": "25", "pro": "60"}
"""Dollars a month. The calm plan grants nothing."""
ZERO_FIELDS = ("paymentMethodId", "billingDetails")


@dataclass
class Store:
    """A server that sells plans, and the local Stripe that calls it."""

    desk: Desk
    local: LocalStripe
    worker: Services
    """Those of a worker: the server runs in another thread."""
    ahead: timedelta = timedelta()

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def control(self, path: str, /, **fields: Any) -> Any:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(f"{self.local.url}/_control/{path}", json=fields)
            assert answer.status_code in (200, 402), answer.text
            return answer.json()

    async def stripe(self, method: str, path: str, **fields: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.local.secret_key}"}
        sent: dict[str, Any] = {"data": fields} if method == "POST" else {"params": fields}
        async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
            answer = await client.request(method, f"{self.local.url}/v1/{path}", **sent)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def pay(self, page: dict[str, Any], method: str = "pm_card_visa") -> None:
        await self.control(f"checkout_sessions/{page['session_id']}/pay", method=method)
        await self.delivered()

    async def delivered(self) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            for _ in range(400):
                if (await client.get(f"{self.local.url}/_control/deliveries")).json()["idle"]:
                    return
                await asyncio.sleep(0.05)
        raise AssertionError("Stripe still delivers")

    async def customer_of(self, account_id: UUID) -> str:
        [row] = await self.rows("SELECT customer_id FROM payment_customers WHERE account_id = $1", account_id)
        return str(row["customer_id"])

    async def pass_days(self, account_id: UUID, days: int) -> None:
        """Move the time of the account's customer at Stripe, and the server's, and run the worker's jobs."""
        await self.control(f"customers/{await self.customer_of(account_id)}/advance", days=days)
        self.ahead += timedelta(days=days)
        await self.delivered()
        await self.worker.subscriptions.refresher.look_at_due(self.now)

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        async with connected(self.desk.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql, *values)]


@dataclass(frozen=True)
class Buyer:
    """A user of the store: with a token that an agent may have (`client`), and in person (`person`)."""

    store: Store
    client: httpx.AsyncClient
    person: httpx.AsyncClient
    user_id: str

    async def subscribe(self, plan: str = "standard", interval: str = "month") -> None:
        page = await self.client.post(CHECKOUT, json={"plan": plan, "interval": interval})
        assert page.status_code == 200, page.text
        await self.store.pay(page.json())

    async def me(self) -> dict[str, Any]:
        answer = await self.client.get(ME)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def balance(self) -> tuple[str, int]:
        answer = (await self.client.get("/v1/credits/balance")).json()
        return answer["plan"], answer["balance_cents"]

    async def settled(self) -> None:
        """Run the job that is deferred where events of one second do not say which of them is the later one.

        It reads the subscription in a later second.
        """
        await self.store.delivered()
        self.store.ahead += timedelta(seconds=1)
        account_id, refresher = await self.account_id(), self.store.worker.subscriptions.refresher
        for row in await self.store.rows("SELECT subscription_id FROM subscriptions WHERE account_id = $1", account_id):
            await refresher.refresh("live", account_id, row["subscription_id"], self.store.now)

    async def account_id(self) -> UUID:
        [row] = await self.store.rows("SELECT account_id FROM account_identities WHERE external_id = $1", self.user_id)
        found: UUID = row["account_id"]
        return found


class Token(httpx.Auth):
    """A new token for each request, as of the server's time."""

    def __init__(self, store: Store, oidc: RunningOIDC, user_id: str, audience: str) -> None:
        self.store, self.oidc, self.user_id, self.audience = store, oidc, user_id, audience

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        now_s = int(self.store.now.timestamp())
        times = {"iat": now_s, "exp": now_s + 600, "auth_time": now_s}
        token = self.oidc.mint(sub=self.user_id, jti=uuid.uuid4().hex, aud=self.audience, **times)
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


async def sell(store: Store) -> None:
    """Make the prices at Stripe, and the plans that name them."""
    plans = [Plan(name="free", title="Free")]
    for plan, amounts in PRICES.items():
        made = []
        for interval, amount in zip(("month", "year"), amounts, strict=True):
            price = await store.stripe(
                "POST",
                "prices",
                **{
                    "currency": "usd",
                    "unit_amount": amount,
                    "recurring[interval]": interval,
                    "product_data[name]": plan,
                },
            )
            made.append(
                {"interval": interval, "currency": "USD", "amount_minor": amount, "stripe_price_live": price["id"]}
            )
        dollars = GRANTED.get(plan)
        grants = [PlanGrant(unit="money", currency="USD", amount=dollars, expires="never")] if dollars else []
        plans.append(Plan(name=plan, title=plan, prices=made, grants=grants))
    plans.append(Plan(name="old", title="Old", withdrawn=True))
    await store_plans(store.desk.urls, Plans(plans=plans))


async def store_plans(urls: Urls, plans: Plans) -> None:
    """Store the plans as an admin does."""
    admin_id = uuid.uuid4()
    async with connected(urls) as connection:
        await connection.execute(
            "INSERT INTO admin_users (admin_id, email, role, created_at)"
            " VALUES ($1, 'plans@example.com', 'admin', now())",
            admin_id,
        )
        await connection.execute(
            "INSERT INTO configuration_versions (section, version, document, reason, changed_by, admin_id, created_at)"
            " VALUES ('plans', 1, $1, 'tests', 'plans@example.com', $2, now())",
            json.dumps(plans.model_dump(mode="json")),
            admin_id,
        )
