"""Answers of the API: lists with keyset pagination, and expanded objects."""

import json
import operator
from collections.abc import Callable, Mapping
from typing import Any

from app.demo.stripe import invoices
from app.demo.stripe.forms import as_whole, whole
from app.demo.stripe.objects import Object, invalid
from app.demo.stripe.store import Store

MAX_PAGE = 100
FILTERS = (
    "active",
    "charge",
    "currency",
    "customer",
    "email",
    "invoice",
    "payment_intent",
    "payment_method",
    "product",
    "status",
    "subscription",
    "test_clock",
    "type",
)
EXPANDED = {
    "default_price": "price",
    "invoice": "invoice",
    "latest_invoice": "invoice",
    "pending_setup_intent": "setup_intent",
    "product": "product",
    "subscription": "subscription",
    "test_clock": "test_helpers.test_clock",
    "latest_charge": "charge",
    "charge": "charge",
    "customer": "customer",
    "default_payment_method": "payment_method",
    "payment_intent": "payment_intent",
    "payment_method": "payment_method",
    "setup_intent": "setup_intent",
}


def expanded(account: Store, answer: Object, form: Mapping[str, Any]) -> Object:
    """Return the answer with `expand[]=payment_intent.latest_charge` and the like replaced by the objects."""
    answer = json.loads(json.dumps(answer))
    for path in form.get("expand") or []:
        targets = [answer]
        for name in path.split("."):
            for target in targets:
                if target.get("object") == "invoice" and name in ("payments", "confirmation_secret"):
                    target[name] = json.loads(json.dumps(_included(account, target, name)))
                elif isinstance(target.get(name), str) and name in EXPANDED:
                    target[name] = json.loads(json.dumps(account.find(EXPANDED[name], target[name])))
            inside = [target[name] for target in targets if isinstance(target.get(name), dict | list)]
            targets = [one for value in inside for one in (value if isinstance(value, list) else [value])]
    return answer


def _included(account: Store, invoice: Object, name: str) -> Object | None:
    """Return a field of an invoice that only an expanded answer has."""
    stored = account.objects["invoice"].get(invoice["id"], {})
    if name == "payments":
        payments = invoices.payments_of(account, invoice)
        return {"object": "list", "data": payments, "has_more": False, "url": "/v1/invoice_payments"}
    intent = invoices.intent_of(account, stored) if stored else None
    return None if intent is None else {"type": "payment_intent", "client_secret": intent["client_secret"]}


def listing(account: Store, kind: str, path: str, form: Object) -> Object:
    """List the objects of a kind that the form's filters select."""
    items = list(account.objects[kind].values())[::-1]
    own = FILTERS_OF.get(kind, {})
    for name in FILTERS:
        if name in form and name not in own:
            items = [item for item in items if _text(item.get(name)) == form[name]]
    for name, holds in own.items():
        items = [item for item in items if holds(item, form.get(name), form)]
    return paged(items, kind, path, form)


def _text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _of_clock(item: Object, clock: Any, form: Object) -> bool:
    """Objects of test clocks are listed only on request."""
    of_customer = item["object"] != "customer" and "customer" in form
    return not item.get("deleted") and (item.get("test_clock") == (clock or None) or (clock is None and of_customer))


def _of_status(subscription: Object, status: Any, form: Object) -> bool:
    """Canceled subscriptions are listed only on request."""
    if status == "ended":
        return subscription["status"] in ("canceled", "incomplete_expired")
    if status is None:
        return bool(subscription["status"] != "canceled")
    return status in ("all", subscription["status"])


def _of_payment(payment: Object, expected: Any, form: Object) -> bool:
    if expected is None:
        return True
    return isinstance(expected, dict) and payment["payment"]["payment_intent"] == expected.get("payment_intent")


Holds = Callable[[Object, Any, Object], bool]
FILTERS_OF: dict[str, dict[str, Holds]] = {
    "customer": {"test_clock": _of_clock},
    "event": {"types": lambda event, types, _: not types or event["type"] in types},
    "invoice": {
        "subscription": lambda invoice, expected, _: expected in (None, invoices.subscription_of(invoice)),
    },
    "invoice_payment": {"payment": _of_payment},
    "price": {
        "lookup_keys": lambda price, keys, _: not keys or price["lookup_key"] in keys,
        "recurring": lambda price, expected, _: all(
            (price["recurring"] or {}).get(name) == value for name, value in (expected or {}).items()
        ),
    },
    "product": {"ids": lambda product, ids, _: not ids or product["id"] in ids},
    "subscription": {
        "price": lambda subscription, expected, _: (
            not expected or expected in [item["price"]["id"] for item in subscription["items"]["data"]]
        ),
        "status": _of_status,
        "test_clock": _of_clock,
    },
}
"""Filters of one kind of objects, by the parameter, which may be absent. They get the object, value and form."""


def paged(items: list[Object], kind: str, path: str, form: Object) -> Object:
    """Return one page of objects, which are newest first. Raises StripeError."""
    items = created_within(items, form.get("created") or {})
    limit = 10 if "limit" not in form else whole(form, "limit") or 0
    if not 1 <= limit <= MAX_PAGE:
        raise invalid("Invalid limit", "limit")
    ids = [item["id"] for item in items]
    for name in ("starting_after", "ending_before"):
        if name in form and form[name] not in ids:
            raise invalid(f"No such {kind}: '{form[name]}'", name, "resource_missing")
    if "starting_after" in form:
        items = items[ids.index(form["starting_after"]) + 1 :]
    if "ending_before" in form:
        newer = items[: ids.index(form["ending_before"])]
        return {"object": "list", "url": path, "data": newer[-limit:], "has_more": len(newer) > limit}
    return {"object": "list", "url": path, "data": items[:limit], "has_more": len(items) > limit}


def created_within(items: list[Object], bounds: object) -> list[Object]:
    """Filter by `created`: one second, or bounds by gt, gte, lt and lte."""
    if not isinstance(bounds, dict):
        bounds = {"gte": bounds, "lte": bounds}
    tests = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
    for name, text in bounds.items():
        if name not in tests:
            raise invalid(f"Received unknown parameter: created[{name}]", "created", "parameter_unknown")
        second = as_whole(text, f"created[{name}]")
        items = [item for item in items if tests[name](item["created"], second)]
    return items
