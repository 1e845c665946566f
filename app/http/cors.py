"""Cross-origin requests (CORS): which web apps' pages may call the routes of end users.

Only the routes of CROSS_ORIGIN, and only the listed origins. The origin is never mirrored for others: their pages get
answers without permission to read them, as on every other route.
"""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CROSS_ORIGIN = (
    "/v1/accounts",
    "/v1/credits/auto-refill",
    "/v1/credits/balance",
    "/v1/credits/cards",
    "/v1/credits/purchase",
    "/v1/credits/transactions",
    "/v1/payments",
    "/v1/plans",
    "/v1/subscriptions",
    "/v1/usage/me",
    "/api/subscriptions",
    "/api/billing",
    "/api/keys",
)
"""These paths and those below them: routes of end users, by their bearer token."""
_BELOW = tuple(f"{path}/" for path in CROSS_ORIGIN)
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-App-Platform, Idempotency-Key, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}
EXPOSED = "X-Request-ID, Retry-After"


def is_cross_origin(path: str) -> bool:
    return path in CROSS_ORIGIN or path.startswith(_BELOW)


class CorsHeaders:
    """Add the CORS headers to every answer on these routes, failures of all other middleware included."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self.app = app
        self.origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_cross_origin(scope["path"]):
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).getlist("origin")
        origin = sent[0] if len(sent) == 1 and sent[0] in self.origins else None

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")  # always: a cache must not serve one page's answer to another
                if origin is not None:
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Allow-Credentials"] = "true"
                    headers["Access-Control-Expose-Headers"] = EXPOSED
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Preflight:
    """Answer a browser's preflight request of a listed origin, before authentication: it has no credential."""

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self.app = app
        self.origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS" and is_cross_origin(scope["path"]):
            headers = Headers(scope=scope)
            if headers.get("origin") in self.origins and "access-control-request-method" in headers:
                await Response(status_code=204, headers=PREFLIGHT)(scope, receive, send)
                return
        await self.app(scope, receive, send)
