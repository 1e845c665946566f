"""Settings of a running demo (`make run`), for commands without settings."""

import json
import os
from pathlib import Path
from typing import Any

import typer

DEMO_FILE = Path("var/demo.json")
"""Written by `ciris-billing demo` while it runs; relative to the working directory."""
GIVEN = ("DATABASE_URL", "DATABASE_URL_FILE", "MODE")
"""Environment variables that choose a database."""


def use_running_demo() -> None:
    """Put the settings of the running demo into the environment, and print that. Variables that are set stay.

    Do nothing if the environment names a database or no demo runs. The file must belong to the user: another user's
    file would choose the database that the command writes to.
    """
    if any(name in os.environ for name in GIVEN):
        return
    facts = _facts(DEMO_FILE)
    if facts is None:
        return
    for name, value in facts["settings"].items():
        os.environ.setdefault(name, value)
    typer.echo(f"Using the demo that is running at {facts['base_url']} ({DEMO_FILE})", err=True)


def _facts(path: Path) -> dict[str, Any] | None:
    """Return the file's content, if the process that wrote it still runs."""
    try:
        if path.stat().st_uid != os.getuid():
            return None
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        os.kill(facts["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts
