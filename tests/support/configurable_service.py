"""A service whose configuration admins change: two processes of it, and a Stripe that its settings do not know."""

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from fastapi import FastAPI

from app.auth.admins.admins import Role, add_admin
from app.auth.caller import Permission
from tests.books import connected
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls
from tests.servers import LocalStripe, running_stripe

DOMAIN = "example.com"
SECRET = "the back office's secret, in tests only"
PROMISE_S = 1.0
PACKS, PRODUCTS, DEFAULTS = "/admin/config/packs", "/admin/config/products", "/admin/config/defaults"
LIVE = "/admin/config/providers/live"


def key_material() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@dataclass
class ConfigurableService:
    """Two processes' worth of the service on one database, and a Stripe that their settings do not know."""

    first: FastAPI
    second: FastAPI
    urls: Urls
    stripe: LocalStripe
    api_key: str
    tokens: dict[Role, str]
    stack: AsyncExitStack

    async def client(self, app: FastAPI, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app)
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)
        return await self.stack.enter_async_context(client)

    async def office(self, role: Role = "admin") -> httpx.AsyncClient:
        return await self.client(self.first, Authorization=f"Bearer {self.tokens[role]}")

    async def agent(self, app: FastAPI | None = None) -> httpx.AsyncClient:
        """An agent that calls the second process, in which no setting was changed."""
        return await self.client(app or self.second, **{"X-API-Key": self.api_key})

    async def rows(self, sql: str) -> list[dict[str, Any]]:
        async with connected(self.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql)]

    def keys(self, **changes: Any) -> dict[str, Any]:
        return {"version": 0, "reason": "first keys", **self.stripe.keys, **changes}


@asynccontextmanager
async def running_service(urls: Urls) -> AsyncIterator[ConfigurableService]:
    with running_stripe() as local:
        settings = settings_for(
            urls,
            stripe_api_base=local.url,
            admin_session_secret=SECRET,
            encryption_keys={"k1": key_material()},
            public_url="http://127.0.0.1",
        )
        async with running_app(settings) as first, running_app(settings) as second, AsyncExitStack() as stack:
            tokens: dict[Role, str] = {}
            roles: tuple[Role, ...] = ("viewer", "admin")
            now = datetime.now(UTC)
            async with first.state.db.transaction() as tx:
                for role in roles:
                    await add_admin(tx, f"{role}@{DOMAIN}", role, now=now)
                    tokens[role] = await first.state.admin_sessions.open_for_script(tx, f"{role}@{DOMAIN}", now=now)
            api_key = await make_key(first.state.db, "live", *Permission)
            yield ConfigurableService(first, second, urls, local, api_key, tokens, stack)


def user(name: str) -> dict[str, str]:
    return {"oauth_provider": "oauth:google", "external_id": name}


async def set_section(office: httpx.AsyncClient, path: str, version: int, **fields: Any) -> dict[str, Any]:
    answer = await office.put(path, json={"version": version, "reason": "because", **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def pack(name: str, price_minor: int, credits: int) -> dict[str, Any]:
    return {"name": name, "price_minor": price_minor, "credits": credits, "currency": "USD"}


async def soon(check: Any) -> None:
    """`check` comes true within the promised second."""
    deadline = time.monotonic() + PROMISE_S
    while not await check():
        assert time.monotonic() < deadline, "not in force within a second"
        await asyncio.sleep(0.01)
