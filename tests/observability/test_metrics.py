"""Metrics: money is counted once, after the commit; gauges read from the database equal the books."""

import asyncio
import contextlib
import json
import math
import signal
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.analytics.rollup import roll_up
from app.db import Database
from app.demo.stripe.webhooks import signature
from app.health.gauges import measure_books
from app.observability.metrics import CHARGED
from app.observability.requests import REQUEST_ID
from app.outbox import defer
from tests.books import account_locked
from tests.databases import Urls
from tests.observability.conftest import Scrape, read
from tests.payments.conftest import Shop
from tests.servers import free_port
from tests.worker.test_worker import running_worker

TOKEN = "a-token-that-only-the-scraper-knows-of"
WEBHOOKS = "/v1/billing/webhooks/stripe"
FAIL_AT_COMMIT = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'at the last moment'; END $$;
    CREATE CONSTRAINT TRIGGER fail_at_commit AFTER INSERT ON charges DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.description = 'roll me back') EXECUTE FUNCTION fail();
"""


def someone() -> dict[str, str]:
    return {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"}


async def with_credits(client: httpx.AsyncClient, credits: int) -> dict[str, str]:
    user = someone()
    body = {**user, "initial_balance_minor": credits * 100}
    assert (await client.post("/v1/billing/accounts", json=body)).status_code == 201
    return user


async def test_charges_count_by_outcome_and_pool_and_only_after_the_commit(shop: Shop, scrape: Scrape) -> None:
    await shop.execute(FAIL_AT_COMMIT)
    for operation, pool in (("charge", "paid"), ("tool_charge", "free")):
        CHARGED.labels(operation, pool).reset()  # other tests spend so much that a float would not notice six more
    async with await shop.client() as client:
        user = await with_credits(client, 7)
        before = await scrape()

        async def charge(**fields: Any) -> int:
            body = {**user, "amount_minor": 300, "currency": "USD", **fields}
            return (await client.post("/v1/billing/charges", json=body)).status_code

        assert await charge(description="roll me back") == 500
        after = await scrape()
        name = "billing_charges_total"
        assert after(name) == before(name)
        assert after("billing_charged_credits_total") == before("billing_charged_credits_total")
        answers = [await charge(idempotency_key=key) for key in ("1", "1", "1", "2", "3")]
        assert answers == [201, 409, 409, 201, 402]
        tool = {**user, "product_type": "image_gen"}
        assert [(await client.post("/v1/tools/charge", json=tool)).status_code for _ in range(6)] == [200] * 5 + [402]
    after = await scrape()

    def grown(metric: str, **labels: str) -> float:
        return after(metric, **labels) - before(metric, **labels)

    assert [grown(name, operation="charge", outcome=o) for o in ("charged", "replayed", "shortfall")] == [2, 2, 1]
    assert [grown(name, operation="tool_charge", outcome=o) for o in ("charged", "shortfall")] == [5, 1]
    assert grown("billing_charged_credits_total", operation="charge", pool="paid") == 6
    assert grown("billing_charged_credits_total", operation="charge") == 6
    assert grown("billing_charged_credits_total", operation="tool_charge", pool="free") == 5


async def test_checks_count_by_result(shop: Shop, scrape: Scrape) -> None:
    async with await shop.client() as client:
        rich, poor, suspended = await with_credits(client, 1), someone(), someone()
        before = await scrape()
        for user in (rich, poor, suspended):
            await client.post("/v1/billing/credits/check", json=user)
        await shop.execute("UPDATE accounts SET status = 'suspended', status_reason = 'because' WHERE paid = 0")
        await client.post("/v1/billing/credits/check", json=suspended)
        await client.get("/v1/tools/check/web_search", params=rich)
    after = await scrape()

    def grown(operation: str) -> list[float]:
        labels = [{"operation": operation, "result": r} for r in ("credit", "exhausted", "inactive")]
        return [after("billing_checks_total", **each) - before("billing_checks_total", **each) for each in labels]

    assert grown("charge") == [1, 2, 1]
    assert grown("tool_charge") == [1, 0, 0]


async def test_webhooks_count_by_what_became_of_them(shop: Shop, scrape: Scrape) -> None:
    account_id = await shop.account()
    await shop.pay((await shop.open(account_id)).payment_id)
    (event,) = await shop.events("payment_intent.succeeded")
    event["created"] -= 400
    payload = json.dumps(event).encode()
    good = {"Stripe-Signature": signature(shop.local.webhook_secret, payload, int(time.time()))}
    transport = httpx.ASGITransport(shop.app, raise_app_exceptions=False)
    before = await scrape()
    async with httpx.AsyncClient(transport=transport, base_url="http://billing") as client:
        for headers, status in ((good, 200), (good, 200), ({"Stripe-Signature": "t=1,v1=00"}, 400)):
            assert (await client.post(WEBHOOKS, content=payload, headers=headers)).status_code == status
        await shop.execute("ALTER TABLE payment_events RENAME TO away")
        assert (await client.post(WEBHOOKS, content=payload, headers=good)).status_code == 500
        await shop.execute("ALTER TABLE away RENAME TO payment_events")
    after = await scrape()

    def grown(metric: str, **labels: str) -> float:
        return after(metric, **labels) - before(metric, **labels)

    assert grown("billing_webhook_events_total", environment="live", outcome="applied") == 1
    assert grown("billing_webhook_events_total", outcome="repeated") == 1
    assert grown("billing_webhook_failures_total", reason="signature") == 1
    assert grown("billing_webhook_failures_total", reason="error") == 1
    assert grown("billing_webhook_lag_seconds_count") == 1
    assert grown("billing_webhook_lag_seconds_sum") >= 400
    operation = "POST /v1/payment_intents"
    assert after("billing_stripe_request_duration_seconds_count", operation=operation, outcome="2xx") >= 1


async def test_the_database_is_asked_with_each_scrape(shop: Shop, scrape: Scrape) -> None:
    now = datetime.now(UTC)
    quiet = await scrape()
    assert quiet("billing_database_up") == 1
    assert math.isinf(quiet("billing_worker_heartbeat_age_seconds"))
    assert math.isnan(quiet("billing_ledger_ok"))  # never verified is not a mismatch
    assert quiet("billing_purchases_paid_not_credited") == 0
    account_id = await shop.account()
    paid, _ = await shop.open(account_id), await shop.open(account_id, pack="large")
    # The money came, but not as agreed: a person must look at it.
    await shop.execute(
        "UPDATE purchases SET received_minor = 1, status = 'unknown', status_at = now() - interval '1 hour',"
        " review_reason = 'amount_mismatch' WHERE payment_intent_id = $1",
        paid.payment_id,
    )
    await shop.execute("UPDATE purchases SET updated_at = now() - interval '2 hours'")
    async with shop.db.transaction() as tx:
        await defer(tx, "reconcile_purchase", {}, now - timedelta(minutes=20))
    async with account_locked(shop.urls, account_id):
        blocked = asyncio.create_task(shop.billing.accounts.set_status(account_id, "suspended", "because", now))
        await asyncio.sleep(0.3)
        held = await scrape()
    await blocked
    assert (held("billing_jobs", status="todo"), round(held("billing_jobs_oldest_due_age_seconds"), -1)) == (3, 1200)
    assert held("billing_purchases_paid_not_credited") == 1
    assert round(held("billing_purchases_paid_not_credited_oldest_age_seconds"), -2) == 3600
    assert round(held("billing_purchases_unheard_oldest_age_seconds"), -2) == 7200
    assert held("billing_database_lock_waiters") == 1
    assert held("billing_database_connections_in_use", pool="transactions") == 1
    assert held("billing_database_connections", pool="transactions") == 3


async def test_books_sums_are_the_ledgers(shop: Shop, scrape: Scrape) -> None:
    """Before and after the reports' sums have taken the uses in."""
    async with await shop.client() as client:
        account_id = await shop.account()
        bought = await shop.open(account_id)
        await shop.pay(bought.payment_id)
        await shop.deliver_all(("payment_intent.succeeded",))
        user = await with_credits(client, 30)
        body = {**user, "amount_minor": 200, "currency": "USD", "transaction_type": "bonus"}
        assert (await client.post("/v1/billing/credits", json=body)).status_code == 201
        for _ in range(6):
            await client.post("/v1/billing/charges", json={**user, "amount_minor": 100, "currency": "USD"})
            await client.post("/v1/tools/charge", json={**user, "product_type": "image_gen"})
        await shop.refund(bought.payment_id, 250)
        await shop.deliver_all(("charge.refunded",))
    await shop.execute("UPDATE charges SET created_at = created_at - interval '1 day'")
    reports = Database(shop.settings.database_url, pool_size=3, timeout_s=60)
    for _ in range(2):
        await measure_books(reports, datetime.now(UTC))
        value = await scrape()
        live = {"environment": "live"}
        assert value("billing_credits_sold_total", **live) == 20
        assert value("billing_credits_granted_total", **live) == 32
        assert value("billing_credits_refunded", **live, cause="refund") == 10
        assert value("billing_credits_spent_total", **live, pool="paid") == 6 + 10
        assert value("billing_credits_spent_total", **live, pool="product_free") == 5
        assert value("billing_credits_outstanding", **live, pool="paid") == 20 + 32 - 10 - 16
        assert value("billing_received_minor_total", **live, currency="USD") == 500
        assert value("billing_given_back_minor_total", **live, currency="USD") == 250
        assert value("billing_purchases", **live, status="succeeded") == 1
        assert value("billing_accounts", **live, status="active") == 2
        assert value("billing_books_measured_timestamp_seconds") > time.time() - 60
        by_kind = {
            row["kind"]: row["moved"]
            for row in await shop.rows(
                "SELECT kind, sum(delta)::bigint AS moved FROM ledger_entries WHERE pool = 'paid' GROUP BY kind"
            )
        }
        assert by_kind["opening_grant"] + by_kind["bonus"] == value("billing_credits_granted_total", **live)
        assert by_kind["purchase"] == value("billing_credits_sold_total", **live)
        assert -by_kind["charge"] - by_kind["tool_charge"] == value("billing_credits_spent_total", **live, pool="paid")
        await roll_up(reports, datetime.now(UTC) + timedelta(minutes=5))
    await reports.close()


async def test_charges_that_wait_for_their_account_are_seen(shop: Shop, scrape: Scrape) -> None:
    async with await shop.client() as client:
        user = await with_credits(client, 1)
        (account,) = await shop.rows("SELECT account_id FROM accounts")
        before = await scrape()
        async with account_locked(shop.urls, account["account_id"]):
            body = {**user, "amount_minor": 100, "currency": "USD"}
            charge = asyncio.create_task(client.post("/v1/billing/charges", json=body))
            await asyncio.sleep(0.3)
            assert (await scrape())("billing_charges_waiting", operation="charge") == 1
        assert (await charge).status_code == 201
    after = await scrape()
    assert after("billing_charges_waiting", operation="charge") == 0
    name = "billing_charge_lock_wait_seconds"
    assert after(f"{name}_count") - before(f"{name}_count") == 1
    assert after(f"{name}_sum") - before(f"{name}_sum") > 0.2


async def test_pool_without_a_free_connection_is_seen(shop: Shop, scrape: Scrape) -> None:
    before = await scrape()
    holding = contextlib.AsyncExitStack()
    async with holding:
        for _ in range(shop.db.usage()["transactions"][1]):
            await holding.enter_async_context(shop.db.transaction())
        full = await scrape()
        in_use = full("billing_database_connections_in_use", pool="transactions")
        assert in_use == full("billing_database_connections", pool="transactions")
        with pytest.raises(PoolTimeout):
            async with shop.db.transaction():
                pass
    after = await scrape()
    name = "billing_database_connection_timeouts_total"
    assert after(name, pool="transactions") == before(name, pool="transactions") + 1


async def test_methods_and_routes_that_callers_make_up_share_one_label(shop: Shop, scrape: Scrape) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url="http://billing") as client:
        for number in range(20):
            await client.request(f"BREW{number}", f"/{number}")
    name, labels = "billing_http_request_duration_seconds_count", {"method": "other", "route": "unmatched"}
    assert (await scrape())(name, **labels) >= 20


def test_request_ids_in_the_shape_of_an_address_or_a_key_are_replaced() -> None:
    for taken in ("0af7651916cd43dd8448eb211c80319c", "@1", "a@b", "job:7/try=2"):
        assert REQUEST_ID.match(taken)
    for refused in ("ada@example.com", "x-ada@example.co.uk", "cbk_live_0123", "a b", "", "a\n", "x" * 129):
        assert not REQUEST_ID.fullmatch(refused)


@contextlib.contextmanager
def seen_worker(urls: Urls) -> Iterator[tuple[str, Any]]:
    port = free_port()
    env = {"WORKER_METRICS_PORT": str(port), "METRICS_TOKEN": TOKEN}
    with running_worker(urls, **env) as process:
        yield f"http://127.0.0.1:{port}", process


async def test_worker_is_seen_on_a_port_of_its_own(own_database: Urls) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        with seen_worker(own_database) as (url, process):
            value = None
            known = ("billing_books_measured_timestamp_seconds", "billing_ledger_ok", "billing_database_connections")
            for _ in range(400):
                with contextlib.suppress(httpx.TransportError):
                    value = read((await client.get(f"{url}/metrics")).text)
                    if all(value(name) > 0 for name in known):
                        break
                await asyncio.sleep(0.1)
            assert value is not None
            assert value("billing_jobs_failed") == 0
            assert value("billing_database_up") == 1
            assert (await client.get(f"{url}/health")).json()["status"] == "healthy"
            refused = await client.get(f"{url}/metrics", headers={"Authorization": "Bearer wrong"})
            assert refused.status_code == 401
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 15) == 0
