"""Background jobs on the real queue: a job exists exactly when its cause does, and survives the end of its worker."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import asyncpg
import pytest
import stripe
from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.auth.id_tokens.revocations import revoke_token
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.errors import is_database_unavailable
from app.ledger.verification import last_verification
from app.outbox import defer
from app.settings import Settings
from app.worker.app import LONGER_S, create_worker
from app.worker.periodic_jobs import MAX_ATTEMPTS
from app.worker.services import JOBS_AT_ONCE, Services, running_services
from tests.admin.analytics_fill import fill
from tests.books import balances, connected
from tests.conftest import ACTOR, settings_for
from tests.databases import ADMIN_URL, Urls
from tests.processes import Process
from tests.servers import LocalStripe, environment, running_stripe

LONG_AGO = datetime.now(UTC) - timedelta(minutes=11)


@pytest.fixture
def local_stripe() -> Iterator[LocalStripe]:
    with running_stripe() as local:
        yield local


@pytest.fixture
def settings(own_database: Urls, local_stripe: LocalStripe) -> Settings:
    return settings_for(own_database, stripe_live=local_stripe.keys, stripe_api_base=local_stripe.url)


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with running_services(settings) as services:
        yield services


async def work(settings: Settings, services: Services) -> None:
    """Do every job that is due, and come back."""
    queue = create_worker(settings, services)
    async with queue.open_async():
        await queue.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)


async def jobs(urls: Urls, task: str) -> list[dict[str, Any]]:
    async with connected(urls) as connection:
        rows = await connection.fetch(
            "SELECT status::text, attempts, scheduled_at FROM procrastinate_jobs WHERE task_name = $1 ORDER BY id", task
        )
    return [dict(row) for row in rows]


async def test_job_exists_exactly_when_its_cause_does(services: Services, own_database: Urls) -> None:
    args = {"account_id": str(uuid.uuid4()), "purchase_id": str(uuid.uuid4())}
    due = datetime.now(UTC) + timedelta(minutes=10)

    async with services.db.transaction() as tx:
        await defer(tx, "reconcile_purchase", args, due)
        await tx.rollback()
    assert await jobs(own_database, "reconcile_purchase") == []
    async with services.db.transaction() as tx:
        await defer(tx, "reconcile_purchase", args, due)
    assert await jobs(own_database, "reconcile_purchase") == [{"status": "todo", "attempts": 0, "scheduled_at": due}]


async def buy(settings: Settings, services: Services, at: datetime) -> tuple[uuid.UUID, str]:
    """Open a purchase at that time; its account and its payment."""
    identity = Identity("live", "oauth:google", "buyer@example.com")
    account_id = await BillingService(services.db, Configuration(services.db, settings)).accounts.directory.resolve(
        identity, Profile(), ACTOR, at
    )
    payment = await services.payments.open_purchase("live", account_id, now=at)
    return account_id, payment.payment_id


async def pay(local: LocalStripe, payment_id: str) -> None:
    sdk = stripe.StripeClient(
        local.secret_key, base_addresses={"api": local.url}, http_client=stripe.HTTPXClient(timeout=5)
    )
    await sdk.v1.payment_intents.confirm_async(payment_id, {"payment_method": "pm_card_visa"})


async def test_purchase_is_looked_after_without_any_webhook(
    settings: Settings, services: Services, local_stripe: LocalStripe, own_database: Urls
) -> None:
    account_id, payment_id = await buy(settings, services, LONG_AGO)
    await pay(local_stripe, payment_id)
    assert (await balances(own_database, account_id))["paid"] == 0
    await work(settings, services)
    assert (await balances(own_database, account_id))["paid"] == 20
    assert [job["status"] for job in await jobs(own_database, "reconcile_purchase")] == ["succeeded"]


async def test_job_that_fails_is_tried_later_and_in_the_end_kept_for_a_person(
    settings: Settings, services: Services, own_database: Urls
) -> None:
    await buy(settings, services, LONG_AGO)
    unreachable = settings.model_copy(update={"stripe_api_base": "http://127.0.0.1:1"})
    async with running_services(unreachable) as without_stripe:
        await work(settings, without_stripe)
        (job,) = await jobs(own_database, "reconcile_purchase")
        assert job["status"] == "todo"
        async with connected(own_database) as connection:
            failed_at = await connection.fetchval(
                "SELECT max(e.at) FROM procrastinate_events e JOIN procrastinate_jobs j ON j.id = e.job_id"
                " WHERE j.task_name = 'reconcile_purchase' AND e.type = 'deferred_for_retry'"
            )
            # Once; more often where the worker is still there when the time has come. Each wait is twice the last one.
            wait_s = (job["scheduled_at"] - failed_at).total_seconds()
            assert wait_s == pytest.approx(2 ** job["attempts"], abs=0.9)
            await connection.execute(
                "UPDATE procrastinate_jobs SET attempts = $1, scheduled_at = now() WHERE status = 'todo'", MAX_ATTEMPTS
            )
        await work(settings, without_stripe)
    (job,) = await jobs(own_database, "reconcile_purchase")
    assert job["status"] == "failed"


STALL = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, attempts, queueing_lock)
    VALUES ('billing', $1, $2, 'doing', $3, $4)
"""
DUE = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, args, queueing_lock)
    VALUES ('billing', $1::text, $2, $1::text)
"""
OF_THE_CLOCK = '{"timestamp": 1}'


async def test_jobs_of_a_dead_worker_are_done_by_a_living_one(
    settings: Settings, services: Services, local_stripe: LocalStripe, own_database: Urls
) -> None:
    account_id, payment_id = await buy(settings, services, LONG_AGO)
    await pay(local_stripe, payment_id)
    async with connected(own_database) as connection:
        # Ahead of it stands what must not hold it up: a job of the clock that is due again anyway, and a job that its
        # workers have died of too often.
        await connection.execute(STALL, "reconcile_payments", OF_THE_CLOCK, 0, "reconcile_payments")
        await connection.execute(DUE, "reconcile_payments", OF_THE_CLOCK)
        await connection.execute(STALL, "reconcile_purchase", "{}", MAX_ATTEMPTS, None)
        await connection.execute(
            "UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = 'reconcile_purchase' AND status = 'todo'"
        )
        await connection.execute(
            "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour' WHERE status = 'todo'"
        )
        await connection.execute(DUE, "retry_stalled_jobs", OF_THE_CLOCK)
    await work(settings, services)
    await work(settings, services)
    found = [job["status"] for job in await jobs(own_database, "reconcile_purchase")]
    assert found == ["succeeded", "failed"]
    assert (await balances(own_database, account_id))["paid"] == 20
    statuses = [job["status"] for job in await jobs(own_database, "reconcile_payments")]
    assert statuses[:2] == ["failed", "todo"]


async def test_a_job_that_takes_too_long_has_failed(
    settings: Settings, services: Services, own_database: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LONGER_S, "roll_up", 0.2)
    async with connected(own_database) as connection, connection.transaction():
        await connection.execute("SELECT FROM rollup_state FOR UPDATE")
        async with connected(own_database) as other:
            await other.execute(DUE, "roll_up", OF_THE_CLOCK)
        async with asyncio.timeout(20):  # its statement may wait for a minute
            await work(settings, services)
    assert {job["status"] for job in await jobs(own_database, "roll_up")} == {"failed"}


async def test_clean_up_forgets_what_is_over(settings: Settings, services: Services, own_database: Urls) -> None:
    await buy(settings, services, LONG_AGO)
    async with connected(own_database) as connection:
        await connection.execute(STALL, "reconcile_purchase", "{}", 1, None)
        await connection.execute("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE status = 'todo'")
        await connection.execute("UPDATE procrastinate_jobs SET status = 'failed' WHERE status = 'doing'")
        await connection.execute("UPDATE procrastinate_events SET at = at - interval '4 days'")
        await connection.execute(DUE, "clean_up", OF_THE_CLOCK)
    now = datetime.now(UTC)
    async with services.db.transaction() as tx:
        await revoke_token(tx, "expired", expires_at=now - timedelta(days=2), now=now - timedelta(days=3))
        await revoke_token(tx, "in force", expires_at=now + timedelta(days=2), now=now)
    await work(settings, services)
    assert [job["status"] for job in await jobs(own_database, "reconcile_purchase")] == ["failed"]
    async with connected(own_database) as connection:
        assert [row["token_id"] for row in await connection.fetch("SELECT token_id FROM revoked_tokens")] == [
            "in force"
        ]


async def test_worker_brings_the_reports_sums_up_to_date(
    settings: Settings, services: Services, own_database: Urls
) -> None:
    await fill(own_database, accounts=10, uses=100, days=3)
    async with connected(own_database) as connection:
        await connection.execute(DUE, "roll_up", OF_THE_CLOCK)
    await work(settings, services)
    assert [job["status"] for job in await jobs(own_database, "roll_up")][:1] == ["succeeded"]
    async with connected(own_database) as connection:
        assert await connection.fetchval("SELECT sum(uses) FROM usage_days") == 100


@contextlib.contextmanager
def running_worker(urls: Urls, **env: str) -> Iterator[Process]:
    with tempfile.NamedTemporaryFile() as log, running_worker_with(log, urls, env) as worker:
        yield worker


@contextlib.contextmanager
def running_worker_with(log: IO[bytes], urls: Urls, env: Mapping[str, str]) -> Iterator[Process]:
    process = Process(["worker"], {**os.environ, **environment(urls), **env}, log, log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_worker_verifies_a_new_installation_and_ends_on_sigterm(own_database: Urls) -> None:
    db = Database(SecretStr(own_database.service))
    with running_worker(own_database) as worker:
        await until(lambda: is_registered(own_database))
        verification = await last_verification(db)
        assert verification is not None
        assert verification.ok
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 10) == 0
    assert not await is_registered(own_database)
    await db.close()


async def test_job_under_way_is_finished_on_sigterm(own_database: Urls) -> None:
    with running_worker(own_database, DATABASE_TIMEOUT_S="20") as worker:
        await until(lambda: is_registered(own_database))
        async with connected(own_database) as connection, connection.transaction():
            await connection.execute("LOCK TABLE revoked_tokens")  # which it wants to purge
            async with connected(own_database) as other:
                await other.execute(DUE.replace("$1::text)", "NULL)"), "clean_up", OF_THE_CLOCK)
            await until(lambda: waits_for_a_lock(own_database))
            worker.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert worker.poll() is None
        assert await asyncio.to_thread(worker.wait, 10) == 0
    assert "succeeded" in [job["status"] for job in await jobs(own_database, "clean_up")]


async def waits_for_a_lock(urls: Urls) -> bool:
    async with connected(urls) as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 60
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def is_registered(urls: Urls) -> bool:
    async with connected(urls) as connection:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM procrastinate_workers)"))


@contextlib.asynccontextmanager
async def away(urls: Urls) -> AsyncIterator[None]:
    """The database cuts every connection and takes no new ones."""
    name = urls.superuser.rsplit("/", 1)[1]
    admin = await asyncpg.connect(os.environ[ADMIN_URL])
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    try:
        yield
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await admin.close()


async def test_worker_outlives_an_outage_of_the_database(own_database: Urls, tmp_path: Path) -> None:
    printed = tmp_path / "printed"
    with printed.open("wb") as log, running_worker_with(log, own_database, {}) as worker:
        await until(lambda: is_registered(own_database))

        async def has_tried_again() -> bool:
            assert worker.poll() is None, printed.read_text()
            return printed.read_text().count("database_unavailable") >= 2

        async with away(own_database):
            await until(has_tried_again)
        async with connected(own_database) as connection:
            # With a separate lock: the clock may have written one in the same minute.
            await connection.execute(DUE.replace("$1::text)", "NULL)"), "clean_up", OF_THE_CLOCK)

        async def is_done() -> bool:
            return "succeeded" in [job["status"] for job in await jobs(own_database, "clean_up")]

        await until(is_done)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 10) == 0


async def test_connections_of_the_queue_that_were_cut_while_idle_are_replaced(
    settings: Settings, services: Services, own_database: Urls
) -> None:
    queue = create_worker(settings, services)
    async with queue.open_async(), connected(own_database) as connection:
        await queue.check_connection_async()
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert ended
        assert await queue.check_connection_async()


async def test_jobs_do_not_wait_for_a_connection_that_could_not_be_made(settings: Settings, own_database: Urls) -> None:
    async def uses_reports(services: Services) -> None:
        async with services.reports.read():
            pass

    async with running_services(settings) as services, away(own_database):
        jobs = [asyncio.create_task(uses_reports(services)) for _ in range(JOBS_AT_ONCE)]
        done, _ = await asyncio.wait(jobs, timeout=20)  # their statements may take a minute
        assert len(done) == JOBS_AT_ONCE
        assert all(is_database_unavailable(job.exception() or AssertionError()) for job in done)


async def test_worker_that_waits_for_the_database_ends_on_sigterm(own_database: Urls) -> None:
    with running_worker(own_database) as worker:
        await until(lambda: is_registered(own_database))
        async with away(own_database):
            await asyncio.sleep(2)
            worker.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.wait, 20) == 0
