"""An application on a database that a test may cut off or make read-only, and requests of every kind."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.verification import verify_books
from tests.chaos.proxy import PostgresProxy
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls
from tests.servers import running_stripe

KNOWN = {"oauth_provider": "oauth:google", "external_id": "known@example.com"}
PROFILE = {"customer_email": "known@example.com", "display_name": "Known"}
CHARGE = {**KNOWN, "amount_minor": 100, "currency": "USD"}
USED_KEY = {**CHARGE, "idempotency_key": "used"}
LLM_USAGE = {
    **KNOWN,
    "total_llm_calls": 1,
    "total_prompt_tokens": 5,
    "total_completion_tokens": 5,
    "models_used": ["openai/gpt-4o"],
    "actual_cost_cents": 0.5,
    "duration_ms": 10,
}
GRANT = {"amount_minor": 100000, "currency": "USD", "description": "Grant", "transaction_type": "grant"}


@dataclass(frozen=True)
class Ask:
    """A request. `expects`: its status while all is well. `<new>` in a value becomes a name that no test has used."""

    method: str
    path: str
    body: dict[str, Any] | None
    expects: int = 200

    def __str__(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]} {self.expects}"


OF_KNOWN = "oauth_provider=oauth:google&external_id=known@example.com"
NEW = {"oauth_provider": "oauth:google", "external_id": "<new>"}
READS = (
    Ask("POST", "/v1/billing/credits/check", {**KNOWN, **PROFILE}),
    Ask("POST", "/v1/billing/credits/check", {**KNOWN, "display_name": "<new>"}),
    Ask("POST", "/v1/billing/charges", USED_KEY, 409),
    Ask("GET", f"/v1/billing/transactions?{OF_KNOWN}", None),
    Ask("GET", f"/v1/tools/balance?{OF_KNOWN}", None),
    Ask("GET", f"/v1/tools/balance/web_search?{OF_KNOWN}", None),
    Ask("GET", f"/v1/tools/check/web_search?{OF_KNOWN}", None),
    Ask("GET", "/v1/billing/accounts/oauth:google/known@example.com", None),
    Ask("GET", "/v1/status", None),
    Ask("GET", "/health", None),
)
WRITES = (
    Ask("POST", "/v1/billing/charges", CHARGE, 201),
    Ask("POST", "/v1/billing/charges", {**CHARGE, "idempotency_key": "<new>"}, 201),
    Ask("POST", "/v1/billing/credits", {**KNOWN, **GRANT}, 201),
    Ask("POST", "/v1/billing/credits/check", NEW),
    Ask("POST", "/v1/billing/accounts", NEW, 201),
    Ask("POST", "/v1/billing/accounts", {**KNOWN, "display_name": "<new>"}),
    Ask("POST", "/v1/billing/purchases", {**KNOWN, "idempotency_key": "<new>"}, 201),
    Ask("POST", "/v1/billing/litellm/usage", {**LLM_USAGE, "interaction_id": "<new>"}, 201),
    Ask("POST", "/v1/tools/charge", {**KNOWN, "product_type": "web_search"}),
)


@dataclass(frozen=True)
class Service:
    """The application in this process, a client of it, and the relay to its database."""

    app: FastAPI
    client: httpx.AsyncClient
    urls: Urls
    relay: PostgresProxy
    """Between the application and PostgreSQL."""

    @property
    def db(self) -> Database:
        db: Database = self.app.state.db
        return db

    async def answer(self, ask: Ask) -> httpx.Response:
        body = {name: f"{uuid.uuid4()}@new" if value == "<new>" else value for name, value in (ask.body or {}).items()}
        return await self.client.request(ask.method, ask.path, json=body if ask.body is not None else None)

    async def warm_up(self) -> None:
        """Every pool has a connection, and every process-wide cache what the requests need."""
        for ask in (*WRITES, *READS):
            answer = await self.answer(ask)
            assert answer.status_code == ask.expects, (str(ask), answer.text)


@asynccontextmanager
async def running_service(urls: Urls, **changes: object) -> AsyncIterator[Service]:
    """The application in this process, with a key that may do everything, and `KNOWN` with credits and a used key."""
    async with AsyncExitStack() as stack:
        local = stack.enter_context(running_stripe())
        relay = PostgresProxy(SecretStr(urls.service))
        await relay.start()
        stack.push_async_callback(relay.stop)
        addresses = {"database_url": relay.url, "stripe_live": local.keys, "stripe_api_base": local.url}
        app = await stack.enter_async_context(running_app(settings_for(urls, **addresses | changes)))
        key = await make_key(app.state.db, "live", *Permission)
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://billing", headers={"X-API-Key": key}
        )
        await stack.enter_async_context(client)
        service = Service(app, client, urls, relay)
        for path, body in (
            ("accounts", {**KNOWN, **PROFILE}),
            ("credits", {**KNOWN, **GRANT}),
            ("charges", USED_KEY),
        ):
            assert (await client.post(f"/v1/billing/{path}", json=body)).status_code == 201
        yield service
        direct = Database(app.state.settings.direct_url, pool_size=3)
        verification = await verify_books(direct, datetime.now(UTC))
        await direct.close()
        assert verification.ok, verification.problem


async def set_read_only(urls: Urls, read_only: bool, *, cut: bool = False) -> None:
    """Let new sessions of the database refuse writes, or take them again; with `cut`, end those that exist."""
    name = urls.superuser.rpartition("/")[2]
    connection = await asyncpg.connect(f"{urls.superuser.rpartition('/')[0]}/postgres")
    try:
        change = "SET default_transaction_read_only = on" if read_only else "RESET default_transaction_read_only"
        await connection.execute(f'ALTER DATABASE "{name}" {change}')
        if cut:
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    finally:
        await connection.close()
