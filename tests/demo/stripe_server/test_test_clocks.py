"""Time at the local Stripe: renewals, month ends, trials, retries and ends, by test clocks of the official SDK."""

from itertools import pairwise
from typing import Any

import httpx
import pytest
import stripe

from tests.demo.stripe_receiver import Receiver
from tests.demo.stripe_server.billing import (
    advance,
    billing_events,
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
from tests.demo.stripe_server.sdk import event_types, refused, saved_card, tell

RENEWED = [
    "invoice.upcoming",
    "customer.subscription.updated",
    "invoice.created",
    "invoice.finalized",
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "invoice.updated",
    "invoice.paid",
    "invoice_payment.paid",
    "invoice.payment_succeeded",
]


@pytest.mark.parametrize(
    ("start", "interval", "ends"),
    [
        ("2026-01-31", "month", ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]),
        ("2028-01-31", "month", ["2028-02-29", "2028-03-31", "2028-04-30"]),
        ("2026-01-30", "month", ["2026-02-28", "2026-03-30", "2026-04-30"]),
        ("2026-12-31", "month", ["2027-01-31", "2027-02-28", "2027-03-31"]),
        ("2026-03-15", "month", ["2026-04-15", "2026-05-15"]),
        ("2028-02-29", "year", ["2029-02-28", "2030-02-28", "2031-02-28", "2032-02-29"]),
        ("2026-03-29", "week", ["2026-04-05", "2026-04-12"]),
        ("2026-10-24", "day", ["2026-10-25", "2026-10-26"]),
    ],
)
async def test_periods_follow_the_calendar(
    client: stripe.StripeClient, start: str, interval: str, ends: list[str]
) -> None:
    time = await clock(client, f"{start}T23:30:00")
    made = await subscribe(client, await customer(client, test_clock=time), await price(client, 2000, interval))
    assert period(made) == (start, ends[0])
    for ended, following in pairwise(ends):
        await advance(client, time, f"{ended}T23:30:00")
        assert period(await found(client, made)) == (ended, following)
    assert (await found(client, made)).billing_cycle_anchor == second(f"{start}T23:30:00")


async def test_a_renewal_has_its_events_in_order(client: stripe.StripeClient, receiver: Receiver) -> None:
    time = await clock(client)
    made = await subscribe(client, await customer(client, test_clock=time), await price(client))
    before = await event_types(client)
    await advance(client, time, "2026-03-01T00:00:00")
    assert await billing_events(client, len(before)) == RENEWED
    after = await event_types(client)
    assert after[len(before)] == "test_helpers.test_clock.advancing"
    assert after[-1] == "test_helpers.test_clock.ready"
    await receiver.wait_for(len(after))
    assert receiver.types == after
    updated = next(event for event in receiver.events if event.type == "customer.subscription.updated")
    assert updated.created == second("2026-02-28T10:00:00")
    assert updated.data.previous_attributes is not None
    assert set(updated.data.previous_attributes.to_dict()) == {"items", "latest_invoice"}
    renewal = (await invoices(client, made))[-1]
    assert (renewal.billing_reason, renewal.status) == ("subscription_cycle", "paid")
    assert (day(renewal.period_start), day(renewal.period_end)) == ("2026-01-31", "2026-02-28")
    line = renewal.lines.data[0]
    assert (day(line.period.start), day(line.period.end)) == ("2026-02-28", "2026-03-31")
    assert renewal.status_transitions.finalized_at == second("2026-02-28T11:00:00")


async def test_a_renewal_is_a_draft_for_an_hour(client: stripe.StripeClient) -> None:
    time = await clock(client)
    made = await subscribe(client, await customer(client, test_clock=time), await price(client))
    await advance(client, time, "2026-02-28T10:30:00")
    renewal = (await invoices(client, made))[-1]
    assert (renewal.status, renewal.auto_advance, renewal.number) == ("draft", True, None)
    assert renewal.automatically_finalizes_at == second("2026-02-28T11:00:00")
    finalized = await client.v1.invoices.finalize_invoice_async(renewal.id)
    assert (finalized.status, finalized.amount_due) == ("open", 2000)


async def test_two_months_renew_twice(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    await tell(control, "/billing", finalize_after_s=0)
    time = await clock(client)
    made = await subscribe(client, await customer(client, test_clock=time), await price(client))
    before = await event_types(client)
    await advance(client, time, "2026-03-31T10:00:00")
    assert await billing_events(client, len(before)) == RENEWED * 2
    assert [invoice.amount_paid for invoice in await invoices(client, made)] == [2000] * 3
    assert len({invoice.number for invoice in await invoices(client, made)}) == 3


async def declined(client: stripe.StripeClient) -> tuple[str, str, stripe.Subscription]:
    """A subscription whose first renewal was declined: its clock, its customer, and itself."""
    time = await clock(client)
    buyer = await customer(client, test_clock=time)
    made = await subscribe(client, buyer, await price(client))
    await change_card(client, buyer, (await saved_card(client, buyer, "pm_card_chargeCustomerFail")).id)
    await advance(client, time, "2026-03-01T00:00:00")
    return time, buyer, made


async def test_a_declined_renewal_is_past_due_and_retried(client: stripe.StripeClient) -> None:
    time, buyer, made = await declined(client)
    assert (await found(client, made)).status == "past_due"
    renewal = (await invoices(client, made))[-1]
    assert (renewal.status, renewal.attempt_count) == ("open", 1)
    assert renewal.next_payment_attempt == second("2026-03-03T11:00:00")
    assert (await event_types(client))[-4:-1] == [
        "payment_intent.payment_failed",
        "invoice.payment_failed",
        "customer.subscription.updated",
    ]
    await change_card(client, buyer, (await saved_card(client, buyer)).id)
    await advance(client, time, "2026-03-04T00:00:00")
    renewal = (await invoices(client, made))[-1]
    assert (renewal.status, renewal.attempt_count, renewal.next_payment_attempt) == ("paid", 2, None)
    assert (await found(client, made)).status == "active"
    assert (await event_types(client))[-3:-1] == ["invoice.payment_succeeded", "customer.subscription.updated"]


@pytest.mark.parametrize(
    ("after_retries", "status", "event"),
    [
        ("cancel", "canceled", "customer.subscription.deleted"),
        ("unpaid", "unpaid", "customer.subscription.updated"),
        ("past_due", "past_due", "invoice.payment_failed"),
    ],
)
async def test_a_renewal_that_no_retry_collects(
    client: stripe.StripeClient, control: httpx.AsyncClient, after_retries: str, status: str, event: str
) -> None:
    await tell(control, "/billing", retry_days=[1, 2], after_retries=after_retries)
    time, _, made = await declined(client)
    await advance(client, time, "2026-03-04T00:00:00")
    assert (await event_types(client)).count("invoice.payment_failed") == 3
    assert (await event_types(client))[-2] == event
    now = await found(client, made)
    assert now.status == status
    if status == "canceled":
        assert now.cancellation_details is not None
        assert now.cancellation_details.reason == "payment_failed"


async def test_an_unpaid_subscription_drafts_invoices(client: stripe.StripeClient, control: httpx.AsyncClient) -> None:
    await tell(control, "/billing", retry_days=[1], after_retries="unpaid")
    time, buyer, made = await declined(client)
    await advance(client, time, "2026-04-02T00:00:00")
    draft = (await invoices(client, made))[-1]
    assert (draft.status, draft.auto_advance, draft.automatically_finalizes_at) == ("draft", False, None)
    await change_card(client, buyer, (await saved_card(client, buyer)).id)
    assert (await client.v1.invoices.pay_async(draft.id)).status == "paid"
    assert (await found(client, made)).status == "active"


async def test_an_incomplete_subscription_expires(client: stripe.StripeClient) -> None:
    time = await clock(client)
    buyer = await customer(client, "pm_card_chargeCustomerFail", test_clock=time)
    made = await subscribe(client, buyer, await price(client))
    await advance(client, time, "2026-02-01T08:59:00")
    assert (await found(client, made)).status == "incomplete"
    await advance(client, time, "2026-02-01T09:00:00")
    assert (await found(client, made)).status == "incomplete_expired"
    assert (await invoices(client, made))[0].status == "void"
    assert (await event_types(client))[-4:-1] == [
        "payment_intent.canceled",
        "invoice.voided",
        "customer.subscription.updated",
    ]


async def test_cancellation_at_period_end_comes_true(client: stripe.StripeClient) -> None:
    time = await clock(client)
    made = await subscribe(client, await customer(client, test_clock=time), await price(client))
    await client.v1.subscriptions.update_async(made.id, {"cancel_at_period_end": True})
    await advance(client, time, "2026-02-28T09:59:59")
    assert (await found(client, made)).status == "active"
    await advance(client, time, "2026-02-28T10:00:00")
    ended = await found(client, made)
    assert (ended.status, ended.ended_at) == ("canceled", second("2026-02-28T10:00:00"))
    assert ended.canceled_at == second("2026-01-31T10:00:00")
    assert (await event_types(client))[-2] == "customer.subscription.deleted"
    assert len(await invoices(client, made)) == 1


async def test_cancellation_at_a_moment_comes_true(client: stripe.StripeClient) -> None:
    time = await clock(client)
    made = await subscribe(client, await customer(client, test_clock=time), await price(client))
    await client.v1.subscriptions.update_async(made.id, {"cancel_at": second("2026-03-10T00:00:00")})
    await advance(client, time, "2026-03-09T00:00:00")
    assert period(await found(client, made)) == ("2026-02-28", "2026-03-31")
    await advance(client, time, "2026-03-10T00:00:00")
    assert (await found(client, made)).status == "canceled"


async def test_a_trial_turns_into_a_paid_period(client: stripe.StripeClient) -> None:
    time = await clock(client)
    made = await subscribe(client, await customer(client, test_clock=time), await price(client), trial_period_days=14)
    before = await event_types(client)
    await advance(client, time, "2026-02-14T12:00:00")
    assert await billing_events(client, len(before)) == ["customer.subscription.trial_will_end", *RENEWED[1:]]
    now = await found(client, made)
    assert (now.status, period(now)) == ("active", ("2026-02-14", "2026-03-14"))
    assert [invoice.amount_paid for invoice in await invoices(client, made)] == [0, 2000]


@pytest.mark.parametrize(("behavior", "status"), [("cancel", "canceled"), ("create_invoice", "past_due")])
async def test_a_trial_without_a_card(client: stripe.StripeClient, behavior: str, status: str) -> None:
    time = await clock(client)
    buyer = await customer(client, None, test_clock=time)
    made = await subscribe(
        client,
        buyer,
        await price(client),
        trial_period_days=2,
        trial_settings={"end_behavior": {"missing_payment_method": behavior}},
    )
    await advance(client, time, "2026-02-03T00:00:00")
    assert (await found(client, made)).status == status


async def test_real_time_passes_for_the_others(client: stripe.StripeClient) -> None:
    """A clock moves its own customers only. Lists contain its objects on request."""
    time = await clock(client)
    buyer, other, plan = await customer(client, test_clock=time), await customer(client), await price(client)
    mine, others = await subscribe(client, buyer, plan), await subscribe(client, other, plan)
    await advance(client, time, "2026-03-01T00:00:00")
    assert period(await found(client, others)) == period(others)
    assert [one.id for one in (await client.v1.customers.list_async()).data] == [other]
    assert [one.id for one in (await client.v1.customers.list_async({"test_clock": time})).data] == [buyer]
    assert [one.id for one in (await client.v1.subscriptions.list_async()).data] == [others.id]
    assert [one.id for one in (await client.v1.subscriptions.list_async({"test_clock": time})).data] == [mine.id]
    assert mine.test_clock == time
    intent = (await client.v1.payment_intents.list_async({"customer": buyer})).data[0]
    assert intent.created > second("2026-04-01T00:00:00"), "Stripe creates payments in real time"
    await client.v1.test_helpers.test_clocks.delete_async(time)
    assert (await client.v1.customers.retrieve_async(buyer)).deleted is True


@pytest.mark.parametrize("to", ["2026-01-31T10:00:00", "2026-01-01T00:00:00", "2026-04-01T00:00:00"])
async def test_a_clock_moves_at_most_two_intervals(client: stripe.StripeClient, to: str) -> None:
    time = await clock(client)
    await subscribe(client, await customer(client, test_clock=time), await price(client))
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.test_helpers.test_clocks.advance_async(time, {"frozen_time": second(to)})


@pytest.mark.parametrize("frozen", ["", "soon", "9" * 16])
async def test_invalid_times_are_refused(client: stripe.StripeClient, frozen: Any) -> None:
    with refused(stripe.InvalidRequestError, 400):
        await client.v1.test_helpers.test_clocks.create_async({"frozen_time": frozen})


async def test_a_control_route_moves_a_customer_without_a_clock(
    client: stripe.StripeClient, control: httpx.AsyncClient
) -> None:
    """A service creates its customers without a clock."""
    buyer = await customer(client)
    made = await subscribe(client, buyer, await price(client))
    end = item(made).current_period_end
    moved = await tell(control, f"/customers/{buyer}/advance", frozen_time=end + 7200)
    assert (moved["status"], moved["frozen_time"]) == ("ready", end + 7200)
    now = await found(client, made)
    assert (item(now).current_period_start, now.test_clock) == (end, None)
    assert [invoice.status for invoice in await invoices(client, made)] == ["paid", "paid"]
    moved = await tell(control, f"/customers/{buyer}/advance", days=1)
    assert moved["frozen_time"] == end + 7200 + 86_400
    assert [one.id for one in (await client.v1.customers.list_async()).data] == [buyer]
    back = await control.post(f"/customers/{buyer}/advance", json={"frozen_time": end})
    assert back.status_code == 400
