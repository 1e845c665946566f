"""The members of an answer that failed, in either envelope. A member of another type counts as absent."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any


def wrong_fields(detail: object) -> str:
    """Return the validation errors of a 422 as text, without the sent values."""
    items = [item for item in detail if isinstance(item, Mapping)] if isinstance(detail, list) else []
    places = [(item.get("loc"), item.get("msg")) for item in items]
    return "; ".join(
        f"{'.'.join(str(part) for part in place[1:])}: {wrong}" for place, wrong in places if isinstance(place, list)
    )


def integer(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def amount(body: Mapping[str, Any], name: str) -> Decimal | None:
    value = body.get(name)
    try:
        return Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None


def moment(body: Mapping[str, Any], name: str) -> datetime | None:
    value = body.get(name)
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def envelope(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the envelope of the usage, money and account routes: `{"error": {"code", "message", "details"?}}`."""
    found = fields.get("error")
    return found if isinstance(found, Mapping) else {}


def error_code(fields: Mapping[str, Any]) -> str | None:
    """Return the code of an answer, in either envelope."""
    codes = (fields.get("code"), envelope(fields).get("code"))
    return next((code for code in codes if isinstance(code, str)), None)


def message_of(fields: Mapping[str, Any], status: int) -> str:
    for text in (fields.get("detail"), wrong_fields(fields.get("detail")), envelope(fields).get("message")):
        if isinstance(text, str) and text:
            return text
    return f"The billing service answered {status}"
