"""Every shell script of the deployment passes shellcheck."""

import subprocess
import sys
from pathlib import Path

from tests.databases import ROOT


def test_shellcheck_has_nothing_to_say() -> None:
    scripts = sorted(map(str, (ROOT / "docker").rglob("*.sh")))
    assert len(scripts) >= 5
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
