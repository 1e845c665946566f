"""The reporter's processes: killed, forked, and several on one folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ciris_billing import _sender as sender_module
from tests.databases import ROOT
from tests.sdk.reactions import Reaction
from tests.sdk.test_reporter import event, reporter_of
from tests.sdk.usage_contract import UsageContract


def start(contract: UsageContract, folder: Path, user: str, number: int, *more: str) -> "subprocess.Popen[str]":
    script = ROOT / "tests" / "sdk" / "reporting.py"
    command = [sys.executable, str(script), contract.url, str(folder), user, str(number), *more]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "sdk" / "src")}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def lines_of(process: "subprocess.Popen[str]", number: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(number)]


def kill(process: "subprocess.Popen[str]") -> list[str]:
    """Kill -9, and return the rest of its output."""
    assert process.stdout is not None
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait(20)
    process.stdout.close()
    return [line.strip() for line in rest.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.parametrize(
    "outage", [Reaction(503), Reaction(None), Reaction(503, forward=True)], ids=["away", "cut", "lost"]
)
def test_killed_process_loses_no_event(contract: UsageContract, folder: Path, outage: Reaction) -> None:
    """Killed between write and send, or between send and answer; the next process delivers, and each counts once."""
    contract.whole = lambda events: outage
    process = start(contract, folder, "a", 1_000_000)
    reported = lines_of(process, 300)
    contract.wait_until(lambda: len(contract.requests) > 0)
    reported += kill(process)
    contract.whole = lambda events: None
    with reporter_of(contract, folder) as successor:
        successor.report(event("a-new"))
        assert successor.flush(20)
    arrived = contract.ids("a")
    assert arrived[: len(reported)] == reported
    assert arrived[-1] == "a-new"
    assert set(arrived[len(reported) : -1]) <= {f"a-{len(reported)}"}  # stored, and killed before it was printed
    assert not [path for path in folder.iterdir() if path.suffix == ".events"]


def test_process_killed_at_any_moment_leaves_a_queue_that_can_be_delivered(
    contract: UsageContract, folder: Path
) -> None:
    """Several generations, each killed while it takes over and sends what the one before left."""
    reported: dict[str, list[str]] = {}
    for number in range(3):
        user = f"user{number}"
        process = start(contract, folder, user, 1_000_000)
        reported[user] = lines_of(process, 150 * (number + 1))
        reported[user] += kill(process)
    with reporter_of(contract, folder) as successor:
        assert successor.flush(20)
    for user, ids in reported.items():
        assert contract.ids(user)[: len(ids)] == ids


def test_processes_share_a_folder(contract: UsageContract, folder: Path) -> None:
    processes = [start(contract, folder, user, 200) for user in "ab"]
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0, 0]
    assert all(contract.ids(user) == [f"{user}-{n}" for n in range(200)] for user in "ab")
    assert (contract.duplicates, list(folder.iterdir())) == (0, [])


def test_living_process_takes_over_from_one_that_dies(
    contract: UsageContract, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "TAKE_OVER_EVERY_S", 0.05)
    contract.whole = lambda events: Reaction(503) if events[0]["user_id"] == "a" else None
    with reporter_of(contract, folder) as living:
        living.report(event("b-1"))
        process = start(contract, folder, "a", 1_000_000)
        reported = lines_of(process, 50)
        assert living.flush(20)
        kill(process)
        contract.whole = lambda events: None
        contract.wait_until(lambda: set(reported) <= set(contract.ids("a")))
        assert contract.ids("a")[:50] == reported


def test_forked_process_reports_its_own_events_only(contract: UsageContract, folder: Path) -> None:
    process = start(contract, folder, "a", 100, "fork")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert sorted(out.split()) == sorted(contract.ids())
    assert contract.ids("a") == [f"a-{n}" for n in range(100)]
    assert contract.ids("child-of-a") == [f"child-of-a-{n}" for n in range(1, 100)]
    assert contract.duplicates == 0


def test_files_of_a_dead_parent_are_not_kept_by_its_children(contract: UsageContract, folder: Path) -> None:
    """A child inherits the descriptors of the parent's files, and with them the locks, unless it closes them."""
    contract.whole = lambda events: Reaction(503)
    reporter = reporter_of(contract, folder)
    reporter.report(event("a-1"))
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    try:
        assert not reporter.close(0.05)
        contract.whole = lambda events: None
        with reporter_of(contract, folder):
            contract.wait_until(lambda: contract.ids() == ["a-1"])
    finally:
        os.close(write_end)
        os.waitpid(child, 0)
        os.close(read_end)
