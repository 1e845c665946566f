"""Chromium, driven by the walks of `admin-ui/e2e`: Node scripts that get addresses and tokens from a test."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.databases import ROOT

UI = ROOT / "admin-ui"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
NODE = shutil.which("node", path=f"{os.environ.get('PATH', '')}:{ROOT / '.tools' / 'node' / 'bin'}")


def browser_lacks(*, pages: bool = False) -> str:
    """Return what a walk lacks on this machine; empty if it can run. `pages`: it needs those of the back office."""
    needed = {
        "Chromium": Path(CHROMIUM).exists(),
        "Node": NODE is not None,
        "the browser driver (make ui)": (UI / "node_modules" / "playwright-core").exists(),
        "built pages (make ui)": not pages or (UI / "dist" / "index.html").exists(),
    }
    return ", ".join(name for name, there in needed.items() if not there)


def require_browser(*, pages: bool = False) -> None:
    """Skip the test where a walk cannot run, or fail where REQUIRE_BROWSER is set, as in CI."""
    if lacking := browser_lacks(pages=pages):
        assert "REQUIRE_BROWSER" not in os.environ, f"missing: {lacking}"
        pytest.skip(f"needs {lacking}; REQUIRE_BROWSER=1 makes this a failure")


def walk(name: str, shots: Path, *, timeout_s: int = 110, **facts: str) -> str:
    """Run a walk. Return what it has printed. `shots`: the folder of its screenshots."""
    done = subprocess.run(
        [str(NODE), f"e2e/{name}.mjs"],
        cwd=UI,
        env={**os.environ, **facts, "CHROMIUM": CHROMIUM, "SHOTS": str(shots)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
