"""Our own commands as real processes, forked from one that has imported what they need.

Importing it takes longer than most of what the tests make them do. The process they are forked from runs nothing else:
no thread, no event loop, no connection.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tests.databases import ROOT

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["app.cli", "app.main", "app.worker.app", "uvicorn.protocols.http.httptools_impl"])


def _become(arguments: Sequence[str], env: Mapping[str, str], out: str, err: str) -> None:
    """The process's life: `ciris-billing` with these arguments, in this environment, printing to these files."""
    for path, fd in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(opened, fd)
        os.close(opened)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    sys.argv = ["ciris-billing", *arguments]
    from app.cli import main

    main()


class Process:
    """What the tests use of `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], out: IO[bytes], err: IO[bytes]) -> None:
        self._process = _forks.Process(target=_become, args=(arguments, dict(env), out.name, err.name))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout_s)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("ciris-billing", timeout_s or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL: no time to finish anything."""
        self.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class Printed:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run_command(env: Mapping[str, str], *arguments: str, timeout_s: float = 60) -> Printed:
    """Run `ciris-billing` to its end."""
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        process = Process(arguments, env, out, err)
        try:
            status = process.wait(timeout_s)
        finally:
            process.kill()
        return Printed(status, out.read().decode(), err.read().decode())
