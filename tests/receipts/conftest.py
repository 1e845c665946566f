"""A served API that signs statements, with an issuer of users' tokens, and callers of it."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from app.auth.caller import Permission
from app.db import Database
from app.issuers import Issuer
from app.main import create_app
from tests.books import connected
from tests.conftest import make_key, settings_for
from tests.databases import Urls, create_database, drop_database
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc
from tests.receipts.verifier import read
from tests.servers import serving
from tests.support.signing import SIGNING_KEY

PROVIDER = "oauth:google"


@dataclass
class Service:
    """A running service: its address, its database, and clients by name (reader, other, writer, keyless)."""

    url: str
    urls: Urls
    oidc: RunningOIDC
    stack: AsyncExitStack
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    async def client(self, url: str | None = None, **headers: str) -> httpx.AsyncClient:
        client = httpx.AsyncClient(base_url=url or self.url, headers=headers, timeout=30)
        return await self.stack.enter_async_context(client)

    async def person(self, external_id: str, url: str | None = None) -> httpx.AsyncClient:
        """A user's client, with a token."""
        token = self.oidc.mint(sub=external_id, jti=uuid.uuid4().hex)
        return await self.client(url, Authorization=f"Bearer {token}")

    async def account(self, external_id: str | None = None) -> tuple[UUID, str]:
        """A new account with 3 free uses and 10 paid credits, 2 entries; and its user's id."""
        external_id = external_id or f"{uuid.uuid4()}@example.com"
        user = {"oauth_provider": PROVIDER, "external_id": external_id, "initial_balance_minor": 1000}
        made = await self.clients["writer"].post("/v1/billing/accounts", json=user)
        assert made.status_code == 201, made.text
        return UUID(made.json()["account_id"]), external_id

    async def charge(self, external_id: str, credits: int) -> None:
        body = {"oauth_provider": PROVIDER, "external_id": external_id, "amount_minor": credits * 100}
        charged = await self.clients["writer"].post("/v1/billing/charges", json=body)
        assert charged.status_code == 201, charged.text

    async def statement(self, account_id: UUID, client: str = "reader", **params: Any) -> dict[str, Any]:
        """A statement that the reader fetches, as its payload says. It is verified elsewhere."""
        answer = await self.clients[client].get(path_of(account_id), params=params)
        assert answer.status_code == 200, answer.text
        return read(answer.json()["statement"])

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        async with connected(self.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql, *values)]


def path_of(account_id: UUID) -> str:
    return f"/v1/billing/accounts/{account_id}/statement"


@pytest.fixture(scope="package")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="package")
def issuers(oidc: RunningOIDC) -> list[Issuer]:
    return [Issuer(issuer=oidc.issuer, jwks_url=oidc.jwks_url, audiences=[WEB.client_id], provider=PROVIDER)]


@pytest.fixture(scope="package")
async def service(oidc: RunningOIDC, issuers: list[Issuer]) -> AsyncIterator[Service]:
    name = f"receipts_{uuid.uuid4().hex}"
    urls = await create_database(name)
    db = Database(SecretStr(urls.service))
    read_only, write = (Permission.READ,), (Permission.READ, Permission.WRITE, Permission.CREDIT)
    keys = {
        "reader": await make_key(db, "live", *read_only),
        "other": await make_key(db, "test", *read_only),
        "writer": await make_key(db, "live", *write),
        "without": await make_key(db, "live", Permission.USAGE_READ),
    }
    await db.close()
    app = create_app(settings_for(urls, issuers=issuers, signing_keys=[SIGNING_KEY]))
    async with AsyncExitStack() as stack:
        url = stack.enter_context(serving(app))
        service = Service(url, urls, oidc, stack)
        service.clients = {name: await service.client(**{"X-API-Key": key}) for name, key in keys.items()}
        service.clients["keyless"] = await service.client()
        yield service
    await drop_database(name)
