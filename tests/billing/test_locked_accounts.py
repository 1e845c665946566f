"""Charges while another transaction holds the account's lock: replays, waits, time-outs and overload."""

import asyncio
import uuid
from datetime import datetime

import httpx
import pytest

from app.accounts.directory import Identity
from app.billing.service import BillingService
from app.errors import Busy
from app.ledger.group_commit import MAX_WAITING
from app.ledger.outcomes import New, Replayed
from app.ledger.recent_keys import RecentKeys
from tests.billing.test_charges import User, body, open_account, request
from tests.books import account_locked, balances
from tests.databases import Urls


async def test_replay_and_check_take_no_lock(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    """Both are answered while another transaction holds the account's row."""
    charged = (await agent.post("/v1/billing/charges", json=body(user, "key"))).json()
    async with account_locked(database, charged["account_id"]), asyncio.timeout(1.5):
        assert (await agent.post("/v1/billing/charges", json=body(user, "key"))).status_code == 409
        assert (await agent.post("/v1/billing/check", json=user)).status_code == 200


async def test_a_replay_of_a_key_that_this_process_has_seen_enters_no_batch(
    billing: BillingService, identity: Identity, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await open_account(billing, identity, now, paid=10)
    assert isinstance(await billing.charge(request(account_id, now, "key")), New)

    async def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a batch locks the account")

    monkeypatch.setattr(billing.batcher._group, "run", refuse)
    assert isinstance(await billing.charge(request(account_id, now, "key")), Replayed)


async def test_equal_request_in_flight_waits_and_then_replays(
    agent: httpx.AsyncClient, user: User, database: Urls
) -> None:
    account = (await agent.post("/v1/billing/charges", json=body(user, "first"))).json()["account_id"]
    async with account_locked(database, account):
        waiting = [asyncio.create_task(agent.post("/v1/billing/charges", json=body(user, "second"))) for _ in range(2)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
    answers = await asyncio.gather(*waiting)
    assert sorted(answer.status_code for answer in answers) == [201, 409]


@pytest.mark.parametrize("seen", [True, False], ids=["seen by this process", "seen by another process"])
async def test_a_replay_does_not_wait_for_a_locked_account(
    billing: BillingService, identity: Identity, now: datetime, database: Urls, seen: bool
) -> None:
    account_id = await open_account(billing, identity, now)
    first = await billing.charge(request(account_id, now, "k"))
    assert isinstance(first, New)
    if not seen:
        billing.batcher._recent_keys = RecentKeys()
    async with account_locked(database, account_id), asyncio.timeout(1.5):
        assert await billing.charge(request(account_id, now, "k")) == Replayed(first.record)


async def test_a_replay_does_not_wait_behind_charges_that_wait_for_the_lock(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now)
    first = await billing.charge(request(account_id, now, "k"))
    assert isinstance(first, New)
    billing.batcher._recent_keys = RecentKeys()  # as in a process that has not seen the key
    async with account_locked(database, account_id), asyncio.timeout(1.5):
        waiting = asyncio.create_task(billing.charge(request(account_id, now, "other")))
        await asyncio.sleep(0.2)
        assert await billing.charge(request(account_id, now, "k")) == Replayed(first.record)
        assert not waiting.done()
    assert isinstance(await waiting, New)


async def test_a_charge_whose_caller_gave_up_while_it_waited_for_its_turn_is_not_made(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now, paid=10)
    before = await balances(database, account_id)
    waiters = billing.batcher._group._lock_waiters
    permits = waiters._value
    for _ in range(permits):
        await waiters.acquire()
    async with account_locked(database, account_id):
        waiting = asyncio.create_task(billing.charge(request(account_id, now)))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    for _ in range(permits):
        waiters.release()
    await billing.batcher.stop()
    assert await balances(database, account_id) == before


async def test_a_failing_metric_charges_nothing_twice(
    billing: BillingService, identity: Identity, now: datetime, database: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await open_account(billing, identity, now, paid=10)
    before = await balances(database, account_id)

    def fail(_: object) -> None:
        raise KeyError("a pool without a counter")

    monkeypatch.setattr("app.billing.service.COUNTER.outcome", fail)
    assert isinstance(await billing.charge(request(account_id, now)), New)
    assert sum(before.values()) - sum((await balances(database, account_id)).values()) == 1


async def test_locked_account_delays_only_itself(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    """While one account is held, its lane still serves the others."""
    held = await open_account(billing, identity, now, paid=10)
    others = [
        await open_account(billing, Identity("live", "oauth:x", uuid.uuid4().hex), now, paid=10) for _ in range(6)
    ]
    async with account_locked(database, held):
        stuck = [asyncio.create_task(billing.charge(request(held, now, f"h{i}"))) for i in range(5)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):  # the lock would time out after 3 s
            outcomes = await asyncio.gather(*(billing.charge(request(other, now)) for other in others))
        assert not any(task.done() for task in stuck)
    assert all(isinstance(outcome, New) for outcome in outcomes)
    assert all(isinstance(outcome, New) for outcome in await asyncio.gather(*stuck))


async def test_lock_that_is_not_released_answers_503(agent: httpx.AsyncClient, user: User, database: Urls) -> None:
    account = (await agent.post("/v1/billing/charges", json=body(user, "first"))).json()["account_id"]
    async with account_locked(database, account), asyncio.timeout(5):
        answer = await agent.post("/v1/billing/charges", json=body(user, "second"))
        assert (answer.status_code, answer.json()["code"]) == (503, "busy")
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await agent.post("/v1/billing/charges", json=body(user, "second"))).status_code == 201


async def test_overload_is_refused_at_once(
    billing: BillingService, identity: Identity, now: datetime, database: Urls
) -> None:
    account_id = await open_account(billing, identity, now)
    async with account_locked(database, account_id):
        waiting = [asyncio.create_task(billing.charge(request(account_id, now))) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await billing.charge(request(account_id, now))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(await billing.charge(request(account_id, now)), New)
