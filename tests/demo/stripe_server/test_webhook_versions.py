"""Webhooks of billing at the local Stripe: their faults, and the shapes of older API versions."""

from typing import Any

import httpx
import pytest
import stripe

from app.demo.stripe.versions import BEFORE_HOSTED_PAGE, BEFORE_MOVED_FIELDS
from tests.demo.stripe_receiver import Receiver
from tests.demo.stripe_server.billing import advance, clock, customer, intent_of, invoices, item, price, subscribe
from tests.demo.stripe_server.sdk import event_types, tell
from tests.demo.stripe_server.test_checkout import params


def received(receiver: Receiver, kind: str) -> Any:
    """The last event of a type, as plain values."""
    return next(event for event in receiver.events[::-1] if event.type == kind).to_dict()


async def test_fields_are_at_their_old_places(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    await tell(control, "/webhooks/version", version=BEFORE_MOVED_FIELDS)
    time = await clock(client)
    made = await subscribe(client, await customer(client, test_clock=time), await price(client), metadata={"k": "v"})
    await advance(client, time, "2026-03-01T00:00:00")
    renewal = (await invoices(client, made))[-1]
    intent = await intent_of(client, renewal.id)
    await client.v1.refunds.create_async({"payment_intent": intent})
    await receiver.wait_for(len(await event_types(client)))

    paid = received(receiver, "invoice.paid")
    invoice = paid["data"]["object"]
    assert paid["api_version"] == BEFORE_MOVED_FIELDS
    charge = (await client.v1.charges.list_async({"payment_intent": intent})).data[0].id
    assert (invoice["subscription"], invoice["payment_intent"], invoice["charge"]) == (made.id, intent, charge)
    assert (invoice["paid"], invoice["subscription_details"]) == (True, {"metadata": {"k": "v"}})
    (line,) = invoice["lines"]["data"]
    assert (line["price"]["id"], line["proration"], line["type"]) == (item(made).price.id, False, "subscription")
    assert not {"parent", "payments"} & set(invoice)
    assert not {"parent", "pricing"} & set(line)

    updated = received(receiver, "customer.subscription.updated")["data"]
    (one,) = updated["object"]["items"]["data"]
    assert "current_period_end" not in one
    assert updated["object"]["current_period_start"] == renewal.lines.data[0].period.start
    assert updated["object"]["current_period_end"] == renewal.lines.data[0].period.end
    assert updated["object"]["plan"]["id"] == item(made).price.id
    assert updated["previous_attributes"]["current_period_end"] == item(made).current_period_end

    for kind in ("charge.refunded", "payment_intent.succeeded"):
        assert received(receiver, kind)["data"]["object"]["invoice"] == renewal.id
    upcoming = received(receiver, "invoice.upcoming")["data"]["object"]
    assert (upcoming["subscription"], upcoming["payment_intent"]) == (made.id, None)
    now = (await client.v1.events.list_async({"type": "invoice.paid"})).data[0]
    assert now.data.object["parent"]["subscription_details"]["subscription"] == made.id, (
        "answers have the SDK's version"
    )


@pytest.mark.parametrize(
    ("version", "mode"),
    [(BEFORE_MOVED_FIELDS, "hosted"), (BEFORE_HOSTED_PAGE, "hosted"), (stripe.api_version, "hosted_page")],
)
async def test_sessions_have_the_versions_mode(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver, version: str, mode: str
) -> None:
    await tell(control, "/webhooks/version", version=version)
    session = await client.v1.checkout.sessions.create_async(params())
    await client.v1.checkout.sessions.expire_async(session.id)
    await receiver.wait_for(1)
    event = received(receiver, "checkout.session.expired")
    assert (event["api_version"], event["data"]["object"]["ui_mode"]) == (version, mode)


async def test_an_unknown_version_is_refused(control: httpx.AsyncClient) -> None:
    answer = await control.post("/webhooks/version", json={"version": "2019-01-01"})
    assert answer.status_code == 400
    assert BEFORE_MOVED_FIELDS in answer.text


async def test_billing_events_are_reversed_doubled_and_lost(
    client: stripe.StripeClient, control: httpx.AsyncClient, receiver: Receiver
) -> None:
    time = await clock(client)
    buyer, plan = await customer(client, test_clock=time), await price(client)
    before = await event_types(client)
    await receiver.wait_for(len(before))
    await tell(control, "/webhooks", hold=True, duplicate=1, types=["invoice.paid"])
    await subscribe(client, buyer, plan)
    new = (await event_types(client))[len(before) :]
    assert len(receiver.events) == len(before)
    await tell(control, "/webhooks/release", reverse=True)
    await receiver.wait_for(len(before) + len(new) + 1)
    wanted = new[::-1]
    wanted.insert(wanted.index("invoice.paid"), "invoice.paid")
    assert receiver.types[len(before) :] == wanted

    await tell(control, "/webhooks", drop=1, types=["customer.subscription.updated"])
    seen = len(receiver.events)
    await advance(client, time, "2026-03-01T00:00:00")
    renewed = (await event_types(client))[len(before) + len(new) :]
    await receiver.wait_for(seen + len(renewed) - 1)
    renewed.remove("customer.subscription.updated")
    assert receiver.types[seen:] == renewed
