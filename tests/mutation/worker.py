"""Runs tests on one mutated copy of the project after another.

    python -m tests.mutation.worker warm FILE…      (in the copy's folder)
    python -m tests.mutation.worker cold
    python -m tests.mutation.worker record FILE…

A warm worker has imported the project and the test files, and changes functions in a fork of itself: tests start in
a moment. A cold one has imported the libraries only, for mutations of what runs at import. Both read a JSON line with
`file`, `source`, `original`, `tests` and `timeout_s`. They write one with `outcome`, a word of `Outcome`, and `by`, the
test that failed. `record` runs the tests once, see recording.py.
"""

import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import pytest

from tests.mutation.patching import Functions, live_functions, patch
from tests.mutation.plugins import Chosen, Recorder, WorkerId

Outcome = Literal["noticed", "survived", "timeout", "broken", "cold"]
"""`broken`: it could not be tried, for example because a test is too slow now. `cold`: a warm worker cannot do it."""
LIBRARIES = ("hypothesis", "fastapi", "sqlalchemy.ext.asyncio", "asyncpg", "stripe", "httpx", "redis.asyncio")
OPTIONS = (
    "-q",
    "--timeout=40",
    *(word for plugin in ("cacheprovider", "randomly", "xdist") for word in ("-p", f"no:{plugin}")),
)
PASSED, FAILED, CANNOT_PATCH = 0, 1, 99
LAST = Path("../failure.json")
"""The test that failed in the latest child, and whether it timed out."""

Job = dict[str, Any]
Child = Callable[[Job], int]
"""Runs the tests of a job in a new child process, and returns its process id."""


def _report(chosen: Chosen) -> None:
    LAST.write_text(json.dumps([chosen.failed, chosen.is_timeout]), encoding="utf-8")


def _exit_code(pid: int, timeout_s: float) -> int | None:
    """None: it was too slow, and was ended with all that it had started."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _passes_unmutated(child: Child, job: Job, tests: list[str]) -> bool:
    unmutated = {**job, "tests": tests, "source": job["original"]}
    return _exit_code(child(unmutated), job["timeout_s"]) == PASSED


def _try(child: Child, job: Job) -> tuple[Outcome, str]:
    LAST.unlink(missing_ok=True)
    with _on_disk(Path(job["file"]), job["source"], job["original"]):
        code = _exit_code(child(job), job["timeout_s"])
    failed, is_timeout = json.loads(LAST.read_text(encoding="utf-8")) if LAST.exists() else ("", False)
    if code == PASSED:
        return "survived", ""
    if code == CANNOT_PATCH:
        return "cold", ""
    if code is None:
        return "timeout" if _passes_unmutated(child, job, job["tests"]) else "broken", ""
    if code != FAILED or (is_timeout and not _passes_unmutated(child, job, [failed])):
        return "broken", failed
    return "noticed", failed


@contextlib.contextmanager
def _on_disk(target: Path, source: str, original: str) -> Iterator[None]:
    """Put `source` in the place of `target`, for processes that tests start, and put the original back."""
    compiled = target.parent / "__pycache__"
    try:
        target.write_text(source, encoding="utf-8")
        shutil.rmtree(compiled, ignore_errors=True)  # it is trusted by time and size, which may be the same
        yield
    finally:
        target.write_text(original, encoding="utf-8")
        shutil.rmtree(compiled, ignore_errors=True)


def _serve(child: Child, requests: IO[str], answers: IO[str]) -> None:
    for line in requests:
        outcome, by = _try(child, json.loads(line))
        answers.write(json.dumps({"outcome": outcome, "by": by}) + "\n")
        answers.flush()


class Warm:
    """Takes the place of pytest's loop over the collected tests: a child's loop runs the tests of a job."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests, self._answers = requests, answers

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed:
            return None  # pytest says what it could not collect
        functions = live_functions()
        gc.freeze()  # a collection in a child would copy all that the child shares with this process

        def child(job: Job) -> int:
            pid = os.fork()
            if pid == 0:
                os._exit(self._run(session, functions, job))
            return pid

        _serve(child, self._requests, self._answers)
        return True

    def _run(self, session: pytest.Session, functions: Functions, job: Job) -> int:
        os.setsid()
        if not patch(functions, Path(job["file"]).resolve(), job["original"], job["source"]):
            return CANNOT_PATCH
        chosen = Chosen(job["tests"])
        chosen.pytest_collection_modifyitems(session.items)
        session.config.pluginmanager.unregister(self)
        session.config.pluginmanager.register(chosen)
        with contextlib.suppress(session.Failed):
            session.config.hook.pytest_runtestloop(session=session)
        _report(chosen)
        with contextlib.suppress(Exception):
            session.config.hook.pytest_sessionfinish(session=session, exitstatus=FAILED)
        return FAILED if session.testsfailed else PASSED


def _run_cold(job: Job) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    chosen = Chosen(job["tests"])
    try:
        importlib.import_module(job["file"].removesuffix(".py").replace("/", "."))
    except Exception:
        os._exit(FAILED)  # so does every test
    files = dict.fromkeys(test.partition("::")[0] for test in job["tests"])
    code = pytest.main(["-x", *OPTIONS, *files], plugins=[WorkerId(), chosen])
    _report(chosen)
    os._exit(code)


def main() -> int:
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")  # pytest takes the standard ones
    log = os.open(os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    kind, *files = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    if kind == "record":
        return pytest.main([*OPTIONS, *files], plugins=[WorkerId(), Recorder()])
    os.dup2(log, 1)
    os.dup2(log, 2)
    if kind == "warm":
        return pytest.main(["-x", *OPTIONS, *files], plugins=[WorkerId(), Warm(requests, answers)])
    for name in LIBRARIES:
        importlib.import_module(name)
    _serve(_run_cold, requests, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
