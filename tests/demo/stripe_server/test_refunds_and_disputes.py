"""Money that goes back at the local Stripe, as the official SDK sees it."""

import httpx
import pytest
import stripe

from app.demo.stripe import create_app
from app.demo.stripe.account import Account, AccountConfig
from tests.demo.stripe_receiver import Receiver
from tests.demo.stripe_server.sdk import PAID, confirm, create, paid, refused, sdk, tell
from tests.servers import serving


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


@pytest.mark.parametrize(
    ("status", "outcome", "types"),
    [
        ("pending", "succeeded", ["refund.updated", "charge.refund.updated"]),
        ("pending", "failed", ["refund.failed", "refund.updated", "charge.refund.updated"]),
        ("succeeded", "failed", ["refund.failed", "refund.updated", "charge.refund.updated"]),
    ],
)
async def test_a_refund_ends_later_and_money_that_did_not_arrive_can_be_refunded_again(
    client: stripe.StripeClient,
    control: httpx.AsyncClient,
    receiver: Receiver,
    status: str,
    outcome: str,
    types: list[str],
) -> None:
    card = "pm_card_pendingRefund" if status == "pending" else "pm_card_visa"
    intent = await confirm(client, (await create(client)).id, card)
    refund = await client.v1.refunds.create_async({"payment_intent": intent.id})
    assert refund.status == status
    ended = await tell(control, f"/refunds/{refund.id}/settle", outcome=outcome)
    assert (ended["status"], ended["failure_reason"] is None) == (outcome, outcome == "succeeded")
    charge = await client.v1.charges.retrieve_async(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == ((500, True) if outcome == "succeeded" else (0, False))
    await receiver.wait_for(5 + len(types))
    assert receiver.types == [*PAID, "refund.created", "charge.refunded", *types]
    if outcome == "failed":
        assert (await client.v1.refunds.create_async({"payment_intent": intent.id})).amount == 500
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.refunds.cancel_async(refund.id)
    assert (await control.post(f"/refunds/{refund.id}/settle", json={"outcome": "canceled"})).status_code == 400


async def test_test_cards_let_a_refund_succeed_or_fail_after_a_while(receiver: Receiver) -> None:
    receiver.secret = "whsec_one"
    account = {"sk_test_one": AccountConfig("pk_test_one", "whsec_one", receiver.url)}
    with serving(create_app(accounts=account, refunds_settle_after_s=0.05)) as url:
        async with sdk(url, "sk_test_one") as client:
            ends = {}
            for card in ("pm_card_pendingRefund", "pm_card_refundFail"):
                intent = await confirm(client, (await create(client)).id, card)
                begun = await client.v1.refunds.create_async({"payment_intent": intent.id})
                await receiver.wait_for(len(receiver.events) + 1)
                ends[begun.id] = (begun.status, card)
            await receiver.wait_for(2 * 5 + 2 + 3)
            for refund_id, (begun_as, card) in ends.items():
                status = (await client.v1.refunds.retrieve_async(refund_id)).status
                expected = {"pm_card_pendingRefund": ("pending", "succeeded")}.get(card, ("succeeded", "failed"))
                assert (begun_as, status) == expected


async def test_a_refund_that_waits_for_the_buyer_can_be_canceled() -> None:
    events: list[str] = []
    account = Account(AccountConfig("pk", "whsec"), lambda _, event: events.append(event["type"]))
    intent = account.succeed(account.create_intent(500, "usd", {}, None))
    charge = account.charge_of(intent["id"])
    refund = account.refund(charge, 200, None, "requires_action")
    assert account.cancel_refund(refund)["status"] == "canceled"
    assert charge["amount_refunded"] == 0
    assert events[-2:] == ["refund.updated", "charge.refund.updated"]


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


async def test_a_decision_is_changed(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    intent = await paid(client)
    dispute = await tell(control, f"/payment_intents/{intent.id}/dispute")
    assert (await control.post(f"/disputes/{dispute['id']}/redecide")).status_code == 400
    await tell(control, f"/disputes/{dispute['id']}/close", outcome="lost")
    assert (await tell(control, f"/disputes/{dispute['id']}/redecide"))["status"] == "won"
    assert (await tell(control, f"/disputes/{dispute['id']}/redecide"))["status"] == "lost"
    await receiver.wait_for(10)
    decided = ["charge.dispute.closed", "charge.dispute.funds_reinstated", "charge.dispute.closed"]
    assert receiver.types[5:] == ["charge.dispute.closed", *decided, "charge.dispute.funds_withdrawn"]
    moved = (await client.v1.disputes.retrieve_async(dispute["id"])).balance_transactions
    assert [entry.amount for entry in moved] == [-500, 500, -500]


@pytest.mark.parametrize(("prevented", "moved"), [("resolution", [-500]), ("block", [])])
async def test_a_prevented_dispute_withdraws_money_only_to_refund_the_cardholder(
    client: stripe.StripeClient, control: httpx.AsyncClient, prevented: str, moved: list[int]
) -> None:
    intent = await paid(client)
    dispute = await tell(control, f"/payment_intents/{intent.id}/dispute", prevented=prevented)
    found = await client.v1.disputes.retrieve_async(dispute["id"])
    assert (found.status, [entry.amount for entry in found.balance_transactions]) == ("prevented", moved)
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.disputes.close_async(dispute["id"])


async def test_an_inquiry_withdraws_nothing(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    intent = await paid(client)
    dispute = await tell(control, f"/payment_intents/{intent.id}/dispute", inquiry=True)
    assert dispute["status"] == "warning_needs_response"
    assert (await client.v1.events.list_async({"type": "charge.dispute.created"})).data
    assert (await tell(control, f"/disputes/{dispute['id']}/close", outcome="won"))["status"] == "warning_closed"
    funds = ["charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"]
    assert (await client.v1.events.list_async({"types": funds})).data == []
