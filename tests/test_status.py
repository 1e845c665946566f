"""The public facts about the service."""

from datetime import UTC, datetime

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app.db import Database
from app.verification import verify_books
from tests.books import connected
from tests.conftest import ClientFor, running_app, settings_for
from tests.databases import Urls

TOKEN = "a-token-that-only-the-scraper-knows-of"


def samples(text: str) -> dict[str, float]:
    """Name and labels -> value."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def client_of(app: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://billing")  # type: ignore[arg-type]  # an ASGI app


async def test_root_and_health_need_no_key(client_for: ClientFor) -> None:
    client = client_for(None)
    assert (await client.get("/")).json()["service"] == "ciris-billing"
    health = await client.get("/health")
    assert (health.status_code, health.json()["database"]) == (200, "connected")


async def test_status_and_metrics_tell_of_the_last_verification(own_database: Urls) -> None:
    """Independent of the process that ran it."""
    gauge = "billing_ledger_verified_timestamp_seconds[]"
    db = Database(SecretStr(own_database.service))
    async with running_app(settings_for(own_database)) as app, client_of(app) as client:
        assert (await client.get("/v1/status")).json()["ledger"] is None
        verification = await verify_books(db, datetime.now(UTC))
        assert verification.ok
        ledger = (await client.get("/v1/status")).json()["ledger"]
        assert (ledger["ok"], ledger["accounts"], ledger["entries"]) == (True, 0, 0)
        passed = samples((await client.get("/metrics")).text)[gauge]
        assert passed == verification.finished_at.timestamp()
        async with connected(own_database) as connection:
            await connection.execute(
                "ALTER TABLE ledger_entries DROP CONSTRAINT ck_ledger_entries_balance_after CASCADE"
            )
        assert not (await verify_books(db, datetime.now(UTC))).ok
        assert (await client.get("/v1/status")).json()["ledger"]["ok"] is False
        assert samples((await client.get("/metrics")).text)[gauge] == passed
    await db.close()


async def test_metrics_count_requests_by_route_and_name_nobody(database: Urls) -> None:
    async with running_app(settings_for(database, metrics_token=TOKEN)) as app, client_of(app) as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            refused = await client.get("/metrics", headers=headers)
            assert (refused.status_code, refused.json()["code"]) == (401, "unauthorized")
        await client.get("/v1/billing/accounts/oauth:google/somebody@example.com")
        answer = await client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert "somebody" not in answer.text
    route = "/v1/billing/accounts/{oauth_provider}/{external_id:path}"
    labels = sorted({"method": "GET", "route": route, "status": "401"}.items())
    assert samples(answer.text)[f"billing_http_request_duration_seconds_count{labels}"] >= 1


async def test_metrics_answer_while_the_database_does_not(database: Urls) -> None:
    nowhere = settings_for(database, database_url="postgresql://nobody@127.0.0.1:1/nothing", database_timeout_s=0.5)
    async with running_app(nowhere) as app, client_of(app) as client:
        assert (await client.get("/metrics")).status_code == 200
        health = await client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        status = await client.get("/v1/status")
        assert (status.status_code, status.json()["status"]) == (200, "outage")
