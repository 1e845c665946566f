"""Sessions of the billing portal: its page cancels, resumes, and changes the card."""

import secrets
from typing import TYPE_CHECKING

from app.demo.stripe import customers, setup_intents, subscription_changes
from app.demo.stripe.clock import time_of
from app.demo.stripe.forms import is_url, required
from app.demo.stripe.objects import Object, StripeError, at, invalid, real_now_s
from app.demo.stripe.subscriptions import ENDED

if TYPE_CHECKING:
    from app.demo.stripe.account import Account

PORTAL = "billing_portal.session"
OPEN_FOR_S = 3600


def create(account: "Account", form: Object) -> Object:
    customer = customers.find(account, required(form, "customer"))
    if form.get("return_url") and not is_url(form["return_url"]):
        raise invalid("Not a valid URL", "return_url", "url_invalid")
    if form.get("flow_data"):
        raise invalid("flow_data is not simulated.", "flow_data", "parameter_unknown")
    session = account.add(
        PORTAL,
        "bps",
        configuration="bpc_local",
        customer=customer["id"],
        customer_account=None,
        flow=None,
        locale=form.get("locale"),
        on_behalf_of=None,
        return_url=form.get("return_url"),
    )
    session["created"] = real_now_s()
    secret = secrets.token_urlsafe(24)
    session["url"] = f"{account.base_url}/p/session/{session['id']}?secret={secret}"
    account.private(session)["secret"] = secret
    account.emit("billing_portal.session.created", session)
    return session


def find(account: "Account", session_id: str, secret: str) -> Object:
    """Return a session that its buyer may use. Raises StripeError."""
    session = account.find(PORTAL, session_id)
    valid = secrets.compare_digest(account.private(session)["secret"].encode(), secret.encode())
    if not valid or session["created"] + OPEN_FOR_S < real_now_s():
        raise StripeError(404, "invalid_request_error", "No such portal session, or it has expired")
    return session


def subscriptions_of(account: "Account", session: Object) -> list[Object]:
    """Return the customer's subscriptions that have not ended, newest first."""
    found = [one for one in account.objects["subscription"].values() if one["customer"] == session["customer"]]
    return [one for one in found[::-1] if one["status"] not in ENDED]


def set_canceling(account: "Account", session: Object, subscription_id: str, *, canceling: bool) -> Object:
    """Cancel a subscription at the end of its period, or resume it. Raises StripeError."""
    if subscription_id not in [one["id"] for one in subscriptions_of(account, session)]:
        raise StripeError(404, "invalid_request_error", "No such subscription")
    subscription = account.find("subscription", subscription_id)
    form = {"cancel_at_period_end": "true" if canceling else "false"}
    return subscription_changes.update(account, subscription, form)


def change_card(account: "Account", session: Object, name: str) -> Object:
    """Save a card through a setup intent, and let it pay from now on. Raises StripeError, also for a decline."""
    with at(time_of(account, session["customer"])):
        intent = setup_intents.make(account, session["customer"], {})
        account.private(intent)["portal"] = session["id"]
        return setup_intents.confirm(account, intent, {"payment_method": name})


def follow(account: "Account", event: str, intent: Object) -> None:
    """Make the saved card the default of the customer, and of the subscriptions that name another card."""
    if event != "setup_intent.succeeded" or "portal" not in account.private(intent):
        return
    customer = customers.find(account, intent["customer"])
    method = intent["payment_method"]
    settings = {**customer["invoice_settings"], "default_payment_method": method}
    with at(time_of(account, customer["id"])):
        account.change(customer, "customer.updated", {"invoice_settings": settings})
        for subscription in subscriptions_of(account, {"customer": customer["id"]}):
            if subscription["default_payment_method"] is not None:
                account.change(subscription, "customer.subscription.updated", {"default_payment_method": method})
