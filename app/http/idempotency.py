"""The header `Idempotency-Key`: for clients that prefer it, and for a proxy, which does not look into bodies."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from app.http.schemas import Key255

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}
"""On answers to a key that was used before, and on no others: nothing was charged or credited this time."""
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
            "description": "Counts where the body has no `idempotency_key`.",
        }
    ]
}
_KEY = TypeAdapter(Key255)


def idempotency_key(in_body: str | None, request: Request) -> str | None:
    """The body's key, or else the header's. Raises RequestValidationError when the header's cannot be one."""
    if in_body is not None or (in_header := request.headers.get(HEADER)) is None:
        return in_body
    try:
        return _KEY.validate_python(in_header)
    except ValidationError as invalid:
        errors = [{**error, "loc": ("header", HEADER)} for error in invalid.errors(include_url=False)]
        raise RequestValidationError(errors) from None
