"""`/v1/status`: its report on PostgreSQL and Stripe, how often it asks them, and how long it waits."""

import asyncio
import json
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app.demo.stripe import AccountConfig, create_app
from app.health.provider_status import ProviderProbe
from tests.conftest import running_app, settings_for
from tests.databases import PASSWORD, Urls
from tests.servers import serving

STRIPE_KEYS = {"secret_key": "sk_test_status", "publishable_key": "pk_test_status", "webhook_secret": "whsec_status"}
FIELDS = {"status", "latency_ms", "last_check", "message"}
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


class CountedStripe:
    def __init__(self) -> None:
        self.app = create_app(accounts={"sk_test_status": AccountConfig("pk_test_status", "whsec_status", None)})
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += scope["type"] == "http"
        await self.app(scope, receive, send)


@pytest.fixture
def stripe() -> Iterator[tuple[str, CountedStripe]]:
    counted = CountedStripe()
    with serving(counted) as url:  # type: ignore[arg-type]  # an ASGI application is all that it needs
        yield url, counted


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def status_of(app: FastAPI) -> dict[str, Any]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://billing") as client:
        answer = await client.get("/v1/status")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    assert {"service", "status", "version", "timestamp", "providers", "ledger", "replica"} == set(shown)
    assert set(shown["providers"]) == {"postgresql", "stripe"}
    for provider in shown["providers"].values():
        assert set(provider) == FIELDS
        datetime.fromisoformat(provider["last_check"])
        for secret in ("sk_test", "whsec", PASSWORD, "127.0.0.1", "localhost"):
            assert secret not in json.dumps(provider)
    return shown


async def test_while_everything_answers_it_is_operational_and_asked_once(
    database: Urls, stripe: tuple[str, CountedStripe]
) -> None:
    url, counted = stripe
    async with running_app(settings_for(database, stripe_live=STRIPE_KEYS, stripe_api_base=url)) as app:
        shown = await asyncio.gather(*(status_of(app) for _ in range(20)))
        shown += [await status_of(app) for _ in range(5)]
    assert {each["status"] for each in shown} == {"operational"}
    assert counted.requests == 1
    checks = {json.dumps(each["providers"], sort_keys=True) for each in shown}
    assert len(checks) == 1
    for provider in shown[0]["providers"].values():
        assert (provider["status"], provider["message"]) == ("operational", None)
        assert provider["latency_ms"] >= 0


async def test_without_payments_nothing_is_wrong(database: Urls) -> None:
    async with running_app(settings_for(database)) as app:
        shown = await status_of(app)
    assert shown["status"] == "operational"
    assert shown["providers"]["stripe"]["message"] == "Payments are not configured"
    assert shown["providers"]["stripe"]["latency_ms"] is None


async def test_without_a_database_it_is_an_outage(database: Urls, stripe: tuple[str, CountedStripe]) -> None:
    nowhere = settings_for(
        database,
        database_url=NOWHERE,
        database_timeout_s=0.5,
        stripe_live=STRIPE_KEYS,
        stripe_api_base=stripe[0],
    )
    async with running_app(nowhere) as app:
        shown = await status_of(app)
    assert (shown["status"], shown["ledger"]) == ("outage", None)
    postgresql = shown["providers"]["postgresql"]
    assert (postgresql["status"], postgresql["message"]) == ("outage", "PostgreSQL does not answer")


async def test_a_database_that_goes_is_an_outage_at_once(own_database: Urls) -> None:
    """Although the last check is cached."""
    async with running_app(settings_for(own_database, database_timeout_s=0.5)) as app:
        assert (await status_of(app))["status"] == "operational"
        name = own_database.service.rpartition("/")[2]
        connection = await asyncpg.connect(own_database.superuser.rpartition("/")[0] + "/postgres")
        try:
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            assert (await status_of(app))["status"] == "outage"
        finally:
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            await connection.close()


async def test_a_database_that_takes_no_writes_is_an_outage(own_database: Urls) -> None:
    name = own_database.service.rpartition("/")[2]
    connection = await asyncpg.connect(own_database.superuser)
    await connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await connection.close()
    async with running_app(settings_for(own_database)) as app:
        for _ in range(1200):  # until the health probe has noticed it
            if app.state.db.is_read_only:
                break
            await asyncio.sleep(0.05)
        shown = await status_of(app)
    assert (shown["status"], shown["providers"]["postgresql"]["message"]) == ("outage", "PostgreSQL accepts no writes")


@pytest.mark.parametrize("secret_key", ["sk_test_another"])
async def test_a_key_that_stripe_refuses_degrades(
    database: Urls, stripe: tuple[str, CountedStripe], secret_key: str
) -> None:
    keys = {**STRIPE_KEYS, "secret_key": secret_key}
    async with running_app(settings_for(database, stripe_live=keys, stripe_api_base=stripe[0])) as app:
        shown = await status_of(app)
    assert (shown["status"], shown["providers"]["stripe"]["status"]) == ("degraded", "outage")
    assert shown["providers"]["stripe"]["message"] == "Stripe refuses the configured key"


@pytest.mark.parametrize("base", ["http://127.0.0.1:1", "silent"])
async def test_without_stripe_it_is_degraded_and_soon_answered(database: Urls, silent: str, base: str) -> None:
    url = silent if base == "silent" else base
    changes: dict[str, Any] = {"stripe_live": STRIPE_KEYS, "stripe_api_base": url, "stripe_timeout_s": 60.0}
    async with running_app(settings_for(database, **changes)) as app:
        for _ in range(2):
            async with asyncio.timeout(changes["stripe_timeout_s"] / 2):
                shown = await status_of(app)
            assert shown["status"] == "degraded"
            assert shown["providers"]["stripe"]["status"] != "operational"
            assert shown["providers"]["stripe"]["latency_ms"] is None or base != "silent"


async def test_a_check_that_ends_late_still_counts() -> None:
    go = asyncio.Event()

    async def check() -> tuple[Any, str | None]:
        await go.wait()
        return "operational", None

    probe = ProviderProbe("It", check)
    assert [(await probe.current()).status for _ in range(3)] == ["degraded"] * 3
    go.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    late = await probe.current()
    assert (late.status, late.message) == ("degraded", "It answers slowly")


async def test_an_error_of_the_check_itself_is_an_outage_and_says_nothing() -> None:
    async def check() -> tuple[Any, str | None]:
        raise ValueError("postgresql://user:secret@host")

    finding = await ProviderProbe("It", check).current()
    assert (finding.status, finding.message) == ("outage", "It does not answer")
