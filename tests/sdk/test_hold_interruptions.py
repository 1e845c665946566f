"""Holds whose work ends early at the real service: a cancelled task, an interrupted program, a killed server."""

import asyncio
from decimal import Decimal

import anyio
import pytest
from pydantic import SecretStr

from app.db import Database
from ciris_billing import AsyncBillingClient, BillingClient, Options
from tests.databases import Urls
from tests.metering.conftest import Desk
from tests.metering.test_usage_races import books, key, open_account, servers
from tests.sdk.conftest import QUICK, Faulty, make_holder, stored_holds
from tests.sdk.reactions import Reaction
from tests.servers import free_port, running_server
from tests.support.wallets import DOLLAR

__all__ = ["key"]


@pytest.mark.parametrize("again", [False, True])
async def test_cancellation_releases_the_hold(
    desk: Desk, holder: str, payer: str, between: Faulty, again: bool
) -> None:
    """Also if the task is cancelled a second time while it releases: `aclose` waits for that."""
    begun = asyncio.Event()

    async def answer(client: AsyncBillingClient) -> None:
        async with client.hold(user_id=payer, credits=2):
            between.reactions = [Reaction(503)]  # so that the release takes a moment
            begun.set()
            await asyncio.sleep(60)

    async with AsyncBillingClient(between.url, holder, options=QUICK) as client:
        task = asyncio.create_task(answer(client))
        await begun.wait()
        task.cancel()
        if again:
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await stored_holds(desk, payer) == [("released", 0, 0, "client_abort")]


async def test_cancelled_scope_releases_the_hold(desk: Desk, holder: str, payer: str, between: Faulty) -> None:
    """A scope of anyio, as web frameworks use them, cancels each wait in it, also that for the release."""
    async with AsyncBillingClient(between.url, holder, options=QUICK) as client:
        with anyio.CancelScope() as scope:
            async with client.hold(user_id=payer, credits=2):
                scope.cancel()
                await asyncio.sleep(60)
        assert scope.cancelled_caught
    assert await stored_holds(desk, payer) == [("released", 0, 0, "client_abort")]


async def test_capture_that_is_cancelled_is_repeated(desk: Desk, holder: str, payer: str, between: Faulty) -> None:
    async with AsyncBillingClient(between.url, holder, options=QUICK) as client:
        capturing = asyncio.Event()

        async def answer() -> None:
            async with client.hold(user_id=payer, credits=2) as hold:
                between.reactions = [Reaction(503, slow_s=1)]
                capturing.set()
                await hold.capture(1)

        task = asyncio.create_task(answer())
        await capturing.wait()
        while not between.requests[-1]["path"].endswith("/capture"):  # noqa: ASYNC110  # another thread's list
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await stored_holds(desk, payer) == [("captured", 1, 0, None)]


async def test_interrupted_blocking_work_is_a_client_abort(desk: Desk, holder: str, payer: str) -> None:
    def interrupted() -> None:
        with BillingClient(desk.url, holder) as client, client.hold(user_id=payer, credits=1):
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        await asyncio.to_thread(interrupted)
    assert await stored_holds(desk, payer) == [("released", 0, 0, "client_abort")]


async def test_server_killed_between_hold_and_capture(own_database: Urls, key: str) -> None:
    """The capture is retried until the server is back, and spends the hold once."""
    db = Database(SecretStr(own_database.service))
    holder = await make_holder(db)
    await db.close()
    async with servers(own_database, key, 1) as (running, http):
        await open_account(own_database, running[0], http, "one", DOLLAR)
    port, options = free_port(), Options(retry=QUICK.retry, timeout_s=5, deadline_s=30)
    async with AsyncBillingClient(f"http://127.0.0.1:{port}", holder, options=options) as client:
        with running_server(own_database, port=port) as server:
            async with client.hold(user_id="one", amount="0.50") as hold:
                server.kill()
                capture = asyncio.create_task(hold.capture(amount="0.30"))
                with running_server(own_database, port=port):
                    assert (await capture).captured == Decimal("0.3")
    assert await books(own_database) == (DOLLAR * 7 // 10, 1, DOLLAR * 3 // 10)
