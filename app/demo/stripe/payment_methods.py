"""Payment methods: test cards by their name, and cards that customers have saved."""

from app.demo.stripe.cards import CARDS, DECLINES, ONLY_CHARGES_FAIL, VOUCHERS, details_of, is_accepted_card
from app.demo.stripe.clock import time_of
from app.demo.stripe.forms import metadata, required, section
from app.demo.stripe.objects import Object, StripeError, at, invalid
from app.demo.stripe.store import Store

METHOD = "payment_method"
NO_ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
BILLING_FIELDS = ("email", "name", "phone", "tax_id")


def make(account: Store, number: str, form: Object | None = None) -> Object:
    """Return a new payment method for a card number, or for the name of another way to pay."""
    form = form or {}
    billing = section(form, "billing_details")
    method = account.add(
        METHOD,
        "pm",
        allow_redisplay="unspecified",
        billing_details={"address": NO_ADDRESS, **{name: billing.get(name) for name in BILLING_FIELDS}},
        customer=None,
        customer_account=None,
        metadata=metadata(form),
        **details_of(number),
    )
    account.private(method).update(number=number, set_up=False)
    return method


def number_of(account: Store, method: Object) -> str:
    number: str = account.private(method)["number"]
    return number


def create(account: Store, form: Object) -> Object:
    """Create a payment method from `card[number]` or `card[token]`. Raises StripeError."""
    if required(form, "type") != "card":
        raise invalid("Only cards can be created.", "type")
    return make(account, card_number(form.get("card")), form)


def card_number(card: object) -> str:
    """Return the number of a card hash. A token `tok_x` names the card of `pm_card_x`. Raises StripeError."""
    sent = card if isinstance(card, dict) else {}
    token = str(sent.get("token", ""))
    number = CARDS.get(f"pm_card_{token.removeprefix('tok_')}", "") if token else str(sent.get("number") or "")
    number = number.replace(" ", "")
    if not is_accepted_card(number):
        raise StripeError(400, "invalid_request_error", "No such PaymentMethod", param="payment_method")
    return number


def named(account: Store, name: str) -> Object:
    """Return the payment method with this id, or a new one for a test name such as `pm_card_visa`.

    Raises StripeError.
    """
    if name in account.objects[METHOD]:
        return account.objects[METHOD][name]
    if name in VOUCHERS:
        return make(account, name)
    if name in CARDS:
        return make(account, CARDS[name])
    message = f"No such PaymentMethod: '{name}'"
    raise StripeError(400, "invalid_request_error", message, param="payment_method", code="resource_missing")


def chosen(account: Store, form: Object, saved: str | None = None) -> Object:
    """Return the payment method that a form confirms with; by default the one saved before. Raises StripeError."""
    if name := form.get("payment_method"):
        return named(account, str(name))
    if "payment_method_data" not in form and saved is not None:
        return named(account, saved)
    data = section(form, "payment_method_data")
    other = f"pm_{data.get('type')}"
    return make(account, other if other in VOUCHERS else card_number(data.get("card")), data)


def usable(account: Store, method: Object, customer: str | None) -> Object:
    """Return the payment method, if this customer may pay with it. Raises StripeError."""
    if method["customer"] is not None and method["customer"] != customer:
        message = f"The provided PaymentMethod {method['id']} belongs to a customer. Please include the Customer"
        raise invalid(f"{message} in the `customer` parameter.", "payment_method", "payment_method_unexpected_state")
    if account.private(method).get("detached"):
        message = "The provided PaymentMethod was detached from a Customer. It may not be used again."
        raise invalid(message, "payment_method", "payment_method_unexpected_state")
    return method


def attach(account: Store, method: Object, customer_id: str) -> Object:
    """Save a payment method for a customer. Raises StripeError, also if the card is declined."""
    account.find("customer", customer_id, "customer")
    if method["customer"] == customer_id:
        return method
    if method["customer"] is not None:
        raise invalid("The payment method has already been attached to a customer.", "payment_method")
    usable(account, method, customer_id)
    refuse_declined(account, method)
    return save(account, method, customer_id)


def refuse_declined(account: Store, method: Object) -> None:
    """Raise a card error for a card that cannot be saved."""
    number = number_of(account, method)
    if number in DECLINES and number != ONLY_CHARGES_FAIL:
        raise StripeError(402, "card_error", "Your card was declined.", **decline_codes(number))


def save(account: Store, method: Object, customer_id: str) -> Object:
    """Attach a payment method that has been used successfully."""
    if method["customer"] is None:
        method["customer"] = customer_id
        with at(time_of(account, customer_id)):
            account.emit("payment_method.attached", method)
    return method


def decline_codes(number: str) -> Object:
    decline = DECLINES[number]
    return {"code": "expired_card" if decline == "expired_card" else "card_declined", "decline_code": decline}


def detach(account: Store, method: Object) -> Object:
    if method["customer"] is None:
        raise invalid("The payment method you provided is not attached to a customer.", "payment_method")
    customer = account.find("customer", method["customer"])
    account.private(method)["detached"] = True
    account.change(method, "payment_method.detached", {"customer": None})
    settings = customer["invoice_settings"]
    if settings["default_payment_method"] == method["id"]:
        account.change(customer, "customer.updated", {"invoice_settings": {**settings, "default_payment_method": None}})
    return method


def update(account: Store, method: Object, form: Object) -> Object:
    """Change metadata and billing details. Raises StripeError."""
    if method["customer"] is None:
        raise invalid("You must save this PaymentMethod to a customer before you can update it.", "payment_method")
    billing = section(form, "billing_details")
    sent = {name: billing[name] or None for name in BILLING_FIELDS if name in billing}
    changed = {
        "metadata": metadata(form, before=method["metadata"]),
        "billing_details": {**method["billing_details"], **sent},
    }
    account.change(method, "payment_method.updated", changed)
    return method
