"""Paths of products, prices, subscriptions, invoices, the billing portal and test clocks."""

from collections.abc import Callable

from app.demo.stripe import (
    billing_time,
    invoices,
    portal,
    products,
    subscription_changes,
    subscriptions,
)
from app.demo.stripe.account import Account
from app.demo.stripe.clock import CLOCK
from app.demo.stripe.lists import listing
from app.demo.stripe.objects import Object, invalid

Call = Callable[[Account, Object, str], Object]
"""A call gets the account, the form and the path's id."""
Route = tuple[str, str, Call]
SUBSCRIPTIONS = "/v1/subscriptions"
INVOICES = "/v1/invoices"
CLOCKS = "/v1/test_helpers/test_clocks"


def reads(kind: str, path: str) -> list[Route]:
    """Return the routes that list the objects of a kind, and retrieve one."""
    return [
        ("GET", path, lambda a, form, _: listing(a, kind, path, form)),
        ("GET", f"{path}/{{object_id}}", lambda a, _, i: a.find(kind, i)),
    ]


def _lines(account: Account, form: Object, invoice_id: str) -> Object:
    lines: Object = account.find("invoice", invoice_id)["lines"]
    return lines


def _uncollectible(account: Account, invoice: Object) -> Object:
    if invoice["status"] != "open":
        raise invalid("Only open invoices can be marked uncollectible.", "invoice")
    changed = {"status": "uncollectible", "auto_advance": False, "next_payment_attempt": None}
    account.change(invoice, "invoice.updated", changed)
    account.emit("invoice.marked_uncollectible", invoice)
    return invoice


BILLING: list[Route] = [
    ("POST", "/v1/products", lambda a, form, _: products.create_product(a, form)),
    ("POST", "/v1/products/{object_id}", lambda a, form, i: products.update_product(a, a.find("product", i), form)),
    ("POST", "/v1/prices", lambda a, form, _: products.create_price(a, form)),
    ("POST", "/v1/prices/{object_id}", lambda a, form, i: products.update_price(a, a.find("price", i), form)),
    ("POST", SUBSCRIPTIONS, lambda a, form, _: subscriptions.create(a, form)),
    (
        "POST",
        f"{SUBSCRIPTIONS}/{{object_id}}",
        lambda a, form, i: subscription_changes.update(a, a.find("subscription", i), form),
    ),
    (
        "DELETE",
        f"{SUBSCRIPTIONS}/{{object_id}}",
        lambda a, form, i: subscriptions.cancel(a, a.find("subscription", i), form),
    ),
    ("POST", f"{INVOICES}/create_preview", lambda a, form, _: subscription_changes.preview(a, form)),
    ("POST", f"{INVOICES}/{{object_id}}/finalize", lambda a, _, i: invoices.finalize_now(a, a.find("invoice", i))),
    ("POST", f"{INVOICES}/{{object_id}}/pay", lambda a, form, i: invoices.pay(a, a.find("invoice", i), form)),
    ("POST", f"{INVOICES}/{{object_id}}/void", lambda a, _, i: invoices.void(a, a.find("invoice", i))),
    ("POST", f"{INVOICES}/{{object_id}}/mark_uncollectible", lambda a, _, i: _uncollectible(a, a.find("invoice", i))),
    ("GET", f"{INVOICES}/{{object_id}}/lines", _lines),
    ("POST", "/v1/billing_portal/sessions", lambda a, form, _: portal.create(a, form)),
    ("POST", CLOCKS, lambda a, form, _: billing_time.create_clock(a, form)),
    ("POST", f"{CLOCKS}/{{object_id}}/advance", lambda a, form, i: billing_time.advance(a, a.find(CLOCK, i), form)),
    ("DELETE", f"{CLOCKS}/{{object_id}}", lambda a, _, i: billing_time.delete_clock(a, a.find(CLOCK, i))),
    *reads(CLOCK, CLOCKS),
    *(
        route
        for kind in ("product", "price", "subscription", "invoice", "invoice_payment")
        for route in reads(kind, f"/v1/{kind}s")
    ),
]
