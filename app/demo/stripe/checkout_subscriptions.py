"""Checkout sessions in mode `subscription`: the hosted page pays the first invoice, or saves a card for a trial.

The subscription is created when the buyer first tries to pay, and is incomplete until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.demo.stripe import checkout_items, customers, invoices, products, setup_intents, subscription_items
from app.demo.stripe import subscriptions as machine
from app.demo.stripe.clock import time_of
from app.demo.stripe.forms import metadata, one_of, section
from app.demo.stripe.objects import Object, at, invalid
from app.demo.stripe.store import SESSION

if TYPE_CHECKING:
    from app.demo.stripe.account import Account

KEPT = ("trial_period_days", "trial_end", "description", "trial_settings")


def parameters(account: Account, form: Object) -> tuple[Object, Object]:
    """Return the values to keep for the subscription, and the session's fields. Raises StripeError."""
    data = section(form, "subscription_data")
    machine.refuse_not_simulated(data, (*machine.NOT_SIMULATED, "billing_cycle_anchor"))
    one_of(form, "payment_method_collection", ("always",), "always")
    if section(form, "payment_intent_data"):
        raise invalid("You can not pass payment_intent_data in subscription mode.", "payment_intent_data")
    lines = [
        (subscription_items.price_of(account, line, "line_items"), subscription_items.quantity_of(line))
        for line in checkout_items.lines_of(form)
    ]
    subscription_items.checked([subscription_items.make(*line) for line in lines])
    trial = machine.trial_end_of(data) is not None
    kept = {
        "name": products.name_of(account, lines[0][0]),
        "items": [{"price": price["id"], "quantity": str(quantity)} for price, quantity in lines],
        "metadata": metadata(data, "subscription_data[metadata]"),
        "data": {name: data[name] for name in KEPT if name in data},
        "subscription": None,
        "interval": lines[0][0]["recurring"]["interval"],
    }
    total = sum(price["unit_amount"] * quantity for price, quantity in lines)
    fields: Object = {
        "amount_subtotal": 0 if trial else total,
        "amount_total": 0 if trial else total,
        "currency": lines[0][0]["currency"],
        "customer_creation": None if form.get("customer") else "always",
        "payment_status": "no_payment_required" if trial else "unpaid",
    }
    return kept, fields


def pay(account: Account, session: Object, method: Object) -> Object:
    """Pay the first invoice, or save the card for a trial. Return the intent.

    Raises StripeError, also for a decline.
    """
    kept = account.private(session)
    if kept.get("customer") is None:
        kept["customer"] = session["customer"] or customers.create(account, dict(session["customer_details"]))["id"]
    with at(time_of(account, kept["customer"])):
        if machine.trial_end_of(kept["data"]) is not None:
            intent = _setup(account, session)
            return setup_intents.confirm(account, intent, {"payment_method": method["id"]})
        if kept["subscription"] is None:
            _subscribe(account, session, None, None)
        return account.confirm(intent_of(account, session), method)


def _setup(account: Account, session: Object) -> Object:
    kept = account.private(session)
    if "setup" not in kept:
        intent = setup_intents.make(account, kept["customer"], {})
        account.private(intent)["session"] = session["id"]
        kept["setup"] = intent["id"]
    return account.find("setup_intent", kept["setup"])


def _subscribe(account: Account, session: Object, method: str | None, trial_end: int | None) -> Object:
    """Create the subscription with its first invoice, which the buyer pays next."""
    kept = account.private(session)
    items = subscription_items.created(account, {str(n): item for n, item in enumerate(kept["items"])})
    form = {
        **kept["data"],
        "metadata": kept["metadata"],
        "payment_settings": {"save_default_payment_method": "on_subscription"},
    }
    customer = customers.find(account, kept["customer"])
    subscription = machine.make(account, customer, items, form, method, trial_end)
    with account.led_by("customer.subscription.created", subscription):
        machine.start(account, subscription, collects=method is not None)
    kept["subscription"] = subscription["id"]
    if (intent := _invoice_intent(account, subscription)) is not None:
        account.private(intent)["session"] = session["id"]
    return subscription


def _invoice_intent(account: Account, subscription: Object) -> Object | None:
    return invoices.intent_of(account, account.find("invoice", subscription["latest_invoice"]))


def intent_of(account: Account, session: Object) -> Object:
    """Return the payment or setup intent that the hosted page confirms. Raises StripeError before the first attempt."""
    kept = account.private(session)
    if "setup" in kept:
        return account.find("setup_intent", kept["setup"])
    subscription = account.find("subscription", kept["subscription"] or "")
    intent = _invoice_intent(account, subscription)
    return intent if intent is not None else account.find("payment_intent", "")


def complete(account: Account, session: Object, intent: Object) -> None:
    """Finish a session whose first invoice was paid, or whose card was saved for a trial."""
    kept = account.private(session)
    with at(time_of(account, kept["customer"])):
        if intent["object"] == "setup_intent":
            trial_end = machine.trial_end_of(kept["data"])
            _subscribe(account, session, intent["payment_method"], trial_end)
        subscription = account.find("subscription", kept["subscription"])
        was_open = session["status"] == "open"
        session |= {"status": "complete", "url": None, "customer": kept["customer"]}
        if intent["object"] == "payment_intent":
            session["payment_status"] = "paid"
        session |= {"subscription": subscription["id"], "invoice": subscription["latest_invoice"]}
        account.emit(f"{SESSION}.{'completed' if was_open else 'async_payment_succeeded'}", session)


def expire(account: Account, session: Object) -> None:
    """End the subscription of an expired session, if the buyer tried to pay."""
    kept = account.private(session)
    if kept["subscription"] is not None:
        subscription = account.find("subscription", kept["subscription"])
        with at(time_of(account, kept["customer"])):
            machine.expire(account, subscription)
