"""Logs: each event with its account and key, never with a person's data or a secret, also when requests fail."""

import asyncio
import contextlib
import json
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError
from sqlalchemy.exc import DBAPIError

from app.auth.admins.admins import add_admin
from app.auth.admins.sessions import AdminSessions
from app.auth.caller import Permission
from app.db import Database
from app.demo.stripe.webhooks import signature
from app.errors import describe
from app.outbox import defer
from tests.books import connected
from tests.conftest import make_key, settings_for
from tests.databases import PASSWORD, ROOT, Urls
from tests.servers import LocalStripe, Server, environment, running_server, running_stripe

MARK = f"zq{secrets.token_hex(6)}"
"""In every value that is about a person, or a secret."""
SESSION_SECRET = f"the back office's secret {MARK}"
METRICS_TOKEN = f"the-scraper's-token-{MARK}"
USER = {"oauth_provider": "oauth:google", "external_id": f"{MARK}/id"}
PROFILE = {"customer_email": f"{MARK}@example.com", "display_name": f"Ada {MARK}", "wa_id": MARK}
CHARGE = {
    **USER,
    **PROFILE,
    "amount_minor": 100,
    "currency": "USD",
    "idempotency_key": f"key {MARK}",
    "description": f"for {MARK}",
    "metadata": {"channel_id": MARK},
}
BREAK = """
    CREATE FUNCTION quote_it() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no room for %', NEW USING DETAIL = NEW::text, HINT = NEW::text; END $$;
    CREATE TRIGGER quote_it BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION quote_it();
"""


@dataclass
class Service:
    """A running server with a local Stripe, an API key, and an admin's session."""

    url: str
    server: Server
    urls: Urls
    stripe: LocalStripe
    key: str
    session: str

    async def execute(self, sql: str) -> None:
        async with connected(self.urls) as connection:
            await connection.execute(sql)

    def secrets(self) -> list[str]:
        """Return the texts that must appear nowhere."""
        digests = [self.key.rsplit("_", 1)[1], self.session, PASSWORD, self.stripe.webhook_secret]
        return [MARK, *digests, self.stripe.secret_key, quote(MARK)]


@pytest.fixture
async def service(own_database: Urls) -> Any:
    db = Database(SecretStr(own_database.service))
    sessions = AdminSessions(db, settings_for(own_database, admin_session_secret=SESSION_SECRET))
    key = await make_key(db, "live", *Permission)
    async with db.transaction() as tx:
        await add_admin(tx, f"{MARK}@example.com", "admin", now=datetime.now(UTC))
        session = await sessions.open_for_script(tx, f"{MARK}@example.com", now=datetime.now(UTC))
    await db.close()
    with running_stripe() as stripe:
        env = {
            **stripe.environment,
            "LOG_LEVEL": "DEBUG",
            "ADMIN_SESSION_SECRET": SESSION_SECRET,
            "ADMIN_EMAIL_DOMAIN": "example.com",
            "METRICS_TOKEN": METRICS_TOKEN,
        }
        with running_server(own_database, env=env) as server:
            yield Service(server.url, server, own_database, stripe, key, session)


def lines_of(printed: str) -> list[dict[str, Any]]:
    """The log, of which every line is JSON."""
    return [json.loads(line) for line in printed.splitlines()]


async def call_everything(client: httpx.AsyncClient, credentials: dict[str, str]) -> int:
    """Each operation of the API's description, with marks wherever a caller can write something."""
    description = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    marked = {
        **credentials,
        "User-Agent": MARK,
        "Referer": f"https://example.com/{MARK}",
        "Cookie": f"session={MARK}",
        "Stripe-Signature": f"t=1,v1={MARK}",
        "X-Request-ID": f"{MARK}@example.com",
        "X-Forwarded-For": MARK,
    }
    body = {**CHARGE, "product_type": MARK, "interaction_id": MARK, "reason": MARK, "email": MARK, "name": MARK}
    called = 0
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            for name in (p["name"] for p in operation.get("parameters", []) if p["in"] == "path"):
                path = path.replace(f"{{{name}}}", MARK).replace(f"{{{name}:path}}", MARK)
            query = dict.fromkeys([*names, "surplus"], MARK)
            for content in (json.dumps(body).encode(), f'{{"{MARK}'.encode()):
                await client.request(method, path, params=query, content=content, headers=marked)
                called += 1
    return called


async def use_it(service: Service, client: httpx.AsyncClient) -> None:
    """Run the requests that succeed: a customer from the first check to a paid purchase."""
    key = {"X-API-Key": service.key}

    async def post(path: str, body: dict[str, Any], expected: int) -> Any:
        answer = await client.post(path, json=body, headers=key)
        assert answer.status_code == expected, answer.text
        return answer.json()

    await post("/v1/billing/credits/check", {**USER, **PROFILE}, 200)
    await post("/v1/billing/charges", CHARGE, 201)
    await post("/v1/billing/charges", CHARGE, 409)
    await post("/v1/billing/charges", {**CHARGE, "amount_minor": 10**6, "idempotency_key": MARK}, 402)
    await post("/v1/tools/charge", {**USER, "product_type": "web_search", "idempotency_key": MARK}, 200)
    bought = await post("/v1/billing/purchases", {**USER, **PROFILE}, 201)
    event = {
        "id": "evt_1",
        "type": "payment_intent.succeeded",
        "created": 1,
        "data": {"object": {"id": MARK, **PROFILE}},
    }
    payload = json.dumps(event).encode()
    signed = {"Stripe-Signature": signature(service.stripe.webhook_secret, payload, int(time.time()))}
    assert (await client.post("/v1/billing/webhooks/stripe", content=payload, headers=signed)).status_code == 200
    assert (await client.get(f"/v1/billing/purchases/{bought['payment_id']}", headers=key)).status_code == 200
    account = f"/v1/billing/accounts/oauth:google/{USER['external_id']}"
    assert (await client.get(account, headers=key)).status_code == 200
    assert (await client.get("/v1/billing/transactions", params=USER, headers=key)).status_code == 200


async def break_it(service: Service, client: httpx.AsyncClient) -> None:
    """Dependencies that fail while they quote what they were given."""
    key = {"X-API-Key": service.key}
    await service.execute(BREAK.format(table="charges"))
    assert (
        await client.post("/v1/billing/charges", json={**CHARGE, "idempotency_key": "2"}, headers=key)
    ).is_server_error
    await service.execute(BREAK.format(table="account_identities").replace("quote_it()", "quote_identity()"))
    other = {**USER, **PROFILE, "external_id": f"{MARK} the second"}
    assert (await client.post("/v1/billing/credits/check", json=other, headers=key)).status_code == 500
    await service.execute("ALTER TABLE account_profiles RENAME TO gone")
    account = f"/v1/billing/accounts/oauth:google/{USER['external_id']}"
    assert (await client.get(account, headers=key)).status_code == 500
    await service.execute("ALTER TABLE gone RENAME TO account_profiles")
    await service.execute("ALTER TABLE account_identities RENAME TO gone")  # the answers of memory end as well
    assert (await client.post("/v1/billing/purchases", json=other, headers=key)).status_code == 500
    await service.execute("ALTER TABLE gone RENAME TO account_identities")


async def test_no_output_names_a_person_or_a_secret_whatever_happens(service: Service) -> None:
    wrong_key = f"{service.key.rsplit('_', 1)[0]}_{MARK}"
    async with httpx.AsyncClient(base_url=service.url, timeout=30) as client:
        await use_it(service, client)
        called = 0
        for credentials in (
            {"X-API-Key": service.key},
            {"X-API-Key": wrong_key},
            {"Authorization": f"Bearer {service.session}"},
            {"Authorization": f"Bearer {MARK}.{MARK}.{MARK}"},
        ):
            called += await call_everything(client, credentials)
        await break_it(service, client)
        scraped = await client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    service.server.stop()
    printed = service.server.printed()
    assert scraped.status_code == 200
    for secret in service.secrets():
        assert secret not in printed, next(line for line in printed.splitlines() if secret in line)
        assert secret not in scraped.text
    lines = lines_of(printed)
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) >= called > 400
    assert all(line["request_id"] and line["route"] for line in requests)
    failed = [line for line in lines if line["event"] == "unhandled_error"]
    assert len(failed) >= 4
    assert all(re.search(r"app/(accounts|billing)/", line["exception"]) for line in failed)  # the place of the error
    assert any("[P0001]" in line["exception"] for line in failed)
    names = ("request_id", "account_id", "key_id")
    charged = next(line for line in requests if (line["route"], line["status"]) == ("/v1/billing/charges", 201))
    assert all(name in charged for name in names)
    seen = next(line for line in requests if "{external_id:path}" in line["route"] and line["status"] == 200)
    assert all(name in seen for name in names)
    await failing_job_names_nobody(service)


@contextlib.contextmanager
def printing_worker(urls: Urls, log: IO[bytes]) -> Iterator["subprocess.Popen[bytes]"]:
    env = {**environment(urls), "LOG_LEVEL": "DEBUG"}
    command = [sys.executable, "-m", "app.cli", "worker"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


async def failing_job_names_nobody(service: Service) -> None:
    """The worker fails to take a person's words out of the books, and the database quotes them."""
    async with connected(service.urls) as connection:
        account_id = str(await connection.fetchval("SELECT account_id FROM charges LIMIT 1"))
    db = Database(SecretStr(service.urls.service))
    async with db.transaction() as tx:
        await defer(tx, "forget_texts", {"account_id": account_id}, datetime.now(UTC))
    await db.close()
    with tempfile.TemporaryFile() as log, printing_worker(service.urls, log):
        for _ in range(250):
            log.seek(0)
            if b"job_failed" in log.read():
                break
            await asyncio.sleep(0.1)
        log.seek(0)
        printed = log.read().decode()
    failed = [line for line in lines_of(printed) if line["event"] == "job_failed"]
    assert (failed[0]["task"], failed[0]["account_id"]) == ("forget_texts", account_id)
    assert "[P0001]" in failed[0]["exception"]
    assert not any(secret in printed for secret in service.secrets())


def test_errors_are_described_without_what_they_quote() -> None:
    assert describe(KeyError(MARK)) == "KeyError"
    assert describe(ValueError(f"invalid literal: {MARK}")) == "ValueError"
    assert describe(TypeError("'NoneType' object is not callable")) == "TypeError: 'NoneType' object is not callable"
    assert describe(ConnectionRefusedError(111, "Connection refused")) == "ConnectionRefusedError: Connection refused"
    with pytest.raises(ValidationError) as invalid:
        TypeAdapter(int).validate_python(MARK)
    assert MARK in str(invalid.value)
    assert describe(invalid.value) == "ValidationError"
    assert describe(DBAPIError(f"SELECT {MARK}", {"a": MARK}, ValueError(MARK))) == "ValueError"


async def test_database_errors_keep_their_code_and_the_names_in_them(database: Urls) -> None:
    for sql, message in (
        ("SELECT * FROM nowhere", 'UndefinedTableError: [42P01] relation "nowhere" does not exist'),
        (f"SELECT CAST('{MARK}' AS int)", "InvalidTextRepresentationError: [22P02]"),
        (f"DO $$ BEGIN RAISE EXCEPTION '{MARK}'; END $$", "RaiseError: [P0001]"),
    ):
        async with connected(database) as connection:
            with pytest.raises(asyncpg.PostgresError) as failed:
                await connection.execute(sql)
        assert describe(failed.value) == message
