"""A shop with users who save cards at the local Stripe, agents who spend, and the worker."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.issuers import Issuer
from app.ledger.entries import Kind
from app.refills.wiring import RefillServices, refill_services
from app.verification import verify_books
from app.worker.app import create_worker
from app.worker.services import running_services
from tests.admin.shops import open_shop
from tests.conftest import ACTOR, make_usage_key
from tests.databases import Urls, create_database, drop_database
from tests.demo.oidc_server import SPA, WEB, RunningOIDC, running_oidc
from tests.payments.conftest import Shop
from tests.support.wallets import DOLLAR

PROVIDER = "oauth:zero"
SETTINGS, CARDS = "/v1/credits/auto-refill", "/v1/credits/cards"
FRONTEND = "https://app.example"
VISA = "pm_card_visa"
SETTLED = ("payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled")
Row = dict[str, Any]


@dataclass
class Buyer:
    """A user with an account: in person, and by a token that an agent may have."""

    desk: "Refilling"
    user_id: str
    account_id: UUID
    person: httpx.AsyncClient
    agent: httpx.AsyncClient

    async def settings(self) -> Row:
        answer = await self.person.get(SETTINGS)
        assert answer.status_code == 200, answer.text
        found: Row = answer.json()["auto_refill"]
        return found

    async def set(self, **body: Any) -> Row:
        answer = await self.person.post(SETTINGS, json={"enabled": True, **body})
        assert answer.status_code == 200, answer.text
        found: Row = answer.json()["auto_refill"]
        return found

    async def open_page(self) -> str:
        """The id of a page's session."""
        consent = (await self.settings())["consent_text"]
        answer = await self.person.post(CARDS, json={"consent": consent})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["url"]).rsplit("/", 1)[1]

    async def save_card(self, method: str = VISA) -> Row:
        """Save a card on Stripe's page. Return it as the list shows it."""
        session_id = await self.open_page()
        intent = await self.desk.shop.control(f"checkout_sessions/{session_id}/pay", method=method)
        if intent["status"] == "requires_action":
            await self.desk.shop.control(f"setup_intents/{intent['id']}/succeed")
        return (await self.cards())[0]

    async def cards(self) -> list[Row]:
        answer = await self.person.get(CARDS)
        assert answer.status_code == 200, answer.text
        found: list[Row] = answer.json()["cards"]
        return found

    async def give(self, cents: int) -> None:
        wallet = self.desk.shop.app.state.wallet
        now = datetime.now(UTC)
        nanos = cents * DOLLAR // 100
        await wallet.credit_money(self.account_id, nanos, Kind.BONUS, currency=None, actor=ACTOR, now=now)

    async def spend(self, cents: int, event_id: str | None = None, *, policy: str = "refuse") -> httpx.Response:
        """Report usage with a stated cost."""
        metric = {"type": "api_calls", "endpoint": "search", "count": 1}
        body = {"event_id": event_id or uuid.uuid4().hex, "user_id": self.user_id, "metric": metric}
        client = self.desk.spenders[policy]
        return await client.post("/v1/usage", json={**body, "cost_cents": cents})

    async def balance(self) -> int:
        """In cents, less the debt."""
        money, debt = await self.desk.shop.money(self.account_id)
        return (money - debt) * 100 // DOLLAR

    async def jobs(self, task: str = "start_refill") -> int:
        """The number of this account's waiting jobs."""
        rows = await self.desk.shop.rows(
            "SELECT 1 FROM procrastinate_jobs WHERE task_name = $1 AND status = 'todo' AND args ->> 'account_id' = $2",
            task,
            str(self.account_id),
        )
        return len(rows)

    async def refills(self) -> list[Row]:
        return await self.desk.shop.rows(
            "SELECT * FROM refills WHERE account_id = $1 ORDER BY purchase_id", self.account_id
        )

    async def outcomes(self) -> list[str]:
        return [row["status"] for row in await self.refills()]

    async def intents(self) -> list[Row]:
        """The payments of this account at Stripe, oldest first."""
        account_id = str(self.account_id)
        listed = await self.desk.shop.intents()
        return [intent for intent in listed[::-1] if intent["metadata"].get("account_id") == account_id]

    async def start(self, now: datetime | None = None) -> None:
        await self.desk.services.refills.start(self.account_id, now or datetime.now(UTC))

    async def settle(self, now: datetime | None = None) -> None:
        """Run the job of the last refill."""
        purchase_id = (await self.refills())[-1]["purchase_id"]
        await self.desk.services.payments.settle(self.account_id, purchase_id, now or datetime.now(UTC))

    async def ready(self, method: str = VISA, **settings: Any) -> "Buyer":
        """With a saved card and refills of 25 dollars below 5 dollars, and 10 dollars to spend."""
        await self.save_card(method)
        await self.give(1000)
        await self.set(**settings)
        await self.desk.work()
        return self

    async def exhaust(self) -> None:
        """Spend until a refill is due."""
        answer = await self.spend(600)
        assert answer.status_code == 200, answer.text


@dataclass
class Refilling:
    """The shop, the token issuer, the agents' clients by policy, and the services that jobs use."""

    shop: Shop
    oidc: RunningOIDC
    services: RefillServices
    stack: AsyncExitStack
    spenders: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    async def client(self, **options: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.shop.app, client=("192.0.2.7", 1))
        return await self.stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://billing", timeout=30, **options)
        )

    async def of_token(self, user_id: str, audience: str, **claims: Any) -> httpx.AsyncClient:
        token = self.oidc.mint(sub=user_id, aud=audience, jti=uuid.uuid4().hex, **claims)
        return await self.client(headers={"Authorization": f"Bearer {token}"})

    async def buyer(self) -> Buyer:
        user_id = str(uuid.uuid4())
        person, agent = await self.of_token(user_id, SPA.client_id), await self.of_token(user_id, WEB.client_id)
        assert (await person.post("/v1/accounts", json={})).status_code == 200
        [row] = await self.shop.rows("SELECT account_id FROM account_identities WHERE external_id = $1", user_id)
        return Buyer(self, user_id, UUID(str(row["account_id"])), person, agent)

    async def work(self) -> None:
        """Do every job that is due."""
        async with running_services(self.shop.settings) as services:
            queue = create_worker(self.shop.settings, services)
            async with queue.open_async():
                await queue.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)


@asynccontextmanager
async def running_desk(urls: Urls, oidc: RunningOIDC, **settings: Any) -> AsyncIterator[Refilling]:
    issuer = Issuer(
        issuer=oidc.issuer,
        jwks_url=oidc.jwks_url,
        audiences=[WEB.client_id, SPA.client_id],
        interactive_audiences=[SPA.client_id],
        provider=PROVIDER,
    )
    values = {"issuers": [issuer], "frontend_url": FRONTEND, **settings}
    async with open_shop(urls, **values) as shop, AsyncExitStack() as stack:
        state = shop.app.state
        services = refill_services(shop.db, state.configuration, state.version_mark, state.gateway)
        desk = Refilling(shop, oidc, services, stack)
        for policy, terms in {
            "refuse": UsageTerms(PROVIDER, "agents", max_cost_nanos=1000 * DOLLAR),
            "debt": UsageTerms(PROVIDER, "late", "debt", debt_limit_nanos=1000 * DOLLAR, max_cost_nanos=1000 * DOLLAR),
        }.items():
            key = await make_usage_key(shop.db, terms, "live", *Permission)
            desk.spenders[policy] = await desk.client(headers={"X-API-Key": key})
        yield desk
        verification = await verify_books(shop.db, datetime.now(UTC))
        assert verification.ok, verification.problem


@pytest.fixture(scope="package")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="package")
async def desk(oidc: RunningOIDC) -> AsyncIterator[Refilling]:
    """The shop that tests share, each with a separate user."""
    name = f"refills_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with running_desk(urls, oidc) as desk:
        yield desk
    await drop_database(name)


@pytest.fixture
async def own_desk(own_database: Urls, oidc: RunningOIDC) -> AsyncIterator[Refilling]:
    """A separate shop, whose Stripe the test disturbs."""
    async with running_desk(own_database, oidc) as desk:
        yield desk


@pytest.fixture
async def buyer(desk: Refilling) -> Buyer:
    return await desk.buyer()


HOUR = timedelta(hours=1)
