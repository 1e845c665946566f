"""The passage of time: renewals, trials, retries and ends of subscriptions, in the order of their moments.

Time is real, or that of a test clock. `advance` moves a clock from one due action to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from app.demo.stripe import invoice_lines, invoices, subscription_changes, subscription_items, subscriptions
from app.demo.stripe.clock import CLOCK, clock_of
from app.demo.stripe.forms import as_whole, required
from app.demo.stripe.objects import Object, StripeError, at, invalid, real_now_s
from app.demo.stripe.periods import boundary, period_at

if TYPE_CHECKING:
    from app.demo.stripe.account import Account

DAY_S = 86_400
TRIAL_REMINDER_S = 3 * DAY_S
LATEST_S = 32_503_680_000
DELETED_AFTER_S = 30 * DAY_S
YEARS_WITHOUT_SUBSCRIPTION_S = 2 * 366 * DAY_S
Action = Callable[["Account", Object], None]
Due = tuple[int, Action, Object]


def due_of(account: Account, subscription: Object) -> Iterator[Due]:
    """Yield the moments at which a subscription or its invoices change, with their actions."""
    status, kept = subscription["status"], account.private(subscription)
    if status in subscriptions.ENDED:
        return
    if status == "incomplete":
        yield subscription["created"] + subscriptions.INCOMPLETE_FOR_S, subscriptions.expire, subscription
        return
    end = subscription_items.period_of(subscription)[1]
    cancel_at = subscription["cancel_at"]
    if status == "trialing" and not kept["reminded"]:
        yield subscription["trial_end"] - TRIAL_REMINDER_S, _remind, subscription
    if cancel_at is not None and cancel_at <= end:
        yield cancel_at, _end, subscription
    else:
        if kept["upcoming"] < end and status == "active":
            yield end - account.billing.upcoming_days * DAY_S, _announce, subscription
        yield end, _renew, subscription
    for invoice_id in kept["invoices"]:
        invoice = account.find("invoice", invoice_id)
        if invoice["status"] == "draft" and invoice["automatically_finalizes_at"] is not None:
            yield invoice["automatically_finalizes_at"], _finalize, invoice
        elif invoice["status"] == "open" and invoice["next_payment_attempt"] is not None:
            yield invoice["next_payment_attempt"], _retry, invoice


def _remind(account: Account, subscription: Object) -> None:
    account.private(subscription)["reminded"] = True
    account.emit("customer.subscription.trial_will_end", subscription)


def _announce(account: Account, subscription: Object) -> None:
    """Announce the next renewal. Its invoice has no id."""
    account.private(subscription)["upcoming"] = subscription_items.period_of(subscription)[1]
    coming = subscription_changes.preview(account, {"subscription": subscription["id"]})
    del coming["id"]
    account.emit("invoice.upcoming", coming)


def _end(account: Account, subscription: Object) -> None:
    subscriptions.end(account, subscription, subscription["cancellation_details"]["reason"])


def _renew(account: Account, subscription: Object) -> None:
    """Start the next period, with a draft of its invoice."""
    status = subscription["status"]
    ended = subscription_items.period_of(subscription)
    if status == "trialing" and not _continues(account, subscription):
        subscriptions.end(account, subscription, "cancellation_requested")
        return
    items = subscription["items"]["data"]
    period = period_at(subscription["billing_cycle_anchor"], items[0]["price"]["recurring"], ended[1])
    moved = subscription_items.with_period(items, period)
    kept = account.private(subscription)
    lines = [*kept["pending"], *invoice_lines.whole_period(account, subscription, moved, period)]
    kept["pending"] = []
    changed: Object = {"items": {**subscription["items"], "data": moved}}
    if status == "trialing":
        changed["status"] = "active"
    with account.led_by("customer.subscription.updated", subscription):
        before = {name: subscription[name] for name in ("items", "status", "latest_invoice")}
        subscription |= changed
        advances = status != "unpaid"
        invoice = invoices.draft(account, subscription, lines, "subscription_cycle", ended, advances=advances)
        subscription["latest_invoice"] = invoice["id"]
        account.led_by_previous(before, {name: subscription[name] for name in before})


def _continues(account: Account, subscription: Object) -> bool:
    """Return whether a subscription survives its trial: a card is missing, and its settings ask for the end."""
    customer = account.find("customer", subscription["customer"])
    method = subscription["default_payment_method"] or customer["invoice_settings"]["default_payment_method"]
    behavior = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    return method is not None or behavior != "cancel"


def _finalize(account: Account, invoice: Object) -> None:
    try:
        invoices.finalize(account, invoice)
    except StripeError:  # pending lines can make an amount that no card pays
        invoice |= {"auto_advance": False, "automatically_finalizes_at": None}
    else:
        invoices.collect(account, invoice)


def _retry(account: Account, invoice: Object) -> None:
    invoice["next_payment_attempt"] = None
    invoices.collect(account, invoice)


def run_due(account: Account, clock: Object | None, until_s: int) -> None:
    """Run the actions that are due until a moment, of the customers of one clock, or of those without."""
    clock_id = None if clock is None else clock["id"]
    while True:
        due = [
            one
            for subscription in list(account.objects["subscription"].values())
            if (clock_of(account, subscription["customer"]) or {}).get("id") == clock_id
            for one in due_of(account, subscription)
            if one[0] <= until_s
        ]
        if not due:
            return
        moment, action, subject = min(due, key=lambda one: one[0])
        if clock is None:
            action(account, subject)
            continue
        clock["frozen_time"] = max(clock["frozen_time"], moment)
        with at(clock["frozen_time"]):
            action(account, subject)


# --- test clocks ---


def create_clock(account: Account, form: Object) -> Object:
    frozen_s = as_whole(required(form, "frozen_time"), "frozen_time")
    if frozen_s > LATEST_S:
        raise invalid("A test clock starts before the year 3000.", "frozen_time")
    return add_clock(account, frozen_s, form.get("name") or None)


def add_clock(account: Account, frozen_s: int, name: str | None) -> Object:
    clock = account.add(
        CLOCK,
        "clock",
        deletes_after=real_now_s() + DELETED_AFTER_S,
        frozen_time=frozen_s,
        name=name,
        status="ready",
        status_details={},
    )
    account.emit("test_helpers.test_clock.created", clock)
    return clock


def advance(account: Account, clock: Object, form: Object) -> Object:
    """Move a clock by at most two of its shortest subscription's intervals. Raises StripeError."""
    until_s = as_whole(required(form, "frozen_time"), "frozen_time")
    if until_s <= clock["frozen_time"]:
        raise invalid("The time to advance to must be after the current frozen time.", "frozen_time")
    if until_s > _latest(account, clock):
        message = "You can only advance a test clock by two intervals of its shortest subscription, or by two years."
        raise invalid(message, "frozen_time")
    move(account, clock, until_s)
    return {**clock, "status": "advancing", "status_details": {"advancing": {"target_frozen_time": until_s}}}


def _latest(account: Account, clock: Object) -> int:
    now = clock["frozen_time"]
    ends = [
        boundary(now, subscription["items"]["data"][0]["price"]["recurring"], 2)
        for subscription in account.objects["subscription"].values()
        if subscription["test_clock"] == clock["id"] and subscription["status"] not in subscriptions.ENDED
    ]
    return min(ends, default=now + YEARS_WITHOUT_SUBSCRIPTION_S)


def move(account: Account, clock: Object, until_s: int) -> None:
    """Run all that is due until a moment, and freeze the clock there."""
    clock |= {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": until_s}}}
    account.emit("test_helpers.test_clock.advancing", clock)
    run_due(account, clock, until_s)
    clock |= {"frozen_time": until_s, "status": "ready", "status_details": {}}
    account.emit("test_helpers.test_clock.ready", clock)


def delete_clock(account: Account, clock: Object) -> Object:
    """Delete a clock with its customers and their subscriptions."""
    for customer in list(account.objects["customer"].values()):
        if customer.get("test_clock") == clock["id"]:
            gone = {"id": customer["id"], "object": "customer", "deleted": True}
            for subscription in account.objects["subscription"].values():
                if subscription["customer"] == customer["id"]:
                    subscription["status"] = "canceled"
            customer.clear()
            customer |= gone
    del account.objects[CLOCK][clock["id"]]
    account.emit("test_helpers.test_clock.deleted", clock)
    return {"id": clock["id"], "object": CLOCK, "deleted": True}
