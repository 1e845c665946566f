"""The blocks of code in the documentation: found, and run as a reader would who works through a page from the top.

A page's shell blocks run in one shell, in a folder that looks like the project's while `make run` is running in it.
Python blocks run alone, except those with a title: they are files, which a shell block runs.
The output of a block is compared with the `text` or `json` block that follows it. A block that cannot run has a line of
italics above it that begins with `Not run by the tests` and tells the reader.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.databases import ROOT
from tests.servers import free_port

OF_A_DEPLOYMENT = ("docs/deployment", "docs/runbooks/")
"""Pages whose commands need one: tests/{test_deployment.py,edge,clusters,observability} run them."""
PAGES = sorted(
    page
    for pattern in ("README.md", "sdk/README.md", "bench/**/*.md", "docs/**/*.md", "examples/**/*.md")
    for page in ROOT.glob(pattern)
    if not str(page.relative_to(ROOT)).startswith(OF_A_DEPLOYMENT)
)
WHOLE = ("README.md", "sdk/README.md", "docs/quick-start.md", "docs/concepts.md", "docs/integration.md")
WHOLE_BELOW = ("docs/migration.md", "examples/")
FENCE = re.compile(
    r"^(?:\*(?P<reason>Not run by the tests[^*]+)\*\n+)?"
    r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<code>.*?)^(?P=indent)```$',
    re.MULTILINE | re.DOTALL,
)
EXAMPLE_PORT = re.compile(r"\b81\d\d\b")
"""Ports that examples listen on: each run takes free ones instead."""
END = "――― end of block ―――"
GOES_ON = "# until Ctrl-C"


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    title: str | None
    reason: str | None
    """Why it is not run."""
    expected: "Block | None"

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_shell_to_run(self) -> bool:
        """On a page that is not worked through as a whole, each request with curl."""
        whole = self.page in WHOLE or self.page.startswith(WHOLE_BELOW)
        return self.language == "sh" and not self.reason and (whole or "curl" in self.code)

    @property
    def is_python_to_run(self) -> bool:
        return self.language == "python" and not self.reason and self.title is None

    @property
    def needs_litellm(self) -> bool:
        """It runs in LiteLLM's environment: test_litellm.py."""
        return self.is_python_to_run and "import litellm" in self.code

    @property
    def is_saved(self) -> bool:
        return self.language == "python" and not self.reason and self.title is not None


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in reversed(list(FENCE.finditer(text))):
        between = text[match.end() : text.find("```", match.end())] if found else "x"
        following = found[0] if found and not between.strip() and found[0].language in ("text", "json") else None
        line = text.count("\n", 0, match.start("language")) + 1
        code = textwrap.dedent(match["code"])
        name = str(page.relative_to(ROOT))
        found.insert(0, Block(name, line, match["language"], code, match["title"], match["reason"], following))
    return found


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def shell_pages() -> dict[str, list[Block]]:
    """Return the blocks to run in one shell, by page: shell blocks, and the files that they run."""
    pages: dict[str, list[Block]] = {}
    for block in BLOCKS:
        if block.is_shell_to_run or block.is_saved:
            pages.setdefault(block.page, []).append(block)
    return pages


def lay_out(folder: Path, facts: Mapping[str, str]) -> None:
    """Make the folder look like the project's, with the demo's facts in it."""
    for name in ("examples", "scripts", "sdk", ".venv", ".tools"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "var").mkdir()
    (folder / "var" / "demo.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "bin").mkdir()
    command = folder / "bin" / "ciris-billing-qa"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ciris_billing.qa "$@"\n', encoding="utf-8")
    command.chmod(0o755)


def script(blocks: list[Block], ports: dict[str, int]) -> Iterator[str]:
    yield "set -euo pipefail; trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"
    for block in blocks:
        code = EXAMPLE_PORT.sub(lambda port: str(ports.setdefault(port[0], free_port())), block.code)
        if block.is_saved:
            yield f"cat >{block.title} <<'END OF FILE'\n{code}END OF FILE"
        elif GOES_ON in code:
            (port,) = (own for own in ports.values() if str(own) in code)
            yield f"(exec {code.strip()}\n) >server.log 2>&1 &"
            yield f"for _ in $(seq 200); do (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null && break; sleep 0.1; done"
        else:
            yield code
        yield f"echo; echo '{END}'"


def run_shell(blocks: list[Block], folder: Path, facts: Mapping[str, str], first: str = "", **env: str) -> None:
    """Run a page's blocks in order. Fail with their output if one fails, or prints something else."""
    lay_out(folder, facts)
    everything = {
        **os.environ,
        "BILLING_URL": facts["base_url"],
        "BILLING_API_KEY": facts["api_key"],
        "CREDIT_KEY": facts["credit_key"],
        "PATH": f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "sdk" / "src"),
        "PYTHONDONTWRITEBYTECODE": "",
        **env,
    }
    command = ["bash", "-c", first + "\n".join(script(blocks, {}))]
    done = subprocess.run(command, cwd=folder, env=everything, capture_output=True, text=True, timeout=280)
    outputs = done.stdout.split(END)
    reached = blocks[min(len(outputs), len(blocks)) - 1]
    assert done.returncode == 0, f"{reached}: {done.stdout}{done.stderr}"
    for block, printed in zip(blocks, outputs, strict=False):
        if block.expected is not None:
            compare(block.expected, printed.strip())


def compare(expected: Block, printed: str) -> None:
    """Text has to be the same, JSON of the same shape; `…` is anything."""
    if expected.language == "text":
        pattern = re.escape(expected.code.strip()).replace("…", ".*")
        assert re.fullmatch(pattern, printed), f"{expected} says otherwise than:\n{printed}"
    else:
        assert shape(json.loads(expected.code)) == shape(json.loads(printed)), (
            f"{expected} says otherwise than:\n{printed}"
        )


def shape(value: Any) -> Any:
    """Return what an example of JSON shows a reader: names, kinds, and which numbers and words are fixed."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return value if isinstance(value, bool) or value is None else type(value).__name__
