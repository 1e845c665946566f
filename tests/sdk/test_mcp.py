"""Tools priced by the middleware: the official MCP server and client, charged at the real service."""

from typing import Annotated

import pytest
from mcp import Client
from mcp.client.context import ClientRequestContext
from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from mcp.types import ElicitRequestParams, ElicitResult
from pydantic import BaseModel

from ciris_billing import AsyncBillingClient, UsageEvent, UsageNotQueued, User
from ciris_billing.mcp import CallIdOf, ToolBilling
from tests.sdk.conftest import QUICK, Faulty
from tests.sdk.mcp_tools import Tools, call
from tests.sdk.reactions import Reaction
from tests.sdk.test_gate import OPEN


async def test_priced_tool_is_charged_and_others_are_free(client: AsyncBillingClient, who: User) -> None:
    tools = Tools()
    server = tools.server(client, who)
    assert await call(server, "search", query="x") == (True, "found x")
    assert await call(server, "echo", text="y") == (True, "y")
    async with Client(server) as caller:
        assert {tool.name for tool in (await caller.list_tools()).tools} == {"search", "paint", "wish", "echo"}
    assert (await client.tool_balance("web_search", who)).free_remaining == 9
    assert (await client.check_credit(who)).total_uses == 0


async def test_unpaid_tool_does_not_run(client: AsyncBillingClient, who: User) -> None:
    tools = Tools()
    server = tools.server(client, who)
    results = [await call(server, "paint") for _ in range(6)]
    assert [ran for ran, _ in results] == [True] * 5 + [False]
    assert "no credits left" in results[-1][1]
    assert tools.ran == ["paint"] * 5
    assert (await call(server, "wish"))[0] is False
    assert tools.ran == ["paint"] * 5


@pytest.mark.parametrize(("call_id", "charged"), [(lambda context: "the same", 1), (None, 3)])
async def test_a_call_is_named_by_the_server(
    client: AsyncBillingClient, who: User, call_id: CallIdOf | None, charged: int
) -> None:
    server = Tools().server(client, who, **({} if call_id is None else {"call_id": call_id}))
    for _ in range(3):
        assert (await call(server, "search", query="x"))[0]
    assert (await client.tool_balance("web_search", who)).free_remaining == 10 - charged


class Sink:
    """Takes usage events; the last of two cannot be queued."""

    def __init__(self) -> None:
        self.events: list[UsageEvent] = []

    def report(self, event: UsageEvent) -> str:
        self.events.append(event)
        if len(self.events) > 1:
            raise UsageNotQueued("full", event_id=event.event_id)
        return event.event_id


async def test_metered_tool_reports_each_call_that_ran(
    client: AsyncBillingClient, who: User, caplog: pytest.LogCaptureFixture
) -> None:
    sink, names = Sink(), iter(["1", "2", "3", "4"])
    options = {"usage": sink, "metered": ["echo", "wish"], "call_id": lambda context: next(names)}
    server = Tools().server(client, who, **options)
    assert await call(server, "echo", text="y") == (True, "y")
    assert not (await call(server, "echo"))[0]  # without its argument, it does not run
    assert not (await call(server, "wish"))[0]  # its product does not exist
    assert [event.body() for event in sink.events] == [
        {
            **who.request_fields(),
            "event_id": "tool:echo:1",
            "metric": {"type": "tool_calls", "tool": "echo", "count": 1},
            "tool": "echo",
        }
    ]
    assert await call(server, "echo", text="z") == (True, "z")
    assert "billing usage not queued: queue_full" in caplog.text
    assert (await client.check_credit(who)).total_uses == 0


async def test_tool_can_cost_credits_and_be_metered(client: AsyncBillingClient, who: User) -> None:
    sink = Sink()
    server = Tools().server(client, who, usage=sink, metered=["search"])
    assert await call(server, "search", query="x") == (True, "found x")
    assert (await client.tool_balance("web_search", who)).free_remaining == 9
    assert [event.tool for event in sink.events] == ["search"]


def test_metered_tools_need_a_reporter(client: AsyncBillingClient, who: User) -> None:
    with pytest.raises(TypeError, match="UsageReporter"):
        ToolBilling(client, {}, lambda context: who, metered=["search"])


async def test_outage_shuts_or_opens_by_policy(faulty: Faulty, who: User, client: AsyncBillingClient) -> None:
    tools = Tools()
    for options, runs in ((QUICK, False), (OPEN, True)):
        async with AsyncBillingClient(faulty.url, "key", options=options) as troubled:
            faulty.reactions = [Reaction(503)] * 4
            ran, text = await call(tools.server(troubled, who), "search", query="x")
            assert ran is runs
            assert runs or "is unavailable" in text
    assert tools.ran == ["search"]


class Consent(BaseModel):
    sure: bool


async def test_a_call_of_several_rounds_is_charged_once(client: AsyncBillingClient, who: User) -> None:
    billing = ToolBilling(client, {"ask": "web_search"}, lambda context: who)
    server = MCPServer("tools", middleware=[billing])

    async def consent() -> Elicit[Consent]:
        return Elicit("Sure?", Consent)

    @server.tool()
    async def ask(given: Annotated[Consent, Resolve(consent)]) -> str:
        return "sure" if given.sure else "unsure"

    rounds = 0

    async def agree(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        nonlocal rounds
        rounds += 1
        return ElicitResult(action="accept", content={"sure": True})

    async with Client(server, elicitation_callback=agree) as caller:
        result = await caller.call_tool("ask", {})
    assert (result.is_error, rounds) == (False, 1)
    assert (await client.tool_balance("web_search", who)).free_remaining == 9
