"""People with sessions of both kinds, and whether a session works."""

import base64
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.auth.admins.admins import Role, add_admin
from app.clock import request_time
from tests.admin.conftest import DOMAIN, SECRET, Office
from tests.admin.test_routes import LEAST
from tests.conftest import running_app, settings_for
from tests.databases import Urls

COOKIE = "ciris_billing_admin"
WRITES = [route for route in LEAST if route[0] != "GET"]
USER, LOGOUT, ADMINS = "/admin/oauth/user", "/admin/oauth/logout", "/admin/admins"
SetClock = Callable[[datetime], None]


@dataclass(frozen=True)
class Person:
    admin_id: UUID
    email: str
    token: str
    """Of a session that began when the person came."""
    session_id: UUID

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def claims_of(token: str) -> dict[str, Any]:
    segment = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return claims


async def person(office: Office, role: Role, *, now: datetime | None = None) -> Person:
    """A new admin with a session."""
    now = now or datetime.now(UTC)
    email = f"{uuid.uuid4().hex}@{DOMAIN}"
    async with office.db.transaction() as tx:
        admin = await add_admin(tx, email, role, now=now)
        token = await office.sessions.open_for_script(tx, email, now=now)
    return Person(admin.admin_id, email, token, UUID(claims_of(token)["jti"]))


async def another_session(office: Office, of: Person) -> Person:
    async with office.db.transaction() as tx:
        token = await office.sessions.open_for_script(tx, of.email, now=datetime.now(UTC))
    return Person(of.admin_id, of.email, token, UUID(claims_of(token)["jti"]))


def browser(office: Office, someone: Person) -> httpx.AsyncClient:
    """A client whose session is in the cookie."""
    client = office.client(None)
    client.cookies.set(COOKIE, someone.token, domain="127.0.0.1", path="/admin")
    return client


def script(office: Office, someone: Person) -> httpx.AsyncClient:
    client = office.client(None)
    client.headers.update(someone.bearer)
    return client


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == code


async def csrf(client: httpx.AsyncClient) -> dict[str, str]:
    return {"X-CSRF-Token": (await client.get(USER)).json()["csrf_token"]}


async def audit_rows(office: Office) -> int:
    (row,) = await office.rows("SELECT count(*) AS n FROM admin_audit_log")
    count: int = row["n"]
    return count


async def stored(office: Office, session_id: UUID) -> dict[str, Any]:
    (row,) = await office.rows("SELECT * FROM admin_sessions WHERE session_id = $1", session_id)
    return row


@pytest.fixture(scope="module")
async def second(office: Office) -> AsyncIterator[Office]:
    """Another process's application on the same database."""
    async with running_app(office.app.state.settings) as app:
        yield Office(app, office.urls, office.tokens)


@pytest.fixture
async def at(office: Office, second: Office) -> AsyncIterator[SetClock]:
    """Move the clock of both; it is right again after the test."""

    def move(to: datetime) -> None:
        for app in (office.app, second.app):
            app.dependency_overrides[request_time] = lambda: to

    yield move
    for app in (office.app, second.app):
        app.dependency_overrides.pop(request_time, None)


@pytest.fixture
async def small(own_database: Urls) -> AsyncIterator[Office]:
    """An office without admins, on a database that the test may damage."""
    settings = settings_for(own_database, admin_session_secret=SECRET, admin_email_domain=DOMAIN)
    async with running_app(settings) as app:
        yield Office(app, own_database)


async def dead(someone: Person, *offices: Office) -> None:
    """Neither as a bearer nor as a cookie is the token worth anything, in any process."""
    for office in offices:
        for make in (browser, script):
            async with make(office, someone) as client:
                refused(await client.get(USER), 401, "admin_unauthorized")


async def alive(someone: Person, *offices: Office) -> None:
    for office in offices:
        for make in (browser, script):
            async with make(office, someone) as client:
                assert (await client.get(USER)).status_code == 200


def parsed(row: dict[str, Any]) -> dict[str, Any]:
    """An audit row with its JSON read."""
    return {**row, **{name: json.loads(row[name]) if row[name] else None for name in ("before", "after")}}


async def active_admins(office: Office) -> set[UUID]:
    rows = await office.rows("SELECT admin_id FROM admin_users WHERE role = 'admin' AND disabled_at IS NULL")
    return {row["admin_id"] for row in rows}
