"""A server with price books, keys of each kind that reports usage, and accounts with money."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.db import Database
from app.ledger.entries import Cause, Kind
from app.main import create_app
from app.pricing.book import BookDocument
from app.pricing.editing import Author, activate, propose
from app.verification import verify_books
from tests.books import connected
from tests.conftest import ACTOR, make_usage_key, settings_for
from tests.databases import Urls, create_database, drop_database
from tests.servers import serving
from tests.support.wallets import DOLLAR, locked

PROVIDER = "oauth:zero"
SOURCE = "router"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
BOOK: dict[str, Any] = {
    "name": "tests",
    "currency": "USD",
    "llm": [
        {
            "id": "sonnet",
            "provider": "anthropic",
            "model": "claude-3-5-sonnet",
            "prices": {"input_uncached": "3", "cache_read": "0.3", "output_text": "15"},
            "modes": {"batch": {"prices": {"input_uncached": "1.5", "output_text": "7.5"}}},
        },
        {
            "id": "mini",
            "provider": "openai",
            "model": "gpt-4o-mini",
            "prices": {"input_uncached": "0.15", "output_text": "0.6"},
        },
        {
            "id": "omni",
            "provider": "openai",
            "model": "gpt-4o",
            "prices": {"input_uncached": "2.5", "output_text": "10"},
        },
    ],
    "compute": {"id": "compute", "cpu_hour": "0.06", "memory_gb_hour": "0.02"},
    "api_calls": [
        {"id": "calls", "price": "0.01"},
        {"id": "tiered", "endpoint": "/tiered", "price": "1", "tiers": [{"above": "1000", "price": "0.5"}]},
    ],
    "tool_calls": [{"id": "search", "tool": "search", "price": "0.002"}],
    "meters": [
        {"id": "storage", "meter": "storage", "unit": "GB", "price": "0.01"},
        {"id": "sms", "meter": "sms", "unit": "message", "price": "0.05"},
    ],
    "markups": [{"id": "pro", "plan": "pro", "percent": "100"}],
}
ALL = (Permission.USAGE_READ, Permission.USAGE_WRITE, Permission.USAGE_SET_COST)
EXPENSIVE = UsageTerms(PROVIDER, SOURCE, max_cost_nanos=100 * DOLLAR)


async def put_in_force(db: Database, effective_at: datetime = BEGINNING, **changes: Any) -> int:
    """Put the book in force, with these changes. Return its version."""
    author = Author("tests", None, "because", BEGINNING)
    async with db.transaction() as tx:
        version = await propose(tx, BookDocument.model_validate({**BOOK, **changes}), author)
        await activate(tx, version, effective_at, author)
    return version


@dataclass
class Desk:
    """A running server, and what its callers need."""

    url: str
    app: FastAPI
    db: Database
    urls: Urls
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    def __getattr__(self, name: str) -> httpx.AsyncClient:
        """The client with this key: router (all), writer, reader, debtor, other (another source), stranger, test."""
        return self.clients[name]

    async def account_id(self, user_id: str) -> UUID:
        [row] = await self.rows(
            "SELECT account_id FROM account_identities"
            " WHERE environment = 'live' AND oauth_provider = $1 AND external_id = $2",
            PROVIDER,
            user_id,
        )
        return UUID(str(row["account_id"]))

    async def user(self, cents: int = 0) -> str:
        """A new user with so much money."""
        user_id = str(uuid.uuid4())
        checked = await self.clients["router"].post("/v1/usage/check", json={"user_id": user_id, "required_cents": 0})
        assert checked.status_code == 200, checked.text
        if cents:
            await self.give(user_id, cents * DOLLAR // 100)
        return user_id

    async def give(self, user_id: str, nanos: int) -> None:
        now = datetime.now(UTC)
        account_id = await self.account_id(user_id)
        async with locked(self.db, account_id, now) as account:
            account.give_money(nanos, Kind.OPENING_GRANT, Cause("account", account_id), ACTOR, now)

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        async with connected(self.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql, *values)]

    async def wallet(self, user_id: str) -> tuple[int, int]:
        """The user's money and debt, in nanos."""
        [row] = await self.rows(
            "SELECT money_nanos, money_debt_nanos FROM accounts WHERE account_id = $1", await self.account_id(user_id)
        )
        return row["money_nanos"], row["money_debt_nanos"]

    async def events(self, user_id: str) -> list[dict[str, Any]]:
        return await self.rows(
            "SELECT * FROM usage_events WHERE account_id = $1 ORDER BY usage_id", await self.account_id(user_id)
        )


TERMS: dict[str, tuple[UsageTerms, tuple[Permission, ...]]] = {
    "router": (EXPENSIVE, ALL),
    "writer": (UsageTerms(PROVIDER, SOURCE), (Permission.USAGE_WRITE,)),
    "reader": (UsageTerms(PROVIDER), (Permission.USAGE_READ,)),
    "debtor": (
        UsageTerms(PROVIDER, "debtor", "debt", debt_limit_nanos=5 * DOLLAR, max_cost_nanos=100 * DOLLAR),
        ALL,
    ),
    "other": (UsageTerms(PROVIDER, "other", max_cost_nanos=100 * DOLLAR), ALL),
    "stranger": (UsageTerms(), (Permission.READ, Permission.WRITE)),
    "nameless": (UsageTerms(), (Permission.USAGE_WRITE, Permission.USAGE_READ)),
}


@contextlib.asynccontextmanager
async def running_desk(urls: Urls, **settings: object) -> AsyncIterator[Desk]:
    db = Database(SecretStr(urls.service))
    await put_in_force(db)
    app = create_app(settings_for(urls, **settings))
    async with contextlib.AsyncExitStack() as stack:
        url = stack.enter_context(serving(app))
        desk = Desk(url, app, db, urls)
        for name, (terms, permissions) in TERMS.items():
            key = await make_usage_key(db, terms, "live", *permissions)
            desk.clients[name] = await stack.enter_async_context(client(url, key))
        desk.clients["test"] = await stack.enter_async_context(
            client(url, await make_usage_key(db, EXPENSIVE, "test", *ALL))
        )
        desk.clients["nobody"] = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
        yield desk
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    assert verification.ok, verification.problem


def client(url: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=30)


@pytest.fixture(scope="package")
async def desk() -> AsyncIterator[Desk]:
    """One server for all tests of usage, with its own database: one price book is in force."""
    name = f"usage_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with running_desk(urls) as desk:
        yield desk
    await drop_database(name)


@pytest.fixture
async def user(desk: Desk) -> str:
    """A new user with ten dollars."""
    return await desk.user(1000)


def llm(
    input_tokens: int = 1000, output_tokens: int = 100, model: str = "claude-3-5-sonnet", **more: Any
) -> dict[str, Any]:
    """Of 1,000 and 100 tokens: 0.0045 dollars."""
    return {
        "type": "llm_tokens",
        "provider": "anthropic",
        "model": model,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        **more,
    }


def usage(
    user_id: str, event_id: str | None = None, metric: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"event_id": event_id or uuid.uuid4().hex, "user_id": user_id, "metric": metric or llm(), **more}
