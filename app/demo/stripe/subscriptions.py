"""Subscriptions: create, cancel, and the states that follow from the payment of their invoices."""

from typing import TYPE_CHECKING

from app.demo.stripe import customers, invoice_lines, invoices, setup_intents, subscription_items
from app.demo.stripe.clock import time_of
from app.demo.stripe.forms import as_whole, flag, metadata, one_of, required, section
from app.demo.stripe.objects import Object, StripeError, at, invalid, now_s
from app.demo.stripe.periods import period_at
from app.demo.stripe.store import Store

if TYPE_CHECKING:
    from app.demo.stripe.account import Account

SUBSCRIPTION = "subscription"
ENDED = ("canceled", "incomplete_expired")
INCOMPLETE_FOR_S = 23 * 3600
DAY_S = 86_400
MAX_TRIAL_DAYS = 730
NOT_SIMULATED = (
    "add_invoice_items",
    "application_fee_percent",
    "backdate_start_date",
    "billing_cycle_anchor_config",
    "billing_schedules",
    "discounts",
    "pause_collection",
    "pending_invoice_item_interval",
    "transfer_data",
)

UNSET = (
    "application",
    "application_fee_percent",
    "billing_cycle_anchor_config",
    "billing_thresholds",
    "customer_account",
    "days_until_due",
    "default_source",
    "ended_at",
    "latest_invoice",
    "next_pending_invoice_item_invoice",
    "on_behalf_of",
    "pause_collection",
    "pending_invoice_item_interval",
    "pending_setup_intent",
    "pending_update",
    "schedule",
    "transfer_data",
)
"""Fields of a new subscription without a value."""


def refuse_not_simulated(form: Object, names: tuple[str, ...] = NOT_SIMULATED) -> None:
    for name in names:
        if form.get(name):
            raise invalid(f"{name} is not simulated.", name, "parameter_unknown")
    if form.get("collection_method", "charge_automatically") != "charge_automatically":
        raise invalid("Only charge_automatically is simulated.", "collection_method")


def create(account: "Account", form: Object) -> Object:
    """Create a subscription, and try to pay its first invoice. Raises StripeError."""
    refuse_not_simulated(form, (*NOT_SIMULATED, "billing_cycle_anchor"))
    customer = customers.find(account, required(form, "customer"))
    behaviors = ("allow_incomplete", "default_incomplete", "error_if_incomplete")
    behavior = one_of(form, "payment_behavior", behaviors, "allow_incomplete")
    with at(time_of(account, customer["id"])):
        method = owned_method(account, customer["id"], form)
        trial_end = trial_end_of(form)
        items = subscription_items.created(account, form.get("items"))
        default = method or customer["invoice_settings"]["default_payment_method"]
        priced = trial_end is None and any(invoice_lines.amount_of(item) for item in items)
        if priced and default is None and behavior != "default_incomplete":
            message = "This customer has no attached payment source or default payment method."
            raise invalid(message, "customer", "resource_missing")
        subscription = make(account, customer, items, form, method, trial_end)
        collects = behavior != "default_incomplete"
        with account.led_by("customer.subscription.created", subscription):
            error = start(account, subscription, collects=collects)
            if error is None or behavior == "allow_incomplete":
                return subscription
            discard(account, subscription)
        raise error


def owned_method(account: Store, customer_id: str, form: Object) -> str | None:
    """Return the customer's payment method that a form names. Raises StripeError."""
    chosen: str | None = form.get("default_payment_method") or None
    if chosen is not None:
        method = account.find("payment_method", chosen, "default_payment_method")
        if method["customer"] != customer_id:
            message = f"The customer does not have a payment method with the ID {chosen}."
            raise invalid(message, "default_payment_method", "resource_missing")
    return chosen


def trial_end_of(form: Object) -> int | None:
    """Return the end of the trial that a form asks for, in seconds. Raises StripeError."""
    days = as_whole(form["trial_period_days"], "trial_period_days") if form.get("trial_period_days") else 0
    end = now_s() + days * DAY_S if days else None
    if form.get("trial_end") and form["trial_end"] != "now":
        end = as_whole(form["trial_end"], "trial_end")
    if end is not None and not now_s() < end <= now_s() + MAX_TRIAL_DAYS * DAY_S:
        raise invalid("A trial ends in the future, and lasts at most two years.", "trial_end")
    return end


def make(
    account: "Account",
    customer: Object,
    items: list[Object],
    form: Object,
    method: str | None,
    trial_end: int | None,
) -> Object:
    """Return a new, incomplete subscription, without an event and without an invoice. Raises StripeError."""
    now = now_s()
    anchor = trial_end or now
    period = (now, trial_end) if trial_end else period_at(anchor, items[0]["price"]["recurring"], anchor)
    settings = section(form, "payment_settings")
    missing = section(section(form, "trial_settings"), "end_behavior").get("missing_payment_method", "create_invoice")
    if missing not in ("cancel", "create_invoice"):
        raise invalid("Only cancel and create_invoice are simulated.", "trial_settings")
    kept = metadata(form)
    canceling = flag(form, "cancel_at_period_end")
    subscription = account.add(
        SUBSCRIPTION,
        "sub",
        **dict.fromkeys(UNSET),
        automatic_tax={"disabled_reason": None, "enabled": False, "liability": None},
        billing_cycle_anchor=anchor,
        billing_mode={"type": "flexible", "flexible": {"proration_discounts": "included"}, "updated_at": now},
        cancel_at=period[1] if canceling else None,
        cancel_at_period_end=canceling,
        canceled_at=now if canceling else None,
        cancellation_details={"comment": None, "feedback": None, "reason": None},
        collection_method="charge_automatically",
        currency=items[0]["price"]["currency"],
        customer=customer["id"],
        default_payment_method=method,
        default_tax_rates=[],
        description=form.get("description"),
        discounts=[],
        invoice_settings={"account_tax_ids": None, "issuer": {"type": "self"}},
        metadata=kept,
        payment_settings={
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": settings.get("save_default_payment_method", "off"),
        },
        start_date=now,
        status="incomplete",
        test_clock=customer["test_clock"],
        trial_end=trial_end,
        trial_settings={"end_behavior": {"missing_payment_method": missing}},
        trial_start=now if trial_end else None,
    )
    items = subscription_items.with_period(items, period)
    for item in items:
        item["subscription"] = subscription["id"]
    url = f"/v1/subscription_items?subscription={subscription['id']}"
    subscription["items"] = {"object": "list", "data": items, "has_more": False, "total_count": len(items), "url": url}
    account.private(subscription).update(pending=[], invoices=[], reminded=False, upcoming=0)
    if customer["currency"] is None:
        customer["currency"] = subscription["currency"]
    return subscription


def start(account: "Account", subscription: Object, *, collects: bool = False) -> StripeError | None:
    """Create the first invoice. `collects`: try to pay it now; return the error of a payment that failed."""
    trial = subscription["trial_end"] is not None
    items, period = subscription["items"]["data"], subscription_items.period_of(subscription)
    lines = invoice_lines.whole_period(account, subscription, items, period, trial=trial)
    if trial:
        subscription["status"] = "trialing"
        if not collects:
            pending = setup_intents.make(account, subscription["customer"], {})
            subscription["pending_setup_intent"] = pending["id"]
    invoice = invoices.draft(account, subscription, lines, "subscription_create")
    subscription["latest_invoice"] = invoice["id"]
    invoices.finalize(account, invoice)
    return invoices.collect(account, invoice) if collects else None


def discard(account: "Account", subscription: Object) -> None:
    """Forget a subscription whose first payment failed, with its invoice. Its payment is canceled."""
    invoices.discard(account, subscription)
    del account.objects[SUBSCRIPTION][subscription["id"]]


def follow(account: "Account", event: str, invoice: Object) -> None:
    """Move the subscription of an invoice that was paid, or whose payment failed; end those of a deleted customer."""
    if event == "customer.deleted":
        for subscription in account.objects[SUBSCRIPTION].values():
            if subscription["customer"] == invoice["id"] and subscription["status"] not in ENDED:
                end(account, subscription, "cancellation_requested")
    if event not in ("invoice.payment_succeeded", "invoice.payment_failed"):
        return
    subscription = account.find(SUBSCRIPTION, invoices.subscription_of(invoice))
    status = subscription["status"]
    with at(time_of(account, subscription["customer"])):
        if event == "invoice.payment_succeeded":
            fields = _kept_method(account, subscription, invoice)
            is_latest = subscription["latest_invoice"] == invoice["id"]
            if status == "incomplete" or (status in ("past_due", "unpaid") and is_latest):
                fields["status"] = "active"
            changed(account, subscription, fields)
        elif invoice["billing_reason"] != "subscription_create" and status not in ENDED:
            if account.private(invoice).get("exhausted"):
                _give_up(account, subscription)
            elif status in ("active", "trialing"):
                changed(account, subscription, {"status": "past_due"})


def changed(account: "Account", subscription: Object, fields: Object) -> None:
    """Set fields, and emit `customer.subscription.updated` unless its creation is not announced yet."""
    if account.leads(subscription):
        subscription |= fields
    else:
        account.change(subscription, "customer.subscription.updated", fields)


def _kept_method(account: "Account", subscription: Object, invoice: Object) -> Object:
    """Return the paying card as the subscription's default, if its settings say so."""
    intent = invoices.intent_of(account, invoice)
    is_default = subscription["payment_settings"]["save_default_payment_method"] == "on_subscription"
    if is_default and intent is not None and intent["payment_method"] is not None:
        return {"default_payment_method": intent["payment_method"]}
    return {}


def _give_up(account: "Account", subscription: Object) -> None:
    """Act on a renewal that no retry has collected."""
    if account.billing.after_retries == "cancel":
        end(account, subscription, "payment_failed")
    else:
        changed(account, subscription, {"status": account.billing.after_retries})


def end(account: "Account", subscription: Object, reason: str) -> Object:
    """Cancel at once. Drafts are not collected."""
    details = {**subscription["cancellation_details"], "reason": reason}
    now = now_s()
    subscription |= {"status": "canceled", "ended_at": now, "cancellation_details": details}
    subscription["canceled_at"] = subscription["canceled_at"] or now
    for invoice_id in account.private(subscription)["invoices"]:
        invoice = account.find("invoice", invoice_id)
        if invoice["status"] in ("draft", "open"):
            invoice |= {"auto_advance": False, "automatically_finalizes_at": None, "next_payment_attempt": None}
    account.emit("customer.subscription.deleted", subscription)
    return subscription


def cancel(account: "Account", subscription: Object, form: Object) -> Object:
    """Cancel on request. Raises StripeError for a subscription that has ended."""
    if subscription["status"] in ENDED:
        message = f"No such subscription: '{subscription['id']}'"
        raise StripeError(404, "invalid_request_error", message, param="id", code="resource_missing")
    with at(time_of(account, subscription["customer"])):
        items = subscription["items"]["data"]
        if flag(form, "prorate") and subscription["status"] in ("active", "past_due"):
            lines = invoice_lines.credits_of(account, subscription, items, now_s())
            account.private(subscription)["pending"] += lines
        sent = section(form, "cancellation_details")
        subscription["cancellation_details"] |= {n: sent[n] or None for n in ("comment", "feedback") if n in sent}
        end(account, subscription, "cancellation_requested")
        pending = account.private(subscription)["pending"]
        if flag(form, "invoice_now") and pending:
            invoice = invoices.draft(account, subscription, pending, "subscription_update")
            account.private(subscription)["pending"] = []
            subscription["latest_invoice"] = invoice["id"]
            invoices.finalize(account, invoice)
            invoices.collect(account, invoice)
        return subscription


def expire(account: "Account", subscription: Object) -> None:
    """End a subscription whose first invoice was not paid in time."""
    fields = {"status": "incomplete_expired", "ended_at": now_s()}
    invoices.void(account, account.find("invoice", subscription["latest_invoice"]))
    changed(account, subscription, fields)
