"""Jobs that failed, and webhooks that need a person: seen, retried once, and written down."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import httpx
import pytest

from app.accounts.erasure import FORGET_TEXTS
from app.outbox import defer
from app.payments.facts import PurchaseStatus
from app.worker.app import create_worker
from app.worker.services import running_services
from tests.admin.conftest import Office

JOBS = "/admin/system/jobs"
EVENTS = "/admin/system/events"


async def failed_job(office: Office, task: str = FORGET_TEXTS, args: str = "{}", lock: str | None = None) -> int:
    [row] = await office.rows(
        """
        INSERT INTO procrastinate_jobs (queue_name, task_name, status, args, attempts, scheduled_at, queueing_lock)
        VALUES ('billing', $1, 'failed', $2, 11, now() - interval '1 hour', $3) RETURNING id
        """,
        *(task, args, lock),
    )
    job_id: int = row["id"]
    return job_id


async def jobs(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    """Those of all pages."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, int] | None = {}
    while cursor is not None:
        answer = await client.get(JOBS, params={"limit": 2, **params, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["jobs"]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    return found


async def test_failed_jobs_are_told_newest_first_without_secrets(office: Office, viewer: httpx.AsyncClient) -> None:
    args = '{"account_id": "a", "api_key": "cbk_live_1", "webhookSecret": "whsec", "n": 7}'
    made = [await failed_job(office, args=args) for _ in range(5)]
    async with office.db.transaction() as tx:
        await defer(tx, FORGET_TEXTS, {}, datetime.now(UTC) + timedelta(hours=1))
    found = await jobs(viewer)
    ids = [job["job_id"] for job in found]
    assert ids == sorted(set(ids), reverse=True)
    assert set(made) <= set(ids)
    newest = found[ids.index(made[-1])]
    assert newest["args"] == {"account_id": "a", "n": 7}
    assert (newest["task"], newest["status"], newest["attempts"]) == (FORGET_TEXTS, "failed", 11)
    assert "whsec" not in json.dumps(found)
    waiting = await jobs(viewer, status="todo")
    assert {job["status"] for job in waiting} == {"todo"}


async def test_of_many_retries_one_counts_and_the_job_runs(office: Office, admin: httpx.AsyncClient) -> None:
    job_id = await failed_job(office, args='{"account_id": "01a1fe1d-f954-7897-9fe6-7c7933416554"}')
    answers = await asyncio.gather(*(admin.post(f"{JOBS}/{job_id}/retry") for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [204, *[409] * 5]
    settings = office.app.state.settings
    async with running_services(settings) as services:
        queue = create_worker(settings, services)
        async with queue.open_async():
            await queue.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False)
    [job] = await office.rows("SELECT status::text FROM procrastinate_jobs WHERE id = $1", job_id)
    assert job["status"] == "succeeded"
    rows = [row for row in await office.audit("job.retry") if row["target_id"] == str(job_id)]
    assert [json.loads(row["before"])["task"] for row in rows] == [FORGET_TEXTS]


async def test_what_cannot_be_retried_says_why_and_leaves_no_audit_row(
    office: Office, admin: httpx.AsyncClient
) -> None:
    before = len(await office.audit("job.retry"))
    missing = await admin.post(f"{JOBS}/{2**62}/retry")
    assert (missing.status_code, missing.json()["code"]) == (404, "job_not_found")
    failed = await failed_job(office, "verify_ledger", lock="verify_ledger")
    await office.rows(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, scheduled_at)"
        " VALUES ('billing', 'verify_ledger', 'verify_ledger', now() + interval '1 hour') RETURNING id"
    )
    refused = await admin.post(f"{JOBS}/{failed}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "job_not_retriable")
    assert "waiting already" in refused.json()["detail"]
    assert len(await office.audit("job.retry")) == before
    for job_id in ("0", "-1", "x", str(2**63)):
        assert (await admin.post(f"{JOBS}/{job_id}/retry")).status_code == 422


async def test_inbox_is_told_by_outcome_last_received_first(office: Office, viewer: httpx.AsyncClient) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    # (environment, event, outcome, happened, received): the second and third arrived at one moment
    events = [
        ("live", "evt_a", "review", at, at),
        ("live", "evt_b", "review", at - timedelta(seconds=2), at + timedelta(seconds=1)),
        ("live", "evt_0", "review", at - timedelta(seconds=1), at + timedelta(seconds=1)),
        ("test", "evt_0", "review", at - timedelta(seconds=1), at + timedelta(seconds=1)),
        ("live", "evt_d", "applied", at, at + timedelta(seconds=3)),
    ]
    for environment, event_id, outcome, created_at, received_at in events:
        await office.rows(
            "INSERT INTO payment_events (environment, event_id, type, payment_intent_id, outcome, created_at,"
            " received_at) VALUES ($1, $2, 'charge.refunded', 'pi_inbox', $3, $4, $5) RETURNING 1",
            *(environment, event_id, outcome, created_at, received_at),
        )
    for limit in (1, 2, 50):
        listed: list[tuple[str, str]] = []
        cursor: dict[str, str] | None = {}
        while cursor is not None:
            page = (await viewer.get(EVENTS, params={"outcome": "review", "limit": limit, **cursor})).json()
            listed += [(event["environment"], event["event_id"]) for event in page["events"]]
            cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
        assert listed == [("test", "evt_0"), ("live", "evt_0"), ("live", "evt_b"), ("live", "evt_a")]
    everything = (await viewer.get(EVENTS)).json()["events"]
    assert (everything[0]["event_id"], everything[0]["purchase_id"]) == ("evt_d", None)


@pytest.mark.parametrize("params", [{"outcome": "lost"}, {"cursor": "evt_0"}, {"cursor": "prod.evt"}, {"limit": 0}])
async def test_questions_that_make_no_sense_are_422(viewer: httpx.AsyncClient, params: dict[str, Any]) -> None:
    assert (await viewer.get(EVENTS, params=params)).status_code == 422


async def test_the_words_for_a_purchase_are_those_of_the_database(office: Office) -> None:
    [row] = await office.rows(
        "SELECT pg_get_constraintdef(oid) AS sql FROM pg_constraint WHERE conname = $1", "ck_purchases_status"
    )
    assert {word for word in row["sql"].split("'") if word.isidentifier()} == set(get_args(PurchaseStatus))


async def test_each_role_hears_how_many_credits_it_may_move(office: Office) -> None:
    limits = {}
    for role in ("viewer", "support", "admin"):
        async with office.client(role) as client:
            limits[role] = (await client.get("/admin/oauth/user")).json()["credit_limit"]
    assert limits == {"viewer": 0, "support": 100, "admin": None}
