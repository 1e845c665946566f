"""Refills begin when spending leaves too little, once at a time, and pay exactly their amount."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.ledger import refill_queries
from app.plans.refill_bounds import Refills
from app.refills import service as module
from tests.books import account_locked
from tests.refills.conftest import SETTINGS, Buyer, Refilling
from tests.support.wallets import DOLLAR, give


async def test_spending_below_the_trigger_is_refilled_once(buyer: Buyer) -> None:
    await buyer.ready()
    assert (await buyer.spend(500)).status_code == 200  # exactly the trigger is left
    assert await buyer.jobs() == 0
    assert (await buyer.spend(1)).status_code == 200
    assert await buyer.jobs() == 1
    await buyer.desk.work()
    assert await buyer.outcomes() == ["paid"]
    assert await buyer.balance() == 499 + 2500
    [intent] = await buyer.intents()
    assert (intent["amount"], intent["currency"], intent["status"]) == (2500, "usd", "succeeded")
    shown = await buyer.settings()
    assert (shown["state"], shown["spent_this_month_cents"]) == ("active", 2500)


async def test_busy_account_has_one_waiting_decision(buyer: Buyer) -> None:
    await buyer.ready()
    for cents in (600, 100, 100):
        assert (await buyer.spend(cents)).status_code == 200
    assert await buyer.jobs() == 1


async def test_account_without_refills_runs_no_statement_about_them(
    buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> Any:
        raise AssertionError("a statement about refills")

    monkeypatch.setattr(refill_queries, "schedule", refuse)
    await buyer.give(1000)
    assert (await buyer.spend(999)).status_code == 200


async def test_transaction_notes_the_decisions_of_all_its_accounts_at_once(
    buyer: Buyer, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyers = [await buyer.ready(), await (await buyer.desk.buyer()).ready()]
    schedule, calls = refill_queries.schedule, []

    async def noting(tx: Any, missing: Any, at: datetime) -> Any:
        calls.append({account_id for account_id, _ in missing})
        return await schedule(tx, missing, at)

    monkeypatch.setattr(refill_queries, "schedule", noting)
    metric = {"type": "api_calls", "endpoint": "search", "count": 1}
    events = [{"event_id": "1", "user_id": one.user_id, "metric": metric, "cost_cents": 600} for one in buyers]
    answer = await buyer.desk.spenders["refuse"].post("/v1/usage/batch", json={"events": events})
    assert answer.json()["processed"] == 2, answer.text
    assert calls == [{one.account_id for one in buyers}]
    assert [await one.jobs() for one in buyers] == [1, 1]


async def _hold(buyer: Buyer) -> None:
    body = {"oauth_provider": "oauth:zero", "external_id": buyer.user_id, "amount": "6.00", "idempotency_key": "h"}
    answer = await buyer.desk.spenders["refuse"].post("/v1/billing/holds", json=body)
    assert answer.status_code == 201, answer.text


async def _batch(buyer: Buyer) -> None:
    metric = {"type": "api_calls", "endpoint": "search", "count": 1}
    events = [
        {"event_id": str(number), "user_id": buyer.user_id, "metric": metric, "cost_cents": 300} for number in range(2)
    ]
    answer = await buyer.desk.spenders["refuse"].post("/v1/usage/batch", json={"events": events})
    assert answer.json()["processed"] == 2, answer.text


async def _record(buyer: Buyer) -> None:
    client = buyer.desk.spenders["refuse"]
    body = {"request_id": "r", "tool": "search", "user_id": buyer.user_id}
    opened = await client.post("/v1/cost-records", json=body)
    path = f"/v1/cost-records/{opened.json()['record_id']}"
    added = await client.post(f"{path}/items", json={"item_id": "i", "cost_cents": 600})
    assert added.status_code < 300, added.text
    assert (await client.post(f"{path}/complete", json={"status": "completed"})).status_code == 200


@pytest.mark.parametrize("spend", [_hold, _batch, _record])
async def test_every_way_to_spend_money_starts_refills(buyer: Buyer, spend: Any) -> None:
    await buyer.ready()
    await spend(buyer)
    assert await buyer.jobs() == 1


@pytest.mark.parametrize("cents", [1001, 3600])
async def test_refused_charge_starts_nothing(buyer: Buyer, cents: int) -> None:
    await buyer.ready()
    assert (await buyer.spend(cents)).status_code == 402
    body = {"user_id": buyer.user_id, "required_cents": cents}
    checked = await buyer.desk.spenders["refuse"].post("/v1/usage/check", json=body)
    assert checked.json()["sufficient"] is False
    assert await buyer.jobs() == 0


@pytest.mark.parametrize(("cents", "jobs"), [(3500, 1), (3501, 0)])
async def test_debt_beyond_one_refill_starts_nothing(buyer: Buyer, cents: int, jobs: int) -> None:
    await buyer.ready()
    assert (await buyer.spend(cents, policy="debt")).status_code == 200
    assert await buyer.jobs() == jobs
    await buyer.desk.work()
    assert await buyer.balance() == (0 if jobs else -2501)
    assert await buyer.desk.services.refills.start_forgotten(datetime.now(UTC)) >= 0
    assert len(await buyer.refills()) == jobs


async def test_refill_pays_the_debt_first(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.spend(1500, policy="debt")
    await buyer.desk.work()
    assert await buyer.balance() == 2000


async def test_repeated_and_parallel_decisions_start_one_refill(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await asyncio.gather(*(buyer.start() for _ in range(10)))
    assert await buyer.outcomes() == ["in_flight"]
    assert await buyer.jobs("settle_refill") == 1


@pytest.mark.parametrize("wait", ["cooldown", "cap"])
async def test_next_refill_waits_for_its_time(buyer: Buyer, wait: str) -> None:
    cap = 2500 if wait == "cap" else 100_000
    await buyer.ready(monthly_cap_cents=cap)
    await buyer.exhaust()
    await buyer.desk.work()
    assert (await buyer.spend(2500)).status_code == 200
    await buyer.desk.work()
    assert await buyer.outcomes() == ["paid"]
    shown = await buyer.settings()
    at = datetime.fromisoformat(shown["next_attempt_at"])
    now = datetime.now(UTC)
    assert now < at <= now + (timedelta(minutes=1) if wait == "cooldown" else timedelta(days=32))
    assert (await buyer.spend(1)).status_code == 200
    assert await buyer.jobs() == 1  # the one at that time
    await buyer.start(at + timedelta(milliseconds=1))
    assert await buyer.outcomes() == ["paid", "in_flight"]


async def test_month_begins_in_the_time_zone_of_the_operator(buyer: Buyer) -> None:
    await buyer.ready(monthly_cap_cents=2500)
    await buyer.exhaust()
    await buyer.desk.work()
    await buyer.spend(2500)
    now = datetime.now(UTC)
    following = (now.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    await buyer.start(following - timedelta(microseconds=1))
    assert await buyer.outcomes() == ["paid"]
    await buyer.start(following)
    assert await buyer.outcomes() == ["paid", "in_flight"]


async def test_lost_decision_is_made_by_the_periodic_job(buyer: Buyer) -> None:
    await buyer.ready()
    await buyer.exhaust()
    await buyer.desk.shop.execute(
        "DELETE FROM procrastinate_jobs WHERE args ->> 'account_id' = $1", str(buyer.account_id)
    )
    refills = buyer.desk.services.refills
    await refills.start_forgotten(datetime.now(UTC))
    assert await buyer.jobs() == 0  # the job may still come
    await refills.start_forgotten(datetime.now(UTC) + module.OVERDUE + timedelta(minutes=1))
    assert await buyer.jobs() == 1


async def test_money_that_expires_is_noticed_by_the_periodic_job(buyer: Buyer) -> None:
    await buyer.ready()
    now = datetime.now(UTC)
    await give(buyer.desk.shop.db, buyer.account_id, 9 * DOLLAR, now, unit="USD", expires_at=now + timedelta(hours=1))
    assert (await buyer.spend(900)).status_code == 200
    await buyer.desk.shop.execute(
        "UPDATE refill_settings SET trigger_below_nanos = $2 WHERE account_id = $1", buyer.account_id, 11 * DOLLAR
    )
    await buyer.desk.services.refills.start_forgotten(now)
    assert await buyer.jobs() == 1


async def test_periodic_job_reads_all_pages(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACCOUNTS_AT_ONCE", 1)
    others = [await buyer.ready(), await (await buyer.desk.buyer()).ready()]
    for other in others:
        await other.desk.shop.execute(
            "UPDATE refill_settings SET check_at = NULL, trigger_below_nanos = $2 WHERE account_id = $1",
            other.account_id,
            11 * DOLLAR,
        )
    assert await buyer.desk.services.refills.start_forgotten(datetime.now(UTC)) >= 2
    assert [await other.jobs() for other in others] == [1, 1]


async def test_operator_bounds_apply_to_the_next_refill(buyer: Buyer, monkeypatch: pytest.MonkeyPatch) -> None:
    await buyer.ready()
    await buyer.exhaust()
    refills = buyer.desk.services.refills

    async def narrower() -> Refills:
        return Refills(currency="USD", most_amount="20.00")

    monkeypatch.setattr(refills, "in_force", narrower)
    await buyer.start()
    assert await buyer.outcomes() == []
    monkeypatch.undo()
    await buyer.start()
    assert await buyer.outcomes() == ["in_flight"]


async def test_spending_waits_for_nothing_of_a_refill(buyer: Buyer) -> None:
    """The decision holds the account's lock only while it writes: Stripe is called by another job."""
    await buyer.ready()
    await buyer.exhaust()
    async with account_locked(buyer.desk.shop.urls, buyer.account_id):
        waiting = asyncio.create_task(buyer.start())
        await asyncio.sleep(0.05)
        assert not waiting.done()
    await waiting
    assert (await buyer.spend(1)).status_code == 200


async def test_account_in_another_currency_has_no_refills(desk: Refilling) -> None:
    buyer = await desk.buyer()
    await desk.shop.execute("UPDATE accounts SET currency = 'EUR' WHERE account_id = $1", buyer.account_id)
    answer = await buyer.person.post(SETTINGS, json={"enabled": True})
    assert (answer.status_code, answer.json()["code"]) == (422, "currency_mismatch")
