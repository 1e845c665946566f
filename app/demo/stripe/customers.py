"""Customers: create, update, delete, and search by metadata or e-mail."""

import re

from app.demo.stripe import payment_methods
from app.demo.stripe.clock import CLOCK, time_of
from app.demo.stripe.forms import as_whole, metadata, section
from app.demo.stripe.objects import Object, StripeError, at, invalid
from app.demo.stripe.store import Store

CUSTOMER = "customer"
ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
TEXTS = ("description", "email", "name", "phone")
MAX_PAGE = 100
SEARCHED = ("email", "name", "phone")
CLAUSE = re.compile(
    r"""\s*(?P<negated>-?)(?:metadata\[(?P<q>['"])(?P<key>[^'"]+)(?P=q)\]|(?P<field>[a-z_]+))(?P<how>[:~])"""
    r"""(?:null|(?P<v>['"])(?P<value>[^'"]*)(?P=v))\s*"""
)


def create(account: Store, form: Object) -> Object:
    clock = account.find(CLOCK, form["test_clock"], "test_clock") if form.get("test_clock") else None
    with at(None if clock is None else clock["frozen_time"]):
        return _create(account, form, clock)


def _create(account: Store, form: Object, clock: Object | None) -> Object:
    customer = account.add(
        CUSTOMER,
        "cus",
        address=None,
        balance=0,
        currency=None,
        customer_account=None,
        default_source=None,
        delinquent=False,
        description=None,
        discount=None,
        email=None,
        invoice_prefix=None,
        invoice_settings={
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        metadata={},
        name=None,
        next_invoice_sequence=1,
        phone=None,
        preferred_locales=[],
        shipping=None,
        tax_exempt="none",
        test_clock=None if clock is None else clock["id"],
    )
    try:
        customer |= _values(form) | {"metadata": metadata(form)}
        customer["invoice_prefix"] = customer["id"][-8:].upper()
        method = _method(account, form, customer)
        customer |= _default_method(account, form, customer)
    except StripeError:
        del account.objects[CUSTOMER][customer["id"]]
        raise
    account.emit("customer.created", customer)
    if method is not None:
        payment_methods.attach(account, method, customer["id"])
    return customer


def _values(form: Object) -> Object:
    if (email := form.get("email")) and not re.fullmatch(r"[^@\s]{1,255}@[^@\s]{1,255}", email):
        raise invalid(f"Invalid email address: {email}", "email", "email_invalid")
    for name in TEXTS:
        if len(form.get(name, "")) > 512:
            raise invalid(f"Invalid string: {name} must be at most 512 characters", name)
    sent: Object = {name: form[name] or None for name in TEXTS if name in form}
    if "address" in form:
        sent["address"] = _address(section(form, "address"))
    if "balance" in form:
        sign = -1 if form["balance"].startswith("-") else 1
        sent["balance"] = sign * as_whole(form["balance"].removeprefix("-"), "balance")
    return sent


def _address(sent: Object) -> Object | None:
    """Return an address with all of its fields. None: it was emptied."""
    for name, text in sent.items():
        if name not in ADDRESS or not isinstance(text, str):
            raise invalid(f"Received unknown parameter: address[{name}]", f"address[{name}]", "parameter_unknown")
    return {name: sent.get(name) or None for name in ADDRESS} if sent else None


def _method(account: Store, form: Object, customer: Object) -> Object | None:
    """Return the payment method to attach to a new customer. Raises StripeError, also if the card is declined."""
    if not form.get("payment_method"):
        return None
    method = payment_methods.usable(account, payment_methods.named(account, form["payment_method"]), customer["id"])
    payment_methods.refuse_declined(account, method)
    return method


def _default_method(account: Store, form: Object, customer: Object) -> Object:
    settings = section(form, "invoice_settings")
    if "default_payment_method" not in settings:
        return {}
    chosen = settings["default_payment_method"] or None
    if chosen is not None:
        method = account.find("payment_method", chosen, "invoice_settings[default_payment_method]")
        if method["customer"] != customer["id"] and method["id"] != form.get("payment_method"):
            message = f"The customer does not have a payment method with the ID {chosen}."
            raise invalid(message, "invoice_settings[default_payment_method]", "resource_missing")
    return {"invoice_settings": {**customer["invoice_settings"], "default_payment_method": chosen}}


def find(account: Store, customer_id: str, param: str = "customer") -> Object:
    """Return a customer that has not been deleted. Raises StripeError."""
    customer = account.find(CUSTOMER, customer_id, param)
    if customer.get("deleted"):
        raise invalid(f"No such customer: '{customer_id}'", param, "resource_missing")
    return customer


def update(account: Store, customer: Object, form: Object) -> Object:
    find(account, customer["id"])
    changed = _values(form) | {"metadata": metadata(form, before=customer["metadata"])}
    changed |= _default_method(account, form, customer)
    with at(time_of(account, customer["id"])):
        account.change(customer, "customer.updated", changed)
    return customer


def delete(account: Store, customer: Object) -> Object:
    """Delete a customer. Only its id stays readable."""
    find(account, customer["id"], "id")
    with at(time_of(account, customer["id"])):
        return _delete(account, customer)


def _delete(account: Store, customer: Object) -> Object:
    for method in account.objects["payment_method"].values():
        if method["customer"] == customer["id"]:
            account.private(method)["detached"] = True
            method["customer"] = None
    account.emit("customer.deleted", customer)
    gone = {"id": customer["id"], "object": CUSTOMER, "deleted": True}
    customer.clear()
    customer |= gone
    return customer


def search(account: Store, form: Object) -> Object:
    """Return the customers that match a query such as `metadata['key']:'value' AND email:'a@b.example'`.

    Stripe's search index lags behind by up to a minute. This one does not.
    """
    conditions = _parsed(str(form.get("query", "")))
    limit = as_whole(form.get("limit", "10"), "limit")
    start = as_whole(form.get("page", "0"), "page")
    found = [customer for customer in list(account.objects[CUSTOMER].values())[::-1] if _matches(customer, *conditions)]
    if not 1 <= limit <= MAX_PAGE:
        raise invalid("Invalid limit", "limit")
    more = len(found) > start + limit
    return {
        "object": "search_result",
        "url": "/v1/customers/search",
        "data": found[start : start + limit],
        "has_more": more,
        "next_page": str(start + limit) if more else None,
    }


def _parsed(query: str) -> tuple[bool, list[re.Match[str]]]:
    """Return whether all clauses must match, and the clauses. Raises StripeError."""
    parts = re.split(r"\b(AND|OR)\b", query)
    clauses = [CLAUSE.fullmatch(part) for part in parts[::2]]
    known = [clause for clause in clauses if clause and (clause["key"] or clause["field"] in SEARCHED)]
    if len(known) != len(clauses) or len(set(parts[1::2])) > 1:
        raise invalid("We were unable to parse your search query.", "query")
    return "OR" not in parts, known


def _matches(customer: Object, every: bool, clauses: list[re.Match[str]]) -> bool:
    def holds(clause: re.Match[str]) -> bool:
        key, field = clause["key"], clause["field"]
        held = customer.get("metadata", {}).get(key) if key else customer.get(field)
        value = clause["value"]
        if value is None or held is None:
            same = held is value
        elif clause["how"] == "~":
            same = value.lower() in held.lower()
        else:
            same = value == held if key else value.lower() == held.lower()
        return same != bool(clause["negated"])

    if customer.get("deleted"):
        return False
    return (all if every else any)(holds(clause) for clause in clauses)
