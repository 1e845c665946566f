"""Requests that Stripe rejects for good answer 422 and alert the operator; the operator's wrong keys answer 503."""

from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
import stripe

from app.observability.metrics import REGISTRY
from app.payments.errors import PaymentNotFound, PaymentProviderRejects, PaymentProviderUnavailable, RefundRefused
from tests.payments.conftest import Shop

USER = {"oauth_provider": "oauth:google", "external_id": "buyer@example.com"}
KEYS = [
    {"status": 401},
    {"status": 403},
    {"status": 400, "code": "testmode_charges_only"},
    {"status": 400, "code": "secret_key_required"},
]


def rejections(operation: str) -> float:
    return REGISTRY.get_sample_value("billing_stripe_rejections_total", {"operation": operation}) or 0


async def buy(shop: Shop, **fields: object) -> httpx.Response:
    async with await shop.client() as client:
        return await client.post("/v1/billing/purchases", json={**USER, **fields})


async def test_rejected_purchase_is_a_422_alerts_the_operator_and_ends(shop: Shop) -> None:
    before = rejections("create")
    await shop.control("failures", status=400, code="amount_too_small")
    answer = await buy(shop, idempotency_key="k")
    assert (answer.status_code, answer.json()["code"]) == (422, "purchase_rejected")
    assert "Retry-After" not in answer.headers
    assert rejections("create") == before + 1
    assert [row["status"] for row in await shop.rows("SELECT status FROM purchases")] == ["canceled"]
    await shop.payments.reconcile(shop.now + timedelta(minutes=11))
    assert await shop.intents() == []  # nothing is opened behind the buyer's back
    assert (await buy(shop)).status_code == 201  # once the key is corrected, the next click buys


@pytest.mark.parametrize("failure", KEYS, ids=str)
async def test_keys_that_stripe_does_not_accept_are_the_operators(shop: Shop, failure: dict[str, object]) -> None:
    before = rejections("create")
    await shop.control("failures", **failure)
    answer = await buy(shop)
    assert (answer.status_code, answer.json()["code"]) == (503, "payment_provider_unavailable")
    assert rejections("create") == before
    assert [row["status"] for row in await shop.rows("SELECT status FROM purchases")] == ["pending"]


async def test_rejected_question_about_a_payment_is_a_422(shop: Shop) -> None:
    payment_id = (await shop.open(await shop.account())).payment_id
    before = rejections("read")
    await shop.control("failures", method="GET", path=f"/v1/payment_intents/{payment_id}", status=400)
    async with await shop.client() as client:
        answer = await client.get(f"/v1/billing/purchases/{payment_id}/status")
    assert (answer.status_code, answer.json()["code"]) == (422, "payment_provider_rejects")
    assert rejections("read") == before + 1


async def test_cancellation_that_stripe_rejects_leaves_the_payment_as_it_is(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    before = rejections("create") + rejections("read")
    intent = await shop.payments._gateway.cancel_payment_intent("live", payment_id, at=shop.now)
    assert (intent.facts.status, intent.facts.received_minor) == ("succeeded", 500)
    assert rejections("create") + rejections("read") == before


async def test_refund_is_refused_by_stripes_word_and_not_by_a_wrong_key(shop: Shop) -> None:
    account_id = await shop.account()
    payment_id = (await shop.open(account_id)).payment_id
    await shop.pay(payment_id)
    await shop.deliver_all(("payment_intent.succeeded",))
    [purchase] = await shop.purchases(account_id)
    refund = (account_id, purchase["purchase_id"])
    await shop.control("failures", path="/v1/refunds", status=401)
    with pytest.raises(PaymentProviderUnavailable):
        await shop.payments.refund(*refund, 100, "k", shop.now)
    with pytest.raises(RefundRefused):
        await shop.payments.refund(*refund, 501, "l", shop.now)
    await shop.payments.refund(*refund, 100, "k", shop.now)
    assert await shop.balances(account_id) == (16, 0)


async def test_rejections_while_reconciling_hold_up_no_other_environment(shop: Shop) -> None:
    account_id = await shop.account("test")
    payment = await shop.payments.open_purchase("test", account_id, now=shop.now)
    await shop.pay(payment.payment_id)
    await shop.control("failures", method="GET", path="/v1/events", status=400)
    done = await shop.payments.reconcile(shop.now + timedelta(minutes=11))
    assert done["failed"] == 1
    assert await shop.balances(account_id) == (20, 0)


@pytest.mark.parametrize(
    ("status", "error"), [(400, PaymentProviderRejects), (409, PaymentProviderUnavailable)], ids=str
)
async def test_a_key_in_use_is_retried_and_one_of_another_request_is_rejected(
    shop: Shop, status: int, error: type[Exception]
) -> None:
    async def call() -> None:
        raise stripe.IdempotencyError("key", http_status=status)

    with pytest.raises(error):
        await shop.app.state.gateway.answer(call())


async def test_an_unknown_purchase_is_neither_refunded_nor_reconciled(shop: Shop) -> None:
    account_id, nothing = await shop.account(), uuid4()
    with pytest.raises(PaymentNotFound):
        await shop.payments.refund(account_id, nothing, None, "k", shop.now)
    assert await shop.payments.reconcile_purchase(account_id, nothing, shop.now) is False
    assert await shop.payments.refund_closed(account_id, nothing, shop.now) is False
