"""Webhooks in the shapes of older API versions: fields that a later version moved are at their old places."""

import copy

from app.demo.stripe import invoices, products
from app.demo.stripe.objects import Object
from app.demo.stripe.store import API_VERSION, PRIVATE, Store

BEFORE_MOVED_FIELDS, BEFORE_HOSTED_PAGE = "2025-02-24.acacia", "2025-09-30.clover"
VERSIONS = (API_VERSION, BEFORE_HOSTED_PAGE, BEFORE_MOVED_FIELDS)
"""Versions of webhooks, newest first. Since 2026-03-25 a session's `ui_mode` is `hosted_page`, before it was `hosted`.
Since 2025-03-31 periods are in subscription items, and an invoice's subscription and payment are in other objects."""


def rendered(account: Store, event: Object, version: str) -> Object:
    """Return an event as a webhook endpoint of this version receives it."""
    if version == API_VERSION:
        return event
    shown = copy.deepcopy(event) | {"api_version": version}
    subject, previous = shown["data"]["object"], shown["data"].get("previous_attributes", {})
    kind = subject["object"]
    if kind == "checkout.session":
        subject["ui_mode"] = "hosted"
    if version == BEFORE_MOVED_FIELDS:
        if kind == "subscription":
            _old_subscription(subject)
            if "items" in previous:
                previous |= _period(previous["items"]["data"])
                _old_items(previous["items"]["data"])
        elif kind == "invoice":
            _old_invoice(account, subject)
        elif kind in ("charge", "payment_intent"):
            intent_id = subject["payment_intent"] if kind == "charge" else subject["id"]
            subject["invoice"] = account.objects[PRIVATE].get(intent_id, {}).get("invoice")
    return shown


def _period(items: list[Object]) -> Object:
    return {name: items[0][name] for name in ("current_period_start", "current_period_end")}


def _old_items(items: list[Object]) -> None:
    for item in items:
        del item["current_period_start"], item["current_period_end"]


def _old_subscription(subscription: Object) -> None:
    items = subscription["items"]["data"]
    single = items[0] if len(items) == 1 else {"plan": None, "quantity": None}
    subscription |= {**_period(items), "plan": single["plan"], "quantity": single["quantity"], "discount": None}
    _old_items(items)


def _old_invoice(account: Store, invoice: Object) -> None:
    details = invoice.pop("parent")["subscription_details"]
    intent = None
    if (stored := account.objects["invoice"].get(invoice.get("id", ""))) is not None:
        intent = invoices.intent_of(account, stored)
    invoice |= {
        "subscription": details["subscription"],
        "subscription_details": {"metadata": details["metadata"]},
        "payment_intent": None if intent is None else intent["id"],
        "charge": None if intent is None else intent["latest_charge"],
        "discount": None,
        "paid": invoice["status"] == "paid",
        "paid_out_of_band": invoice["status"] == "paid" and invoice["amount_paid"] < invoice["amount_due"],
        "quote": None,
        "tax": None,
        "total_tax_amounts": [],
    }
    for line in invoice["lines"]["data"]:
        parent = line.pop("parent")["subscription_item_details"]
        price = copy.deepcopy(account.find("price", line.pop("pricing")["price_details"]["price"]))
        line |= {
            "invoice_item": parent["invoice_item"],
            "plan": products.plan_of(price),
            "price": price,
            "proration": parent["proration"],
            "subscription_item": parent["subscription_item"],
            "tax_amounts": [],
            "tax_rates": [],
            "type": "invoiceitem" if parent["proration"] else "subscription",
        }
