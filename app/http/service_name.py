"""The `X-Service-Name` header: the name of a service that reports usage. Stored for display, never trusted."""

from typing import Any

from fastapi import Request

HEADER = "X-Service-Name"
UNKNOWN = "unknown"
MAX_CHARS = 255
IN_OPENAPI: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": f"The calling service's name, for display. Default: `{UNKNOWN}`. Cut to {MAX_CHARS} characters.",
}


def service_name(request: Request) -> str:
    """Return the service's name. A name for display is no reason to reject usage, so a strange one is trimmed."""
    sent = request.headers.get(HEADER, "").encode("latin-1").decode("utf-8", "replace")
    return "".join(filter(str.isprintable, sent)).strip()[:MAX_CHARS] or UNKNOWN
