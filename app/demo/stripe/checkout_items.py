"""Parameters of checkout sessions: addresses, the time limit, and line items with their own prices."""

from app.currencies import CURRENCIES, info_of
from app.demo.stripe import products
from app.demo.stripe.forms import is_url, required
from app.demo.stripe.objects import Object, invalid
from app.demo.stripe.store import Store

EXPIRES_AFTER_S = 86_400
EARLIEST_EXPIRY_S = 1_800
MAX_REFERENCE_CHARS = 200


def check_addresses(form: Object) -> None:
    """Raise StripeError for an invalid address or reference."""
    required(form, "success_url")
    for name in ("success_url", "cancel_url"):
        if name in form and not is_url(form[name]):
            raise invalid("Not a valid URL", name, "url_invalid")
    if len(form.get("client_reference_id", "")) > MAX_REFERENCE_CHARS:
        raise invalid("Invalid string: must be at most 200 characters", "client_reference_id")


def lines_of(form: Object) -> list[Object]:
    lines = list((form.get("line_items") or {}).values())
    if not lines or not all(isinstance(line, dict) for line in lines):
        raise invalid("Missing required param: line_items.", "line_items", "parameter_missing")
    return lines


def priced_items(account: Store, form: Object) -> tuple[str, str, int]:
    """Return the name of the first line item, the currency, and the total. Raises StripeError."""
    total, currencies, names = 0, set(), []
    for line in lines_of(form):
        try:
            price = _one_time(account, line["price"]) if line.get("price") else line["price_data"]
            total += amount_of(price["unit_amount"]) * amount_of(line.get("quantity", "1"))
            currencies.add(str(price["currency"]).lower())
            names.append(str(price["product_data"]["name"]))
        except (KeyError, TypeError):
            raise invalid("Missing required param: line_items[0][price_data].", "line_items") from None
    if len(currencies) != 1 or (currency := currencies.pop()).upper() not in CURRENCIES:
        raise invalid("All line items need one supported currency.", "line_items")
    known = info_of(currency.upper())
    if total > 99_999_999 or total % known.step_minor:
        raise invalid("Invalid amount", "line_items")
    if total < known.minimum_minor:
        least = known.format(known.minimum_minor)
        message = f"The Checkout Session's total amount due must add up to at least {least}"
        raise invalid(message, "line_items", "amount_too_small")
    return names[0], currency, total


def _one_time(account: Store, price_id: str) -> Object:
    """Return a one-time price in the form of `price_data`. Raises StripeError."""
    price = account.find("price", str(price_id), "line_items[price]")
    if price["recurring"] is not None:
        raise invalid("You specified payment mode but passed a recurring price.", "line_items")
    return {**price, "product_data": {"name": products.name_of(account, price)}}


def amount_of(text: object) -> int:
    if not str(text).isdecimal() or len(str(text)) > 12:
        raise invalid(f"Invalid integer: {text}", "line_items")
    return int(str(text))


def expiry(form: Object, created: int) -> int:
    if "expires_at" not in form:
        return created + EXPIRES_AFTER_S
    expires_at = amount_of(form["expires_at"])
    if not created + EARLIEST_EXPIRY_S <= expires_at <= created + EXPIRES_AFTER_S:
        raise invalid("The `expires_at` timestamp must be between 30 minutes and 24 hours from creation", "expires_at")
    return expires_at
