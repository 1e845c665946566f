"""Tools of an MCP server that are paid for by the call. Needs the extra `[mcp]`.

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
"""Who makes a request: from the transport's request (`ctx.request`), or whoever the server is run for."""
CallIdOf = Callable[[Context], str]


def _new_call(context: Context) -> str:
    return uuid.uuid4().hex


class ToolBilling:
    """Server middleware that charges a call before it runs the tool, once, however many rounds it takes.

    `products` says what a tool is charged as; a tool that is not there is free. A call that is not paid for does not
    run: its result is an error with a sentence for the model to pass on. A tool that then fails has been paid for.

    By default each request is a call of its own. `call_id` names calls that somebody repeats; it must not be a text
    that the user chooses, who could name every call alike and pay for one. Further rounds of a call are told by their
    `requestState`, which MCPServer has verified before; a lowlevel Server needs a RequestStateBoundary in front of
    this. While it is valid, it lets the same user repeat that call with the same arguments. With the client's policy
    `fail_open`, tools run while the service cannot be asked."""

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
    """What the model is told. What is wrong between the server and the service is not the user's affair."""
    match error:
        case InsufficientCredits():
            return "Not paid for: the user has no credits left for this tool and has to buy some."
        case AccountSuspended() | AccountClosed():
            return "Not paid for: the user's account may not spend credits."
    return "Not paid for: the billing service cannot be asked now. Try again later."
