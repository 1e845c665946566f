"""Fixtures: a real PostgreSQL, the application on it, and keys that may call it."""

import contextlib
import functools
import gc
import os
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import certifi
import httpx
import hypothesis
import pytest
import stripe
from fastapi import FastAPI
from pydantic import SecretStr

from app.accounts.directory import Identity
from app.auth.api_keys.keys import UsageTerms
from app.auth.api_keys.service import create_key
from app.auth.caller import Actor, Environment, Permission
from app.billing.service import BillingService
from app.clock import request_time
from app.configuration.service import Configuration
from app.db import Database
from app.demo.postgres import ephemeral_cluster
from app.ledger.money import NANOS_PER_UNIT
from app.main import create_app
from app.observability.logs import configure_logging
from app.settings import Mode, Settings
from app.verification import verify_books
from tests.databases import ADMIN_URL, Urls, create_database, drop_database, prepare
from tests.log_lines import NoLinesBetweenTests

_cluster = contextlib.ExitStack()
ACTOR = Actor("system", "tests")
LONGEST = (
    "tests/test_openapi.py::test_no_input_gives_a_server_error",
    "tests/test_machine.py",
    "tests/test_deployment.py",
    "tests/test_migrations.py",
    "tests/payments/test_history.py::test_every_permutation",
    "tests/subscriptions/test_settlement.py::test_every_order",
    "tests/demo/test_traffic.py",
    "tests/chaos/test_chaos.py",
)


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until everything is collected
    configure_logging(level="INFO", json=True)
    config.pluginmanager.register(NoLinesBetweenTests())
    # No test depends on time: on a new machine the first text that Hypothesis makes takes seconds.
    hypothesis.settings.register_profile(
        "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("untimed")
    _read_certificates_once()
    _start_postgresql(config)


def _read_certificates_once() -> None:
    """Each HTTP client reads what it trusts, for 35 ms, and the tests make thousands of clients: these share it."""
    read = ssl.create_default_context
    read_once = functools.cache(read)
    by_default = {certifi.where(), stripe.ca_bundle_path, os.environ.get("SSL_CERT_FILE")}

    def create_default_context(*args: Any, **options: Any) -> ssl.SSLContext:
        is_default = not args and set(options) == {"cafile"} and options["cafile"] in by_default
        return (read_once if is_default else read)(*args, **options)

    ssl.create_default_context = create_default_context


def _start_postgresql(config: pytest.Config) -> None:
    """Start PostgreSQL once, in the controlling process; the workers find it in their environment."""
    if not hasattr(config, "workerinput") and ADMIN_URL not in os.environ:
        prepare(_cluster.enter_context(ephemeral_cluster()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests come first, so that no worker is left alone with one of them at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives as long as the session: the modules, and eleven thousand tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    _cluster.close()


@pytest.fixture(scope="session")
async def database(worker_id: str) -> AsyncIterator[Urls]:
    """The worker's own database. Its ledger must verify after all of the worker's tests."""
    name = f"billing_{worker_id}_{os.getpid()}"
    urls = await create_database(name)
    yield urls
    db = Database(SecretStr(urls.service))
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    await drop_database(name)
    assert verification.ok, verification.problem


@pytest.fixture
async def own_database() -> AsyncIterator[Urls]:
    """A migrated database that a test may spoil."""
    name = f"billing_{uuid.uuid4().hex}"
    yield await create_database(name)
    await drop_database(name)


def settings_for(urls: Urls, **changes: object) -> Settings:
    values = {
        "mode": Mode.DEVELOPMENT,
        "database_url": urls.service,
        "rate_limit_per_key": 1_000_000,
        "rate_limit_per_address": 1_000_000,
        "rate_limit_per_account": 1_000_000,
        "request_timeout_s": 60,  # the machine may be busy
    }
    return Settings.model_validate({**values, **changes})


@pytest.fixture(scope="session")
def settings(database: Urls) -> Settings:
    return settings_for(database)


@pytest.fixture(scope="session")
async def db(settings: Settings) -> AsyncIterator[Database]:
    db = Database(settings.database_url, pool_size=20)
    yield db
    await db.close()


@pytest.fixture
def billing(db: Database, settings: Settings) -> BillingService:
    return BillingService(db, Configuration(db, settings))


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def identity() -> Identity:
    """A user that does not exist yet."""
    return Identity("live", "oauth:google", f"{uuid.uuid4()}@example.com")


@pytest.fixture
def user(identity: Identity) -> dict[str, str]:
    """The same user as request fields."""
    return {"oauth_provider": identity.oauth_provider, "external_id": identity.external_id}


@contextlib.asynccontextmanager
async def running_app(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its lifespan, in this process."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="session")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    async with running_app(settings) as app:
        yield app


@dataclass(frozen=True)
class Keys:
    agent: str
    """billing:read and billing:write, live"""
    credit: str
    """all three permissions, live"""
    test: str
    """all three permissions, test"""
    reader: str
    """billing:read only, live"""


async def make_key(db: Database, environment: Environment = "live", *permissions: Permission) -> str:
    """A new API key's text, shown once."""
    return await make_usage_key(db, BOUNDED, environment, *permissions)


BOUNDED = UsageTerms(max_cost_nanos=1_000 * NANOS_PER_UNIT)


async def make_usage_key(
    db: Database, usage: UsageTerms, environment: Environment = "live", *permissions: Permission
) -> str:
    """The text of a new API key that reports usage on these terms."""
    async with db.transaction() as tx:
        key = await create_key(
            tx,
            environment=environment,
            name="tests",
            permissions=frozenset(permissions),
            now=datetime.now(UTC),
            usage=usage,
        )
    return key.secret_text


@pytest.fixture(scope="session")
async def keys(db: Database) -> Keys:
    read, write, credit = Permission.READ, Permission.WRITE, Permission.CREDIT
    return Keys(
        agent=await make_key(db, "live", read, write),
        credit=await make_key(db, "live", read, write, credit),
        test=await make_key(db, "test", read, write, credit),
        reader=await make_key(db, "live", read),
    )


ClientFor = Callable[[str | None], httpx.AsyncClient]


@pytest.fixture
async def client_for(app: FastAPI) -> AsyncIterator[ClientFor]:
    """Clients of the application in this process, by API key (None: without)."""
    async with contextlib.AsyncExitStack() as stack:
        opened: list[httpx.AsyncClient] = []

        def open_client(key: str | None) -> httpx.AsyncClient:
            headers = {} if key is None else {"X-API-Key": key}
            transport = httpx.ASGITransport(app)
            opened.append(httpx.AsyncClient(transport=transport, base_url="http://billing", headers=headers))
            return opened[-1]

        stack.push_async_callback(_close, opened)
        yield open_client


async def _close(clients: list[httpx.AsyncClient]) -> None:
    for client in clients:
        await client.aclose()


@pytest.fixture
def agent(client_for: ClientFor, keys: Keys) -> httpx.AsyncClient:
    """An agent's client: may check and charge."""
    return client_for(keys.agent)


@pytest.fixture
def minter(client_for: ClientFor, keys: Keys) -> httpx.AsyncClient:
    """A client that may give credits as well."""
    return client_for(keys.credit)


@pytest.fixture
def set_clock(app: FastAPI) -> Iterator[Callable[[datetime], None]]:
    """Move the application's clock; it is right again after the test."""

    def move(to: datetime) -> None:
        app.dependency_overrides[request_time] = lambda: to

    yield move
    app.dependency_overrides.pop(request_time, None)
