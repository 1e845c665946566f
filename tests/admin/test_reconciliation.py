"""Reconciliation of all purchases at an admin's request: the worker runs it once, and the audit log records it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.demo.stripe.webhooks import signature
from app.verification import verify_books
from app.worker.app import create_worker
from app.worker.periodic_jobs import MAX_ATTEMPTS
from app.worker.services import running_services
from tests.admin.conftest import DOMAIN
from tests.admin.shops import open_shop, sign_in
from tests.databases import Urls
from tests.payments.conftest import Shop

RECONCILE = "/admin/purchases/reconcile"
ADMIN = f"admin@{DOMAIN}"


@pytest.fixture
async def shop(own_database: Urls) -> AsyncIterator[Shop]:
    async with open_shop(own_database) as shop:
        yield shop


@pytest.fixture
async def admin(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with await sign_in(shop, "admin") as client:
        yield client


async def work(shop: Shop) -> None:
    """Run all due jobs, as a worker does."""
    async with running_services(shop.settings) as services:
        queue = create_worker(shop.settings, services)
        async with queue.open_async():
            await queue.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)


async def audit_rows(shop: Shop) -> list[dict[str, Any]]:
    rows = await shop.rows("SELECT * FROM admin_audit_log WHERE action LIKE 'purchase.reconcile%' ORDER BY audit_id")
    return [{**row, "after": json.loads(row["after"] or "null")} for row in rows]


async def paid_without_a_word(shop: Shop) -> UUID:
    """Return an account whose payment succeeded without a webhook."""
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    return account_id


async def test_asked_for_once_done_once_and_told_as_the_askers(shop: Shop, admin: httpx.AsyncClient) -> None:
    accounts = [await paid_without_a_word(shop) for _ in range(3)]
    assert (await admin.get(RECONCILE)).json() is None
    answers = await asyncio.gather(*(admin.post(RECONCILE) for _ in range(6)))
    assert {answer.status_code for answer in answers} == {202}
    [job_id] = {answer.json()["job_id"] for answer in answers}
    queued = (await admin.get(RECONCILE)).json()
    assert (queued["state"], queued["asked_by"], queued["finished_at"], queued["outcome"]) == (
        "queued",
        ADMIN,
        None,
        None,
    )
    assert len(await audit_rows(shop)) == 1, "nothing has happened yet"
    assert await shop.balances(accounts[0]) == (0, 0)

    await work(shop)
    done = (await admin.get(RECONCILE)).json()
    assert (done["job_id"], done["state"]) == (job_id, "finished")
    assert done["outcome"]["events"] + done["outcome"]["payments"] >= len(accounts)
    assert done["outcome"]["failed"] == 0
    assert [await shop.balances(account_id) for account_id in accounts] == [(20, 0)] * 3
    requested, outcome = await audit_rows(shop)
    assert (requested["action"], outcome["action"]) == ("purchase.reconcile_all", "purchase.reconciled_all")
    assert outcome["after"] == done["outcome"]
    same = ("admin_id", "admin_email", "session_id", "address", "request_id", "target_type", "target_id")
    assert [outcome[name] for name in same] == [requested[name] for name in same]
    assert (requested["target_type"], requested["target_id"], requested["admin_email"]) == ("job", str(job_id), ADMIN)
    assert outcome["created_at"] > requested["created_at"]

    assert (await admin.post(RECONCILE)).json()["job_id"] != job_id, "a new request must not reuse a finished job"
    await work(shop)
    assert [row["after"] for row in await audit_rows(shop)][3] == {"events": 0, "payments": 0, "failed": 0}
    assert (await verify_books(shop.db, shop.now)).ok


async def test_asked_while_one_runs_waits_for_its_end(shop: Shop, admin: httpx.AsyncClient) -> None:
    """Whether an admin or the clock began it."""
    account_id = await paid_without_a_word(shop)
    for task, lock in (("reconcile_all", "reconcile_all"), ("reconcile_payments", "reconcile_payments")):
        [running] = await shop.rows(
            """
            WITH living AS (INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id)
            INSERT INTO procrastinate_jobs (queue_name, task_name, status, lock, queueing_lock, worker_id)
            SELECT 'billing', $1, 'doing', 'reconcile_payments', $2, id FROM living RETURNING id
            """,
            *(task, lock),
        )
        requested = (await admin.post(RECONCILE)).json()
        assert (requested["state"], requested["job_id"] > running["id"]) == ("queued", True)
        assert (await admin.post(RECONCILE)).json()["job_id"] == requested["job_id"]
        await work(shop)
        assert (await admin.get(RECONCILE)).json()["state"] == "queued"
        await shop.execute("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id = $1", running["id"])
        await work(shop)
        assert (await admin.get(RECONCILE)).json()["state"] == "finished"
    assert await shop.balances(account_id) == (20, 0)


async def test_one_that_fails_is_seen_and_retried(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await paid_without_a_word(shop)
    job_id = (await admin.post(RECONCILE)).json()["job_id"]
    await shop.execute("ALTER TABLE payment_cursors RENAME TO payment_cursors_away")
    await work(shop)
    failed = (await admin.get(RECONCILE)).json()
    assert (failed["state"], failed["outcome"]) == ("failed", None)
    jobs = (await admin.get("/admin/system/jobs")).json()["jobs"]  # the clock's may have failed as well
    assert (job_id, "reconcile_all") in [(job["job_id"], job["task"]) for job in jobs]
    assert (await admin.get("/admin/system")).json()["queue"]["failed"] == len(jobs)
    await shop.execute("ALTER TABLE payment_cursors_away RENAME TO payment_cursors")
    assert (await admin.post(f"/admin/system/jobs/{job_id}/retry")).status_code == 204
    assert (await admin.get(RECONCILE)).json()["state"] == "queued"
    await work(shop)
    assert (await admin.get(RECONCILE)).json()["state"] == "finished"
    assert await shop.balances(account_id) == (20, 0)
    assert [row["action"] for row in await audit_rows(shop)] == ["purchase.reconcile_all", "purchase.reconciled_all"]


async def test_without_stripe_it_ends_and_tells_what_was_not_done(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await paid_without_a_word(shop)
    for method in ("GET", "POST"):
        await shop.control("failures", method=method, path="/v1/", status=503, times=1000)
    await admin.post(RECONCILE)
    await work(shop)
    done = (await admin.get(RECONCILE)).json()
    assert (done["state"], done["outcome"]["failed"] > 0) == ("finished", True)
    assert await shop.balances(account_id) == (0, 0)


async def deliver(shop: Shop, client: httpx.AsyncClient, event: dict[str, Any]) -> int:
    payload = json.dumps(event).encode()
    headers = {"Stripe-Signature": signature(shop.local.webhook_secret, payload, int(time.time()))}
    return (await client.post("/v1/billing/webhooks/stripe", content=payload, headers=headers)).status_code


async def test_a_webhook_that_failed_for_good_is_made_up_for_by_a_retry(shop: Shop, admin: httpx.AsyncClient) -> None:
    account_id = await paid_without_a_word(shop)
    await shop.execute("ALTER TABLE payment_events RENAME TO payment_events_away")
    [event] = await shop.events("payment_intent.succeeded")
    assert await deliver(shop, admin, event) == 500
    await shop.execute("ALTER TABLE payment_events_away RENAME TO payment_events")
    [purchase] = await shop.purchases(account_id)
    # The job that watches the purchase reaches its last attempt while Stripe is unavailable (an attempt asks 3 times).
    [job] = await shop.rows(
        "UPDATE procrastinate_jobs SET attempts = $1, scheduled_at = now() WHERE task_name = 'reconcile_purchase'"
        " RETURNING id",
        MAX_ATTEMPTS,
    )
    path = f"/v1/payment_intents/{purchase['payment_intent_id']}"
    await shop.control("failures", method="GET", path=path, status=503, times=3)
    await shop.control("failures", method="GET", path="/v1/events", status=503, times=1000)  # for the clock's job
    await work(shop)
    failed = {one["job_id"]: one for one in (await admin.get("/admin/system/jobs")).json()["jobs"]}
    assert failed[job["id"]]["args"]["purchase_id"] == str(purchase["purchase_id"])
    assert await shop.balances(account_id) == (0, 0)
    assert (await admin.post(f"/admin/system/jobs/{job['id']}/retry")).status_code == 204
    await work(shop)
    assert await shop.balances(account_id) == (20, 0)
    assert await deliver(shop, admin, event) == 200, "Stripe tries for days: a late event books nothing twice"
    assert await shop.balances(account_id) == (20, 0)
    assert (await verify_books(shop.db, shop.now)).ok
