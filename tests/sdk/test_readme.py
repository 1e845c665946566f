"""Every block of the SDK's README runs, and the package is complete."""

import asyncio
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

import ciris_billing
from tests.databases import ROOT
from tests.sdk.agent import browser
from tests.sdk.conftest import Service

SDK = ROOT / "sdk"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", (SDK / "README.md").read_text(encoding="utf-8"), re.M | re.S)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "sh"]


@pytest.fixture
def environment(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLING_URL", service.url)
    monkeypatch.setenv("BILLING_API_KEY", service.keys.agent)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
async def test_python_block_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "readme"}
    await asyncio.to_thread(exec, compile(code, "README.md", "exec"), names)
    if "app" in names:
        async with browser(names["app"], "reader@example.com") as ui:
            assert (await ui.post("/interact")).json() == {"answer": "paid for"}
            assert (await ui.get("/v1/api/billing/credits")).json()["total_uses"] == 1
    elif "server" in names:
        async with Client(names["server"]) as caller:
            assert not (await caller.call_tool("search", {"query": "credits"})).is_error
        assert (await names["client"].tool_balance("web_search", names["user"])).free_remaining == 9
    else:
        assert capsys.readouterr().out
    if "client" in names:
        await names["client"].aclose()


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("code", SHELL)
def test_shell_block_runs(code: str, tmp_path: Path) -> None:
    command = tmp_path / "ciris-billing-qa"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ciris_billing.qa "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "qa.json").exists()


def test_no_block_is_left_out() -> None:
    assert len(PYTHON) + len(SHELL) == len(BLOCKS)
    assert PYTHON
    assert SHELL


def test_wheel_is_complete(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=SDK, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("ciris_billing/")}
        info = wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    sources = SDK / "src" / "ciris_billing"
    assert packed == {
        str(file.relative_to(SDK / "src")) for file in sources.rglob("*") if file.suffix in (".py", ".typed")
    }
    assert "ciris-billing-qa = ciris_billing.qa.__main__:main" in entry_points
    required = {line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if line.startswith("Requires-")}
    needed = {re.split(r"[<>=;\[ ]", line)[0] for line in required if "extra" not in line and "Python" not in line}
    assert needed == {"httpx", "pydantic"}


def test_nothing_else_is_imported() -> None:
    """Neither an extra's package nor the service's own code, by who imports the client alone."""
    code = (
        "import sys, ciris_billing; print(sorted({m.split('.')[0] for m in sys.modules} & {'fastapi', 'mcp', 'app'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_every_public_name_is_there_and_errors_are_documented() -> None:
    readme = (SDK / "README.md").read_text(encoding="utf-8")
    for name in ciris_billing.__all__:
        thing = getattr(ciris_billing, name)
        if isinstance(thing, type) and issubclass(thing, ciris_billing.BillingError):
            concrete = thing not in (ciris_billing.BillingError, ciris_billing.Unavailable)
            of_purchases = name.startswith("Purchase") or thing is ciris_billing.InvalidReply
            assert not concrete or of_purchases or f"`{name}`" in readme, name
