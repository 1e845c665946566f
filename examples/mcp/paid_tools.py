"""An MCP server with a tool that is paid for and one that is free, run for one user by whoever starts it.

BILLING_URL=… BILLING_API_KEY=… PAYER=ada@example.com python examples/mcp/paid_tools.py
"""

import os

from mcp.server.mcpserver import MCPServer

from ciris_billing import AsyncBillingClient, User
from ciris_billing.mcp import ToolBilling

client = AsyncBillingClient(os.environ["BILLING_URL"], os.environ["BILLING_API_KEY"])
payer = User("oauth:example", os.environ["PAYER"])
server = MCPServer("pictures", middleware=[ToolBilling(client, {"paint": "image_gen"}, lambda context: payer)])


@server.tool()
def paint(subject: str) -> str:
    """A picture. Ten credits, after five free ones."""
    return f"a picture of {subject}"


@server.tool()
def sizes() -> str:
    """What pictures there are. Free."""
    return "small, large"


if __name__ == "__main__":
    server.run()
