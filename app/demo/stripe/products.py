"""Products and prices: one-time, or recurring each month or year."""

from app.currencies import CURRENCIES
from app.demo.stripe.forms import as_whole, flag, metadata, one_of, required, section, whole
from app.demo.stripe.objects import Object, invalid, now_s
from app.demo.stripe.store import Store

PRODUCT, PRICE = "product", "price"
INTERVALS = ("day", "week", "month", "year")
MAX_YEARS = 3
MAX_INTERVALS = {"day": 365 * MAX_YEARS, "week": 52 * MAX_YEARS, "month": 12 * MAX_YEARS, "year": MAX_YEARS}


def create_product(account: Store, form: Object) -> Object:
    name = required(form, "name")
    if len(name) > 255:
        raise invalid("Invalid string: name must be at most 255 characters", "name")
    product = account.add(
        PRODUCT,
        "prod",
        active=form.get("active", "true") == "true",
        default_price=None,
        description=form.get("description") or None,
        images=[],
        marketing_features=[],
        metadata=metadata(form),
        name=name,
        package_dimensions=None,
        shippable=None,
        statement_descriptor=None,
        tax_code=None,
        type="service",
        unit_label=None,
        updated=now_s(),
        url=None,
    )
    account.emit("product.created", product)
    return product


def update_product(account: Store, product: Object, form: Object) -> Object:
    changed: Object = {name: form[name] or None for name in ("description", "name") if name in form}
    if "active" in form:
        changed["active"] = flag(form, "active")
    if form.get("default_price"):
        changed["default_price"] = account.find(PRICE, form["default_price"], "default_price")["id"]
    account.change(product, "product.updated", changed | {"metadata": metadata(form, before=product["metadata"])})
    return product


def create_price(account: Store, form: Object) -> Object:
    """Create a price of a product; `product_data` creates its product, too. Raises StripeError."""
    currency = required(form, "currency").lower()
    if currency.upper() not in CURRENCIES:
        raise invalid(f"Invalid currency: {currency}.", "currency")
    amount = whole(form, "unit_amount")
    if amount is None or amount > 99_999_999 or amount % CURRENCIES[currency.upper()].step_minor:
        raise invalid("Invalid integer: unit_amount", "unit_amount")
    recurring = _recurring(form)
    lookup_key = form.get("lookup_key") or None
    if lookup_key is not None and any(p["lookup_key"] == lookup_key for p in account.objects[PRICE].values()):
        raise invalid(f"A price already uses the lookup key {lookup_key}.", "lookup_key")
    if form.get("product"):
        product = account.find(PRODUCT, form["product"], "product")
    else:
        product = create_product(account, section(form, "product_data"))
    price = account.add(
        PRICE,
        "price",
        active=form.get("active", "true") == "true",
        billing_scheme="per_unit",
        currency=currency,
        custom_unit_amount=None,
        lookup_key=lookup_key,
        metadata=metadata(form),
        nickname=form.get("nickname") or None,
        product=product["id"],
        recurring=recurring,
        tax_behavior="unspecified",
        tiers_mode=None,
        transform_quantity=None,
        type="one_time" if recurring is None else "recurring",
        unit_amount=amount,
        unit_amount_decimal=str(amount),
    )
    account.emit("price.created", price)
    return price


def _recurring(form: Object) -> Object | None:
    if not form.get("recurring"):
        return None
    sent = section(form, "recurring")
    interval = one_of(sent, "interval", INTERVALS)
    if interval is None:
        raise invalid("Missing required param: recurring[interval].", "recurring[interval]", "parameter_missing")
    count = as_whole(sent.get("interval_count", "1"), "recurring[interval_count]")
    if not 1 <= count <= MAX_INTERVALS[interval]:
        raise invalid("The interval is at least one day, and at most three years.", "recurring[interval_count]")
    return {
        "interval": interval,
        "interval_count": count,
        "meter": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def update_price(account: Store, price: Object, form: Object) -> Object:
    changed: Object = {name: form[name] or None for name in ("lookup_key", "nickname") if name in form}
    if "active" in form:
        changed["active"] = flag(form, "active")
    account.change(price, "price.updated", changed | {"metadata": metadata(form, before=price["metadata"])})
    return price


def name_of(account: Store, price: Object) -> str:
    name: str = account.find(PRODUCT, price["product"])["name"]
    return name


def plan_of(price: Object) -> Object:
    """Return the price as the older `plan` object, which subscription items have beside it."""
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"],
        "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }
