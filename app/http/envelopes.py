"""Error envelopes: the bodies of failures as the clients of Z-Billing and SecondLayer read them.

A failure on these routes has the members of every other error (`detail`, `code`, `request_id`), and those that the
clients look for:

- Z-Billing: `error`, an object with `code` and `message`, and `details` where the failure has any. `error.code` is one
  word per status. The outer `code` is ours.
- SecondLayer: `error`, the status's reason phrase, and `message`, a sentence. `code` is one of SecondLayer's where it
  has one for the failure.

The middleware Envelopes rewrites the failures of the application. The protocol class writes its own with `enveloped`.
An error whose figures contain the object `details` fills Z-Billing's.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

Body: TypeAlias = Mapping[str, Any]
Envelope: TypeAlias = Callable[[int, Body], dict[str, Any]]

BAD_REQUEST = "bad_request"
Z_BILLING_CODES = {
    401: "unauthorized",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    429: "rate_limited",
    500: "internal_error",
    502: "external_service_error",
    503: "unavailable",
    504: "unavailable",
}
"""Any other status is a bad request."""
Z_BILLING_OWN_CODES = frozenset({"duplicate_event"})
"""Codes of ours that its clients know."""
SECOND_LAYER_CODES_OF_STATUS = {401: "NO_USER_CONTEXT", 402: "INSUFFICIENT_BALANCE", 503: "BILLING_UNAVAILABLE"}
SECOND_LAYER_CODES = {
    "insufficient_credits": "INSUFFICIENT_CREDITS",
    "daily_limit_exceeded": "DAILY_LIMIT_EXCEEDED",
    "monthly_limit_exceeded": "MONTHLY_LIMIT_EXCEEDED",
    "rate_limited": "RATE_LIMIT_EXCEEDED",
    "request_limit_exceeded": "RATE_LIMIT_EXCEEDED",
    "too_many_attempts": "RATE_LIMIT_EXCEEDED",
}


def _message(detail: object) -> str:
    """Return one sentence: `detail` itself, or the first field that a list of validation errors names."""
    if not isinstance(detail, list) or not detail:
        return str(detail)
    first = detail[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return f"{field}: {first['msg']}" if field else str(first["msg"])


def z_billing(status: int, body: Body) -> dict[str, Any]:
    own = body["code"] if body["code"] in Z_BILLING_OWN_CODES else None
    code = own or Z_BILLING_CODES.get(status, BAD_REQUEST)
    message = code if status == HTTPStatus.UNAUTHORIZED else _message(body["detail"])
    error: dict[str, Any] = {"code": code, "message": message}
    if "details" in body:
        error["details"] = body["details"]
    return {"error": error, **{name: value for name, value in body.items() if name != "details"}}


def second_layer(status: int, body: Body) -> dict[str, Any]:
    code = SECOND_LAYER_CODES.get(body["code"]) or SECOND_LAYER_CODES_OF_STATUS.get(status)
    return {
        "error": HTTPStatus(status).phrase,
        "message": _message(body["detail"]),
        **{name: value for name, value in body.items() if name != "details"},
        "code": code or body["code"],
    }


ENVELOPES: dict[str, Envelope] = {
    **dict.fromkeys(
        (
            "/v1/accounts",
            "/v1/credits",
            "/v1/usage",
            "/v1/events",
            "/api/v1/events",
            "/v1/payments",
            "/v1/subscriptions",
            "/v1/cost-records",
            "/api/subscriptions",
        ),
        z_billing,
    ),
    **dict.fromkeys(("/api/billing", "/api/keys"), second_layer),
}
"""The routes with an envelope: these paths, and those below them. The Caddyfile has the same table."""


def envelope_of(path: str) -> Envelope | None:
    """Return the envelope of failures at `path`; None for all other routes."""
    # The first two segments, or three: a lookup is faster than comparing every prefix.
    parts = path.split("/", 4)
    return ENVELOPES.get("/".join(parts[:3])) or ENVELOPES.get("/".join(parts[:4]))


def enveloped(path: str, status: int, body: Body) -> Body:
    """Return the body of a failure at `path` in its envelope."""
    envelope = envelope_of(path)
    return body if envelope is None else envelope(status, body)
