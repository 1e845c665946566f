"""Opening a purchase and asking about it: one payment per wish to pay, shown to its buyer only."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.auth.caller import Environment
from app.billing.posting import ChargeRequest
from app.configuration.service import Configuration
from app.ledger.errors import AccountSuspended, IdempotencyKeyReused
from app.ledger.pools import MAX_CREDITS, Credits
from app.packs import Pack
from app.payments.errors import PaymentNotFound, PaymentProviderFailed, PaymentProviderUnavailable
from app.payments.service import PaymentService
from app.payments.stripe_gateway import OpenedPayment, StripeGateway
from tests.books import connected
from tests.conftest import ACTOR
from tests.payments.conftest import Shop

FAILURES = [
    {"status": 500, "times": 3},
    {"status": 429, "times": 3},
    {"status": None, "times": 3},
    {"status": None, "times": 3, "after": True},
    {"status": 500, "times": 1, "slow_s": 3},
]
TINY = {"price_minor": 100, "credits": 1}
HANDLED = ("payment_intent.processing", "payment_intent.succeeded")
USER = {"oauth_provider": "oauth:google", "external_id": "buyer@example.com"}


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    async with await shop.client() as client:
        yield client


async def test_twenty_clicks_at_once_open_one_payment(shop: Shop, client: httpx.AsyncClient) -> None:
    clicks = [client.post("/v1/billing/purchases", json=USER) for _ in range(20)]
    answers = await asyncio.gather(*clicks)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["client_secret"] for answer in answers}) == 1
    assert len(await shop.intents()) == 1


async def test_click_while_stripe_still_answers_the_first_waits_for_the_same_payment(shop: Shop) -> None:
    """The second finds the purchase without a payment, asks with the same key, and Stripe says 409 for a while."""
    account_id = await shop.account()
    await shop.control("failures", status=409, times=1)
    payments = await asyncio.gather(shop.open(account_id), shop.open(account_id))
    assert payments[0].payment_id == payments[1].payment_id
    assert len(await shop.intents()) == 1


async def test_a_click_gets_another_payment_only_when_the_last_is_paid_canceled_or_old(shop: Shop) -> None:
    account_id = await shop.account()
    first = await shop.open(account_id)
    assert (await shop.open(account_id)).payment_id == first.payment_id
    await shop.pay(first.payment_id)  # and no webhook has come yet
    second = await shop.open(account_id)
    assert second.payment_id != first.payment_id
    assert (second.status, second.balance_after) == ("requires_payment_method", 20)
    await shop.stripe("POST", f"payment_intents/{second.payment_id}/cancel")
    third = await shop.open(account_id)
    assert third.payment_id not in (first.payment_id, second.payment_id)
    large = await shop.open(account_id, pack="large")
    assert (large.amount_minor, large.uses_purchased) == (2000, 100)
    an_hour_later = shop.now + timedelta(hours=1, seconds=1)
    fourth = await shop.payments.open_purchase("live", account_id, now=an_hour_later)
    assert len({p.payment_id for p in (first, second, third, fourth, large)}) == 5


async def test_idempotency_key_stands_for_one_purchase_for_ever(shop: Shop) -> None:
    account_id, other = await shop.account(), await shop.account()
    first = await shop.open(account_id, idempotency_key="k")
    await shop.pay(first.payment_id)
    again = await shop.open(account_id, idempotency_key="k")
    assert (again.payment_id, again.status, again.client_secret) == (first.payment_id, "succeeded", None)
    with pytest.raises(IdempotencyKeyReused):
        await shop.open(account_id, idempotency_key="k", pack="large")
    assert (await shop.open(account_id, idempotency_key="l")).payment_id != first.payment_id
    assert (await shop.open(other, idempotency_key="k")).payment_id != first.payment_id


async def test_suspended_account_cannot_buy_but_gets_what_it_paid_for(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.billing.accounts.set_status(account_id, "suspended", "fraud", shop.now)
    for options in ({}, {"pack": "large"}):
        with pytest.raises(AccountSuspended):
            await shop.open(account_id, **options)
    assert len(await shop.intents()) == 1
    assert await shop.jobs("settle_purchases") == []
    await shop.pay(payment_id)
    assert (await shop.payments.payment("live", payment_id, shop.now)).status == "succeeded"
    assert await shop.balances(account_id) == (20, 0)


async def test_payment_is_seen_by_its_buyer_and_in_its_environment_only(shop: Shop, client: httpx.AsyncClient) -> None:
    payment_id = (await client.post("/v1/billing/purchases", json=USER)).json()["payment_id"]
    [row] = await shop.rows("SELECT account_id FROM purchases")
    assert (await shop.payments.payment("live", payment_id, shop.now, of=row["account_id"])).payment_id == payment_id
    with pytest.raises(PaymentNotFound):
        await shop.payments.payment("live", payment_id, shop.now, of=await shop.account())
    for path in (f"/v1/billing/purchases/{payment_id}", f"/v1/billing/purchases/{payment_id}/status"):
        assert (await client.get(path)).status_code == 200
        async with await shop.client("test") as tester:
            assert (await tester.get(path)).status_code == 404


async def test_environments_do_not_share_purchases(shop: Shop) -> None:
    environments: tuple[Environment, Environment] = ("live", "test")
    bought = {}
    for environment in environments:
        account_id = await shop.account(environment)
        bought[environment] = await shop.payments.open_purchase(environment, account_id, now=shop.now)
    with pytest.raises(PaymentNotFound):
        await shop.payments.payment("test", bought["live"].payment_id, shop.now)


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_stripe_that_fails_is_a_503_in_time_and_the_next_click_goes_on(
    shop: Shop, client: httpx.AsyncClient, failure: dict[str, object]
) -> None:
    await shop.control("failures", **failure)
    async with asyncio.timeout(5):
        answer = await client.post("/v1/billing/purchases", json=USER)
    assert (answer.status_code, answer.json()["code"]) == (503, "payment_provider_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    for _ in range(4):  # the remaining failures
        answer = await client.post("/v1/billing/purchases", json=USER)
        if answer.status_code == 201:
            break
    assert answer.status_code == 201
    assert len(await shop.rows("SELECT FROM purchases")) == len(await shop.intents()) == 1


async def test_short_failure_of_stripe_is_not_seen(shop: Shop) -> None:
    await shop.control("failures", after=True, status=None, times=1)
    assert (await shop.open(await shop.account())).status == "requires_payment_method"
    assert len(await shop.intents()) == 1


async def test_asking_about_an_unpaid_payment_needs_stripe(shop: Shop) -> None:
    payment_id = (await shop.open(await shop.account())).payment_id
    await shop.control("failures", method="GET", status=500, times=3)
    with pytest.raises(PaymentProviderUnavailable):
        await shop.payments.payment("live", payment_id, shop.now)


async def test_no_transaction_is_open_while_stripe_is_asked(shop: Shop) -> None:
    account_id = await shop.account()
    await shop.control("failures", hold_s=2, times=1)
    opening = asyncio.create_task(shop.open(account_id))
    for _ in range(100):
        await asyncio.sleep(0.01)
        if await shop.purchases(account_id):
            break
    await asyncio.sleep(0.1)
    assert not opening.done()
    async with connected(shop.urls) as connection:
        open_transactions = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'billing_service'"
            " AND state LIKE 'idle in transaction%'"
        )
        locks = await connection.fetchval(
            "SELECT count(*) FROM (SELECT FROM accounts WHERE account_id = $1 FOR UPDATE NOWAIT) AS free", account_id
        )
    assert (open_transactions, locks) == (0, 1)
    assert (await opening).status == "requires_payment_method"


async def test_a_click_while_the_payment_is_processing_begins_no_second_one(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.confirm(payment_id, "pm_card_processing")
    await shop.deliver_all(HANDLED)
    again = await shop.open(account_id)
    assert (again.payment_id, again.status) == (payment_id, "processing")
    assert len(await shop.purchases(account_id)) == 1


async def test_what_stripe_remembers_to_have_failed_is_tried_anew(shop: Shop) -> None:
    """A key under which Stripe itself failed answers the same for a day; the next click must not be stuck on it."""
    account_id = await shop.account()
    await shop.control("failures", status=500, times=1)
    with pytest.raises(PaymentProviderFailed):
        await shop.open(account_id, idempotency_key="k")
    payment = await shop.open(account_id, idempotency_key="k")
    assert payment.status == "requires_payment_method"
    [purchase] = await shop.purchases(account_id)
    assert (purchase["attempt"], purchase["payment_intent_id"]) == (2, payment.payment_id)


async def test_the_client_secret_is_that_of_the_payment_that_is_stored(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe's answer to the first click is late, the second click fails, and the third opens another payment."""
    account_id = await shop.account()
    create, created, released = StripeGateway.create_payment_intent, asyncio.Event(), asyncio.Event()

    async def create_slowly(*args: Any, **options: Any) -> OpenedPayment:
        monkeypatch.undo()
        intent = await create(*args, **options)
        created.set()
        await released.wait()
        return intent

    monkeypatch.setattr(StripeGateway, "create_payment_intent", create_slowly)
    first = asyncio.create_task(shop.open(account_id))
    await created.wait()
    await shop.control("failures", status=503, times=3)
    with pytest.raises(PaymentProviderFailed):
        await shop.open(account_id)
    stored = await shop.open(account_id)
    released.set()
    late = await first
    assert (late.payment_id, late.client_secret) == (stored.payment_id, stored.client_secret)
    assert late.client_secret is not None
    assert late.client_secret.startswith(late.payment_id)


async def test_key_of_a_purchase_that_stripe_never_heard_of_says_that_it_was_given_up(
    shop: Shop, client: httpx.AsyncClient
) -> None:
    await shop.control("failures", status=500, times=3)
    once = {**USER, "idempotency_key": "k"}
    assert (await client.post("/v1/billing/purchases", json=once)).status_code == 503
    await shop.payments.reconcile(shop.now + timedelta(hours=25))
    again = await client.post("/v1/billing/purchases", json=once)
    assert (again.status_code, again.json()["code"]) == (409, "purchase_given_up")
    assert await shop.intents() == []
    assert (await client.post("/v1/billing/purchases", json={**once, "idempotency_key": "k2"})).status_code == 201


async def test_a_pack_in_another_currency_than_the_accounts_is_not_sold(shop: Shop, client: httpx.AsyncClient) -> None:
    """Otherwise the proceeds of a yen account's credits would be in dollars, beside yen that never came."""
    await client.post("/v1/billing/accounts", json={**USER, "currency": "JPY"})
    refused = await client.post("/v1/billing/purchases", json=USER)
    assert (refused.status_code, refused.json()["code"]) == (422, "currency_mismatch")
    assert await shop.intents() == []


async def test_key_of_a_pack_that_is_no_longer_sold_still_stands_for_it(shop: Shop) -> None:
    account_id = await shop.account()
    first = await shop.open(account_id, idempotency_key="k")
    later = shop.settings.model_copy(update={"packs": {"tiny": Pack.model_validate(TINY)}})
    configuration = Configuration(shop.db, later)
    gateway = StripeGateway(later, configuration)
    payments = PaymentService(shop.db, configuration, shop.billing, gateway)
    again = await payments.open_purchase("live", account_id, now=shop.now, idempotency_key="k")
    assert (again.payment_id, again.uses_purchased) == (first.payment_id, 20)
    with pytest.raises(IdempotencyKeyReused):
        await payments.open_purchase("live", account_id, now=shop.now, pack="tiny", idempotency_key="k")
    await gateway.close()


async def test_a_users_key_is_not_the_agents(shop: Shop) -> None:
    """Each gets a separate purchase. The same key returns it again; with another pack it is rejected."""
    account_id = await shop.account()
    bought = {kind: await shop.open(account_id, caller_kind=kind, idempotency_key="k") for kind in ("key", "user")}
    assert bought["key"].payment_id != bought["user"].payment_id
    for kind, payment in bought.items():
        again = await shop.open(account_id, caller_kind=kind, idempotency_key="k")
        assert again.payment_id == payment.payment_id
    assert len(await shop.purchases(account_id)) == 2


async def test_purchase_that_does_not_fit_the_balance_waits_for_a_person(shop: Shop) -> None:
    account_id = await shop.account()
    payment = await shop.open(account_id)
    full = Credits(MAX_CREDITS - 5)
    await shop.billing.credit(
        account_id, credits=full, currency=None, transaction_type="grant", actor=ACTOR, now=shop.now
    )
    await shop.pay(payment.payment_id)
    await shop.deliver_all(HANDLED)
    [purchase] = await shop.purchases(account_id)
    assert (purchase["status"], purchase["review_reason"]) == ("unknown", "balance_limit")
    await shop.billing.charge(ChargeRequest(account_id, 100 * 50, None, ACTOR, shop.now))
    assert await shop.payments.reconcile_purchase(account_id, purchase["purchase_id"], shop.now)
    [purchase] = await shop.purchases(account_id)
    assert (purchase["status"], purchase["review_reason"]) == ("succeeded", None)
