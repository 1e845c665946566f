"""For the tests of MCP servers: a server with priced tools, calls by the official client, and JSON-RPC on the wire."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from mcp import Client
from mcp.client._memory import InMemoryTransport
from mcp.server.mcpserver import MCPServer
from mcp.shared.message import SessionMessage
from mcp.types import TextContent
from mcp_types.jsonrpc import jsonrpc_message_adapter

from ciris_billing import AsyncBillingClient, User
from ciris_billing.mcp import ToolBilling

PRODUCTS = {"search": "web_search", "paint": "image_gen", "wish": "no-such-product"}
CLIENT = {"name": "wire", "version": "1"}


class Tools:
    """Tools that record their calls."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def server(self, client: AsyncBillingClient, user: User, **options: Any) -> MCPServer:
        billing = ToolBilling(client, options.pop("products", PRODUCTS), lambda context: user, **options)
        server = MCPServer("tools", middleware=[billing])

        @server.tool()
        def search(query: str) -> str:
            self.ran.append("search")
            return f"found {query}"

        @server.tool()
        def paint() -> str:
            self.ran.append("paint")
            return "a picture"

        @server.tool()
        def wish() -> str:
            self.ran.append("wish")
            return "granted"

        @server.tool()
        def echo(text: str) -> str:
            self.ran.append("echo")
            return text

        return server


async def call(server: MCPServer, tool: str, **arguments: str) -> tuple[bool, str]:
    """Return whether the tool ran, and the answer of the tool or the middleware."""
    async with Client(server) as caller:
        result = await caller.call_tool(tool, arguments)
    (content,) = result.content
    assert isinstance(content, TextContent)
    return not result.is_error, content.text


class Wire:
    """A client that sends and reads JSON-RPC messages as they are, in a session of one protocol version."""

    def __init__(self, read: Any, write: Any, version: str, capabilities: dict[str, Any]) -> None:
        self._read, self._write = read, write
        self._version = version
        self._meta: dict[str, Any] = {}
        self._capabilities = capabilities
        self._last_id = 0

    async def open(self) -> None:
        """Shake hands; since 2026-07-28 each request says the same instead."""
        if self._version >= "2026-07-28":
            about = {"protocolVersion": self._version, "clientInfo": CLIENT, "clientCapabilities": self._capabilities}
            self._meta = {f"io.modelcontextprotocol/{name}": value for name, value in about.items()}
            return
        about = {"protocolVersion": self._version, "clientInfo": CLIENT, "capabilities": self._capabilities}
        answer = await self._request("initialize", about)
        assert answer["result"]["protocolVersion"] == self._version
        await self._send({"method": "notifications/initialized"})

    async def call(self, tool: str, **params: Any) -> dict[str, Any]:
        """Call a tool. Return the response."""
        named = {"name": tool, "arguments": {}, **params}
        return await self._request("tools/call", {**named, **({"_meta": self._meta} if self._meta else {})})

    async def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._last_id += 1
        await self._send({"id": self._last_id, "method": method, "params": params})
        while True:
            message = (await self._read.receive()).message.model_dump(by_alias=True, mode="json", exclude_none=True)
            if message.get("id") == self._last_id:
                return dict(message)

    async def _send(self, message: dict[str, Any]) -> None:
        await self._write.send(SessionMessage(jsonrpc_message_adapter.validate_python({"jsonrpc": "2.0", **message})))


@contextlib.asynccontextmanager
async def wire(server: MCPServer, version: str, capabilities: dict[str, Any]) -> AsyncIterator[Wire]:
    async with InMemoryTransport(server) as (read, write):
        session = Wire(read, write, version, capabilities)
        await session.open()
        yield session
