"""A newcomer with nothing but the quick start: a separate environment, the client installed, three lines, out of
credit, and on after a purchase. Called by the test that runs the real demo."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.databases import ROOT
from tests.sdk.blocks import run_shell, shell_pages

PAGE = "docs/quick-start.md"
FROM_THE_CACHE = 'pip() {{ "{uv}" pip "$@" --constraint "{root}/requirements.lock"; }}\n'
"""The `pip install` of the test: uv's, which has the packages that the lock names from the project's own set-up."""


def work_through_the_quick_start(facts: Mapping[str, str], folder: Path) -> None:
    """Every block of the page, in a new folder, against the demo that these facts are of."""
    uv = subprocess.check_output([ROOT / "scripts" / "bootstrap", "uv"], text=True, cwd=ROOT).strip()
    run_shell(shell_pages()[PAGE], folder, facts, first=FROM_THE_CACHE.format(uv=ROOT / uv, root=ROOT), PYTHONPATH="")
    installed = {path.name for path in (folder / "my-agent" / "lib").glob("*/site-packages/*")}
    assert "ciris_billing" in installed
    assert not any(name.startswith(("fastapi", "mcp", "litellm")) for name in installed)
