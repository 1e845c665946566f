"""TLS to PostgreSQL as its URL asks for it, by every driver; and what each mode refuses."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.connection_urls import PostgresUrl
from app.db import Database
from tests.certificates import Authority, Pair
from tests.databases import PASSWORD, Urls
from tests.processes import run_command
from tests.tls_proxy import Seen, TlsProxy


@dataclass(frozen=True)
class Secured:
    """A PostgreSQL behind TLS whose certificate is for the host `localhost`, by `authority`."""

    proxy: TlsProxy
    service: str
    authority: Authority
    stranger: Authority
    client: Pair

    def url(self, host: str = "localhost", **parameters: object) -> str:
        credentials, _, rest = self.service.partition("@")
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"{credentials}@{host}:{self.proxy.port}/{rest.partition('/')[2]}?{query}"


@pytest.fixture(scope="module")
async def secured(database: Urls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
    address = urlsplit(database.service)
    assert address.hostname
    assert address.port
    server = authority.issue("server", dns="localhost")
    proxy = TlsProxy((address.hostname, address.port), server, authority)
    await proxy.start()
    yield Secured(proxy, database.service, authority, stranger, authority.issue("client"))
    await proxy.stop()


async def by_requests(url: str, sql: str) -> object:
    db = Database(SecretStr(url), pool_size=3)
    try:
        row = await db.fetch_row(sql)
        assert row is not None
        return row[0]  # type: ignore[index]  # the driver's rows are sequences as well
    finally:
        await db.close()


async def by_transactions(url: str, sql: str) -> object:
    db = Database(SecretStr(url), pool_size=3)
    try:
        async with db.transaction() as tx:
            return (await tx.execute(text(sql))).scalar_one()
    finally:
        await db.close()


async def by_snapshots(url: str, sql: str) -> object:
    db = Database(SecretStr(url), pool_size=3)
    try:
        async with db.snapshot() as snapshot:
            return await snapshot.fetchval(sql)
    finally:
        await db.close()


async def by_listener(url: str, sql: str) -> object:
    connection = await asyncpg.connect(**PostgresUrl.parse(url).asyncpg(suffix="-listener"))
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def by_queue(url: str, sql: str) -> object:
    async with await psycopg.AsyncConnection.connect(PostgresUrl.parse(url).libpq()) as connection:
        row = await (await connection.execute(sql.encode())).fetchone()
        assert row is not None
        return row[0]


Driver = Callable[[str, str], Awaitable[object]]
DRIVERS = [by_requests, by_transactions, by_snapshots, by_listener, by_queue]


def url_of(secured: Secured, mode: str, ca: str | None, host: str) -> str:
    trusted: dict[str, object] = {} if ca is None else {"sslrootcert": authority_of(secured, ca)}
    return secured.url(host, sslmode=mode, **trusted)


def authority_of(secured: Secured, ca: str) -> Path:
    return (secured.authority if ca == "its" else secured.stranger).certificate


@pytest.mark.parametrize("ask", DRIVERS)
@pytest.mark.parametrize(
    ("mode", "ca", "host", "encrypted"),
    [
        ("disable", None, "localhost", False),
        ("prefer", None, "localhost", True),
        ("require", None, "127.0.0.1", True),
        ("require", "its", "127.0.0.1", True),
        ("verify-ca", "its", "127.0.0.1", True),
        ("verify-full", "its", "localhost", True),
        ("require", "a stranger's", "localhost", None),
        ("verify-ca", "a stranger's", "localhost", None),
        ("verify-full", "a stranger's", "localhost", None),
        ("verify-full", "its", "127.0.0.1", None),
    ],
)
async def test_each_mode_connects_as_it_should_or_not_at_all(
    secured: Secured, ask: Driver, mode: str, ca: str | None, host: str, encrypted: bool | None
) -> None:
    url = url_of(secured, mode, ca, host)
    if encrypted is None:
        seen = len(secured.proxy.seen)
        with pytest.raises((OSError, psycopg.OperationalError)):
            await ask(url, "SELECT 1")
        assert len(secured.proxy.seen) == seen, "the password was sent"
    else:
        assert await ask(url, "SELECT 1") == 1
        assert secured.proxy.seen[-1] == Seen(encrypted, None)


@pytest.mark.parametrize("ask", DRIVERS)
async def test_a_client_certificate_is_shown(secured: Secured, ask: Driver) -> None:
    pair: dict[str, object] = {"sslcert": secured.client.certificate, "sslkey": secured.client.key}
    url = secured.url("localhost", sslmode="verify-full", sslrootcert=secured.authority.certificate, **pair)
    assert await ask(url, "SELECT 1") == 1
    assert secured.proxy.seen[-1] == Seen(True, "client")


@pytest.mark.parametrize("ask", DRIVERS)
async def test_a_server_without_tls_is_refused_where_tls_is_required(database: Urls, ask: Driver) -> None:
    with pytest.raises((OSError, psycopg.OperationalError), match=r"(?i)SSL"):
        await ask(f"{database.service}?sslmode=require", "SELECT 1")
    assert await ask(f"{database.service}?sslmode=prefer", "SELECT 1") == 1


@pytest.mark.parametrize("ask", DRIVERS)
async def test_the_application_is_named_as_its_operator_wishes(database: Urls, ask: Driver) -> None:
    name = await ask(f"{database.service}?application_name=agents", "SELECT current_setting('application_name')")
    assert str(name).startswith("agents")


@pytest.mark.parametrize(("ca", "works"), [("its", True), ("a stranger's", False)])
async def test_migrations_use_the_same(secured: Secured, database: Urls, ca: str, works: bool) -> None:
    url = replace(secured, service=database.owner).url(sslmode="verify-full", sslrootcert=authority_of(secured, ca))
    env = {**os.environ, "MODE": "development", "DATABASE_URL": url}
    done = await asyncio.to_thread(run_command, env, "upgrade", "head", program="alembic")
    assert (done.status == 0) is works, done.out + done.err
    assert PASSWORD not in done.out + done.err
