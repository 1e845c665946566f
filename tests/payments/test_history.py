"""Stripe's events in every order and repeated: the credits are the same in the end."""

import json
import time
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from app.accounts.directory import Identity, Profile
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.demo.stripe.account import Account, AccountConfig
from app.demo.stripe.webhooks import signature
from app.ledger.pools import MAX_CREDITS, Credits
from app.payments.errors import InvalidSignature
from app.payments.facts import taken_back
from app.payments.service import PaymentService
from app.payments.stripe_gateway import StripeGateway
from app.settings import Settings
from tests.books import balances, connected
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls
from tests.servers import LocalStripe, running_stripe

SECRET = "whsec_of_the_tests"
CREDITS, PRICE = 20, 500


@pytest.fixture(scope="module")
def stripe() -> Any:
    with running_stripe() as running:
        yield running


@pytest.fixture(scope="module")
def paying(database: Urls, stripe: LocalStripe) -> Settings:
    return settings_for(database, stripe_live=stripe.keys, stripe_api_base=stripe.url, free_uses=0)


@pytest.fixture
async def payments(db: Database, paying: Settings) -> AsyncIterator[PaymentService]:
    gateway = StripeGateway(paying, Configuration(db, paying))
    yield PaymentService(db, Configuration(db, paying), BillingService(db, Configuration(db, paying)), gateway)
    await gateway.close()


async def new_account(db: Database, paying: Settings, now: datetime) -> UUID:
    identity = Identity("live", "oauth:google", f"{uuid.uuid4()}@example.com")
    return await BillingService(db, Configuration(db, paying)).accounts.directory.resolve(
        identity, Profile(), ACTOR, now
    )


async def deliver(payments: PaymentService, event: dict[str, Any], now: datetime) -> None:
    payload = json.dumps(event).encode()
    await payments.handle_webhook(payload, signature(SECRET, payload, int(time.time())), now)


async def purchase_row(urls: Urls, account_id: UUID) -> dict[str, Any]:
    async with connected(urls) as connection:
        row = await connection.fetchrow(
            "SELECT status, received_minor, refunded_minor, credits_refunded, credits_disputed, review_reason"
            " FROM purchases WHERE account_id = $1",
            account_id,
        )
    assert row is not None
    return dict(row)


class History:
    """Stripe's side of one payment, made by the local Stripe's own logic: its events, to be delivered at will."""

    def __init__(self, payment_id: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.account = Account(AccountConfig("pk", SECRET), lambda _, event: self.events.append(event))
        self.intent = self.account.create_intent(PRICE, "usd", {}, None)
        del self.account.objects["payment_intent"][self.intent["id"]]
        self.intent["id"] = payment_id
        self.account.objects["payment_intent"][payment_id] = self.intent
        self.events.clear()

    def handled_events(self) -> list[dict[str, Any]]:
        """The events that the service handles."""
        kinds = ("payment_intent.succeeded", "charge.refunded", "charge.dispute.created", "charge.dispute.closed")
        return [event for event in self.events if event["type"] in kinds]


async def buy(payments: PaymentService, db: Database, paying: Settings, now: datetime) -> tuple[UUID, str]:
    account_id = await new_account(db, paying, now)
    payment = await payments.open_purchase("live", account_id, now=now)
    return account_id, payment.payment_id


async def test_spent_credits_become_debt_which_the_next_purchase_pays(
    payments: PaymentService, db: Database, paying: Settings, now: datetime, database: Urls
) -> None:
    account_id, payment_id = await buy(payments, db, paying, now)
    history = History(payment_id)
    history.account.succeed(history.intent)
    await deliver(payments, history.handled_events()[0], now)
    await BillingService(db, Configuration(db, paying)).charge(ChargeRequest(account_id, 1500, "USD", ACTOR, now))
    history.account.refund(history.account.charge_of(payment_id), None, None)
    await deliver(payments, history.handled_events()[-1], now)
    assert await balances(database, account_id) == {"daily_free": 0, "free": 0, "paid": 0, "debt": 15}
    second = await payments.open_purchase("live", account_id, now=now)
    assert second.payment_id != payment_id
    again = History(second.payment_id)
    again.account.succeed(again.intent)
    await deliver(payments, again.handled_events()[0], now)
    assert await balances(database, account_id) == {"daily_free": 0, "free": 0, "paid": 5, "debt": 0}


async def test_a_dispute_won_without_room_for_its_credits_waits_for_a_person_until_there_is_room(
    payments: PaymentService, db: Database, paying: Settings, now: datetime, database: Urls
) -> None:
    account_id, payment_id = await buy(payments, db, paying, now)
    billing, history = BillingService(db, Configuration(db, paying)), History(payment_id)
    history.account.succeed(history.intent)
    dispute = history.account.open_dispute(history.intent, amount=PRICE)
    history.account.close_dispute(dispute, "won")
    paid, opened, won = history.handled_events()
    await deliver(payments, paid, now)
    await deliver(payments, opened, now)
    full = Credits(MAX_CREDITS)
    await billing.credit(account_id, credits=full, currency=None, transaction_type="grant", actor=ACTOR, now=now)
    await deliver(payments, won, now)
    assert (await purchase_row(database, account_id))["review_reason"] == "balance_limit"
    await billing.charge(ChargeRequest(account_id, 100 * CREDITS, None, ACTOR, now))
    async with connected(database) as connection:
        ours = "SELECT purchase_id FROM purchases WHERE account_id = $1"
        purchase_id = await connection.fetchval(ours, account_id)
    await payments.reconcile_purchase(account_id, purchase_id, now)
    row = await purchase_row(database, account_id)
    assert (row["credits_disputed"], row["review_reason"]) == (0, None)
    assert (await balances(database, account_id))["paid"] == MAX_CREDITS
    await billing.charge(ChargeRequest(account_id, 100 * MAX_CREDITS, None, ACTOR, now))


@pytest.mark.parametrize(("received", "currency"), [(1, "usd"), (499, "usd"), (501, "usd"), (500, "eur")])
async def test_what_does_not_match_the_sale_buys_nothing(
    received: int,
    currency: str,
    payments: PaymentService,
    db: Database,
    paying: Settings,
    now: datetime,
    database: Urls,
) -> None:
    """One cent paid does not buy twenty uses."""
    account_id, payment_id = await buy(payments, db, paying, now)
    history = History(payment_id)
    history.account.succeed(history.intent, received=received, currency=currency)
    await deliver(payments, history.handled_events()[0], now)
    row = await purchase_row(database, account_id)
    assert (row["status"], row["review_reason"]) == ("unknown", "amount_mismatch")
    assert (await balances(database, account_id))["paid"] == 0


async def test_received_sum_does_not_change_once_it_is_credited(
    payments: PaymentService, db: Database, paying: Settings, now: datetime, database: Urls
) -> None:
    account_id, payment_id = await buy(payments, db, paying, now)
    history = History(payment_id)
    history.account.succeed(history.intent)
    [paid] = history.handled_events()
    await deliver(payments, paid, now)
    other = {**paid["data"]["object"], "amount_received": 1, "currency": "eur"}
    await deliver(
        payments, {**paid, "id": "evt_other", "created": paid["created"] + 60, "data": {"object": other}}, now
    )
    row = await purchase_row(database, account_id)
    assert (row["status"], row["received_minor"], row["review_reason"]) == ("succeeded", PRICE, None)
    assert (await balances(database, account_id))["paid"] == CREDITS


async def test_failed_attempt_may_still_succeed_but_success_never_fails(
    payments: PaymentService, db: Database, paying: Settings, now: datetime, database: Urls
) -> None:
    account_id, payment_id = await buy(payments, db, paying, now)
    history = History(payment_id)
    history.account.fail(history.intent)
    failed = history.events[-1]
    failed["created"] += 60  # a minute after the purchase was opened
    await deliver(payments, failed, now)
    assert (await purchase_row(database, account_id))["status"] == "failed"
    history.account.succeed(history.intent)
    await deliver(payments, history.handled_events()[0], now)
    late = {**failed, "id": "evt_late", "created": failed["created"] + 1000}
    await deliver(payments, late, now)
    assert (await purchase_row(database, account_id))["status"] == "succeeded"
    assert (await balances(database, account_id))["paid"] == CREDITS


@pytest.mark.parametrize(
    "forged",
    [
        lambda payload: None,
        lambda payload: "",
        lambda payload: "t=1,v1=00",
        lambda payload: signature("whsec_another", payload, int(time.time())),
        lambda payload: signature(SECRET, payload, int(time.time()) - 1000),
        lambda payload: signature(SECRET, payload + b" ", int(time.time())),
    ],
    ids=["missing", "empty", "malformed", "other secret", "stale", "other payload"],
)
async def test_forged_signature_is_refused(
    forged: Any, payments: PaymentService, db: Database, paying: Settings, now: datetime, database: Urls
) -> None:
    account_id, payment_id = await buy(payments, db, paying, now)
    history = History(payment_id)
    history.account.succeed(history.intent)
    payload = json.dumps(history.handled_events()[0]).encode()
    with pytest.raises(InvalidSignature):
        await payments.handle_webhook(payload, forged(payload), now)
    assert (await balances(database, account_id))["paid"] == 0


@pytest.mark.parametrize(
    ("refunded", "withdrawn"), [(0, 0), (1, 0), (499, 0), (500, 0), (700, 0), (0, 500), (250, 500)]
)
def test_credits_go_in_proportion_and_never_beyond_the_sale(refunded: int, withdrawn: int) -> None:
    back = taken_back(sold=CREDITS, amount_minor=PRICE, refunded_minor=refunded, withdrawn_minor=withdrawn)
    gone = min(refunded + withdrawn, PRICE)
    assert back.refunded + back.disputed == CREDITS * gone // PRICE
    assert back.refunded == CREDITS * min(refunded, PRICE) // PRICE
