"""Credits that run out inside a tool call: the answers to clients of each protocol version, on the wire and by the
official client."""

from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client.context import ClientRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ElicitRequestParams, ElicitRequestURLParams, ElicitResult, TextContent

from ciris_billing import AsyncBillingClient, BillingClient, User
from ciris_billing.mcp import ToolBilling
from tests.metering.conftest import Desk
from tests.sdk.conftest import Faulty, Service
from tests.sdk.mcp_tools import Tools, wire
from tests.sdk.reactions import Reaction

PAGE = "https://shop.example.com/credits"
URLS: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}}
NO_CREDITS = "Not paid for: the user has no credits left for this tool and has to buy some."
QUESTION = "You have not enough credits left for this tool. Open the page to buy some; the call continues afterwards."
ASKED = {"method": "elicitation/create", "params": {"mode": "url", "message": QUESTION, "url": PAGE}}


async def spend_all(client: AsyncBillingClient, who: User) -> None:
    for number in range(5):
        await client.tool_charge("image_gen", who, call_id=str(number))


async def test_newest_clients_are_asked_by_a_result(client: AsyncBillingClient, who: User) -> None:
    """The repeated call runs once it is paid for, asks again before that, and ends when the user declines."""
    await spend_all(client, who)
    tools = Tools()
    async with wire(tools.server(client, who, purchase_url=PAGE), "2026-07-28", URLS) as session:
        first = await session.call("paint")
        assert first["result"] == {"resultType": "input_required", "inputRequests": {"ciris_billing_purchase": ASKED}}
        accepted = {"inputResponses": {"ciris_billing_purchase": {"action": "accept"}}}
        assert (await session.call("paint", **accepted))["result"] == first["result"]
        for action in ("decline", "cancel"):
            ended = (await session.call("paint", inputResponses={"ciris_billing_purchase": {"action": action}}))[
                "result"
            ]
            assert (ended["isError"], ended["resultType"]) == (True, "complete")
            assert ended["content"] == [{"type": "text", "text": f"{NO_CREDITS} The user has not agreed to it."}]
        assert tools.ran == []
        await client.add_credits(who, amount_minor=1000, idempotency_key="bought")
        paid = (await session.call("paint", **accepted))["result"]
    assert (paid["isError"], paid["content"][0]["text"], tools.ran) == (False, "a picture", ["paint"])
    assert (await client.check_credit(who)).credits_remaining == 0


async def test_clients_of_2025_11_25_are_asked_by_an_error(client: AsyncBillingClient, who: User) -> None:
    await spend_all(client, who)
    tools = Tools()
    async with wire(tools.server(client, who, purchase_url=PAGE), "2025-11-25", URLS) as session:
        errors = [(await session.call("paint"))["error"] for _ in range(2)]
        [one, two] = [error["data"]["elicitations"][0].pop("elicitationId") for error in errors]
        assert one != two
        asked = {"elicitations": [ASKED["params"]]}
        assert [(error["code"], error["data"]) for error in errors] == [(-32042, asked)] * 2
        await client.add_credits(who, amount_minor=1000, idempotency_key="bought")
        assert (await session.call("paint"))["result"]["content"][0]["text"] == "a picture"
    assert tools.ran == ["paint"]


@pytest.mark.parametrize(
    ("version", "capabilities"),
    [
        ("2026-07-28", {}),
        ("2026-07-28", {"elicitation": {}}),
        ("2026-07-28", {"elicitation": {"form": {}}}),
        ("2025-11-25", {"elicitation": {"form": {}}}),
        ("2025-06-18", {"elicitation": {}}),
        ("2025-06-18", URLS),
        ("2024-11-05", {}),
    ],
)
async def test_clients_that_open_no_urls_get_an_error_for_the_model(
    client: AsyncBillingClient, who: User, version: str, capabilities: dict[str, Any]
) -> None:
    """The protocol forbids requests that a client has not declared to support."""
    await spend_all(client, who)
    tools = Tools()
    async with wire(tools.server(client, who, purchase_url=PAGE), version, capabilities) as session:
        result = (await session.call("paint"))["result"]
    assert result["isError"]
    assert result["content"] == [{"type": "text", "text": f"{NO_CREDITS} Purchases: {PAGE}"}]
    assert tools.ran == []


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25", "2025-06-18"])
async def test_without_a_page_and_for_other_refusals_there_is_nothing_to_open(
    client: AsyncBillingClient, who: User, version: str
) -> None:
    await spend_all(client, who)
    async with wire(Tools().server(client, who), version, URLS) as session:
        assert (await session.call("paint"))["result"]["content"][0]["text"] == NO_CREDITS
    async with wire(Tools().server(client, who, purchase_url=PAGE), version, URLS) as session:
        unknown = (await session.call("wish"))["result"]  # its product does not exist
    assert (unknown["isError"], "unavailable" in unknown["content"][0]["text"]) == (True, True)


@pytest.mark.parametrize("answers", [[], "accept", {"ciris_billing_purchase": []}, {"other": {"action": "decline"}}])
async def test_answers_of_a_hostile_client_change_nothing(
    client: AsyncBillingClient, who: User, answers: object
) -> None:
    await spend_all(client, who)
    tools = Tools()
    async with wire(tools.server(client, who, purchase_url=PAGE), "2026-07-28", URLS) as session:
        result = (await session.call("paint", inputResponses=answers))["result"]
    assert (result["resultType"], tools.ran) == ("input_required", [])


async def test_the_official_client_buys_and_goes_on(client: AsyncBillingClient, service: Service, who: User) -> None:
    """Once, at the newest version; the handshake's newest raises the error, with the page."""
    await spend_all(client, who)
    pages: list[str] = []

    async def buy(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        assert isinstance(params, ElicitRequestURLParams)
        pages.append(params.url)
        with BillingClient(service.url, service.keys.credit) as shop:
            shop.add_credits(who, amount_minor=1000, idempotency_key="bought")
        return ElicitResult(action="accept")

    server = Tools().server(client, who, purchase_url=PAGE)
    async with Client(server, elicitation_callback=buy) as caller:
        result = await caller.call_tool("paint", {})
        (content,) = result.content
        assert isinstance(content, TextContent)
        assert (caller.protocol_version, content.text, pages) == ("2026-07-28", "a picture", [PAGE])
    async with Client(server, elicitation_callback=buy, mode="legacy") as caller:
        with pytest.raises(MCPError) as required:
            await caller.call_tool("paint", {})
    assert required.value.code == -32042
    assert required.value.data["elicitations"][0]["url"] == PAGE


async def test_the_purchase_is_no_answer_to_the_tool(client: AsyncBillingClient, who: User) -> None:
    server = MCPServer("tools", middleware=[ToolBilling(client, {"ask": "web_search"}, lambda context: who)])
    seen: list[object] = []

    @server.tool()
    def ask(context: Context) -> str:
        seen.append(context.input_responses)
        return "asked"

    purchase = {"ciris_billing_purchase": {"action": "accept"}}
    async with wire(server, "2026-07-28", URLS) as session:
        await session.call("ask", inputResponses=purchase)
        await session.call("ask", inputResponses={**purchase, "name": {"action": "decline"}})
    assert seen[0] is None
    assert isinstance(seen[1], dict)
    assert list(seen[1]) == ["name"]


async def test_money_that_runs_out_is_asked_for_too(desk: Desk, holder: str) -> None:
    poor = User("oauth:zero", await desk.user(1))
    async with AsyncBillingClient(desk.url, holder) as client:
        server = Tools().server(client, poor, products={}, held={"paint": {"amount": "0.02"}}, purchase_url=PAGE)
        async with wire(server, "2026-07-28", URLS) as session:
            asked = (await session.call("paint"))["result"]["inputRequests"]["ciris_billing_purchase"]["params"]
        async with wire(server, "2025-06-18", URLS) as session:
            told = (await session.call("paint"))["result"]["content"][0]["text"]
    assert asked["message"].startswith("You have not enough money left")
    assert (
        told == f"Not paid for: the user has not enough money left for this tool and has to add some. Purchases: {PAGE}"
    )


@pytest.mark.parametrize("version", ["2026-07-28", "2025-11-25"])
async def test_limit_that_refuses_is_no_reason_to_buy(faulty: Faulty, who: User, version: str) -> None:
    body = b'{"detail": "The limit of a day is reached", "code": "limit_exceeded", "retryable": false}'
    faulty.reactions = [Reaction(402, body)]
    async with (
        AsyncBillingClient(faulty.url, "key") as limited,
        wire(Tools().server(limited, who, purchase_url=PAGE), version, URLS) as session,
    ):
        result = (await session.call("paint"))["result"]
    sentence = "Not paid for: a limit on the user's spending does not allow this call now."
    assert (result["isError"], result["content"][0]["text"]) == (True, sentence)


@pytest.mark.parametrize("url", ["", "/credits", "javascript:alert(1)", "ftp://shop.example.com", "https://"])
def test_page_that_no_client_can_open_is_refused_at_once(client: AsyncBillingClient, who: User, url: str) -> None:
    with pytest.raises(ValueError, match="purchase_url"):
        ToolBilling(client, {}, lambda context: who, purchase_url=url)
