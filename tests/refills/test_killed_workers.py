"""Real workers that are killed while they refill, and fifty agents that spend at the same time."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.admin.shops import sign_in
from tests.books import account_locked, connected, waiting_for_locks
from tests.live.reading import until
from tests.processes import Process
from tests.refills.conftest import FRONTEND, Buyer, Refilling
from tests.servers import environment, launch

CONFIG = "/admin/config/refills"
STRIPE = "/v1/payment_intents"
Worker = Callable[[], "contextlib.AbstractContextManager[Process]"]


@contextlib.contextmanager
def running_worker(desk: Refilling) -> Iterator[Process]:
    """`ciris-billing worker`, killed at the end of the block."""
    env = {**os.environ, **environment(desk.shop.urls), **desk.shop.local.environment, "FRONTEND_URL": FRONTEND}
    env["STRIPE_TIMEOUT_S"] = "30"
    with tempfile.NamedTemporaryFile() as log:
        process = launch(("worker",), env, log)
        assert isinstance(process, Process)
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


@contextlib.asynccontextmanager
async def row_locked(buyer: Buyer, table: str) -> AsyncIterator[None]:
    async with connected(buyer.desk.shop.urls) as connection, connection.transaction():
        await connection.execute(f"SELECT FROM {table} WHERE account_id = $1 FOR UPDATE", buyer.account_id)
        yield


async def _is_received(buyer: Buyer) -> bool:
    """Whether Stripe has received the payment that it holds. A worker notes earlier that it sends it."""
    shop = buyer.desk.shop
    return not (await shop.http.get(f"{shop.local.url}/_control/failures")).json()


async def _is_at_stripe(buyer: Buyer) -> bool:
    return bool(await buyer.intents())


async def _is_booked(buyer: Buyer) -> bool:
    return await buyer.balance() == 2900


async def while_deciding(buyer: Buyer, worker: Worker) -> None:
    async with account_locked(buyer.desk.shop.urls, buyer.account_id):
        with worker():
            await waiting_for_locks(buyer.desk.shop.urls, 1)


async def while_noting_that_it_is_sent(buyer: Buyer, worker: Worker) -> None:
    await buyer.start()
    async with row_locked(buyer, "refills"):
        with worker():
            await waiting_for_locks(buyer.desk.shop.urls, 1)


async def while_stripe_executes_the_payment(buyer: Buyer, worker: Worker) -> None:
    await buyer.desk.shop.control("failures", path=STRIPE, hold_s=0.6)
    with worker():
        await until(lambda: _is_received(buyer))
    assert await buyer.outcomes() == ["in_flight"]
    await until(lambda: _is_at_stripe(buyer))  # executed for a process that no longer exists


async def while_the_answer_is_on_its_way(buyer: Buyer, worker: Worker) -> None:
    await buyer.desk.shop.control("failures", path=STRIPE, after=True, slow_s=20)
    with worker():
        await until(lambda: _is_at_stripe(buyer))


async def while_booking(buyer: Buyer, worker: Worker) -> None:
    await buyer.desk.shop.control("failures", path=STRIPE, hold_s=1.5)  # in which this test locks the account
    with worker() as process:
        await until(lambda: _is_received(buyer))
        async with account_locked(buyer.desk.shop.urls, buyer.account_id):
            await waiting_for_locks(buyer.desk.shop.urls, 1)
            process.kill()
            process.wait(10)
    assert await buyer.balance() == 400


async def while_finishing(buyer: Buyer, worker: Worker) -> None:
    await buyer.start()
    async with row_locked(buyer, "refill_settings"):
        with worker():
            await until(lambda: _is_booked(buyer))
            await waiting_for_locks(buyer.desk.shop.urls, 1)
    assert await buyer.outcomes() == ["in_flight"]
    assert await buyer.balance() == 2900  # booked, and not finished


@pytest.mark.parametrize(
    "kill",
    [
        while_deciding,
        while_noting_that_it_is_sent,
        while_stripe_executes_the_payment,
        while_the_answer_is_on_its_way,
        while_booking,
        while_finishing,
    ],
)
async def test_worker_that_is_killed_leaves_one_payment_that_is_credited(
    own_desk: Refilling, kill: Callable[[Buyer, Worker], Awaitable[None]]
) -> None:
    buyer = await (await own_desk.buyer()).ready()
    await buyer.exhaust()
    await kill(buyer, lambda: running_worker(own_desk))
    later = datetime.now(UTC) + timedelta(minutes=11)
    await own_desk.services.refills.start_forgotten(later)
    if not await buyer.refills():
        assert await buyer.jobs() == 1  # of the periodic job
        await buyer.start()
    await own_desk.work()
    await own_desk.services.payments.settle_stuck(later)
    assert await buyer.outcomes() == ["paid"]
    [intent] = await buyer.intents()
    assert (intent["status"], intent["amount"]) == ("succeeded", 2500)
    assert await buyer.balance() == 2900


async def test_fifty_parallel_spenders_stay_below_the_cap(own_desk: Refilling) -> None:
    async with await sign_in(own_desk.shop, "admin") as admin:
        version = (await admin.get(CONFIG)).json()["version"]
        body = {"version": version, "reason": "a test", "currency": "USD", "cooldown_s": 0}
        assert (await admin.put(CONFIG, json=body)).status_code == 200
    buyer = await (await own_desk.buyer()).ready(monthly_cap_cents=7500)
    paid = 0

    async def spend() -> int:
        return sum([200 for _ in range(4) if (await buyer.spend(200)).status_code == 200])

    async def settled() -> bool:
        outcomes = await buyer.outcomes()
        in_flight = outcomes.count("in_flight")
        assert in_flight <= 1
        return len(outcomes) == 3 and in_flight == 0

    with running_worker(own_desk):
        while paid < 8400:  # of 10 dollars and three refills
            before = paid
            paid += sum(await asyncio.gather(*(spend() for _ in range(50))))
            if paid == before:
                await asyncio.sleep(0.1)
        await until(settled)
    await own_desk.work()
    assert await buyer.outcomes() == ["paid"] * 3
    assert [(intent["amount"], intent["status"]) for intent in await buyer.intents()] == [(2500, "succeeded")] * 3
    assert await buyer.balance() == 1000 + 7500 - paid >= 0
