"""Money that goes back at the local Stripe, as the official SDK sees it."""

import httpx
import pytest
import stripe

from tests.demo.stripe_receiver import Receiver
from tests.demo.stripe_server.sdk import PAID, confirm, create, paid, refused, tell


async def test_refunds_in_part_and_in_full(client: stripe.StripeClient, receiver: Receiver) -> None:
    intent = await paid(client)
    first = await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 100})
    assert (first.amount, first.status, first.payment_intent) == (100, "succeeded", intent.id)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.refunds.create_async({"payment_intent": intent.id, "amount": 401})
    rest = await client.v1.refunds.create_async({"charge": str(intent.latest_charge)})
    assert rest.amount == 400
    charge = await client.v1.charges.retrieve_async(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (500, True)
    with refused(stripe.InvalidRequestError, 400, "charge_already_refunded"):
        await client.v1.refunds.create_async({"payment_intent": intent.id})
    listed = await client.v1.refunds.list_async({"charge": charge.id})
    assert [refund.id for refund in listed.data] == [rest.id, first.id]
    assert (await client.v1.refunds.retrieve_async(first.id)).amount == 100
    await receiver.wait_for(7)
    snapshots = [event.data.object for event in receiver.events if event.type == "charge.refunded"]
    assert [(s["amount_refunded"], s["refunded"]) for s in snapshots] == [(100, False), (500, True)]


async def test_nothing_is_refunded_of_an_unpaid_payment(client: stripe.StripeClient) -> None:
    intent = await create(client)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert (await client.v1.refunds.list_async()).data == []


@pytest.mark.parametrize(
    ("outcome", "types"),
    [
        ("won", ["charge.dispute.closed", "charge.dispute.funds_reinstated"]),
        ("lost", ["charge.dispute.closed"]),
    ],
)
async def test_a_dispute_is_opened_and_decided(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver, outcome: str, types: list[str]
) -> None:
    intent = await paid(client)
    await tell(control, f"/payment_intents/{intent.id}/dispute", amount=300)
    disputes = (await client.v1.disputes.list_async({"payment_intent": intent.id})).data
    assert [(d.amount, d.status, d.charge) for d in disputes] == [(300, "needs_response", intent.latest_charge)]
    assert (await client.v1.charges.retrieve_async(str(intent.latest_charge))).disputed
    await tell(control, f"/disputes/{disputes[0].id}/close", outcome=outcome)
    assert (await client.v1.disputes.retrieve_async(disputes[0].id)).status == outcome
    await receiver.wait_for(5 + len(types))
    assert receiver.types == [*PAID, "charge.dispute.created", "charge.dispute.funds_withdrawn", *types]
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.disputes.close_async(disputes[0].id)


async def test_a_card_that_disputes_and_a_dispute_that_is_accepted(client: stripe.StripeClient) -> None:
    intent = await confirm(client, (await create(client)).id, "pm_card_createDispute")
    assert intent.status == "succeeded"
    dispute = (await client.v1.disputes.list_async({"charge": str(intent.latest_charge)})).data[0]
    assert (dispute.amount, dispute.reason) == (500, "fraudulent")
    with refused(stripe.InvalidRequestError, 400, "charge_disputed"):
        await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert (await client.v1.disputes.close_async(dispute.id)).status == "lost"


async def test_an_inquiry_withdraws_nothing(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    intent = await paid(client)
    dispute = await tell(control, f"/payment_intents/{intent.id}/dispute", inquiry=True)
    assert dispute["status"] == "warning_needs_response"
    assert (await client.v1.events.list_async({"type": "charge.dispute.created"})).data
    assert (await tell(control, f"/disputes/{dispute['id']}/close", outcome="won"))["status"] == "warning_closed"
    funds = ["charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"]
    assert (await client.v1.events.list_async({"types": funds})).data == []
