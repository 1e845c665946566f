"""Every Python and curl block of the documentation runs, against a live service."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.databases import ROOT
from tests.metering.conftest import Desk
from tests.sdk import newcomer
from tests.sdk.agent import browser
from tests.sdk.blocks import BLOCKS, PAGES, Block, run_shell, shell_pages
from tests.sdk.conftest import Service, usage_key

PYTHON = [block for block in BLOCKS if block.is_python_to_run and not block.needs_litellm]
LANGUAGES = {"", "python", "sh", "console", "text", "json", "yaml", "toml", "sql", "ini", "promql", "dockerfile", "js"}
WITH_THE_DEMO = {newcomer.PAGE}
"""tests/demo/test_run.py works through these with a real `make run`."""
NOT_RUN = [
    ("README.md", ": it needs your own server."),
    ("README.md", ": the first command runs until Ctrl-C, the second one is the tests."),
    ("README.md", ": these are tests."),
    ("docs/quick-start.md", ", which start the service themselves: it runs until Ctrl-C."),
    (
        "examples/litellm/README.md",
        ": LiteLLM's proxy brings another sixty packages. They call its hook, in the library.",
    ),
    ("examples/litellm/README.md", ": it needs that proxy."),
]


@pytest.fixture
def facts(service: Service) -> dict[str, str]:
    """The facts that `make run` writes to var/demo.json, for the service of these tests."""
    return {
        "base_url": service.url,
        "api_key": service.keys.agent,
        "credit_key": service.keys.credit,
        "test_key": service.keys.test,
        "stripe_url": service.stripe.url,
    }


@pytest.mark.parametrize("block", PYTHON, ids=str)
async def test_python_block_runs(
    block: Block,
    service: Service,
    usage_desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BILLING_URL", usage_desk.url if "USAGE_KEY" in block.code else service.url)
    monkeypatch.setenv("BILLING_API_KEY", service.keys.agent)
    monkeypatch.setenv("USAGE_KEY", usage_key(usage_desk))
    names: dict[str, Any] = {"__name__": "page"}
    await asyncio.to_thread(exec, compile(block.code, str(block), "exec"), names)
    if "app" in names:
        async with browser(names["app"], f"{block}@example.com") as ui:
            assert (await ui.post("/interact")).json() == {"answer": "paid for"}
            assert (await ui.get("/v1/api/billing/credits")).json()["total_uses"] == 1
    elif "held" in names:
        async with Client(names["server"]) as caller:
            for tool in names["held"]:
                assert not (await caller.call_tool(tool, {"text": "credits"})).is_error
        assert (await names["client"].check_credit(names["user"])).total_uses == 2
    elif "server" in names:
        before = (await names["client"].tool_balance("web_search", names["user"])).free_remaining
        async with Client(names["server"]) as caller:
            assert not (await caller.call_tool("search", {"query": "credits"})).is_error
        assert (await names["client"].tool_balance("web_search", names["user"])).free_remaining == before - 1
    else:
        assert capsys.readouterr().out
    if "client" in names:
        await names["client"].aclose()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", sorted(set(shell_pages()) - WITH_THE_DEMO))
def test_page_can_be_worked_through(page: str, facts: dict[str, str], tmp_path: Path) -> None:
    run_shell(shell_pages()[page], tmp_path, facts)


def test_every_block_is_found() -> None:
    for page in PAGES:
        fences = page.read_text(encoding="utf-8").count("```")
        found = [block for block in BLOCKS if block.page == str(page.relative_to(ROOT))]
        assert fences == 2 * len(found), f"{page}: a fence that tests/sdk/blocks.py does not understand"
    assert {block.language for block in BLOCKS} <= LANGUAGES


def test_files_are_run_by_a_shell_block_of_their_page() -> None:
    for block in BLOCKS:
        if block.is_saved and block.title:
            assert any(block.title in other.code for other in shell_pages()[block.page] if other.language == "sh"), (
                block
            )


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [(block.page, block.reason.removeprefix("Not run by the tests")) for block in BLOCKS if block.reason]
    assert sorted(left_out) == sorted(NOT_RUN)
    runnable = [b for b in BLOCKS if b.language == "python" or (b.language == "sh" and "curl" in b.code)]
    assert all(b.reason or b.is_python_to_run or b.is_saved or b.is_shell_to_run for b in runnable)


def test_the_gate_of_the_quick_start_is_three_lines() -> None:
    (agent,) = (block for block in shell_pages()[newcomer.PAGE] if block.title == "my_agent.py")
    marked = [line.rpartition("# ")[2] for line in agent.code.splitlines() if line[-3:] in ("# 1", "# 2", "# 3")]
    assert marked == ["1", "2", "3"]
