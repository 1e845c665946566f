"""Billing of an MCP server's tools by call. Needs the extra `[mcp]`.

server = MCPServer("search", middleware=[ToolBilling(client, {"search": "web_search"}, user_of)])
"""

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CallToolResult, TextContent

from ciris_billing.client import AsyncBillingClient
from ciris_billing.errors import AccountClosed, AccountSuspended, BillingError, InsufficientCredits, Unavailable
from ciris_billing.keys import tool_key
from ciris_billing.models import User

log = logging.getLogger("ciris_billing")

Context = ServerRequestContext[Any, Any]
UserOf = Callable[[Context], User | Awaitable[User]]
"""Returns the user of a request: from the transport's request (`ctx.request`), or the user for whom the server runs."""
CallIdOf = Callable[[Context], str]


def _new_call(context: Context) -> str:
    return uuid.uuid4().hex


class ToolBilling:
    """Server middleware that charges each tool call once before it runs, for all rounds of the call.

    `products` maps tools to the products that they are charged as; other tools are free. A call that cannot be charged
    does not run: its result is an error with a sentence that the model can pass on. A tool that fails after its charge
    stays charged.

    By default, each request is a separate call. Pass `call_id` to identify repeated calls; it must not be a text that
    the user chooses, because equal ids are charged only once. Further rounds of a call are recognized by their
    `requestState`, which MCPServer has verified; a lowlevel Server needs a RequestStateBoundary before this middleware.
    While a `requestState` is valid, the same user can repeat that call with the same arguments. With the client's
    policy `fail_open`, tools run while the service is unavailable."""

    def __init__(
        self,
        client: AsyncBillingClient,
        products: Mapping[str, str],
        user_of: UserOf,
        *,
        call_id: CallIdOf = _new_call,
    ) -> None:
        self._client = client
        self._products = products
        self._user_of = user_of
        self._call_id = call_id

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        params = ctx.params or {}
        product = self._products.get(str(params.get("name"))) if ctx.method == "tools/call" else None
        if product is None or params.get("requestState") is not None:
            return await call_next(ctx)
        user = self._user_of(ctx)
        if not isinstance(user, User):
            user = await user
        key = tool_key(product, self._call_id(ctx))
        try:
            await self._client.tool_charge(product, user, idempotency_key=key)
        except BillingError as error:
            if not (isinstance(error, Unavailable) and self._client.policy == "fail_open"):
                return CallToolResult(content=[TextContent(type="text", text=_sentence(error))], is_error=True)
            log.error("billing charge not delivered: %s", error.code, extra={"billing_idempotency_key": key})
        return await call_next(ctx)


def _sentence(error: BillingError) -> str:
    """Return the error text for the model. It does not disclose problems between the server and the service."""
    match error:
        case InsufficientCredits():
            return "Not paid for: the user has no credits left for this tool and has to buy some."
        case AccountSuspended() | AccountClosed():
            return "Not paid for: the user's account cannot spend credits."
    return "Not paid for: the billing service is unavailable. Try again later."
