"""The contents of an installed wheel: the package, and the back office's pages as `make check` has built them."""

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.databases import ROOT


def test_wheel_carries_the_built_pages_where_the_service_looks_for_them(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts" / "build-ui"], cwd=ROOT, check=True, capture_output=True)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"app/main.py", "admin-ui/dist/index.html"} <= names
    migrations = {f"app/migrations/versions/{path.name}" for path in (ROOT / "alembic" / "versions").glob("*.py")}
    assert {"app/migrations/env.py", *migrations} <= names
    built = {str(path.relative_to(ROOT)) for path in (ROOT / "admin-ui" / "dist").rglob("*") if path.is_file()}
    assert built <= names
    assert not any(name.startswith(("tests/", "admin-ui/src", "admin-ui/node_modules")) for name in names)
