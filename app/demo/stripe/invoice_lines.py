"""Lines of invoices: whole periods, and prorations of price changes."""

from app.currencies import info_of
from app.demo.stripe import products
from app.demo.stripe.objects import Object
from app.demo.stripe.store import Store, new_id


def amount_of(item: Object) -> int:
    amount: int = item["price"]["unit_amount"] * item["quantity"]
    return amount


def line(
    subscription: Object, item: Object, amount: int, period: tuple[int, int], text: str, *, proration: bool = False
) -> Object:
    price = item["price"]
    return {
        "id": new_id("il"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": text,
        "discount_amounts": [],
        "discountable": not proration,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": dict(subscription["metadata"]),
        "parent": {
            "type": "subscription_item_details",
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": new_id("ii") if proration else None,
                "proration": proration,
                "proration_details": {"credited_items": None},
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
        },
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price["id"], "product": price["product"]},
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": item["quantity"],
        "quantity_decimal": str(item["quantity"]),
        "subscription": subscription["id"],
        "subtotal": amount,
        "taxes": [],
    }


def whole_period(
    account: Store, subscription: Object, items: list[Object], period: tuple[int, int], *, trial: bool = False
) -> list[Object]:
    """Return a line per item for one period. A trial is free."""
    made = []
    for item in items:
        name, price = products.name_of(account, item["price"]), item["price"]
        shown = info_of(price["currency"].upper()).format(price["unit_amount"])
        text = f"{item['quantity']} \u00d7 {name} (at {shown} / {price['recurring']['interval']})"
        if trial:
            text = f"Free trial for {item['quantity']} \u00d7 {name}"
        made.append(line(subscription, item, 0 if trial else amount_of(item), period, text))
    return made


def share(amount: int, period: tuple[int, int], from_s: int) -> int:
    """Return the part of a period's amount for the time from a second until its end, rounded half up."""
    start, end = period
    left = max(0, end - max(from_s, start))
    return (2 * amount * left + (end - start)) // (2 * (end - start))


def credits_of(account: Store, subscription: Object, items: list[Object], at_s: int) -> list[Object]:
    """Return the lines that give back the unused time of paid periods."""
    made = []
    for item in items:
        period = (item["current_period_start"], item["current_period_end"])
        amount = -share(amount_of(item), period, at_s)
        text = f"Unused time on {products.name_of(account, item['price'])}"
        made.append(line(subscription, item, amount, (at_s, period[1]), text, proration=True))
    return made


def debits_of(account: Store, subscription: Object, items: list[Object], at_s: int) -> list[Object]:
    """Return the lines that charge the remaining time of the current period."""
    made = []
    for item in items:
        period = (item["current_period_start"], item["current_period_end"])
        amount = share(amount_of(item), period, at_s)
        text = f"Remaining time on {products.name_of(account, item['price'])}"
        made.append(line(subscription, item, amount, (at_s, period[1]), text, proration=True))
    return made


def prorations(
    account: Store, subscription: Object, before: list[Object], after: list[Object], at_s: int
) -> list[Object]:
    """Return the lines for the rest of the period, when items change and the period stays."""

    def key(item: Object) -> tuple[str, str, int]:
        return (item["id"], item["price"]["id"], item["quantity"])

    kept = {key(item) for item in before} & {key(item) for item in after}
    gone = [item for item in before if key(item) not in kept]
    new = [item for item in after if key(item) not in kept]
    return credits_of(account, subscription, gone, at_s) + debits_of(account, subscription, new, at_s)
