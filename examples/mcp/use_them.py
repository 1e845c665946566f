"""An MCP host: starts the server for a user, and calls its tools until the user has no credits left.

BILLING_URL=… BILLING_API_KEY=… python examples/mcp/use_them.py ada@example.com
"""

import asyncio
import os
import sys
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.types import TextContent

SERVER = str(Path(__file__).with_name("paid_tools.py"))


async def main(payer: str) -> None:
    command = StdioServerParameters(command=sys.executable, args=[SERVER], env={**os.environ, "PAYER": payer})
    async with Client(command) as tools:
        for tool, arguments in [("sizes", {}), *[("paint", {"subject": f"cat {n}"}) for n in range(1, 7)]]:
            (content,) = (await tools.call_tool(tool, arguments)).content
            assert isinstance(content, TextContent)
            print(f"{tool}: {content.text}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
