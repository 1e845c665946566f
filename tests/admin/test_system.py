"""The page that says whether everything that should run is running, and the audit rows behind all others."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from app.auth.admins.admins import add_admin
from app.clock import request_time
from app.db import Database
from app.verification import verify_books
from tests.admin.conftest import DOMAIN, SECRET, Office
from tests.books import connected
from tests.conftest import running_app, settings_for
from tests.databases import Urls

SYSTEM = "/admin/system"


@pytest.fixture
async def fresh(own_database: Urls) -> AsyncIterator[Office]:
    """A back office where nothing has happened yet."""
    async with running_app(settings_for(own_database, admin_session_secret=SECRET)) as app:
        office = Office(app, own_database)
        async with office.db.transaction() as tx:
            now = datetime.now(UTC)
            await add_admin(tx, f"viewer@{DOMAIN}", "viewer", now=now)
            office.tokens["viewer"] = await office.sessions.open_for_script(tx, f"viewer@{DOMAIN}", now=now)
        yield office


async def system(office: Office) -> dict[str, Any]:
    async with office.client("viewer") as viewer:
        answer = await viewer.get(SYSTEM)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def execute(office: Office, sql: str, *values: object) -> None:
    async with connected(office.urls) as connection:
        await connection.execute(sql, *values)


async def test_nothing_has_happened_yet(fresh: Office) -> None:
    shown = await system(fresh)
    [version] = await fresh.rows("SELECT version_num, current_setting('server_version') AS server FROM alembic_version")
    assert (shown["migration"], shown["database"]) == (version["version_num"], version["server"])
    assert shown["version"] == fresh.app.version
    assert abs(datetime.fromisoformat(shown["now"]) - datetime.now(UTC)) < timedelta(seconds=30)
    assert (shown["worker_seen_at"], shown["ledger"]) == (None, None)
    assert shown["queue"] == {"waiting": 0, "failed": 0, "oldest_waiting_at": None}
    nothing = {"last_received_at": None, "received_24h": 0, "for_review_24h": 0}
    assert shown["webhooks"] == [{"environment": "live", **nothing}, {"environment": "test", **nothing}]
    assert (shown["paid_but_not_credited"], shown["for_review"]) == (0, 0)


async def test_queue_and_worker(fresh: Office) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    jobs = [
        *(("todo", now + timedelta(hours=1)), ("todo", now - timedelta(minutes=5)), ("todo", now - timedelta(hours=2))),
        *(("failed", now - timedelta(days=1)), ("succeeded", now - timedelta(days=2)), ("doing", now)),
    ]
    for status, at in jobs:
        await execute(
            fresh,
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status, scheduled_at) "
            "VALUES ('default', 'nothing', $1::text::procrastinate_job_status, $2)",
            *(status, at),
        )
    for seen_at in (now - timedelta(hours=1), now - timedelta(seconds=7)):
        await execute(fresh, "INSERT INTO procrastinate_workers (last_heartbeat) VALUES ($1)", seen_at)
    shown = await system(fresh)
    queue = shown["queue"]
    assert (queue["waiting"], queue["failed"]) == (3, 1)
    assert datetime.fromisoformat(queue["oldest_waiting_at"]) == now - timedelta(hours=2)
    assert datetime.fromisoformat(shown["worker_seen_at"]) == now - timedelta(seconds=7)


async def test_job_that_waits_for_no_time_is_as_old_as_it_is(fresh: Office) -> None:
    """The queue runs a job without a time at once, so one that is still there waits."""
    await execute(fresh, "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'nothing')")
    assert (await system(fresh))["queue"]["waiting"] == 1


async def test_webhooks_of_each_environment(fresh: Office) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    events = [
        *(("live", "review", timedelta(hours=23)), ("live", "applied", timedelta(minutes=1))),
        *(("live", "review", timedelta(hours=25)), ("test", "ignored", timedelta(days=9))),
    ]
    for i, (environment, outcome, age) in enumerate(events):
        await execute(
            fresh,
            "INSERT INTO payment_events (environment, event_id, type, outcome, created_at, received_at) "
            "VALUES ($1, $2, 'charge.refunded', $3, $4, $4)",
            *(environment, f"evt_{i}", outcome, now - age),
        )
    live, test = (await system(fresh))["webhooks"]
    assert (live["environment"], live["received_24h"], live["for_review_24h"]) == ("live", 2, 1)
    assert datetime.fromisoformat(live["last_received_at"]) == now - timedelta(minutes=1)
    assert (test["environment"], test["received_24h"], test["for_review_24h"]) == ("test", 0, 0)
    assert datetime.fromisoformat(test["last_received_at"]) == now - timedelta(days=9)


async def test_ledger_is_told_as_it_was_last_found(fresh: Office) -> None:
    db: Database = fresh.db
    await verify_books(db, datetime.now(UTC))
    ledger = (await system(fresh))["ledger"]
    assert (ledger["ok"], ledger["accounts"], ledger["entries"], ledger["problem"]) == (True, 0, 0, None)
    await execute(
        fresh,
        "INSERT INTO accounts (account_id, environment, currency, plan_name, daily_free, free, paid, debt, total_uses,"
        " last_entry_no, created_at, updated_at)"
        " VALUES (gen_random_uuid(), 'live', 'USD', 'free', 0, 0, 7, 0, 0, 0, now(), now())",
    )
    await verify_books(db, datetime.now(UTC))
    ledger = (await system(fresh))["ledger"]
    assert (ledger["ok"], ledger["accounts"]) == (False, 1)
    assert ledger["problem"]


async def test_clock_of_the_request_counts(fresh: Office) -> None:
    """A job due in an hour has not waited yet; in two hours it has."""
    due_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    await execute(
        fresh,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at) VALUES ('default', 'nothing', $1)",
        due_at,
    )
    assert (await system(fresh))["queue"]["oldest_waiting_at"] is None
    later = datetime.now(UTC) + timedelta(hours=2)
    fresh.app.dependency_overrides[request_time] = lambda: later
    assert datetime.fromisoformat((await system(fresh))["queue"]["oldest_waiting_at"]) == due_at


async def test_nobody_rewrites_the_audit_log(office: Office, support: httpx.AsyncClient) -> None:
    """Neither the service nor the schema's owner."""
    assert (await support.post("/admin/purchases/reconcile")).status_code == 202
    before = await office.rows("SELECT * FROM admin_audit_log ORDER BY audit_id")
    assert before
    statements = (
        "UPDATE admin_audit_log SET reason = 'another'",
        "DELETE FROM admin_audit_log",
        "TRUNCATE admin_audit_log",
    )
    for url in (office.urls.service, office.urls.owner):
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        finally:
            await connection.close()
    assert await office.rows("SELECT * FROM admin_audit_log ORDER BY audit_id") == before
