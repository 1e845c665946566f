"""Tools that hold their price: captured after the call, released if it fails, and paid for once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from mcp import Client
from mcp.client.context import ClientRequestContext
from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from mcp.types import ElicitRequestParams, ElicitResult
from pydantic import BaseModel

from ciris_billing import AsyncBillingClient, User
from ciris_billing.mcp import ToolBilling, hold_of_call
from tests.metering.conftest import PROVIDER, Desk
from tests.sdk.conftest import QUICK, Faulty, StoredHold, stored_holds
from tests.sdk.mcp_tools import Tools, call
from tests.sdk.reactions import Reaction
from tests.sdk.test_gate import OPEN
from tests.support.wallets import DOLLAR

Run = Callable[[], Any]
FAILED: StoredHold = ("released", 0, 0, "provider_error")


@pytest.fixture
async def holding(desk: Desk, holder: str) -> AsyncIterator[AsyncBillingClient]:
    async with AsyncBillingClient(desk.url, holder) as client:
        yield client


def server(client: AsyncBillingClient, payer: str, work: Run, **options: Any) -> MCPServer:
    """A server with one tool, whose calls hold two credits unless the options say otherwise."""
    user = User(PROVIDER, payer)
    billing = ToolBilling(client, {}, lambda context: user, **{"held": {"work": {"credits": 2}}, **options})
    made = MCPServer("tools", middleware=[billing])

    @made.tool(name="work")
    async def run() -> str:
        result = work()
        return str(await result if asyncio.iscoroutine(result) else result)

    return made


async def uses_left(client: AsyncBillingClient, payer: str) -> int:
    return (await client.check_credit(user_id=payer)).uses_remaining


async def test_price_is_held_during_the_call_and_captured_after_it(
    desk: Desk, holding: AsyncBillingClient, payer: str
) -> None:
    assert await call(server(holding, payer, lambda: uses_left(holding, payer)), "work") == (True, "1")
    assert await stored_holds(desk, payer) == [("captured", 2, 0, None)]
    assert hold_of_call() is None


async def test_money_is_held_and_captured(desk: Desk, holding: AsyncBillingClient, payer: str) -> None:
    held = {"work": {"amount": "0.25", "product_type": "work", "expires_in_s": 60}}
    assert await call(server(holding, payer, lambda: "done", held=held), "work") == (True, "done")
    assert (await desk.wallet(payer))[0] == DOLLAR * 975 // 100


async def test_tool_that_fails_costs_nothing_and_can_be_repeated_under_its_id(
    desk: Desk, holding: AsyncBillingClient, payer: str
) -> None:
    """The same call pays once, also if its answer was lost."""
    outcomes = iter([ZeroDivisionError("by zero"), None, None])

    def work() -> str:
        if (failure := next(outcomes)) is not None:
            raise failure
        return "done"

    tools = server(holding, payer, work, call_id=lambda context: "the same")
    assert [ran for ran, _ in [await call(tools, "work") for _ in range(3)]] == [False, True, True]
    assert await stored_holds(desk, payer) == [FAILED, ("captured", 2, 0, None)]


@pytest.mark.parametrize(
    ("settles", "stored"), [("capture", ("captured", 1, 0, None)), ("release", ("released", 0, 0, "refused"))]
)
async def test_tool_that_knows_its_cost_settles_the_hold(
    desk: Desk, holding: AsyncBillingClient, payer: str, settles: str, stored: StoredHold
) -> None:
    async def work() -> str:
        hold = hold_of_call()
        assert hold is not None
        if settles == "capture":
            await hold.report(1)
            await hold.capture(1)
        else:
            await hold.release("refused")
        return "done"

    assert await call(server(holding, payer, work), "work") == (True, "done")
    assert await stored_holds(desk, payer) == [stored]


async def test_hold_that_expired_during_the_call_is_opened_again(
    desk: Desk, holding: AsyncBillingClient, payer: str
) -> None:
    async def work() -> str:
        hold = hold_of_call()
        assert hold is not None
        await holding.release_hold(hold.hold_id)  # as the expiry does, and sooner
        return "done"

    assert await call(server(holding, payer, work), "work") == (True, "done")
    assert await stored_holds(desk, payer) == [("released", 0, 0, None), ("captured", 2, 0, None)]


async def test_unpaid_call_does_not_run(desk: Desk, holding: AsyncBillingClient, payer: str) -> None:
    ran, text = await call(server(holding, payer, lambda: pytest.fail("it ran"), held={"work": {"credits": 4}}), "work")
    assert (ran, "no credits left" in text) == (False, True)
    assert await stored_holds(desk, payer) == []


async def test_cancelled_call_releases_its_hold(desk: Desk, holding: AsyncBillingClient, payer: str) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            over.set()

    async with Client(server(holding, payer, work)) as caller:
        task = asyncio.create_task(caller.call_tool("work", {}))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(over.wait(), 10)
    await holding.aclose()
    assert await stored_holds(desk, payer) == [("released", 0, 0, "client_abort")]


async def test_outage_shuts_or_opens_by_policy(desk: Desk, between: Faulty, holder: str, payer: str) -> None:
    for options, runs in ((QUICK, False), (OPEN, True)):
        async with AsyncBillingClient(between.url, holder, options=options) as troubled:
            between.reactions = [Reaction(503)] * 4
            ran, text = await call(server(troubled, payer, lambda: str(hold_of_call())), "work")
            assert (ran, text == "None", "is unavailable" in text) == (runs, runs, not runs)
            between.reactions = []
    assert await stored_holds(desk, payer) == []


async def test_unanswered_capture_keeps_the_result_and_leaves_the_hold_to_its_expiry(
    desk: Desk, between: Faulty, holder: str, payer: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncBillingClient(between.url, holder, options=OPEN) as troubled:

        def work() -> str:
            between.reactions = [Reaction(503)]
            return "done"

        assert await call(server(troubled, payer, work), "work") == (True, "done")
    assert await stored_holds(desk, payer) == [("held", 0, 0, None)]
    assert "billing hold not settled: service_unavailable" in caplog.text


class Consent(BaseModel):
    sure: bool


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_call_of_several_rounds_is_held_once(
    desk: Desk, holding: AsyncBillingClient, payer: str, mode: Any
) -> None:
    """It is captured with its first round, as it is charged without holds."""
    user = User(PROVIDER, payer)
    tools = MCPServer("tools", middleware=[ToolBilling(holding, {}, lambda c: user, held={"ask": {"credits": 1}})])

    async def consent() -> Elicit[Consent]:
        return Elicit("Sure?", Consent)

    @tools.tool()
    async def ask(given: Annotated[Consent, Resolve(consent)]) -> str:
        return "sure" if given.sure else "unsure"

    async def agree(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"sure": True})

    async with Client(tools, elicitation_callback=agree, mode=mode) as caller:
        assert not (await caller.call_tool("ask", {})).is_error
    assert await stored_holds(desk, payer) == [("captured", 1, 0, None)]


def test_mistakes_are_told_when_the_server_is_made(client: AsyncBillingClient, who: User) -> None:
    mistakes: list[dict[str, Any]] = [{}, {"credits": 1, "amount": "1"}, {"amount": 0.5}, {"user_id": "ada"}]
    for fields in mistakes:
        with pytest.raises(TypeError):
            Tools().server(client, who, products={}, held={"paint": fields})
    with pytest.raises(TypeError, match="held and charged as a product: paint"):
        Tools().server(client, who, held={"paint": {"credits": 1}})
