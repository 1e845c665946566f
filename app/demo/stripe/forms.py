"""Request parameters: Stripe's nested forms, whole numbers, flags and metadata."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from app.demo.stripe.objects import Object, invalid

MAX_FIELDS = 1000
MAX_METADATA = 50
HASHES = frozenset(
    {
        "adaptive_pricing",
        "address",
        "automatic_payment_methods",
        "automatic_tax",
        "billing_details",
        "billing_mode",
        "cancellation_details",
        "card",
        "created",
        "flow_data",
        "invoice_settings",
        "items",
        "line_items",
        "metadata",
        "payment",
        "payment_intent_data",
        "payment_method_data",
        "payment_method_options",
        "payment_settings",
        "product_data",
        "recurring",
        "setup_intent_data",
        "shipping",
        "subscription_data",
        "subscription_details",
        "trial_settings",
    }
)
LISTS = frozenset({"expand", "ids", "lookup_keys", "payment_method_types", "types"})
EITHER = frozenset({"created"})
"""Parameters that are a hash, or one value."""


def parse_form(body: str) -> Object:
    """Parse Stripe's nested forms: `metadata[a]=b`, `types[]=c`, `expand[0]=d`.

    A list of hashes, such as `line_items[0][quantity]=1`, becomes a hash by its numbers.
    """
    parsed: Object = {}
    try:
        for name, value in parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"):
            head, *rest = name.replace("]", "").split("[")
            if not rest:
                parsed[head] = value
            elif rest[0] == "" or (rest[0].isdigit() and len(rest) == 1):
                parsed.setdefault(head, []).append(value)
            else:
                inside = parsed.setdefault(head, {})
                for part in rest[:-1]:
                    inside = inside.setdefault(part, {})
                inside[rest[-1]] = value
    except (ValueError, AttributeError, TypeError):  # not UTF-8, too many, or one name as string and hash
        raise invalid("The parameters cannot be read.", "") from None
    for name, value in parsed.items():
        expected = dict if name in HASHES else list if name in LISTS else str
        emptied = value == "" and (name in HASHES or name in LISTS)
        if not isinstance(value, expected) and not emptied and not (name in EITHER and isinstance(value, str)):
            raise invalid(f"Invalid {'string' if expected is str else 'hash or array'}: {name}", name)
    return parsed


def whole(form: Mapping[str, Any], name: str) -> int | None:
    if name not in form:
        return None
    return as_whole(form[name], name)


def as_whole(text: object, name: str) -> int:
    if not re.fullmatch("[0-9]{1,15}", str(text)):
        raise invalid(f"Invalid integer: {text}", name)
    return int(str(text))


def flag(form: Mapping[str, Any], name: str) -> bool:
    """Return a boolean parameter, false by default. Raises StripeError."""
    text = form.get(name, "false")
    if text not in ("true", "false"):
        raise invalid(f"Invalid boolean: {text}", name)
    return bool(text == "true")


def required(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name)
    if not value:
        raise invalid(f"Missing required param: {name}.", name, "parameter_missing")
    if not isinstance(value, str):
        raise invalid(f"Invalid string: {name}", name)
    return value


def section(form: Mapping[str, Any], name: str) -> Object:
    """Return a hash inside of a form, empty by default. Raises StripeError."""
    value = form.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid hash: {name}", name)
    return value


def one_of(form: Mapping[str, Any], name: str, choices: tuple[str, ...], default: str | None = None) -> str | None:
    value: str | None = form.get(name, default)
    if value is not None and value not in choices:
        raise invalid(f"Invalid {name}: must be one of {', '.join(choices)}", name)
    return value


def metadata(form: Mapping[str, Any], name: str = "metadata", before: Object | None = None) -> Object:
    """Return the metadata that a form sets. An empty value removes its key; an empty form removes all."""
    sent = form.get("metadata", {})
    if sent == "":
        return {}
    if not isinstance(sent, dict):
        raise invalid("Invalid hash", name)
    for key, text in sent.items():
        if not isinstance(text, str) or not 0 < len(key) <= 40 or len(text) > 500:
            raise invalid("Metadata keys have at most 40 characters, values 500", name)
    merged = {key: text for key, text in {**(before or {}), **sent}.items() if text != ""}
    if len(merged) > MAX_METADATA:
        raise invalid("Metadata has at most 50 keys", name)
    return merged


def is_url(value: object) -> bool:
    try:
        parts = urlsplit(str(value))
    except ValueError:
        return False
    return bool(parts.scheme and (parts.netloc or parts.path))
