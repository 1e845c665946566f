"""Checkout sessions: a hosted page takes one payment, saves a card, or starts a subscription. No HTTP here.

The payment intent is created when the buyer first tries to pay. `follow` moves the session with its payment or setup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.demo.stripe import checkout_items, checkout_subscriptions, customers, payment_methods, setup_intents
from app.demo.stripe.cards import is_accepted_card
from app.demo.stripe.clock import time_of
from app.demo.stripe.forms import metadata, one_of, section
from app.demo.stripe.objects import Object, StripeError, at, invalid, real_now_s
from app.demo.stripe.store import PRIVATE, SESSION

if TYPE_CHECKING:
    from app.demo.stripe.account import Account

MODES = ("payment", "setup", "subscription")
BUYER = {"email": "buyer@example.com", "name": "Test Buyer"}


def create(account: Account, form: Object) -> Object:
    """Create an open session from the parameters of a request. Raises StripeError."""
    mode = one_of(form, "mode", MODES)
    if mode is None:
        raise invalid("Missing required param: mode.", "mode", "parameter_missing")
    checkout_items.check_addresses(form)
    customer = _customer(account, form)
    with at(time_of(account, customer)):
        kept, fields = PARAMETERS[mode](account, form)
    expires_at = checkout_items.expiry(form, real_now_s())
    session = account.add(
        SESSION,
        "cs_test",
        mode=mode,
        ui_mode="hosted_page",
        status="open",
        payment_status="unpaid",
        payment_intent=None,
        setup_intent=None,
        subscription=None,
        invoice=None,
        amount_subtotal=None,
        amount_total=None,
        currency=None,
        client_reference_id=form.get("client_reference_id"),
        metadata=metadata(form),
        success_url=form["success_url"],
        cancel_url=form.get("cancel_url"),
        customer=customer,
        customer_creation=None,
        customer_details=None,
        customer_email=form.get("customer_email") or None,
        adaptive_pricing={"enabled": section(form, "adaptive_pricing").get("enabled", "true") == "true"},
        expires_at=expires_at,
    )
    session |= fields
    session["url"] = f"{account.base_url}/c/pay/{session['id']}"
    account.private(session).update(kept)
    if mode == "setup":
        intent = setup_intents.make(account, customer, kept["metadata"])
        session["setup_intent"] = intent["id"]
        account.private(intent)["session"] = session["id"]
    return session


def _customer(account: Account, form: Object) -> str | None:
    customer: str | None = form.get("customer") or None
    if customer is not None:
        customers.find(account, customer)
        if form.get("customer_email"):
            message = "You may only specify one of these parameters: customer, customer_email."
            raise invalid(message, "customer_email")
    return customer


def _payment(account: Account, form: Object) -> tuple[Object, Object]:
    """Return the values to keep for the payment, and the session's fields. Raises StripeError."""
    data = section(form, "payment_intent_data")
    name, currency, total = checkout_items.priced_items(account, form)
    kept = {
        "name": name,
        "metadata": metadata(data, "payment_intent_data[metadata]"),
        "setup_future_usage": one_of(data, "setup_future_usage", ("off_session", "on_session")),
        "description": data.get("description"),
    }
    creation = None
    if not form.get("customer"):
        creation = one_of(form, "customer_creation", ("always", "if_required"), "if_required")
    fields = {
        "amount_subtotal": total,
        "amount_total": total,
        "currency": currency,
        "customer_creation": creation,
    }
    return kept, fields


def _setup(account: Account, form: Object) -> tuple[Object, Object]:
    """Return the values to keep for the setup, and the session's fields. Raises StripeError."""
    if not form.get("currency") and not form.get("payment_method_types"):
        raise invalid("You must pass either currency or payment_method_types.", "currency", "parameter_missing")
    if form.get("line_items"):
        raise invalid("You may not pass line_items in setup mode.", "line_items")
    data = section(form, "setup_intent_data")
    kept = {"name": "Save a card", "metadata": metadata(data, "setup_intent_data[metadata]")}
    return kept, {"payment_status": "no_payment_required", "currency": form.get("currency")}


PARAMETERS = {"payment": _payment, "setup": _setup, "subscription": checkout_subscriptions.parameters}
"""The values that a session of each mode keeps for its intent, and its own fields."""


def find(account: Account, session_id: str) -> Object:
    """Return a session. One whose time is over expires first. Raises StripeError."""
    session = account.find(SESSION, session_id)
    if session["status"] == "open" and session["expires_at"] <= real_now_s():
        expire(account, session)
    return session


def product_of(account: Account, session: Object) -> str:
    name: str = account.private(session)["name"]
    return name


def interval_of(account: Account, session: Object) -> str:
    """Return words such as " each month" for the price of a subscription; empty for one payment."""
    interval = account.private(session).get("interval")
    return f" each {interval}" if interval else ""


def pay(account: Account, session: Object, name: str) -> Object:
    """Pay, or save the card, as the buyer does on the hosted page: with a test card's name or a card number.

    Return the payment or setup intent. Raises StripeError, also for a decline.
    """
    if session["status"] != "open":
        raise StripeError(400, "invalid_request_error", f"This Checkout Session is {session['status']}.")
    method = payment_methods.make(account, name) if is_accepted_card(name) else payment_methods.named(account, name)
    if session["customer_details"] is None:
        session["customer_details"] = _details(account, session)
    if session["mode"] == "subscription":
        return checkout_subscriptions.pay(account, session, method)
    if session["mode"] == "setup":
        intent = account.find("setup_intent", session["setup_intent"])
        return setup_intents.confirm(account, intent, {"payment_method": method["id"]})
    return account.confirm(_intent(account, session), method)


def _details(account: Account, session: Object) -> Object:
    email, name = session["customer_email"] or BUYER["email"], BUYER["name"]
    if session["customer"] is not None:
        customer = account.find("customer", session["customer"])
        email, name = customer["email"] or email, customer["name"] or name
    return {"email": email, "name": name}


def _intent(account: Account, session: Object) -> Object:
    """Return the session's payment intent; create it for the first attempt."""
    if session["payment_intent"] is None:
        kept = account.private(session)
        more = {"setup_future_usage": kept["setup_future_usage"], "description": kept["description"]}
        customer = session["customer"]
        if customer is None and (session["customer_creation"] == "always" or more["setup_future_usage"]):
            customer = customers.create(account, dict(session["customer_details"]))["id"]
        kept["customer"] = customer
        intent = account.create_intent(
            session["amount_total"], session["currency"], dict(kept["metadata"]), None, customer=customer, **more
        )
        account.private(intent)["session"] = session["id"]
        session["payment_intent"] = intent["id"]
    return account.find("payment_intent", session["payment_intent"])


def expire(account: Account, session: Object) -> Object:
    """End an open session, and cancel its payment. Raises StripeError for any other session."""
    if session["status"] != "open":
        message = (
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of'
        )
        raise StripeError(400, "invalid_request_error", f"{message} {session['status']}")
    session |= {"status": "expired", "url": None}
    if session["payment_intent"] is not None:
        account.cancel(account.find("payment_intent", session["payment_intent"]))
    if session["setup_intent"] is not None:
        setup_intents.cancel(account, account.find("setup_intent", session["setup_intent"]), {})
    if session["mode"] == "subscription":
        checkout_subscriptions.expire(account, session)
    account.emit("checkout.session.expired", session)
    return session


def follow(account: Account, event: str, subject: Object) -> None:
    """Move the session of a payment or setup that has changed, and emit the session's event."""
    if not event.startswith(("payment_intent.", "setup_intent.")):
        return
    session = session_of(account, subject)
    if session is None:
        return
    if session["mode"] == "subscription" and event.endswith(".succeeded"):
        checkout_subscriptions.complete(account, session, subject)
    elif event == "setup_intent.succeeded":
        session |= {"status": "complete", "url": None}
        account.emit(f"{SESSION}.completed", session)
    elif event.startswith("payment_intent."):
        _follow_payment(account, session, subject)


def _follow_payment(account: Account, session: Object, intent: Object) -> None:
    status = intent["status"]
    was_open, is_unpaid = session["status"] == "open", session["payment_status"] == "unpaid"
    is_later = status == "requires_action" and intent["next_action"]["type"] not in (
        "use_stripe_sdk",
        "redirect_to_url",
    )
    if status == "succeeded" and is_unpaid:
        session |= {"status": "complete", "payment_status": "paid", "url": None}
        # A test may let another amount arrive. Stripe's session and payment never differ.
        session |= {"amount_total": intent["amount_received"], "currency": intent["currency"]}
        session["customer"] = intent["customer"]
        account.emit(f"{SESSION}.{'completed' if was_open else 'async_payment_succeeded'}", session)
    elif was_open and (status == "processing" or is_later):
        session |= {"status": "complete", "url": None, "customer": intent["customer"]}
        account.emit(f"{SESSION}.completed", session)
    elif session["status"] == "complete" and is_unpaid and status == "requires_payment_method":
        account.emit(f"{SESSION}.async_payment_failed", session)


def intent_of(account: Account, session: Object) -> Object:
    """Return the payment or setup intent that the hosted page confirms. Raises StripeError before the first attempt."""
    if session["mode"] == "subscription":
        return checkout_subscriptions.intent_of(account, session)
    if session["mode"] == "setup":
        return account.find("setup_intent", session["setup_intent"])
    return account.find("payment_intent", session["payment_intent"] or "")


def session_of(account: Account, intent: Object) -> Object | None:
    session_id = account.objects[PRIVATE].get(intent["id"], {}).get("session", "")
    return account.objects[SESSION].get(session_id)


def refuse_direct(account: Account, intent: Object, verb: str) -> Object:
    """Return the intent of a call that may change it directly. Raises StripeError for one of a session."""
    if verb == "cancel" and account.objects[PRIVATE].get(intent["id"], {}).get("invoice") is not None:
        message = "You cannot cancel the PaymentIntent of an invoice. Void the invoice instead."
        raise StripeError(400, "invalid_request_error", message, code="payment_intent_unexpected_state")
    if session_of(account, intent) is not None:
        kind = "SetupIntent" if intent["object"] == "setup_intent" else "PaymentIntent"
        message = f"You cannot {verb} the {kind} of a Checkout Session. Expire the Checkout Session instead."
        raise StripeError(400, "invalid_request_error", message, code=f"{intent['object']}_unexpected_state")
    return intent
