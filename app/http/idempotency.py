"""The `Idempotency-Key` header: an alternative to the body's field, also for proxies, which do not read bodies."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from app.http.schemas import Key255

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}
"""Only on replays, the answers to a key that was used before: nothing was charged or credited this time."""
REPLAYED_IN_OPENAPI: dict[str, Any] = {
    "Idempotency-Replayed": {
        "schema": {"type": "string", "enum": ["true"]},
        "description": "Sent on replays only: this request changed nothing.",
    }
}
IN_OPENAPI: dict[str, Any] = {
    "parameters": [
        {
            "name": HEADER,
            "in": "header",
            "required": False,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            "description": "Used if the body has no `idempotency_key`.",
        }
    ]
}
_KEY = TypeAdapter(Key255)


def idempotency_key(in_body: str | None, request: Request) -> str | None:
    """Return the body's key, or else the header's. Raise RequestValidationError for an invalid header."""
    if in_body is not None or (in_header := request.headers.get(HEADER)) is None:
        return in_body
    try:
        return _KEY.validate_python(in_header)
    except ValidationError as invalid:
        errors = [{**error, "loc": ("header", HEADER)} for error in invalid.errors(include_url=False)]
        raise RequestValidationError(errors) from None
