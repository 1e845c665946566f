"""Invoices at the local Stripe by the official SDK: payment on request, and the ends of open invoices."""

from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_receiver import Receiver
from tests.demo.stripe_server.billing import customer, found, intent_of, invoices, price, subscribe
from tests.demo.stripe_server.sdk import event_types, refused, saved_card, tell


@pytest.fixture
async def buyer(client: stripe.StripeClient) -> str:
    return await customer(client, "pm_card_chargeCustomerFail")


@pytest.fixture
async def made(client: stripe.StripeClient, buyer: str) -> stripe.Subscription:
    """An incomplete subscription: its first payment was declined."""
    return await subscribe(client, buyer, await price(client))


@pytest.fixture
async def open_invoice(client: stripe.StripeClient, made: stripe.Subscription) -> stripe.Invoice:
    (invoice,) = await invoices(client, made)
    assert invoice.status == "open"
    return invoice


async def test_another_card_pays(
    client: stripe.StripeClient, buyer: str, made: stripe.Subscription, open_invoice: stripe.Invoice
) -> None:
    card = await saved_card(client, buyer)
    paid = await client.v1.invoices.pay_async(open_invoice.id, {"payment_method": card.id})
    assert (paid.status, paid.amount_paid, paid.amount_remaining, paid.attempt_count) == ("paid", 2000, 0, 2)
    assert (await found(client, made)).status == "active"
    with refused(stripe.InvalidRequestError, 400, "invoice_not_editable"):
        await client.v1.invoices.pay_async(open_invoice.id)


@pytest.mark.parametrize(
    ("card", "code"),
    [
        (None, "card_declined"),
        ("pm_card_chargeDeclinedInsufficientFunds", "card_declined"),
        ("pm_card_authenticationRequired", "invoice_payment_intent_requires_action"),
    ],
)
async def test_a_payment_on_request_fails(
    client: stripe.StripeClient, made: stripe.Subscription, open_invoice: stripe.Invoice, card: str | None, code: str
) -> None:
    params: Any = {"payment_method": card} if card else {}
    with refused(stripe.CardError, 402, code):
        await client.v1.invoices.pay_async(open_invoice.id, params)
    assert (await client.v1.invoices.retrieve_async(open_invoice.id)).status == "open"
    assert (await found(client, made)).status == "incomplete"


async def test_money_outside_of_stripe_pays(
    client: stripe.StripeClient, made: stripe.Subscription, open_invoice: stripe.Invoice
) -> None:
    paid = await client.v1.invoices.pay_async(open_invoice.id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_paid) == ("paid", 0)
    assert (await found(client, made)).status == "active"
    assert "payment_intent.canceled" in await event_types(client)
    assert (await client.v1.charges.list_async({"customer": str(made.customer)})).data[0].paid is False


async def test_a_void_invoice_takes_no_payment(client: stripe.StripeClient, open_invoice: stripe.Invoice) -> None:
    intent = await intent_of(client, open_invoice.id)
    with refused(stripe.InvalidRequestError, 400, "payment_intent_unexpected_state"):
        await client.v1.payment_intents.cancel_async(intent)
    voided = await client.v1.invoices.void_invoice_async(open_invoice.id)
    assert (voided.status, voided.status_transitions.voided_at is None) == ("void", False)
    assert (await client.v1.payment_intents.retrieve_async(intent)).status == "canceled"
    for call in (client.v1.invoices.pay_async, client.v1.invoices.void_invoice_async):
        with refused(stripe.InvalidRequestError, 400):
            await call(open_invoice.id)
    assert (await event_types(client))[-2:] == ["payment_intent.canceled", "invoice.voided"]


async def test_an_uncollectible_invoice_is_not_retried(
    client: stripe.StripeClient, open_invoice: stripe.Invoice
) -> None:
    marked = await client.v1.invoices.mark_uncollectible_async(open_invoice.id)
    assert (marked.status, marked.auto_advance) == ("uncollectible", False)
    assert (await event_types(client))[-1] == "invoice.marked_uncollectible"
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.invoices.mark_uncollectible_async(open_invoice.id)


async def test_invoices_and_their_lines_are_listed(
    client: stripe.StripeClient, buyer: str, made: stripe.Subscription, open_invoice: stripe.Invoice
) -> None:
    for params, ids in (
        ({"customer": buyer}, [open_invoice.id]),
        ({"subscription": made.id, "status": "open"}, [open_invoice.id]),
        ({"status": "paid"}, []),
        ({"subscription": "sub_none"}, []),
    ):
        wanted: Any = params
        assert [one.id for one in (await client.v1.invoices.list_async(wanted)).data] == ids, params
    lines = await client.v1.invoices.line_items.list_async(open_invoice.id)
    assert [line.amount for line in lines.data] == [2000]


async def test_a_finalized_invoice_is_not_finalized_again(
    client: stripe.StripeClient, open_invoice: stripe.Invoice
) -> None:
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.invoices.finalize_invoice_async(open_invoice.id)


async def test_amounts_below_the_minimum_wait_on_the_balance(client: stripe.StripeClient) -> None:
    """No card pays 30 cents: the customer owes them on the next invoice."""
    buyer = await customer(client)
    made = await subscribe(client, buyer, await price(client, 30))
    (invoice,) = await invoices(client, made)
    assert (invoice.status, invoice.total, invoice.amount_due, invoice.ending_balance) == ("paid", 30, 0, 30)
    assert (await client.v1.customers.retrieve_async(buyer)).balance == 30
    await client.v1.customers.update_async(buyer, {"balance": -1500})
    second = await subscribe(client, buyer, await price(client, 2000))
    assert (await invoices(client, second))[0].amount_paid == 500


async def test_real_time_renews_without_a_clock(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    """Sixty days before the end of a month are over."""
    made = await subscribe(client, await customer(client), await price(client))
    before = len(await event_types(client))
    await tell(control, "/billing", upcoming_days=60)
    await receiver.wait_for(before + 1)
    assert receiver.types[-1] == "invoice.upcoming"
    assert receiver.events[-1].data.object["parent"]["subscription_details"]["subscription"] == made.id
