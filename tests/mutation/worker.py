"""Runs tests on one mutated copy of the project after another.

    python -m tests.mutation.worker      (in the copy's folder)

Reads a JSON line with `file`, `source`, `tests` and `timeout_s`, and answers with one of the words of `Outcome`. Each
run is a fork of this process, which has imported the libraries but nothing of the project, so it starts in a moment.
"""

import importlib
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pytest

Outcome = Literal["noticed", "survived", "timeout", "broken"]
LIBRARIES = ("pytest", "hypothesis", "fastapi", "sqlalchemy.ext.asyncio", "asyncpg", "stripe", "httpx", "redis.asyncio")
PASSED, FAILED = 0, 1


class _Xdist:
    """Replaces pytest-xdist's fixture, which names databases: the processes of mutants share a cluster."""

    @pytest.fixture(scope="session")
    @classmethod
    def worker_id(cls) -> str:
        return f"mutant{os.getppid()}"


def _run_pytest(tests: list[str]) -> int:
    os.setsid()
    log = os.open(os.environ["MUTATION_LOG"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    plugins = ("no:cacheprovider", "no:randomly", "no:xdist")
    arguments = ["-x", "-q", *(word for plugin in plugins for word in ("-p", plugin)), *tests]
    return int(pytest.main(arguments, plugins=[_Xdist()]))


def _outcome(pid: int, timeout_s: float) -> Outcome:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return "survived" if code == PASSED else "noticed" if code == FAILED else "broken"
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"


def _outcome_of(tests: list[str], timeout_s: float) -> Outcome:
    pid = os.fork()
    if pid == 0:
        os._exit(_run_pytest(tests))
    return _outcome(pid, timeout_s)


def run(file: str, source: str, tests: list[str], timeout_s: float) -> Outcome:
    """Put `source` in the place of `file`, run the tests in a child process, and put the original back."""
    target = Path(file)
    original = target.read_text(encoding="utf-8")
    compiled = target.parent / "__pycache__"
    try:
        target.write_text(source, encoding="utf-8")
        shutil.rmtree(compiled, ignore_errors=True)  # it is trusted by time and size, which may be the same
        # The narrowest alone: most mutations are noticed there, and pytest imports all that it is given first.
        for part in (tests[:1], tests[1:]):
            outcome = _outcome_of(part, timeout_s) if part else "survived"
            if outcome != "survived":
                break
        return outcome
    finally:
        target.write_text(original, encoding="utf-8")
        shutil.rmtree(compiled, ignore_errors=True)


def main() -> None:
    sys.path.insert(0, os.getcwd())
    for name in LIBRARIES:
        importlib.import_module(name)
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        print(run(job["file"], job["source"], job["tests"], job["timeout_s"]), flush=True)


if __name__ == "__main__":
    main()
