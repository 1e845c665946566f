"""The few faults of every test run; and the page that tells of all of them."""

import subprocess
import sys

import pytest

from tests.chaos.report import section
from tests.chaos.scenarios import SCENARIOS, SHORT
from tests.databases import ADMIN_URL, ROOT
from tests.servers import START_TIMEOUT_S

TIMEOUT_S = 120 + 3 * START_TIMEOUT_S


@pytest.mark.timeout(TIMEOUT_S + 10)
def test_promises_hold_while_the_database_vanishes_and_processes_die(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a separate PostgreSQL, which the run kills."""
    monkeypatch.delenv(ADMIN_URL)
    command = [sys.executable, "-m", "tests.chaos", "--short"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n{len(SHORT)} held, 0 failed\n" in done.stdout


def test_the_page_tells_of_every_fault_in_order() -> None:
    rows = [line.split(" | ") for line in section("chaos").splitlines()[2:]]
    assert [row[0].removeprefix("| ") for row in rows] == [scenario.what for scenario in SCENARIOS]
    assert {row[-1] for row in rows} <= {"held |"} | {row[-1] for row in rows if row[1].startswith("not tried: ")}
