"""A newcomer with nothing but the quick start: the real demo, an environment of their own, the client installed, three
lines, out of credit, and on after a purchase."""

import asyncio
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.databases import ROOT
from tests.demo.test_run import running_demo
from tests.sdk.blocks import run_shell, shell_pages
from tests.servers import free_port

PAGE = "docs/quick-start.md"
FROM_THE_CACHE = 'pip() {{ "{uv}" pip "$@" --constraint "{root}/requirements.lock"; }}\n'
"""What `pip install` is in the test: uv's, which has the packages that the lock names from the project's own set-up."""


def bootstrap_uv() -> str:
    return subprocess.check_output([ROOT / "scripts" / "bootstrap", "uv"], text=True, cwd=ROOT).strip()


@pytest.mark.timeout(300)
async def test_newcomer_gates_an_agent(tmp_path: Path) -> None:
    uv = ROOT / await asyncio.to_thread(bootstrap_uv)
    with tempfile.TemporaryDirectory() as state_dir, running_demo(Path(state_dir) / "var", free_port()) as demo:
        with_uv = FROM_THE_CACHE.format(uv=uv, root=ROOT)
        await run_shell(shell_pages()[PAGE], tmp_path, demo.facts, first=with_uv, PYTHONPATH="")
    installed = {path.name for path in (tmp_path / "my-agent" / "lib").glob("*/site-packages/*")}
    assert "ciris_billing" in installed
    assert not any(name.startswith(("fastapi", "mcp", "litellm")) for name in installed)


def test_the_gate_is_three_lines() -> None:
    (agent,) = (block for block in shell_pages()[PAGE] if block.title == "my_agent.py")
    assert [line.rpartition("# ")[2] for line in agent.code.splitlines() if line.endswith(("# 1", "# 2", "# 3"))] == [
        *"123"
    ]
