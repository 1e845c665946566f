"""A small application behind the real dependencies, and keys to call it with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request

from app.auth.api_keys.hashing import Argon2
from app.auth.api_keys.keys import NewKey
from app.auth.api_keys.service import create_key
from app.auth.authenticator import Authenticator
from app.auth.caller import Caller, Environment, Permission
from app.auth.dependencies import EndUser, MoneyMinter, require
from app.db import Database, Session
from app.db.listener import NotificationListener
from app.errors import install_error_handlers, response_for
from app.http.service_name import service_name
from app.observability.requests import RequestContext
from app.settings import Settings
from tests.chaos.proxy import PostgresProxy

ALL_PERMISSIONS = frozenset({Permission.READ, Permission.WRITE, Permission.CREDIT})


class CountingArgon2(Argon2):
    """The real thing, how often it ran, and a gate that a test may close."""

    def __init__(self) -> None:
        super().__init__()
        self.verifications = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def verify(self, encoded: str, text: str) -> bool:
        self.verifications += 1
        await self.may_go_on.wait()
        return await super().verify(encoded, text)


class CountingDatabase(Database):
    """The real thing, and how often a connection was asked for."""

    uses = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        self.uses += 1
        async with super().transaction() as tx:
            yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Session]:
        self.uses += 1
        async with super().read() as session:
            yield session

    async def fetch_row(self, sql: str, *values: object) -> Mapping[str, Any] | None:
        self.uses += 1
        return await super().fetch_row(sql, *values)


def _described(caller: Caller) -> dict[str, Any]:
    return {
        "environment": caller.environment,
        "actor": [caller.actor.type, caller.actor.id],
        "permissions": sorted(caller.permissions),
        "user": None if caller.user is None else [caller.user.oauth_provider, caller.user.external_id],
    }


def create_app(settings: Settings, auth: Authenticator) -> FastAPI:
    app = FastAPI()
    app.state.settings = settings
    app.state.auth = auth

    @app.get("/read")
    async def read(caller: Annotated[Caller, Depends(require(Permission.READ))]) -> dict[str, Any]:
        return _described(caller)

    @app.get("/write")
    async def write(caller: Annotated[Caller, Depends(require(Permission.WRITE))]) -> dict[str, Any]:
        return _described(caller)

    @app.get("/own")
    async def own(caller: Annotated[Caller, Depends(require(Permission.READ, or_user=True))]) -> dict[str, Any]:
        return _described(caller)

    @app.get("/money")
    async def money(caller: MoneyMinter, request: Request) -> dict[str, Any]:
        return {**_described(caller), "service": service_name(request)}

    @app.get("/me")
    async def me(caller: EndUser) -> dict[str, Any]:
        return _described(caller)

    install_error_handlers(app)
    app.add_middleware(RequestContext, response_for=response_for)
    return app


@dataclass
class Process:
    """One server process: its pool, its authenticator and its application."""

    db: CountingDatabase
    auth: Authenticator
    app: FastAPI
    argon2: CountingArgon2
    stack: AsyncExitStack = field(repr=False)

    async def client(self, key: str | None = None, *, address: str = "198.51.100.1") -> httpx.AsyncClient:
        """Requests as they arrive from `address`."""
        transport = httpx.ASGITransport(self.app, client=(address, 50_000))
        headers = {} if key is None else {"X-API-Key": key}
        return await self.stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://billing", headers=headers)
        )

    async def status(self, key: str, path: str = "/read") -> int:
        return (await (await self.client(key)).get(path)).status_code


StartProcess = Callable[..., Awaitable[Process]]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Process]:
    db = CountingDatabase(settings.database_url, pool_size=10)
    argon2 = CountingArgon2()
    listener = NotificationListener(settings.database_url)
    auth = Authenticator(db, settings, listener, argon2=argon2)
    listener.start()
    auth.start()
    try:
        async with AsyncExitStack() as stack:
            yield Process(db, auth, create_app(settings, auth), argon2, stack)
    finally:
        await listener.stop()
        await auth.stop()
        await db.close()


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Fails with TimeoutError when `condition` does not come true."""
    for _ in range(int(timeout_s / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


@pytest.fixture
async def start_process(settings: Settings) -> AsyncIterator[StartProcess]:
    """Start another process's worth of authentication, with changed settings if need be, listening already."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> Process:
            process = await stack.enter_async_context(running(settings.model_copy(update=changes)))
            await until(process.auth.is_current)
            return process

        yield start


@pytest.fixture
async def process(start_process: StartProcess) -> Process:
    return await start_process()


@pytest.fixture
async def relay(settings: Settings) -> AsyncIterator[PostgresProxy]:
    """A way to the database that can fail. Processes reach it with `database_url=relay.url`."""
    relay = PostgresProxy(settings.database_url)
    await relay.start()
    yield relay
    await relay.stop()


MakeKey = Callable[..., Awaitable[NewKey]]


@pytest.fixture
def make_key(db: Database) -> MakeKey:
    async def make(
        permissions: Collection[Permission] = ALL_PERMISSIONS, *, environment: Environment = "live", **more: Any
    ) -> NewKey:
        async with db.transaction() as tx:
            return await create_key(
                tx,
                environment=environment,
                name="tests",
                permissions=permissions,
                **{"now": datetime.now(UTC), **more},
            )

    return make
