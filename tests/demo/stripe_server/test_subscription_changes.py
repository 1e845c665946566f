"""Changes of subscriptions at the local Stripe: proration, previews, and their payment. The clock is in mid-period."""

from typing import Any

import pytest
import stripe

from tests.demo.stripe_server.billing import (
    advance,
    change_card,
    clock,
    customer,
    day,
    found,
    invoices,
    item,
    period,
    price,
    second,
    subscribe,
)
from tests.demo.stripe_server.sdk import event_types, refused, saved_card

MIDDLE = "2026-04-16T00:00:00"
"""Half of a period from 1 April to 1 May."""


@pytest.fixture
async def time(client: stripe.StripeClient) -> str:
    return await clock(client, "2026-04-01T00:00:00")


@pytest.fixture
async def buyer(client: stripe.StripeClient, time: str) -> str:
    return await customer(client, test_clock=time)


@pytest.fixture
async def made(client: stripe.StripeClient, time: str, buyer: str) -> stripe.Subscription:
    """A subscription of $20.00 a month, half of whose first month is over."""
    subscription = await subscribe(client, buyer, await price(client))
    await advance(client, time, MIDDLE)
    return subscription


async def change(
    client: stripe.StripeClient, subscription: stripe.Subscription, price_id: str, **more: Any
) -> stripe.Subscription:
    params: Any = {"items": [{"id": item(subscription).id, "price": price_id}], **more}
    return await client.v1.subscriptions.update_async(subscription.id, params)


async def preview(
    client: stripe.StripeClient, subscription: stripe.Subscription, **details: Any
) -> list[tuple[int, str, str]]:
    """The lines of a previewed invoice: amount, first and last day."""
    params: Any = {"subscription": subscription.id}
    if details:
        params["subscription_details"] = details
    shown = await client.v1.invoices.create_preview_async(params)
    assert shown.total == sum(line.amount for line in shown.lines.data)
    assert shown.id.startswith("upcoming_in_")
    return lines(shown)


def lines(invoice: stripe.Invoice) -> list[tuple[int, str, str]]:
    return [(line.amount, day(line.period.start), day(line.period.end)) for line in invoice.lines.data]


PRORATED = [(-1000, "2026-04-16", "2026-05-01"), (2500, "2026-04-16", "2026-05-01")]
"""Half of $20.00 back, and half of $50.00 for the rest of April."""
MAY = (5000, "2026-05-01", "2026-06-01")


async def test_an_upgrade_is_prorated_on_the_next_invoice(
    client: stripe.StripeClient, time: str, made: stripe.Subscription
) -> None:
    changed = await change(client, made, await price(client, 5000))
    assert (changed.status, item(changed).price.unit_amount) == ("active", 5000)
    assert (item(changed).id, period(changed)) == (item(made).id, ("2026-04-01", "2026-05-01"))
    assert len(await invoices(client, made)) == 1
    assert await preview(client, made) == [*PRORATED, MAY]
    await advance(client, time, "2026-05-02T00:00:00")
    renewal = (await invoices(client, made))[-1]
    assert (renewal.status, lines(renewal)) == ("paid", [*PRORATED, MAY])
    for line in renewal.lines.data[:2]:
        assert line.parent is not None
        assert line.parent.subscription_item_details is not None
        assert line.parent.subscription_item_details.proration is True


async def test_an_upgrade_is_invoiced_at_once(client: stripe.StripeClient, made: stripe.Subscription) -> None:
    plan = await price(client, 5000)
    wanted = {"items": [{"id": item(made).id, "price": plan}], "proration_behavior": "always_invoice"}
    assert await preview(client, made, **wanted) == PRORATED
    before = len(await event_types(client))
    await change(client, made, plan, proration_behavior="always_invoice")
    invoice = (await invoices(client, made))[-1]
    assert (invoice.billing_reason, invoice.amount_paid, lines(invoice)) == ("subscription_update", 1500, PRORATED)
    assert (await event_types(client))[before] == "customer.subscription.updated"
    assert await preview(client, made) == [MAY]


async def test_a_change_without_proration_costs_nothing_now(
    client: stripe.StripeClient, made: stripe.Subscription
) -> None:
    changed = await change(client, made, await price(client, 5000), proration_behavior="none")
    assert item(changed).price.unit_amount == 5000
    assert await preview(client, made) == [MAY]


async def test_a_downgrade_leaves_a_balance(
    client: stripe.StripeClient, time: str, buyer: str, made: stripe.Subscription
) -> None:
    await change(client, made, await price(client, 1000), proration_behavior="always_invoice")
    invoice = (await invoices(client, made))[-1]
    assert (invoice.total, invoice.amount_due, invoice.status, invoice.ending_balance) == (-500, 0, "paid", -500)
    assert (await client.v1.customers.retrieve_async(buyer)).balance == -500
    await advance(client, time, "2026-05-02T00:00:00")
    renewal = (await invoices(client, made))[-1]
    assert (renewal.total, renewal.amount_paid, renewal.starting_balance) == (1000, 500, -500)
    assert (await client.v1.customers.retrieve_async(buyer)).balance == 0


async def test_another_interval_starts_a_new_period(client: stripe.StripeClient, made: stripe.Subscription) -> None:
    yearly = await price(client, 20_000, "year")
    changed = await change(client, made, yearly)
    assert period(changed) == ("2026-04-16", "2027-04-16")
    assert changed.billing_cycle_anchor == second(MIDDLE)
    invoice = (await invoices(client, made))[-1]
    assert lines(invoice) == [(-1000, "2026-04-16", "2026-05-01"), (20_000, "2026-04-16", "2027-04-16")]
    assert invoice.amount_paid == 19_000


async def test_a_new_anchor_starts_a_new_period(client: stripe.StripeClient, made: stripe.Subscription) -> None:
    params: Any = {"billing_cycle_anchor": "now", "proration_behavior": "none"}
    changed = await client.v1.subscriptions.update_async(made.id, params)
    assert period(changed) == ("2026-04-16", "2026-05-16")
    assert (await invoices(client, made))[-1].amount_paid == 2000


async def test_seats_are_added_and_items_removed(client: stripe.StripeClient, made: stripe.Subscription) -> None:
    extra = await price(client, 300)
    params: Any = {"items": [{"id": item(made).id, "quantity": 3}, {"price": extra}], "proration_behavior": "none"}
    changed: Any = await client.v1.subscriptions.update_async(made.id, params)
    assert [(one.quantity, one.price.unit_amount) for one in changed.items.data] == [(3, 2000), (1, 300)]
    gone: Any = {"items": [{"id": changed.items.data[1].id, "deleted": True}]}
    changed = await client.v1.subscriptions.update_async(made.id, gone)
    assert [one.quantity for one in changed.items.data] == [3]
    with refused(stripe.InvalidRequestError, 400):
        last: Any = {"items": [{"id": item(made).id, "deleted": True}]}
        await client.v1.subscriptions.update_async(made.id, last)


async def test_a_declined_upgrade_makes_it_past_due(
    client: stripe.StripeClient, buyer: str, made: stripe.Subscription
) -> None:
    await change_card(client, buyer, (await saved_card(client, buyer, "pm_card_chargeCustomerFail")).id)
    changed = await change(client, made, await price(client, 5000), proration_behavior="always_invoice")
    assert (changed.status, item(changed).price.unit_amount) == ("past_due", 5000)
    good = await saved_card(client, buyer)
    paid = await client.v1.invoices.pay_async(str(changed.latest_invoice), {"payment_method": good.id})
    assert paid.status == "paid"
    assert (await found(client, made)).status == "active"


async def test_a_declined_upgrade_is_taken_back(
    client: stripe.StripeClient, buyer: str, made: stripe.Subscription
) -> None:
    await change_card(client, buyer, (await saved_card(client, buyer, "pm_card_chargeCustomerFail")).id)
    plan, before = await price(client, 5000), await event_types(client)
    with refused(stripe.CardError, 402, "card_declined"):
        await change(client, made, plan, proration_behavior="always_invoice", payment_behavior="error_if_incomplete")
    after = await found(client, made)
    assert (after.status, item(after).price.unit_amount) == ("active", 2000)
    assert len(await invoices(client, made)) == 1
    new = (await event_types(client))[len(before) :]
    assert not [name for name in new if name.startswith(("customer.", "invoice"))]
    assert (await preview(client, made)) == [(2000, "2026-05-01", "2026-06-01")]


async def test_a_change_waits_for_the_buyer(client: stripe.StripeClient, made: stripe.Subscription) -> None:
    changed = await change(
        client,
        made,
        await price(client, 5000),
        proration_behavior="always_invoice",
        payment_behavior="default_incomplete",
        expand=["latest_invoice"],
    )
    assert isinstance(changed.latest_invoice, stripe.Invoice)
    assert (changed.status, changed.latest_invoice.status) == ("past_due", "open")


async def test_a_change_to_the_same_price_changes_nothing(
    client: stripe.StripeClient, made: stripe.Subscription
) -> None:
    before = await event_types(client)
    await change(client, made, item(made).price.id, proration_behavior="always_invoice")
    assert await event_types(client) == before


async def test_a_preview_changes_nothing(client: stripe.StripeClient, buyer: str, made: stripe.Subscription) -> None:
    before = (await found(client, made)).to_dict()
    plan = await price(client, 5000)
    events = await event_types(client)
    assert await preview(client, made, items=[{"id": item(made).id, "price": plan}]) == [*PRORATED, MAY]
    assert await preview(client, made, cancel_at_period_end=True) == []
    params: Any = {"customer": buyer, "subscription_details": {"items": [{"price": plan}]}}
    new = await client.v1.invoices.create_preview_async(params)
    assert lines(new) == [(5000, "2026-04-16", "2026-05-16")]
    assert (await found(client, made)).to_dict() == before
    assert await event_types(client) == events


async def test_a_proration_date_is_fixed(client: stripe.StripeClient, made: stripe.Subscription) -> None:
    plan = await price(client, 5000)
    wanted: Any = {"items": [{"id": item(made).id, "price": plan}], "proration_behavior": "always_invoice"}
    shown = await preview(client, made, **wanted, proration_date=second("2026-04-11T00:00:00"))
    assert [amount for amount, *_ in shown] == [-1333, 3333]
    with refused(stripe.InvalidRequestError, 400):
        await preview(client, made, **wanted, proration_date=second("2026-03-31T00:00:00"))


async def test_a_trial_ends_early(client: stripe.StripeClient, buyer: str) -> None:
    trial = await subscribe(client, buyer, await price(client), trial_period_days=10)
    params: Any = {"trial_end": "now"}
    ended = await client.v1.subscriptions.update_async(trial.id, params)
    assert (ended.status, period(ended)) == ("active", ("2026-04-01", "2026-05-01"))
    assert (await invoices(client, trial))[-1].amount_paid == 2000


async def test_a_canceled_period_is_given_back(
    client: stripe.StripeClient, buyer: str, made: stripe.Subscription
) -> None:
    await client.v1.subscriptions.cancel_async(made.id, {"prorate": True, "invoice_now": True})
    assert (await client.v1.customers.retrieve_async(buyer)).balance == -1000


@pytest.mark.parametrize(
    "changed",
    [
        {"items": [{"id": "si_none", "price": "price_none"}]},
        {"proration_behavior": "sometimes", "billing_cycle_anchor": "now"},
        {"billing_cycle_anchor": "yesterday"},
        {"cancel_at": 1},
        {"trial_end": 4_000_000_000},
        {"default_payment_method": "pm_none"},
        {"payment_behavior": "pending_if_incomplete"},
    ],
)
async def test_invalid_changes_are_refused(
    client: stripe.StripeClient, made: stripe.Subscription, changed: Any
) -> None:
    before = (await found(client, made)).to_dict()
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.subscriptions.update_async(made.id, changed)
    assert (await found(client, made)).to_dict() == before
