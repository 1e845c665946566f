"""A back office for each test module: the application in this process, the local sign-in provider, and people."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.auth.admins.admins import Role, add_admin
from app.auth.admins.sessions import AdminSessions
from app.db import Database
from tests.books import connected
from tests.conftest import running_app, settings_for
from tests.databases import Urls, create_database, drop_database
from tests.demo.oidc_server import SPA, RunningOIDC, running_oidc
from tests.support.configurable_service import DOMAIN as DOMAIN
from tests.support.configurable_service import SECRET as SECRET
from tests.support.configurable_service import ConfigurableService, running_service


@dataclass
class Office:
    """The application with admins of every role, each with a session as scripts have it."""

    app: FastAPI
    urls: Urls
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def db(self) -> Database:
        db: Database = self.app.state.db
        return db

    @property
    def sessions(self) -> AdminSessions:
        sessions: AdminSessions = self.app.state.admin_sessions
        return sessions

    def client(self, role: Role | None) -> httpx.AsyncClient:
        """A client with a session of that role; None: without one. Follows no redirect, keeps cookies."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        transport = httpx.ASGITransport(self.app)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        async with connected(self.urls) as connection:
            return [dict(row) for row in await connection.fetch(sql, *values)]

    async def audit(self, action: str) -> list[dict[str, Any]]:
        """The audit rows of an action, oldest first."""
        return await self.rows("SELECT * FROM admin_audit_log WHERE action = $1 ORDER BY audit_id", action)


@pytest.fixture(scope="session")
def provider() -> Iterator[RunningOIDC]:
    with running_oidc() as provider:
        yield provider


@pytest.fixture(scope="module")
async def office(worker_id: str, provider: RunningOIDC, request: pytest.FixtureRequest) -> AsyncIterator[Office]:
    name = f"billing_{request.module.__name__.rpartition('.')[2]}_{worker_id}"
    urls = await create_database(name)
    settings = settings_for(
        urls,
        admin_oauth_issuer=provider.issuer,
        admin_oauth_client_id=SPA.client_id,
        admin_session_secret=SECRET,
        admin_email_domain=DOMAIN,
        public_url="http://127.0.0.1",
    )
    async with running_app(settings) as app:
        office = Office(app, urls)
        roles: tuple[Role, ...] = ("viewer", "support", "admin")
        async with office.db.transaction() as tx:
            for role in roles:
                await add_admin(tx, f"{role}@{DOMAIN}", role, now=datetime.now(UTC))
                office.tokens[role] = await office.sessions.open_for_script(
                    tx, f"{role}@{DOMAIN}", now=datetime.now(UTC)
                )
        yield office
    with contextlib.suppress(Exception):
        await drop_database(name)


@pytest.fixture
async def admin(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with office.client("admin") as client:
        yield client


@pytest.fixture
async def support(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with office.client("support") as client:
        yield client


@pytest.fixture
async def viewer(office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with office.client("viewer") as client:
        yield client


@pytest.fixture
async def service(own_database: Urls) -> AsyncIterator[ConfigurableService]:
    async with running_service(own_database) as service:
        yield service
