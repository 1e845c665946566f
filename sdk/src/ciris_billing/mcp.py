"""Billing of an MCP server's tools by call. Needs the extra `[mcp]`.

server = MCPServer("search", middleware=[ToolBilling(client, {"search": "web_search"}, user_of)])
"""

import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CallToolResult

from ciris_billing._purchase_requests import checked_url, refused, without_purchase
from ciris_billing.async_client import AsyncBillingClient
from ciris_billing.errors import BillingError, Unavailable
from ciris_billing.holding import AsyncHolding, NamedWork
from ciris_billing.holds import HoldFields, HoldOpening
from ciris_billing.keys import tool_key
from ciris_billing.models import User
from ciris_billing.usage import ToolCalls, UsageEvent, UsageSink

log = logging.getLogger("ciris_billing")

Context = ServerRequestContext[Any, Any]
UserOf = Callable[[Context], User | Awaitable[User]]
"""Returns the user of a request: from the transport's request (`ctx.request`), or the user for whom the server runs."""
CallIdOf = Callable[[Context], str]
AMOUNTS = ("credits", "amount_minor", "amount")

_hold: ContextVar[AsyncHolding | None] = ContextVar("ciris_billing_hold", default=None)


def hold_of_call() -> AsyncHolding | None:
    """Return the hold of the tool call that runs, for a tool that reports or captures what it really costs. None if the
    call is not held, or the service was unavailable and the policy is `fail_open`."""
    return _hold.get()


def _new_call(context: Context) -> str:
    return uuid.uuid4().hex


class ToolBilling:
    """Server middleware that charges each tool call once before it runs, for all rounds of the call.

    `products` maps tools to the products that they are charged as; other tools are free. A call that cannot be charged
    does not run: its result is an error with a sentence that the model can pass on. A tool that fails after its charge
    stays charged.

    `held` maps tools to a hold's fields, such as `{"credits": 2}` or `{"amount": "0.05"}`. The call holds that amount
    before it runs, and captures all of it after the first round without an error. A tool that fails or is cancelled
    releases the hold. A tool that knows its cost captures it itself, by `hold_of_call()`.

    `purchase_url` is the page where users buy credits, which has to identify its visitor itself. A client that can open
    URLs is asked to open it when credits run out: by an `InputRequiredResult` from the protocol version 2026-07-28 on,
    whose repeated call runs as soon as it is paid for, and by the error -32042 in 2025-11-25. Other clients get the
    error result, with the address.

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
        held: Mapping[str, HoldFields] | None = None,
        purchase_url: str | None = None,
    ) -> None:
        if metered and usage is None:
            raise TypeError("metered tools need usage: pass a UsageReporter")
        self._held = dict(held or {})
        if twice := sorted(set(self._held) & set(products)):
            raise TypeError(f"tools that are held and charged as a product: {', '.join(twice)}")
        for fields in self._held.values():
            HoldOpening(user=User("", ""), **fields).body()  # raises for a mistake now, and not at the first call
        self._client = client
        self._products = products
        self._user_of = user_of
        self._call_id = call_id
        self._usage = usage
        self._metered = frozenset(metered)
        self._purchase_url = checked_url(purchase_url)

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        params = ctx.params or {}
        tool = str(params.get("name"))
        is_first_round = ctx.method == "tools/call" and params.get("requestState") is None
        if not is_first_round or not (tool in self._products or tool in self._held or tool in self._metered):
            return await call_next(ctx)
        user = self._user_of(ctx)
        if not isinstance(user, User):
            user = await user
        call_id = self._call_id(ctx)
        async with AsyncExitStack() as stack:
            try:
                work = await self._pay(tool, user, call_id, stack)
            except BillingError as error:
                return refused(ctx, error, self._purchase_url)
            result = await call_next(without_purchase(ctx))
            if work is not None and not work.hold.is_settled:
                await self._settle(work, tool, result)
        if tool in self._metered and not _is_error(result):
            self._report(tool, user, call_id)
        return result

    async def _pay(self, tool: str, user: User, call_id: str, stack: AsyncExitStack) -> NamedWork | None:
        """Charge the call, or hold its amount until the stack is closed. Raises the error if the tool must not run."""
        key = tool_key(self._products.get(tool, tool), call_id)
        try:
            if tool in self._held:
                return await self._open(tool, user, key, stack)
            if tool in self._products:
                await self._client.tool_charge(self._products[tool], user, idempotency_key=key)
        except Unavailable as error:
            if self._client.policy != "fail_open":
                raise
            log.error("billing charge not delivered: %s", error.code, extra={"billing_idempotency_key": key})
        return None

    async def _open(self, tool: str, user: User, key: str, stack: AsyncExitStack) -> NamedWork:
        work = NamedWork(self._client._operations, key, HoldOpening(user=user, **self._held[tool]).body())
        hold = await stack.enter_async_context(self._client._on_hold(work))
        stack.callback(_hold.reset, _hold.set(hold))
        return work

    async def _settle(self, work: NamedWork, tool: str, result: HandlerResult) -> None:
        """Capture the amount of a tool that has run; release it if its result is an error. A failure is logged, because
        the work is done."""
        cost = {name: amount for name, amount in self._held[tool].items() if name in AMOUNTS}
        settlement = work.release("provider_error") if _is_error(result) else work.pay(cost)
        try:
            await self._client._run(settlement)
        except BillingError as error:
            log.error("billing hold not settled: %s", error.code, extra={"billing_hold_id": work.hold.hold_id})

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
