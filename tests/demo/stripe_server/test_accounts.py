"""Accounts of the local Stripe, and what a restart keeps of them."""

import asyncio
import json
import stat
from pathlib import Path

import httpx
import stripe
from fastapi import FastAPI

from app.demo.stripe import AccountConfig, create_app
from tests.demo.stripe_receiver import Receiver
from tests.demo.stripe_server import billing
from tests.demo.stripe_server.sdk import confirm, create, refused, sdk, tell
from tests.servers import serving

TWO = {
    "sk_test_one": AccountConfig("pk_test_one", "whsec_one"),
    "sk_test_two": AccountConfig("pk_test_two", "whsec_two"),
}


async def test_two_keys_are_two_accounts() -> None:
    with serving(create_app(accounts=TWO)) as url:
        async with sdk(url, "sk_test_one") as one, sdk(url, "sk_test_two") as two:
            intent = await create(one, key="same")
            with refused(stripe.InvalidRequestError, 404, "resource_missing"):
                await two.v1.payment_intents.retrieve_async(intent.id)
            assert (await two.v1.events.list_async()).data == []
            other = await create(two, amount=700, key="same")
            assert (other.id != intent.id, other.amount) == (True, 700)


async def test_a_restart_keeps_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "stripe.json"
    with serving(create_app(accounts=TWO, state_path=path)) as url:
        async with sdk(url, "sk_test_one") as client:
            intent = await create(client, key="kept")
            await confirm(client, intent.id)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "sk_test_one" not in path.read_text(encoding="utf-8")
    with serving(create_app(accounts=TWO, state_path=path)) as url:
        async with sdk(url, "sk_test_one") as client:
            assert (await client.v1.payment_intents.retrieve_async(intent.id)).status == "succeeded"
            assert (await create(client, key="kept")).id == intent.id
            assert len((await client.v1.events.list_async()).data) == 3
            refund = await client.v1.refunds.create_async({"payment_intent": intent.id})
            assert refund.amount == 500


async def test_a_restart_takes_up_what_was_not_delivered(receiver: Receiver, tmp_path: Path) -> None:
    receiver.secret = "whsec_one"
    receiver.answers.append(500)
    account = {"sk_test_one": AccountConfig("pk_test_one", "whsec_one", receiver.url)}
    path = tmp_path / "stripe.json"
    with serving(create_app(accounts=account, state_path=path, retry_schedule_s=(60,))) as url:
        async with sdk(url, "sk_test_one") as client:
            await create(client)
        await receiver.wait_for(1)
    with serving(create_app(accounts=account, state_path=path)):
        await receiver.wait_for(2)
    with serving(create_app(accounts=account, state_path=path)):
        await asyncio.sleep(0.3)
    assert receiver.events[0].id == receiver.events[1].id
    assert len(receiver.events) == 2


async def test_state_is_written_when_something_happened_and_not_while_idle(tmp_path: Path) -> None:
    path = tmp_path / "stripe.json"
    app = create_app(accounts=TWO, state_path=path, save_after_s=0.01)
    with serving(app) as url:
        async with sdk(url, "sk_test_one") as client:
            intent = await create(client)
            await saved(app, path, intent.id)
            before = path.stat()
            for _ in range(20):
                await client.v1.payment_intents.retrieve_async(intent.id)
                await asyncio.sleep(0.02)
            assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
            await confirm(client, intent.id)
            await saved(app, path, "charge.succeeded")
    after = path.stat()
    with serving(create_app(accounts=TWO, state_path=path)):
        pass
    assert path.stat().st_mtime_ns == after.st_mtime_ns


async def saved(app: FastAPI, path: Path, text: str) -> None:
    """Until the state contains the text, and nothing is left to deliver or to write."""
    for _ in range(3000):
        content = path.read_text(encoding="utf-8") if path.exists() else ""  # noqa: ASYNC240  (a small file)
        if text in content and '"undelivered": ["' not in content and not app.state.local.changed.is_set():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{text} was not saved")


async def test_a_restart_keeps_subscriptions_and_their_clock(tmp_path: Path) -> None:
    path = tmp_path / "stripe.json"
    with serving(create_app(accounts=TWO, state_path=path)) as url:
        async with sdk(url, "sk_test_one") as client:
            time = await billing.clock(client)
            buyer = await billing.customer(client, test_clock=time)
            made = await billing.subscribe(client, buyer, await billing.price(client))
    with serving(create_app(accounts=TWO, state_path=path)) as url:
        async with sdk(url, "sk_test_one") as client:
            await billing.advance(client, time, "2026-03-01T00:00:00")
            assert billing.period(await billing.found(client, made)) == ("2026-02-28", "2026-03-31")
            assert [one.status for one in await billing.invoices(client, made)] == ["paid", "paid"]


async def test_an_older_state_is_understood(tmp_path: Path) -> None:
    """Before payment methods existed, a payment named its card's number."""
    path = tmp_path / "stripe.json"
    intent = {
        "id": "pi_old",
        "object": "payment_intent",
        "created": 1,
        "livemode": False,
        "amount": 500,
        "amount_received": 0,
        "currency": "usd",
        "status": "processing",
        "latest_charge": None,
        "metadata": {},
        "receipt_email": None,
        "last_payment_error": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "payment_method": "4000000000000077",
        "next_action": None,
        "client_secret": "pi_old_secret_x",
    }
    session = {
        "id": "cs_old",
        "object": "checkout.session",
        "created": 1,
        "mode": "payment",
        "status": "complete",
        "payment_status": "unpaid",
        "payment_intent": "pi_old",
        "amount_total": 500,
        "currency": "usd",
        "customer": None,
        "url": None,
    }
    objects = {
        "payment_intent": {"pi_old": intent},
        "checkout.session": {"cs_old": session},
        "payment_intent_data": {"cs_old": {"metadata": {}, "name": "Credits"}},
    }
    kept = {"pk_test_one": {"objects": objects, "remembered": {}}}
    path.write_text(json.dumps(kept), encoding="utf-8")
    with serving(create_app(accounts=TWO, state_path=path)) as url:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as control:
            await tell(control, "/_control/payment_intents/pi_old/succeed")
        async with sdk(url, "sk_test_one") as client:
            charge = (await client.v1.charges.list_async()).data[0]
            assert charge.payment_method_details is not None
            assert charge.payment_method_details.card is not None
            assert charge.payment_method_details.card.last4 == "0077"
            assert (await client.v1.checkout.sessions.retrieve_async("cs_old")).payment_status == "paid"
