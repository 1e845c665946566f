"""Updates of subscriptions: price changes with proration, the end of trials, cancellation; and previews."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.demo.stripe import customers, invoice_lines, invoices, subscription_items, subscriptions
from app.demo.stripe.clock import time_of
from app.demo.stripe.forms import as_whole, flag, metadata, one_of, section
from app.demo.stripe.objects import Object, StripeError, at, invalid, now_s
from app.demo.stripe.periods import period_at
from app.demo.stripe.store import Store, new_id

if TYPE_CHECKING:
    from app.demo.stripe.account import Account

PRORATIONS = ("create_prorations", "always_invoice", "none")
BEHAVIORS = ("allow_incomplete", "default_incomplete", "error_if_incomplete")


@dataclass(frozen=True)
class Change:
    """New items, the lines that the change costs, and whether an invoice follows at once."""

    items: list[Object]
    lines: list[Object]
    invoiced: bool
    anchor: int
    trial_end: int | None


def planned(account: "Account", subscription: Object, form: Object, prefix: str = "") -> Change:
    """Return the effect of a change of items, billing anchor or trial, without making it. Raises StripeError."""
    behavior = one_of(form, "proration_behavior", PRORATIONS, "create_prorations")
    now = now_s()
    prorated_at = as_whole(form.get("proration_date", now), f"{prefix}proration_date")
    before = subscription["items"]["data"]
    after = subscription_items.changed(account, subscription, form.get("items")) if form.get("items") else before
    start, end = subscription_items.period_of(subscription)
    if not start <= prorated_at <= max(end, now):
        raise invalid("The proration date is outside of the current period.", f"{prefix}proration_date")
    trialing = subscription["status"] == "trialing"
    trial_end = subscription["trial_end"]
    if form.get("trial_end"):
        trial_end = subscriptions.trial_end_of(form) or now
    anchor = one_of(form, "billing_cycle_anchor", ("now", "unchanged"), "unchanged")
    other_interval = subscription_items.interval_of(after[0]) != subscription_items.interval_of(before[0])
    if trialing and trial_end is not None and trial_end > now:
        moved = subscription_items.with_period(after, (start, trial_end))
        return Change(moved, [], invoiced=False, anchor=trial_end, trial_end=trial_end)
    if trial_end is not None and trial_end > now:
        raise invalid("A trial of a subscription that has started is not simulated.", "trial_end")
    if other_interval or anchor == "now" or trialing:
        period = period_at(now, after[0]["price"]["recurring"], now)
        unused = not trialing and behavior != "none"
        credit = invoice_lines.credits_of(account, subscription, before, prorated_at) if unused else []
        moved = subscription_items.with_period(after, period)
        lines = credit + invoice_lines.whole_period(account, subscription, moved, period)
        return Change(moved, lines, invoiced=True, anchor=now, trial_end=trial_end)
    lines = []
    if behavior != "none" and after is not before:
        lines = invoice_lines.prorations(account, subscription, before, after, prorated_at)
    invoiced = behavior == "always_invoice" and bool(lines)
    return Change(after, lines, invoiced=invoiced, anchor=subscription["billing_cycle_anchor"], trial_end=trial_end)


def update(account: "Account", subscription: Object, form: Object) -> Object:
    """Update a subscription, and pay for the change if it is invoiced at once. Raises StripeError."""
    subscriptions.refuse_not_simulated(form)
    behavior = one_of(form, "payment_behavior", BEHAVIORS, "allow_incomplete")
    moving = [name for name in ("items", "billing_cycle_anchor", "trial_end") if form.get(name)]
    if subscription["status"] in subscriptions.ENDED and (set(form) - {"metadata", "cancellation_details", "expand"}):
        message = "A canceled subscription can only update its cancellation_details and metadata."
        raise invalid(message, "subscription")
    if subscription["status"] == "incomplete" and moving:
        raise invalid("An incomplete subscription can only change its metadata and payment method.", moving[0])
    with at(time_of(account, subscription["customer"])):
        fields = _fields(account, subscription, form)
        if not moving:
            subscriptions.changed(account, subscription, fields)
            return subscription
        change = planned(account, subscription, form)
        saved = copy.deepcopy(subscription)
        pending = list(account.private(subscription)["pending"])
        fields["items"] = {**subscription["items"], "data": change.items, "total_count": len(change.items)}
        fields |= {"billing_cycle_anchor": change.anchor, "trial_end": change.trial_end}
        if subscription["status"] == "trialing" and (change.trial_end or 0) <= now_s():
            fields["status"] = "active"
        if fields.get("cancel_at_period_end", subscription["cancel_at_period_end"]):
            fields["cancel_at"] = change.items[0]["current_period_end"]
        if not change.invoiced:
            account.private(subscription)["pending"] += change.lines
            subscriptions.changed(account, subscription, fields)
            return subscription
        with account.led_by("customer.subscription.updated", subscription):
            subscription |= fields
            try:
                error = _invoice(account, subscription, change.lines, behavior)
            except StripeError as refused:  # an amount that no card pays
                error, behavior = refused, "error_if_incomplete"
            if error is not None and behavior == "error_if_incomplete":
                _revert(account, subscription, saved, pending)
            else:
                account.led_by_previous(saved, subscription)
        if error is not None and behavior == "error_if_incomplete":
            raise error
        return subscription


def _invoice(account: "Account", subscription: Object, lines: list[Object], behavior: str | None) -> StripeError | None:
    """Invoice a change and the pending lines. Return the error of a payment that failed."""
    pending = account.private(subscription)["pending"]
    invoice = invoices.draft(account, subscription, [*pending, *lines], "subscription_update")
    account.private(subscription)["pending"] = []
    subscription["latest_invoice"] = invoice["id"]
    invoices.finalize(account, invoice)
    if behavior == "default_incomplete":
        if invoice["status"] == "open":
            subscription["status"] = "past_due"
        return None
    return invoices.collect(account, invoice)


def _revert(account: "Account", subscription: Object, saved: Object, pending: list[Object]) -> None:
    """Undo a change that was not paid: `error_if_incomplete`."""
    invoices.discard(account, subscription)
    account.private(subscription)["pending"] = pending
    subscription.clear()
    subscription |= saved


def _fields(account: Store, subscription: Object, form: Object) -> Object:
    """Return the changed fields that cost nothing. Raises StripeError."""
    fields: Object = {"metadata": metadata(form, before=subscription["metadata"])}
    if "default_payment_method" in form:
        method = subscriptions.owned_method(account, subscription["customer"], form)
        fields["default_payment_method"] = method
    if "description" in form:
        fields["description"] = form["description"] or None
    details = section(form, "cancellation_details")
    sent = {name: details[name] or None for name in ("comment", "feedback") if name in details}
    reason = subscription["cancellation_details"]["reason"]
    if "cancel_at_period_end" in form:
        canceling = flag(form, "cancel_at_period_end")
        end = subscription_items.period_of(subscription)[1]
        fields |= {"cancel_at_period_end": canceling, "cancel_at": end if canceling else None}
        fields["canceled_at"] = (subscription["canceled_at"] or now_s()) if canceling else None
        reason = "cancellation_requested" if canceling else None
    elif "cancel_at" in form:
        moment = as_whole(form["cancel_at"], "cancel_at") if form["cancel_at"] else None
        if moment is not None and moment <= now_s():
            raise invalid("The timestamp must be in the future.", "cancel_at")
        fields |= {"cancel_at": moment, "cancel_at_period_end": False}
        fields["canceled_at"] = now_s() if moment else None
        reason = "cancellation_requested" if moment else None
    fields["cancellation_details"] = {**subscription["cancellation_details"], **sent, "reason": reason}
    return fields


def preview(account: "Account", form: Object) -> Object:
    """Return the next invoice of a subscription, or the one that a change or a new subscription leads to."""
    details = section(form, "subscription_details")
    if form.get("subscription"):
        subscription = account.find("subscription", form["subscription"], "subscription")
        if subscription["status"] in subscriptions.ENDED:
            raise invalid("Can not generate invoice preview for a canceled subscription.", "subscription")
    else:
        subscription = _imagined(account, form, details)
    with at(time_of(account, subscription["customer"])):
        lines, reason, period, due_at = _previewed(account, subscription, form, details)
        body = invoices.body(account, subscription, lines, reason, period, now_s())
    body |= {"id": new_id("upcoming_in"), "object": "invoice", "created": due_at, "livemode": False}
    return body | {"next_payment_attempt": due_at + account.billing.finalize_after_s}


Previewed = tuple[list[Object], str, tuple[int, int] | None, int]


def _previewed(account: "Account", subscription: Object, form: Object, details: Object) -> Previewed:
    """Return the lines, the billing reason, the ended period, and the time of the invoice."""
    if not form.get("subscription"):
        change = planned(account, subscription, {"billing_cycle_anchor": "now", "proration_behavior": "none"})
        return change.lines, "upcoming", None, now_s()
    pending = copy.deepcopy(account.private(subscription)["pending"])
    change = planned(account, subscription, details, "subscription_details")
    if change.invoiced:
        return [*pending, *change.lines], "upcoming", None, now_s()
    start, end = subscription_items.period_of({"items": {"data": change.items}})
    canceling = subscription["cancel_at_period_end"]
    if "cancel_at_period_end" in details:
        canceling = flag(details, "cancel_at_period_end")
    lines = [*pending, *change.lines]
    if not canceling:
        following = period_at(change.anchor, change.items[0]["price"]["recurring"], end)
        lines += invoice_lines.whole_period(account, subscription, change.items, following)
    return lines, "upcoming", (start, end), end


def _imagined(account: "Account", form: Object, details: Object) -> Object:
    """Return a subscription that a preview describes, without creating it. Raises StripeError."""
    customer = customers.find(account, form.get("customer") or "")
    with at(time_of(account, customer["id"])):
        items = subscription_items.created(account, details.get("items"))
        moment = now_s()
        return {
            "id": None,
            "billing_cycle_anchor": moment,
            "cancel_at_period_end": False,
            "currency": items[0]["price"]["currency"],
            "customer": customer["id"],
            "items": {"data": subscription_items.with_period(items, (moment, moment))},
            "metadata": {},
            "status": "active",
            "trial_end": None,
        }
