"""Setup intents: save a payment method for later, with 3-D Secure if the card requires it."""

import copy
import secrets
from urllib.parse import urlencode

from app.demo.stripe import customers, payment_methods
from app.demo.stripe.cards import DECLINES, ONLY_CHARGES_FAIL, VOUCHERS, needs_authentication
from app.demo.stripe.forms import flag, metadata, one_of
from app.demo.stripe.objects import Object, StripeError, invalid
from app.demo.stripe.store import Store

SETUP = "setup_intent"
OPEN = ("requires_payment_method", "requires_confirmation", "requires_action")


def create(account: Store, form: Object) -> Object:
    """Create a setup intent, and confirm it with `confirm`. Raises StripeError, also if the card is declined."""
    customer = form.get("customer") or None
    if customer is not None:
        customers.find(account, customer)
    usage = one_of(form, "usage", ("off_session", "on_session"), "off_session")
    kept = metadata(form)
    confirms = flag(form, "confirm")
    method = None
    if form.get("payment_method"):
        method = payment_methods.usable(account, payment_methods.named(account, form["payment_method"]), customer)
    elif confirms:
        raise invalid("Missing required param: payment_method.", "payment_method", "parameter_missing")
    intent = make(account, customer, kept, usage=usage, method=method, description=form.get("description"))
    return confirm(account, intent, form) if confirms else intent


def make(
    account: Store,
    customer: str | None,
    kept: Object,
    *,
    usage: str | None = "off_session",
    method: Object | None = None,
    description: str | None = None,
) -> Object:
    intent = account.add(
        SETUP,
        "seti",
        application=None,
        automatic_payment_methods={"allow_redirects": "always", "enabled": True},
        cancellation_reason=None,
        customer=customer,
        customer_account=None,
        description=description,
        flow_directions=None,
        last_setup_error=None,
        latest_attempt=None,
        mandate=None,
        metadata=kept,
        next_action=None,
        on_behalf_of=None,
        payment_method=None if method is None else method["id"],
        payment_method_types=["card"],
        single_use_mandate=None,
        status="requires_payment_method" if method is None else "requires_confirmation",
        usage=usage,
    )
    intent["client_secret"] = f"{intent['id']}_secret_{secrets.token_hex(12)}"
    account.emit("setup_intent.created", intent)
    return intent


def confirm(account: Store, intent: Object, form: Object) -> Object:
    """Save the card as far as possible. Raises StripeError, also if the card is declined."""
    if intent["status"] not in OPEN:
        raise _unexpected_state(intent, "confirm")
    method = payment_methods.chosen(account, form, intent["payment_method"])
    payment_methods.usable(account, method, intent["customer"])
    number = payment_methods.number_of(account, method)
    if number in VOUCHERS:
        raise invalid("Only cards can be saved.", "payment_method")
    if number in DECLINES and number != ONLY_CHARGES_FAIL:
        raise _decline(account, intent, method, number)
    intent["payment_method"] = method["id"]
    if needs_authentication(number):
        return_url = form.get("return_url")
        action = "redirect_to_url" if return_url else "use_stripe_sdk"
        query = urlencode({"client_secret": intent["client_secret"], "return_url": return_url or ""})
        target = {"url": f"{account.base_url}/setup/{intent['id']}?{query}", "return_url": return_url}
        intent |= {
            "status": "requires_action",
            "next_action": {"type": action, action: target if return_url else {}},
        }
        account.emit("setup_intent.requires_action", intent)
        return intent
    return succeed(account, intent)


def _decline(account: Store, intent: Object, method: Object, number: str) -> StripeError:
    codes = payment_methods.decline_codes(number)
    message = "Your card was declined."
    error = {"type": "card_error", "message": message, **codes, "payment_method": copy.deepcopy(method)}
    intent |= {"status": "requires_payment_method", "payment_method": None, "last_setup_error": error}
    intent["next_action"] = None
    account.emit("setup_intent.setup_failed", intent)
    return StripeError(402, "card_error", message, **codes, setup_intent=copy.deepcopy(intent))


def succeed(account: Store, intent: Object) -> Object:
    if intent["status"] in ("succeeded", "canceled") or intent["payment_method"] is None:
        raise _unexpected_state(intent, "complete")
    method = account.find("payment_method", intent["payment_method"])
    account.private(method)["set_up"] = True
    if intent["customer"] is not None:
        payment_methods.save(account, method, intent["customer"])
    intent |= {"status": "succeeded", "next_action": None, "last_setup_error": None}
    account.emit("setup_intent.succeeded", intent)
    return intent


def fail(account: Store, intent: Object) -> Object:
    """Fail a setup that waits for the buyer's bank."""
    if intent["status"] != "requires_action":
        raise _unexpected_state(intent, "fail")
    error = {
        "type": "card_error",
        "code": "setup_intent_authentication_failure",
        "message": "We are unable to authenticate your payment method.",
    }
    intent |= {"status": "requires_payment_method", "payment_method": None, "next_action": None}
    intent["last_setup_error"] = error
    account.emit("setup_intent.setup_failed", intent)
    return intent


def cancel(account: Store, intent: Object, form: Object) -> Object:
    if intent["status"] not in OPEN:
        raise _unexpected_state(intent, "cancel")
    intent |= {"status": "canceled", "cancellation_reason": form.get("cancellation_reason"), "next_action": None}
    account.emit("setup_intent.canceled", intent)
    return intent


def _unexpected_state(intent: Object, verb: str) -> StripeError:
    message = f"You cannot {verb} this SetupIntent because it has a status of {intent['status']}."
    return StripeError(
        400, "invalid_request_error", message, code="setup_intent_unexpected_state", setup_intent=dict(intent)
    )
