"""Paths of the simulated API, and the calls behind them. Each call gets the account, the form and the path's id."""

from app.demo.stripe import billing_routes, checkout, customers, payment_methods, setup_intents
from app.demo.stripe.account import Account
from app.demo.stripe.billing_routes import Call, Route, reads
from app.demo.stripe.cards import VOUCHERS
from app.demo.stripe.forms import flag, metadata, one_of, required, whole
from app.demo.stripe.lists import listing
from app.demo.stripe.objects import Object, invalid
from app.demo.stripe.store import SESSION

__all__ = ["ROUTES", "SETUPS", "Call"]

SESSIONS = "/v1/checkout/sessions"
METHODS = "/v1/payment_methods"
SETUPS = "/v1/setup_intents"
FUTURE_USAGES = ("off_session", "on_session")


def create_intent(account: Account, form: Object) -> Object:
    amount = whole(form, "amount")
    if amount is None:
        raise invalid("Missing required param: amount.", "amount", "parameter_missing")
    currency = required(form, "currency").lower()
    more = {"customer": form.get("customer") or None, "description": form.get("description")}
    if more["customer"] is not None:
        customers.find(account, more["customer"])
    more["setup_future_usage"] = one_of(form, "setup_future_usage", FUTURE_USAGES)
    confirms = flag(form, "confirm")
    if flag(form, "off_session") and not confirms:
        raise invalid("off_session needs confirm to be true.", "off_session")
    if form.get("payment_method"):
        method = payment_methods.named(account, form["payment_method"])
        more["payment_method"] = payment_methods.usable(account, method, more["customer"])["id"]
    elif confirms and "payment_method_data" not in form:
        raise invalid("You cannot confirm this PaymentIntent without a payment method.", "payment_method")
    intent = account.create_intent(amount, currency, metadata(form), form.get("receipt_email"), **more)
    return confirm_intent(account, intent, form) if confirms else intent


def confirm_intent(account: Account, intent: Object, form: Object) -> Object:
    off_session = flag(form, "off_session")
    if "setup_future_usage" in form:
        intent["setup_future_usage"] = one_of(form, "setup_future_usage", FUTURE_USAGES)
    method = payment_methods.chosen(account, form, intent["payment_method"])
    if off_session and payment_methods.number_of(account, method) in VOUCHERS:
        raise invalid("Only cards pay off session.", "payment_method")
    return account.confirm(intent, method, off_session=off_session, return_url=form.get("return_url"))


def _direct(account: Account, intent_id: str, verb: str) -> Object:
    return checkout.refuse_direct(account, account.find("payment_intent", intent_id), verb)


def create_refund(account: Account, form: Object) -> Object:
    if form.get("charge"):
        charge = account.find("charge", form["charge"])
    elif form.get("payment_intent"):
        charge = account.charge_of(form["payment_intent"])
    else:
        raise invalid("One of charge or payment_intent is required.", "charge", "parameter_missing")
    return account.refund(charge, whole(form, "amount"), form.get("reason"), metadata=form.get("metadata"))


def _setup(account: Account, intent_id: str, verb: str) -> Object:
    return checkout.refuse_direct(account, account.find("setup_intent", intent_id), verb)


def _method(account: Account, method_id: str) -> Object:
    return account.find("payment_method", method_id)


def _attach(account: Account, form: Object, name: str) -> Object:
    return payment_methods.attach(account, payment_methods.named(account, name), required(form, "customer"))


def _methods_of(account: Account, form: Object, customer_id: str) -> Object:
    customers.find(account, customer_id, "id")
    path = f"/v1/customers/{customer_id}/payment_methods"
    return listing(account, "payment_method", path, {**form, "customer": customer_id})


PAYMENTS: list[Route] = [
    ("POST", "/v1/payment_intents", lambda a, form, _: create_intent(a, form)),
    (
        "POST",
        "/v1/payment_intents/{object_id}/confirm",
        lambda a, form, i: confirm_intent(a, _direct(a, i, "confirm"), form),
    ),
    ("POST", "/v1/payment_intents/{object_id}/cancel", lambda a, _, i: a.cancel(_direct(a, i, "cancel"))),
    ("POST", "/v1/refunds", lambda a, form, _: create_refund(a, form)),
    ("POST", "/v1/refunds/{object_id}/cancel", lambda a, _, i: a.cancel_refund(a.find("refund", i))),
    ("POST", "/v1/disputes/{object_id}/close", lambda a, _, i: a.close_dispute(a.find("dispute", i), "lost")),
    ("GET", "/v1/balance", lambda a, _, __: a.balance()),
]
CHECKOUT: list[Route] = [
    ("POST", SESSIONS, lambda a, form, _: checkout.create(a, form)),
    ("GET", SESSIONS, lambda a, form, _: listing(a, SESSION, SESSIONS, form)),
    ("GET", f"{SESSIONS}/{{object_id}}", lambda a, _, i: checkout.find(a, i)),
    ("POST", f"{SESSIONS}/{{object_id}}/expire", lambda a, _, i: checkout.expire(a, checkout.find(a, i))),
]
CUSTOMERS: list[Route] = [
    ("POST", "/v1/customers", lambda a, form, _: customers.create(a, form)),
    ("GET", "/v1/customers/search", lambda a, form, _: customers.search(a, form)),
    ("POST", "/v1/customers/{object_id}", lambda a, form, i: customers.update(a, a.find("customer", i), form)),
    ("DELETE", "/v1/customers/{object_id}", lambda a, _, i: customers.delete(a, a.find("customer", i))),
    ("GET", "/v1/customers/{object_id}/payment_methods", _methods_of),
    ("POST", METHODS, lambda a, form, _: payment_methods.create(a, form)),
    ("POST", f"{METHODS}/{{object_id}}", lambda a, form, i: payment_methods.update(a, _method(a, i), form)),
    ("POST", f"{METHODS}/{{object_id}}/attach", _attach),
    ("POST", f"{METHODS}/{{object_id}}/detach", lambda a, _, i: payment_methods.detach(a, _method(a, i))),
    ("POST", SETUPS, lambda a, form, _: setup_intents.create(a, form)),
    (
        "POST",
        f"{SETUPS}/{{object_id}}/confirm",
        lambda a, form, i: setup_intents.confirm(a, _setup(a, i, "confirm"), form),
    ),
    (
        "POST",
        f"{SETUPS}/{{object_id}}/cancel",
        lambda a, form, i: setup_intents.cancel(a, _setup(a, i, "cancel"), form),
    ),
]
READ = ("payment_intent", "charge", "refund", "dispute", "event", "customer", "payment_method", "setup_intent")
READS = [route for kind in READ for route in reads(kind, f"/v1/{kind}s")]
ROUTES: list[Route] = PAYMENTS + CHECKOUT + CUSTOMERS + billing_routes.BILLING + READS
