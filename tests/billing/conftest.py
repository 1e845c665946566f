"""The application with an issuer of users' tokens, and users who have one."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
from fastapi import FastAPI

from app.issuers import Issuer
from app.settings import Settings
from tests.conftest import running_app
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc

ClientWith = Callable[..., httpx.AsyncClient]


@pytest.fixture(scope="package")
def oidc() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture(scope="package")
async def site(settings: Settings, oidc: RunningOIDC) -> AsyncIterator[FastAPI]:
    """The application, with an issuer of user tokens."""
    issuer = {
        "issuer": oidc.issuer,
        "jwks_url": oidc.jwks_url,
        "audiences": [WEB.client_id],
        "provider": "oauth:google",
        "subject_claim": "email",
    }
    async with running_app(settings.model_copy(update={"issuers": [Issuer.model_validate(issuer)]})) as app:
        yield app


@pytest.fixture
async def client_with(site: FastAPI) -> AsyncIterator[ClientWith]:
    async with AsyncExitStack() as stack:

        def open_client(**headers: str) -> httpx.AsyncClient:
            transport = httpx.ASGITransport(site)
            client = httpx.AsyncClient(transport=transport, base_url="http://billing", headers=headers)
            stack.push_async_callback(client.aclose)
            return client

        yield open_client


@pytest.fixture
def person(client_with: ClientWith, oidc: RunningOIDC, user: dict[str, str]) -> httpx.AsyncClient:
    """The user's own client, with a token."""
    token = oidc.mint(email=user["external_id"], email_verified=True, jti=uuid.uuid4().hex)
    return client_with(Authorization=f"Bearer {token}")
