"""A provider for a module's tests, as new for each; and Authlib's client of it."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from authlib.integrations.httpx_client import AsyncOAuth2Client

from tests.demo.oidc_provider.protocol import CALLBACK
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RunningOIDC]:
    with running_oidc() as server:
        yield server


@pytest.fixture
def oidc(shared_server: RunningOIDC) -> Iterator[RunningOIDC]:
    shared_server.reset()
    yield shared_server
    shared_server.reset()


@pytest.fixture
async def client(oidc: RunningOIDC) -> AsyncIterator[Any]:
    async with AsyncOAuth2Client(
        WEB.client_id,
        WEB.client_secret,
        scope="openid email profile",
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
        trust_env=False,
    ) as client:
        yield client
