"""An MCP server with a paid tool and a free tool, started for one user.

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
    """Paint a picture. Five uses are free, then each costs ten credits."""
    return f"a picture of {subject}"


@server.tool()
def sizes() -> str:
    """List the available picture sizes. Free."""
    return "small, large"


if __name__ == "__main__":
    server.run()
