"""A server with an issuer of users' tokens, whose users the usage keys name by `user_id`."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from app.issuers import Issuer
from tests.databases import create_database, drop_database
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc
from tests.metering.conftest import PROVIDER, Desk, running_desk

ORIGIN = "https://zos.example.com"
ClientOf = Callable[..., httpx.AsyncClient]


@pytest.fixture(scope="package")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="package")
async def desk(oidc: RunningOIDC) -> AsyncIterator[Desk]:
    issuer = Issuer(issuer=oidc.issuer, jwks_url=oidc.jwks_url, audiences=[WEB.client_id], provider=PROVIDER)
    name = f"neighbours_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with running_desk(urls, issuers=[issuer], cors_origins=[ORIGIN]) as desk:
        yield desk
    await drop_database(name)


@pytest.fixture
async def client_of(desk: Desk, oidc: RunningOIDC) -> AsyncIterator[ClientOf]:
    """Clients of users, by the id in their token."""
    async with AsyncExitStack() as stack:

        def open_client(user_id: str, **claims: Any) -> httpx.AsyncClient:
            token = oidc.mint(sub=user_id, jti=uuid.uuid4().hex, **claims)
            client = httpx.AsyncClient(base_url=desk.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
            stack.push_async_callback(client.aclose)
            return client

        yield open_client


@pytest.fixture
def user_id() -> str:
    """A user without an account."""
    return str(uuid.uuid4())


@pytest.fixture
def own(client_of: ClientOf, user_id: str) -> httpx.AsyncClient:
    """This user's client."""
    return client_of(user_id)
