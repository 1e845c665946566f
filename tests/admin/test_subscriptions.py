"""Subscriptions in the back office: the list, an account's, and one with its invoices, grants and events."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.admin.subscriptions.state import given_by_event, next_payment
from tests.admin.conftest import Office
from tests.admin.subscribers import DAY, deliver, miss_payment, sell, subscribe, today

LIST = "/admin/subscriptions"
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
RENEWED: dict[str, Any] = {
    "status": "active",
    "period_end": END,
    "cancel_at": None,
    "next_attempt_at": None,
    "due_minor": None,
    "due_currency": None,
    "price_minor": 2000,
    "currency": "USD",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (END, 2000, False)),
        ({"status": "trialing"}, (END, 2000, False)),
        ({"cancel_at": END}, None),
        ({"cancel_at": END + DAY}, (END, 2000, False)),
        ({"status": "past_due"}, (END, 2000, False)),
        ({"status": "past_due", "next_attempt_at": START, "due_minor": 1500}, (START, 1500, True)),
        ({"status": "canceled", "next_attempt_at": START}, None),
        ({"status": "unpaid"}, None),
        ({"status": "paused"}, None),
        ({"status": "incomplete"}, None),
        ({"period_end": None}, None),
        ({"price_minor": None}, (END, None, False)),
    ],
)
def test_next_payment(changes: dict[str, Any], expected: tuple[datetime, int | None, bool] | None) -> None:
    found = next_payment({**RENEWED, **changes})
    assert (None if found is None else (found.at, found.amount_minor, found.is_retry)) == expected


def test_grants_belong_to_the_event_of_their_transaction() -> None:
    def event(event_id: str, at: datetime, object_id: str | None, outcome: str = "applied") -> Mapping[str, Any]:
        return {"event_id": event_id, "received_at": at, "object_id": object_id, "outcome": outcome}

    def grant(at: datetime, invoice_id: str) -> Mapping[str, Any]:
        return {"created_at": at, "invoice_id": invoice_id}

    events = [
        event("alone", START, "sub"),
        event("ignored", START + DAY, "in_2", "ignored"),
        event("state", END, "sub"),
        event("paid", END, "in_3"),
    ]
    alone, without_event, paid, of_none = (
        *(grant(START, "in_1"), grant(START + DAY, "in_2")),
        *(grant(END, "in_3"), grant(END, "in_4")),
    )
    found = given_by_event(events, [alone, without_event, paid, of_none])
    assert found == {"alone": [alone], "paid": [paid]}


async def test_list_filters_and_pages_through_all_users(
    office: Office, viewer: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await sell(admin)
    now = today()
    active = await subscribe(office, now - 3 * DAY, "price_pro", 5000)
    late = await subscribe(office, now - 32 * DAY)
    await miss_payment(office, late, now - 2 * DAY)
    ending = await subscribe(office, now - 10 * DAY)
    period = (now - 10 * DAY, now + 20 * DAY)
    await deliver(office, now, ending.state("updated", now, period, cancels=True))
    ended = await subscribe(office, now - 20 * DAY)
    period = (now - 20 * DAY, now + 10 * DAY)
    await deliver(office, now, ended.state("deleted", now, period, status="canceled", ended_at=now))

    everyone = {one.subscription_id for one in (late, active, ending, ended)}

    async def found(**filters: Any) -> list[str]:
        answer = await viewer.get(LIST, params=filters)
        assert answer.status_code == 200, answer.text
        return [row["subscription_id"] for row in answer.json()["subscriptions"] if row["subscription_id"] in everyone]

    in_order = [one.subscription_id for one in (late, active, ending, ended)]  # by their starts, as Stripe states them
    assert await found() == in_order
    assert await found(status="past_due") == [late.subscription_id]
    assert await found(plan="pro", environment="live") == [active.subscription_id]
    assert await found(view="canceling") == [ending.subscription_id]
    assert await found(view="ended") == [ended.subscription_id]
    assert len(await found(view="subscribed")) == 3
    assert await found(environment="test") == []

    pages, cursor = [], None
    while True:
        page = (await viewer.get(LIST, params={"limit": 1} | ({"cursor": cursor} if cursor else {}))).json()
        pages += [row["subscription_id"] for row in page["subscriptions"] if row["subscription_id"] in everyone]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == in_order
    bad = await viewer.get(LIST, params={"cursor": "9" * 40 + ".sub"})
    assert (bad.status_code, bad.json()["field"]) == (422, "cursor")

    [row] = (await viewer.get(LIST, params={"status": "past_due"})).json()["subscriptions"]
    assert (row["plan_title"], row["plan_interval"], row["price_minor"]) == ("standard", "month", 2000)
    assert (row["entitled"], row["gives_plan"], row["attempts"]) == (True, "standard", 1)
    assert row["subscriber"]["display_name"] == "A subscriber"
    assert row["next_payment"]["is_retry"]
    grace = datetime.fromisoformat(row["grace_ends_at"]) - datetime.fromisoformat(row["past_due_since"])
    assert grace == timedelta(days=office.app.state.settings.subscription_grace_days)


async def test_one_subscription_shows_what_each_event_did(
    office: Office, viewer: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await sell(admin)
    now = today()
    one = await subscribe(office, now - 5 * DAY)
    await deliver(
        office,
        now,
        one.refund(1, 500, now),
        one.dispute("created", 1, 1500, now, "needs_response"),
    )
    path = f"{LIST}/{one.account_id}/{one.subscription_id}"
    answer = await viewer.get(path)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [(event["type"], event["about"], event["outcome"]) for event in found["events"]] == [
        ("customer.subscription.created", "subscription", "applied"),
        ("customer.subscription.updated", "subscription", "applied"),
        ("invoice.paid", "invoice", "applied"),
        ("invoice_payment.paid", "invoice", "applied"),
        ("refund.created", "payment", "applied"),
        ("charge.dispute.created", "payment", "applied"),
    ]
    given = [(event["type"], event["given"]) for event in found["events"] if event["given"]]
    assert given == [("invoice.paid", [{"unit": "USD", "amount": "25.000000"}])]
    [invoice] = found["invoices"]
    assert (invoice["status"], invoice["amount_paid_minor"]) == ("paid", 2000)
    assert (invoice["refunded_minor"], invoice["withdrawn_minor"]) == (500, 1500)
    assert [refund["amount_minor"] for refund in invoice["refunds"]] == [500]
    assert [dispute["status"] for dispute in invoice["disputes"]] == ["open"]
    [grant] = found["grants"]
    assert (grant["amount"], grant["taken_back"], grant["given"]) == ("25.000000", "25.000000", True)
    [terms] = found["terms"]
    assert (terms["plan"]["name"], terms["interval"], found["plan_before"]) == ("standard", "month", "free")

    listed = await viewer.get(f"/admin/users/{one.account_id}/subscriptions")
    assert [row["subscription_id"] for row in listed.json()["subscriptions"]] == [one.subscription_id]
    assert listed.json()["grants"] == found["grants"]
    missing = await viewer.get(f"{path}0")
    assert (missing.status_code, missing.json()["code"]) == (404, "subscription_not_found")
