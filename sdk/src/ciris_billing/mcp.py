"""Billing of an MCP server's tools by call. Needs the extra `[mcp]`.

server = MCPServer("search", middleware=[ToolBilling(client, {"search": "web_search"}, user_of)])
"""

import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CallToolResult, TextContent

from ciris_billing.client import AsyncBillingClient
from ciris_billing.errors import AccountClosed, AccountSuspended, BillingError, InsufficientCredits, Unavailable
from ciris_billing.keys import tool_key
from ciris_billing.models import User
from ciris_billing.usage import ToolCalls, UsageEvent, UsageSink

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
    policy `fail_open`, tools run while the service is unavailable.

    `usage` reports each call of a `metered` tool as a usage event, after the tool has run without an error. The service
    prices it by its price book, in money, in addition to a product's credits. An event that cannot be queued is logged,
    and the tool's result is returned nevertheless."""

    def __init__(
        self,
        client: AsyncBillingClient,
        products: Mapping[str, str],
        user_of: UserOf,
        *,
        call_id: CallIdOf = _new_call,
        usage: UsageSink | None = None,
        metered: Collection[str] = (),
    ) -> None:
        if metered and usage is None:
            raise TypeError("metered tools need usage: pass a UsageReporter")
        self._client = client
        self._products = products
        self._user_of = user_of
        self._call_id = call_id
        self._usage = usage
        self._metered = frozenset(metered)

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        params = ctx.params or {}
        tool = str(params.get("name"))
        product = self._products.get(tool)
        is_first_round = ctx.method == "tools/call" and params.get("requestState") is None
        if not is_first_round or (product is None and tool not in self._metered):
            return await call_next(ctx)
        user = self._user_of(ctx)
        if not isinstance(user, User):
            user = await user
        call_id = self._call_id(ctx)
        if product is not None and (error := await self._charge(product, user, call_id)) is not None:
            return CallToolResult(content=[TextContent(type="text", text=_sentence(error))], is_error=True)
        result = await call_next(ctx)
        if tool in self._metered and not _is_error(result):
            self._report(tool, user, call_id)
        return result

    async def _charge(self, product: str, user: User, call_id: str) -> BillingError | None:
        """Charge the call. Return the error if the tool must not run."""
        key = tool_key(product, call_id)
        try:
            await self._client.tool_charge(product, user, idempotency_key=key)
        except BillingError as error:
            if not (isinstance(error, Unavailable) and self._client.policy == "fail_open"):
                return error
            log.error("billing charge not delivered: %s", error.code, extra={"billing_idempotency_key": key})
        return None

    def _report(self, tool: str, user: User, call_id: str) -> None:
        assert self._usage is not None
        event = UsageEvent(usage=ToolCalls(tool), user=user, event_id=tool_key(tool, call_id), tool=tool)
        try:
            self._usage.report(event)
        except BillingError as error:
            log.error("billing usage not queued: %s", error.code, extra={"billing_event_id": event.event_id})


def _is_error(result: HandlerResult) -> bool:
    """Whether a tool's result is an error. Handlers return models, and the layers above them dictionaries."""
    if isinstance(result, dict):
        return result.get("isError") is True
    return isinstance(result, CallToolResult) and result.is_error is True


def _sentence(error: BillingError) -> str:
    """Return the error text for the model. It does not disclose problems between the server and the service."""
    match error:
        case InsufficientCredits():
            return "Not paid for: the user has no credits left for this tool and has to buy some."
        case AccountSuspended() | AccountClosed():
            return "Not paid for: the user's account cannot spend credits."
    return "Not paid for: the billing service is unavailable. Try again later."
