"""The script of docs/receipts.md that verifies a statement, as a reader runs it: a separate process, two files."""

import json
import subprocess
import sys
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

from app.signing_keys import base64url
from tests.databases import ROOT
from tests.sdk.blocks import blocks_of

TITLE = "verify_statement.py"


def script() -> str:
    """The script, exactly as the page has it."""
    (block,) = (block for block in blocks_of(ROOT / "docs" / "receipts.md") if block.title == TITLE)
    return block.code


def decoded(part: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


def encoded(value: object) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())


def read(statement: str) -> dict[str, Any]:
    """The payload of a statement, not verified."""
    return decoded(statement.split(".")[1])


def verify(folder: Path, answer: bytes, keys: bytes) -> "subprocess.CompletedProcess[str]":
    """Run the script on an answer with a statement and on the published keys."""
    for name, content in ((TITLE, script().encode()), ("statement.json", answer), ("keys.json", keys)):
        (folder / name).write_bytes(content)
    command = [sys.executable, TITLE, "statement.json", "keys.json"]
    return subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, timeout=60, check=False)
