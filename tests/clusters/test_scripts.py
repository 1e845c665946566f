"""The scripts of docker/ as texts, and the page that tells of them."""

import re
import subprocess
import sys
from pathlib import Path

from app.settings import Settings
from tests.databases import ROOT

SCRIPTS = sorted((ROOT / "docker").rglob("*.sh"))
PAGE = (ROOT / "docs/deployment-data.md").read_text(encoding="utf-8")


def test_shellcheck_has_nothing_to_say() -> None:
    assert len(SCRIPTS) >= 6
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *map(str, SCRIPTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_page_names_scripts_and_variables_that_exist() -> None:
    """Check the names only: the other tests here check how the scripts use them."""
    for path in set(re.findall(r"docker/[a-z]+/[a-z-]+\.sh", PAGE)):
        assert (ROOT / path).exists(), path
    read = "\n".join(script.read_text(encoding="utf-8") for script in SCRIPTS)
    known = {name.upper() for name in Settings.model_fields} | {"DELETE", "UPDATE", "WAL", "TIME", "REVOKE"}
    for name in set(re.findall(r"\b[A-Z][A-Z_]{3,}\b", PAGE)) - known:
        assert re.search(rf"\b{name}\b", read), name
