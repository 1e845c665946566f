"""Items of subscriptions: their prices and periods, from the parameters of a request."""

import copy
from typing import Any

from app.demo.stripe import products
from app.demo.stripe.forms import as_whole, metadata
from app.demo.stripe.objects import Object, invalid, now_s
from app.demo.stripe.store import Store, new_id

MAX_ITEMS = 20
MAX_AMOUNT = 99_999_999


def price_of(account: Store, sent: Object, param: str = "items") -> Object:
    """Return the recurring price that an item names, or describes in `price_data`. Raises StripeError."""
    if sent.get("price"):
        price = account.find("price", str(sent["price"]), f"{param}[price]")
    elif isinstance(sent.get("price_data"), dict) and sent["price_data"].get("recurring"):
        price = products.create_price(account, sent["price_data"])
    else:
        raise invalid(f"Missing required param: {param}[price].", f"{param}[price]", "parameter_missing")
    if price["recurring"] is None:
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts recurring prices.", param
        )
    if not price["active"]:
        raise invalid("The price specified is inactive.", param)
    return price


def quantity_of(sent: Object, default: int = 1) -> int:
    quantity = as_whole(sent.get("quantity", str(default)), "items[quantity]")
    if not 1 <= quantity <= 999_999:
        raise invalid("Invalid quantity", "items[quantity]")
    return quantity


def make(price: Object, quantity: int, kept: Object | None = None) -> Object:
    return {
        "id": new_id("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": now_s(),
        "current_period_end": 0,
        "current_period_start": 0,
        "discounts": [],
        "metadata": kept or {},
        "plan": products.plan_of(price),
        "price": copy.deepcopy(price),
        "quantity": quantity,
        "subscription": None,
        "tax_rates": [],
    }


def created(account: Store, sent: Any) -> list[Object]:
    """Return the items of a new subscription. Raises StripeError."""
    forms = list(sent.values()) if isinstance(sent, dict) else []
    if not 1 <= len(forms) <= MAX_ITEMS or not all(isinstance(form, dict) for form in forms):
        raise invalid("Missing required param: items.", "items", "parameter_missing")
    items = [make(price_of(account, form), quantity_of(form), metadata(form)) for form in forms]
    return checked(items)


def changed(account: Store, subscription: Object, sent: Any) -> list[Object]:
    """Return the items after an update: by id, new without an id, gone with `deleted`. Raises StripeError."""
    forms = list(sent.values()) if isinstance(sent, dict) else []
    items = {item["id"]: copy.deepcopy(item) for item in subscription["items"]["data"]}
    for form in forms:
        item_id = form.get("id") if isinstance(form, dict) else ""
        if item_id is None:
            added = make(price_of(account, form), quantity_of(form), metadata(form))
            first = subscription["items"]["data"][0]
            added |= {name: first[name] for name in ("current_period_start", "current_period_end", "subscription")}
            items[added["id"]] = added
        elif item_id not in items:
            raise invalid(f"No such subscription item: '{item_id}'", "items[id]", "resource_missing")
        elif form.get("deleted") == "true":
            del items[item_id]
        else:
            item = items[item_id]
            if "price" in form or "price_data" in form:
                price = price_of(account, form)
                item |= {"price": copy.deepcopy(price), "plan": products.plan_of(price)}
            item["quantity"] = quantity_of(form, item["quantity"])
            item["metadata"] = metadata(form, before=item["metadata"])
    if any(item["price"]["currency"] != subscription["currency"] for item in items.values()):
        raise invalid("The price's currency must be the currency of the subscription.", "items")
    return checked(list(items.values()))


def checked(items: list[Object]) -> list[Object]:
    """Return the items, if one invoice can bill them. Raises StripeError."""
    if not items:
        raise invalid("A subscription must have at least one active plan.", "items")
    if len({item["price"]["id"] for item in items}) != len(items):
        raise invalid("Cannot add multiple subscription items with the same price.", "items")
    if len({item["price"]["currency"] for item in items}) != 1:
        raise invalid("All prices on a subscription must have the same `currency`.", "items")
    if len({interval_of(item) for item in items}) != 1:
        raise invalid(
            "All prices on a subscription must have the same interval. Mixed ones are not simulated.", "items"
        )
    if sum(item["price"]["unit_amount"] * item["quantity"] for item in items) > MAX_AMOUNT:
        raise invalid("Invalid amount", "items")
    return items


def interval_of(item: Object) -> tuple[str, int]:
    recurring = item["price"]["recurring"]
    return recurring["interval"], recurring["interval_count"]


def with_period(items: list[Object], period: tuple[int, int]) -> list[Object]:
    """Return copies of the items with this period."""
    moved = copy.deepcopy(items)
    for item in moved:
        item |= {"current_period_start": period[0], "current_period_end": period[1]}
    return moved


def period_of(subscription: Object) -> tuple[int, int]:
    first = subscription["items"]["data"][0]
    return first["current_period_start"], first["current_period_end"]
