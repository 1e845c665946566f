"""Our own commands as real processes, forked from one that has imported what they need.

The import takes longer than most of the commands' own work. The process they are forked from runs nothing else:
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
from pathlib import Path
from typing import IO, Any

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    ["app.cli", "tests.prepared", "app.worker.app", "uvicorn.protocols.http.httptools_impl", "alembic.config"]
)


ROOT = Path(__file__).parent.parent


def _become(program: str, arguments: Sequence[str], env: Mapping[str, str], stdin: str, out: str, err: str) -> None:
    """The process's life: a program with these arguments, in this environment, with these files as its own."""
    for path, fd in ((stdin, 0), (out, 1), (err, 2)):
        opened = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOCTTY)
        os.dup2(opened, fd)
        os.close(opened)
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing has put another one there
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    sys.argv = [program, *arguments]
    PROGRAMS[program]()


def _ciris_billing() -> None:
    from app.cli import main

    main()


def _alembic() -> None:
    from alembic.config import main

    main()


PROGRAMS = {"ciris-billing": _ciris_billing, "alembic": _alembic}


class Process:
    """`ciris-billing`, or another of `PROGRAMS`, with the part of `subprocess.Popen` that the tests use."""

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        out: IO[bytes],
        err: IO[bytes],
        program: str = "ciris-billing",
        stdin: str = os.devnull,
    ) -> None:
        files = (stdin, out.name, err.name)
        self._process = _forks.Process(target=_become, args=(program, arguments, dict(env), *files))
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


def run_command(
    env: Mapping[str, str],
    *arguments: str,
    program: str = "ciris-billing",
    stdin: str = os.devnull,
    timeout_s: float = 60,
) -> Printed:
    """Run `ciris-billing`, or another of `PROGRAMS`, to its end. `stdin` is a file's path."""
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        process = Process(arguments, env, out, err, program, stdin)
        try:
            status = process.wait(timeout_s)
        finally:
            process.kill()
        return Printed(status, out.read().decode(), err.read().decode())
