"""A real server with an issuer of users' tokens, an API key, and accounts that are watched."""

import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from tests.conftest import make_key
from tests.databases import Urls, create_database, drop_database
from tests.demo.oidc_server import SPA, WEB, RunningOIDC, running_oidc
from tests.servers import Server, running_server

PROVIDER, ORIGIN = "oauth:local", "https://app.example.com"
TokenOf = Callable[..., str]


@pytest.fixture(scope="package")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="package")
def issuer_settings(oidc: RunningOIDC) -> dict[str, str]:
    audiences = {"audiences": [WEB.client_id, SPA.client_id], "interactive_audiences": [SPA.client_id]}
    issuer = {"issuer": oidc.issuer, "jwks_url": oidc.jwks_url, "provider": PROVIDER, **audiences}
    return {"ISSUERS": json.dumps([issuer]), "CORS_ORIGINS": json.dumps([ORIGIN]), "LOG_LEVEL": "INFO"}


@pytest.fixture(scope="package")
async def books() -> AsyncIterator[Urls]:
    name = f"live_{uuid.uuid4().hex}"
    yield await create_database(name)
    await drop_database(name)


@pytest.fixture(scope="package")
def server(books: Urls, issuer_settings: dict[str, str]) -> Iterator[Server]:
    with running_server(books, env=issuer_settings) as server:
        yield server


@pytest.fixture(scope="package")
async def live_db(books: Urls) -> AsyncIterator[Database]:
    db = Database(SecretStr(books.service), pool_size=5)
    yield db
    await db.close()


@pytest.fixture(scope="package")
async def key(live_db: Database) -> str:
    return await make_key(live_db, "live", *Permission)


@pytest.fixture(scope="package")
async def test_key(live_db: Database) -> str:
    return await make_key(live_db, "test", *Permission)


@pytest.fixture(scope="package")
async def writer_key(live_db: Database) -> str:
    return await make_key(live_db, "live", Permission.WRITE)


@pytest.fixture
def own_books(own_database: Urls) -> Urls:
    """A database that the test may spoil."""
    return own_database


@pytest.fixture
async def own_key(own_books: Urls) -> str:
    db = Database(SecretStr(own_books.service), pool_size=3)
    key = await make_key(db, "live", *Permission)
    await db.close()
    return key


@pytest.fixture
async def own_agent(own_books: Urls, own_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """An agent of a server on that database."""
    with running_server(own_books) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": own_key}, timeout=30) as client:
            yield client


@pytest.fixture
def token_of(oidc: RunningOIDC) -> TokenOf:
    """Tokens of users, by the id in them."""

    def mint(user_id: str, **claims: Any) -> str:
        return oidc.mint(sub=user_id, jti=uuid.uuid4().hex, **claims)

    return mint


@dataclass
class Account:
    """An account that the test watches, and the client of the API key that spends from it."""

    account_id: str
    user_id: str
    client: httpx.AsyncClient

    @property
    def user(self) -> dict[str, str]:
        return {"oauth_provider": PROVIDER, "external_id": self.user_id}

    @property
    def events(self) -> str:
        return f"/v1/billing/accounts/{self.account_id}/events"

    async def post(self, path: str, **fields: Any) -> Any:
        answer = await self.client.post(path, json={**self.user, **fields})
        assert answer.is_success, answer.text
        return answer.json()

    async def charge(self, **fields: Any) -> Any:
        return await self.post("/v1/billing/charges", amount_minor=100, **fields)


@pytest.fixture
async def clients(server: Server) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:

        def client_with(**headers: str) -> httpx.AsyncClient:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            limits = httpx.Limits(max_connections=None)
            client = httpx.AsyncClient(base_url=server.url, headers=named, timeout=30, limits=limits)
            stack.push_async_callback(client.aclose)
            return client

        yield client_with


@pytest.fixture
def agent(clients: Callable[..., httpx.AsyncClient], key: str) -> httpx.AsyncClient:
    return clients(X_API_Key=key)


@pytest.fixture
async def account(agent: httpx.AsyncClient) -> Account:
    return await new_account(agent)


async def new_account(agent: httpx.AsyncClient, credits: int = 20) -> Account:
    """An account with credits: two entries, of its free uses and of these."""
    user_id = uuid.uuid4().hex
    body = {"oauth_provider": PROVIDER, "external_id": user_id, "initial_balance_minor": credits * 100}
    made = await agent.post("/v1/billing/accounts", json=body)
    return Account(made.json()["account_id"], user_id, agent)
