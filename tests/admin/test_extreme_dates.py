"""Dates at the edges: refused on input outside of the years 2000 to 2200, and read safely however they are stored."""

import contextlib
import os
import uuid
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from app.auth.api_keys.service import create_key
from app.auth.caller import Permission
from app.auth.id_tokens import queries as id_tokens_queries
from app.auth.id_tokens.revocations import revoke_tokens_before
from app.errors import InvalidRequest
from app.main import create_app
from app.timestamps import FAR_AHEAD, LONG_AGO
from tests.admin.conftest import Office
from tests.admin.test_routes import LEAST
from tests.books import connected
from tests.conftest import settings_for
from tests.databases import Urls
from tests.metering.conftest import put_in_force
from tests.processes import run_command
from tests.servers import environment
from tests.support.configurable_service import DOMAIN, LIVE, PACKS, ConfigurableService, pack, set_section, soon, user

KEYS, CHECK = "/admin/api-keys", "/v1/billing/check"
NEW_KEY = {"environment": "live", "name": "dates", "permissions": ["billing:read"]}
ID = str(uuid.UUID(int=7))
BEYOND: tuple[Any, ...] = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1970-01-01T00:00:00Z",
    "1999-12-31T23:59:59.999999Z",
    "2000-01-01T00:00:00+00:01",
    "2201-01-01T00:00:00Z",
    "2200-12-31T23:59:59.999999-00:01",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-12:00",
    "10000-01-01T00:00:00Z",
    "294277-01-01T00:00:00Z",
    "-4714-01-01T00:00:00Z",
    "infinity",
    "-infinity",
    "NaN",
    "253402300799",
    "-1",
    "1e400",
    "9" * 5000,
)
NUMBERS: tuple[Any, ...] = (0, -1, 253_402_300_799, 2**63, -(2**63), 10**30, 1e308, True)
WITHIN = ("2000-01-01T00:00:00Z", "2200-12-31T23:59:59.999999Z", "2001-01-01T00:00:00+14:00")
DAYS_BEYOND = ("0001-01-01", "1999-12-31", "2201-01-01", "9999-12-31", "10000-01-01", "infinity", "0", "9" * 5000)

QUERIES = {
    ("/admin/users", "active_since"),
    ("/admin/users", "inactive_since"),
    ("/admin/users.csv", "active_since"),
    ("/admin/users.csv", "inactive_since"),
    ("/admin/users/{account_id}/timeline", "until"),
    ("/admin/purchases", "since"),
    ("/admin/purchases", "until"),
    ("/admin/purchases.csv", "since"),
    ("/admin/purchases.csv", "until"),
    ("/admin/audit-logs", "since"),
    ("/admin/audit-logs", "until"),
    ("/admin/audit-logs.csv", "since"),
    ("/admin/audit-logs.csv", "until"),
}
OF_USAGE = {(path, name) for path in ("/v1/usage", "/v1/usage/me") for name in ("from", "to")}
"""Filters of API keys and users."""
OF_EVENTS = {("POST", path, "time") for path in ("/v1/usage", "/v1/usage/compute", "/v1/usage/quote")}
GRANTS = "/admin/users/{account_id}/grants"
BOOK = "/admin/price-books/{version}"
BODIES = {
    *(("POST", path, "expires_at") for path in (GRANTS, KEYS, "/v1/billing/grants")),
    ("PATCH", f"{KEYS}/{{key_id}}", "expires_at"),
    ("POST", f"{BOOK}/activate", "effective_at"),
    ("POST", f"{BOOK}/calculate", "at"),
}
DAYS = {
    (path, name)
    for _, path in LEAST
    if path.startswith("/admin/analytics/") and path != "/admin/analytics/cohorts"
    for name in ("from", "to")
} | {
    (path, name)
    for path in ("/admin/analytics/cohorts", "/admin/usage/events", "/admin/usage/events.csv", "/admin/usage/sums")
    for name in ("from", "to")
}


def formats(schema: Any) -> set[str]:
    found = {schema["format"]} if "format" in schema else set()
    return found.union(*(formats(option) for option in schema.get("anyOf", ())))


def test_the_tables_name_every_date_that_a_request_can_contain(database: Urls) -> None:
    described = create_app(settings_for(database)).openapi()
    queries, days, bodies = set(), set(), set()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if "date-time" in formats(parameter["schema"]):
                    queries.add((path, parameter["name"]))
                if "date" in formats(parameter["schema"]):
                    days.add((path, parameter["name"]))
            for content in operation.get("requestBody", {}).get("content", {}).values():
                name = content["schema"].get("$ref", "").rpartition("/")[2]
                properties = described["components"]["schemas"].get(name, {}).get("properties", {})
                found = {field for field, schema in properties.items() if formats(schema) & {"date", "date-time"}}
                bodies |= {(method.upper(), path, field) for field in found}
    assert (queries, days, bodies) == (QUERIES | OF_USAGE, DAYS, BODIES | OF_EVENTS)


@pytest.mark.parametrize(("path", "name"), sorted(QUERIES))
async def test_a_filter_takes_times_of_the_years_2000_to_2200(admin: httpx.AsyncClient, path: str, name: str) -> None:
    for moment in BEYOND:
        answer = await admin.get(path.format(account_id=ID), params={name: moment})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error"), moment
    for moment in WITHIN:
        answer = await admin.get(path.format(account_id=ID), params={name: moment})
        assert answer.status_code == (404 if "{account_id}" in path else 200), moment


@pytest.mark.parametrize(("path", "name"), sorted(DAYS))
async def test_a_report_takes_days_of_the_years_2000_to_2200(admin: httpx.AsyncClient, path: str, name: str) -> None:
    for day in DAYS_BEYOND:
        assert (await admin.get(path, params={name: day})).status_code == 422, day
    for day in ("2000-01-01", "2200-12-31"):
        answer = await admin.get(path, params={"from": day, "to": day})
        assert answer.status_code == 200, answer.text


async def test_a_key_expires_in_the_years_2000_to_2200(office: Office, admin: httpx.AsyncClient) -> None:
    good = await admin.post(KEYS, json={**NEW_KEY, "expires_at": WITHIN[1]})
    assert good.status_code == 201
    path = f"{KEYS}/{good.json()['key_id']}"
    before = (
        await office.rows("SELECT count(*) FROM api_keys"),
        await office.rows("SELECT count(*) FROM admin_audit_log"),
    )
    for moment in BEYOND + NUMBERS:
        for answer in (
            await admin.post(KEYS, json={**NEW_KEY, "expires_at": moment}),
            await admin.patch(path, json={"expires_at": moment}),
        ):
            assert answer.status_code == 422, (moment, answer.text)
    after = (
        await office.rows("SELECT count(*) FROM api_keys"),
        await office.rows("SELECT count(*) FROM admin_audit_log"),
    )
    assert after == before
    assert (await admin.get(path)).json()["expires_at"] == "2200-12-31T23:59:59.999Z"
    assert (await admin.patch(path, json={"expires_at": WITHIN[0]})).json()["status"] == "expired"


async def test_the_services_refuse_what_the_routes_refuse(office: Office, now: datetime) -> None:
    """Commands call them, too."""
    for moment in (datetime.max.replace(tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)):
        async with office.db.transaction() as tx:
            with pytest.raises(InvalidRequest, match="expires_at must lie in the years 2000 to 2200"):
                await create_key(
                    tx,
                    environment="live",
                    name="n",
                    permissions={Permission.READ},
                    now=now,
                    expires_at=moment,
                )
    for days in ("0", "-1", "36501", str(10**12), "9" * 5000):
        printed = run_command(
            {**os.environ, **environment(office.urls)},
            *("keys", "create", "--name", "n", "--permission", "billing:read", "--days", days),
        )
        assert printed.status == 2, printed.err
        assert "Traceback" not in printed.err


@pytest.mark.parametrize("cursor", [f"{2**63 - 1}.{ID}", f"0.{ID}", f"253402300799999999.{ID}", f"{'9' * 50}.{ID}"])
async def test_a_cursor_names_no_time_beyond(viewer: httpx.AsyncClient, cursor: str) -> None:
    answer = await viewer.get("/admin/users", params={"sort": "last_activity", "cursor": cursor})
    assert answer.status_code == 422


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "2201-01-01", "0000-01-01"])
async def test_a_cursor_names_no_day_beyond(viewer: httpx.AsyncClient, day: str) -> None:
    params = {"order": "newest", "cursor": f"{day}_{ID}"}
    assert (await viewer.get("/admin/analytics/margin/interactions", params=params)).status_code == 422


# --- stored ones ---

STORED = {
    "infinity": FAR_AHEAD,
    "-infinity": LONG_AGO,
    "4713-01-01 00:00:00+00 BC": LONG_AGO,
    "0001-01-01 00:00:00+00": LONG_AGO,
    "1969-12-31 23:59:59.999999+00": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    "9999-12-31 23:59:59.999999+00": FAR_AHEAD,
    "294276-12-31 23:59:59+00": FAR_AHEAD,
}


@pytest.mark.parametrize("stored", STORED)
async def test_every_connection_reads_every_stored_time(office: Office, stored: str) -> None:
    sql = f"SELECT '{stored}'::timestamptz AS at, ARRAY['{stored}'::timestamptz] AS many"
    row = await office.db.fetch_row(sql)
    assert row is not None
    read = [(row["at"], row["many"])]
    for connection in (office.db.transaction(), office.db.read(), office.db.consistent_read()):
        async with connection as session:
            read.append(tuple((await session.exec_driver_sql(sql)).one()))
    async with office.db.snapshot() as snapshot:
        record = await snapshot.fetchrow(sql)
        assert record is not None
        read.append((record["at"], record["many"]))
    assert read == [(STORED[stored], [STORED[stored]])] * 5
    for moment in (datetime.now(UTC), STORED[stored], LONG_AGO.astimezone(), datetime.max.replace(tzinfo=UTC)):
        async with office.db.transaction() as session:
            back = (await session.exec_driver_sql("SELECT $1::timestamptz", (moment,))).scalar_one()
        assert back == min(max(moment, LONG_AGO), FAR_AHEAD)


COLUMNS = ("created_at", "expires_at", "revoked_at", "grace_ends_at", "last_used_at")


async def keys_with_bad_dates(office: Office, admin: httpx.AsyncClient, stored: str) -> dict[str, dict[str, str]]:
    """Column that holds the date -> key."""
    keys = {}
    for column in COLUMNS:
        keys[column] = (await admin.post(KEYS, json={**NEW_KEY, "name": f"bad {column}"})).json()
        if column == "grace_ends_at":  # only a rotated key has one
            assert (await admin.post(f"{KEYS}/{keys[column]['key_id']}/rotate")).status_code == 201
        async with connected(office.urls) as connection:  # bound values would not get through the driver
            where = f"key_id = '{keys[column]['key_id']}'"
            await connection.execute(f"UPDATE api_keys SET {column} = '{stored}' WHERE {where}")
    return keys


@pytest.mark.parametrize("stored", STORED)
async def test_keys_are_administered_and_used_with_any_stored_date(
    office: Office, admin: httpx.AsyncClient, stored: str
) -> None:
    good = (await admin.post(KEYS, json=NEW_KEY)).json()
    keys = await keys_with_bad_dates(office, admin, stored)
    listed = {key["key_id"]: key for key in (await admin.get(KEYS)).json()["api_keys"]}
    assert good["key_id"] in listed
    assert (await admin.get(f"{KEYS}.csv")).status_code == 200
    env = {**os.environ, **environment(office.urls), "TZ": "Pacific/Kiritimati"}
    printed = run_command(env, "keys", "list", "--json")
    assert printed.status == 0, printed.err
    async with office.client(None) as agent:
        for key in (good, *keys.values()):
            status = listed[key["key_id"]]["status"]
            answer = await agent.post(CHECK, json=user("dates@example.com"), headers={"X-API-Key": key["api_key"]})
            assert answer.status_code == (200 if status in ("active", "rotated") else 401), (key, answer.text)
    read = STORED[stored].replace(microsecond=STORED[stored].microsecond // 1000 * 1000)
    for column, key in keys.items():
        path, shown = f"{KEYS}/{key['key_id']}", listed[key["key_id"]]
        assert datetime.fromisoformat(shown[column]) == read
        is_active = shown["status"] == "active"
        assert (await admin.patch(path, json={"name": "renamed"})).status_code == (200 if is_active else 409)
        assert (await admin.post(f"{path}/rotate")).status_code == (201 if is_active else 409)
        assert (await admin.post(f"{path}/revoke")).json()["status"] == "revoked"


@pytest.mark.parametrize("stored", STORED)
async def test_a_stored_cutoff_decides_about_tokens(office: Office, now: datetime, stored: str) -> None:
    name = f"{uuid.uuid4()}@example.com"
    async with office.db.transaction() as tx:
        await revoke_tokens_before(
            tx, now, environment="live", oauth_provider="oauth:google", external_id=name, now=now
        )
    async with connected(office.urls) as connection:
        await connection.execute(f"UPDATE token_cutoffs SET not_before = '{stored}' WHERE external_id = '{name}'")
    states = await id_tokens_queries.find_token_states(office.db, [("t", "live", "oauth:google", name)])
    state = states["t"]
    assert state.not_before == STORED[stored]
    assert (now < state.not_before) is (STORED[stored] == FAR_AHEAD)


TIMES = """
    SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables
     USING (table_schema, table_name)
     WHERE table_schema = 'public' AND data_type = 'timestamp with time zone' AND table_type = 'BASE TABLE'
       AND table_name NOT IN ('admin_sessions', 'admin_users', 'api_keys') ORDER BY 1, 2
"""
"""Without the credentials of those who ask."""


async def spoil(urls: Urls, stored: str) -> set[str]:
    """Set every time in the database to `stored`, where the schema allows it; the tables that have such rows now."""
    spoilt = set()
    async with connected(urls) as connection:
        await connection.execute("SET session_replication_role = replica")  # no triggers: the ledger is append-only
        for table, column in await connection.fetch(TIMES):
            with contextlib.suppress(asyncpg.IntegrityConstraintViolationError):
                done = await connection.execute(
                    f'UPDATE "{table}" SET "{column}" = \'{stored}\' WHERE "{column}" IS NOT NULL'
                )
                spoilt |= set() if done == "UPDATE 0" else {table}
    return spoilt


async def test_every_page_reads_every_stored_time(service: ConfigurableService) -> None:
    """The pages do not depend on the writer of a time: one bad row must not close a page."""
    office, agent = await service.office(), await service.agent()
    await office.put(LIVE, json=service.keys())
    await set_section(office, PACKS, 0, packs=[pack("p", 500, 20)])
    buyer = user("dates@example.com")
    await soon(lambda: is_created(agent.post("/v1/billing/purchases", json={**buyer, "pack": "p"})))
    usage = {"interaction_id": "i", "total_llm_calls": 1, "total_prompt_tokens": 1, "total_completion_tokens": 1}
    models = {"models_used": ["m"], "actual_cost_cents": 1, "duration_ms": 1}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/billing/charges": {"amount_minor": 100, "idempotency_key": "k"},
        "/v1/tools/charge": {"product_type": "web_search"},
        "/v1/billing/litellm/usage": {**usage, **models},
        "/v1/billing/credits": {
            "amount_minor": 100_000,
            "currency": "USD",
            "description": "d",
            "transaction_type": "grant",
        },
    }
    for path, body in bodies.items():
        assert (await agent.post(path, json={**buyer, **body})).status_code in (200, 201), path
    await put_in_force(service.first.state.db)
    metric = {"type": "llm_tokens", "provider": "anthropic", "model": "claude-3-5-sonnet", "output_tokens": 1}
    unpaid = {**buyer, "event_id": "e", "metric": {**metric, "input_tokens": 1}}
    assert (await agent.post("/v1/usage", json=unpaid)).status_code == 402
    [account] = await service.rows(
        "SELECT account_id, usage_id FROM account_identities JOIN usage_events USING (account_id)"
    )
    [run] = await service.rows(
        """
        INSERT INTO runs (account_id, run_uuid, run_id, ancestors, status, fingerprint, metadata,
                          created_at, updated_at)
        SELECT account_id, gen_random_uuid(), 'r', '{}', 'open', '', '{}', now(), now() FROM accounts LIMIT 1
        RETURNING run_uuid
        """
    )
    [subscription] = await service.rows(
        """
        WITH accounts AS (SELECT account_id FROM accounts LIMIT 1), invoices AS (
          INSERT INTO subscription_invoices
          SELECT account_id, 'stripe', 'in_1', 'sub_1', now(), now(), 'open', 'USD', 1, 0, now(), 1, now(), '[]', '[]',
                 '{}', '{}', '{}', 0, 0, now() FROM accounts)
        INSERT INTO subscriptions (account_id, provider, subscription_id, environment, at, seen_at, status,
                                   period_start, period_end, anchor, started_at, cancel_at, updated_at)
        SELECT account_id, 'stripe', 'sub_1', 'live', now(), now(), 'past_due', now(), now(), now(), now(), now(), now()
          FROM accounts
        RETURNING subscription_id
        """
    )
    [book] = await service.rows("SELECT min(version) AS version FROM price_books")
    [purchase] = await service.rows("SELECT purchase_id FROM purchases")
    [admin] = await service.rows(f"SELECT admin_id FROM admin_users WHERE email = 'viewer@{DOMAIN}'")
    ids = {**account, **run, **book, **purchase, **admin, "key_id": service.api_key.split("_")[2], "section": "packs"}
    ids |= {**subscription, "name": "standard"}
    paths = [path for method, path in LEAST if method == "GET" and "{alert_id}" not in path]
    for stored in ("infinity", "-infinity", "4713-01-01 00:00:00+00 BC", "294276-12-31 23:59:59+00"):
        spoilt = await spoil(service.urls, stored)
        assert {"accounts", "charges", "credits", "ledger_entries", "purchases", "admin_audit_log"} <= spoilt
        for path in paths:
            answer = await office.get(path.format(**ids))
            assert answer.status_code in (200, 404), (stored, path, answer.text)
            assert answer.status_code == 200 or path == "/admin/oauth/user"
        for path in ("/v1/billing/transactions", "/v1/tools/balance"):
            assert (await agent.get(path, params=buyer)).status_code == 200, (stored, path)
        replay = {**buyer, "amount_minor": 100, "idempotency_key": "k"}
        assert (await agent.post("/v1/billing/charges", json=replay)).status_code == 409
        assert (await agent.post("/v1/billing/charges", json={**replay, "idempotency_key": stored})).status_code == 201
        assert (await agent.post("/v1/billing/check", json=buyer)).status_code == 200


async def is_created(answer: Awaitable[httpx.Response]) -> bool:
    return (await answer).status_code == 201
