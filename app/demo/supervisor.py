"""Supervisor: starts, watches and ends the demo's processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import typer

from app.demo.postgres import Cluster

ROOT = Path(__file__).parent.parent.parent
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 25
ONCE_STOP_TIMEOUT_S, KILL_TIMEOUT_S = 3, 2
LOG_TAIL_LINES = 15


class DemoError(Exception):
    """The demo cannot run. The message explains why, for the person who started it."""


@dataclass
class Child:
    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    once: bool
    """It ends without being stopped, and no other process needs its success."""
    done: str = ""
    """A line to print after success."""


class Guard:
    """The process that ends the others if this one is killed. It has a separate session, so it survives Ctrl-C."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "app" / "demo" / "guard.py")],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def watch(self, pid: int, number: signal.Signals = signal.SIGTERM) -> None:
        self._send(f"{pid} {number.value}\n")

    def dismiss(self) -> None:
        """Dismiss the guard: everything that it watched has ended."""
        with contextlib.suppress(BrokenPipeError):
            self._send("done\n")
        self._process.wait()

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()


class Supervisor:
    """The started processes, and whether a signal has asked to stop."""

    def __init__(self, log_dir: Path, guard: Guard) -> None:
        self._log_dir = log_dir
        self._guard = guard
        self._children: list[Child] = []
        self._cluster: Cluster | None = None
        self.stopping = False
        log_dir.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._request_stop)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def adopt(self, cluster: Cluster) -> None:
        """Watch a PostgreSQL as well, which its own context manager stops."""
        assert cluster.pid is not None
        self._guard.watch(cluster.pid, signal.SIGINT)  # a "fast" shutdown
        self._cluster = cluster

    def start(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        """Run a Python module that must run until the end."""
        self._start(name, [sys.executable, "-m", *command], env, once=False)

    def start_once(
        self, name: str, command: list[str], env: Mapping[str, str] | None = None, *, done: str = ""
    ) -> None:
        """Run a program that ends by design. Print `done` after success."""
        self._start(name, command, env or {}, once=True, done=done)

    def finish(self, name: str, on_line: Callable[[str], None] = lambda line: None) -> bool:
        """Wait for a program of `start_once`. Return whether it succeeded. `on_line` gets its log's last line."""
        child = next(child for child in self._children if child.name == name)
        while not self.stopping and child.process.poll() is None:
            self.check()
            on_line(self._tail(name, lines=1))
            time.sleep(0.1)
        self.check()
        return child.process.returncode == 0

    def _start(self, name: str, command: list[str], env: Mapping[str, str], *, once: bool, done: str = "") -> None:
        path = self._log_dir / f"{name}.log"
        if path.exists():
            path.replace(path.with_suffix(".log.1"))
        with path.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,  # their state files beside the logs contain keys
            )
        if not once:  # when the guard acts, another process may have the number of one that ended by design
            self._guard.watch(process.pid)
        self._children.append(Child(name, process, path, once, done))

    def wait_for(self, name: str, url: str) -> None:
        """Return when `url` answers. Raise DemoError if a process ends first, or after a time-out."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.stopping and not _answers(url):
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"{name} does not answer at {url}\n{self._tail(name)}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raise DemoError if a process has ended unexpectedly."""
        if self._cluster is not None and self._cluster.pid is None and not self.stopping:
            raise DemoError(f"PostgreSQL has ended. Its log is {self._cluster.log_file}")
        for child in list(self._children):
            if child.process.poll() is not None and not self.stopping:
                status = child.process.returncode
                if child.once:
                    self._children.remove(child)
                    if not status and child.done:
                        typer.echo(child.done)
                    if status:
                        typer.echo(f"\n{child.name} failed; everything else runs\n{self._tail(child.name)}", err=True)
                    continue
                raise DemoError(f"{child.name} ended with status {status}\n{self._tail(child.name)}")

    def _tail(self, name: str, lines: int = LOG_TAIL_LINES) -> str:
        logged = (self._log_dir / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(logged[-lines:])

    def stop(self) -> None:
        """End all processes and their children in reverse order. Kill those that do not end in time."""
        self.stopping = True
        for child in reversed(self._children):
            _end(child)


def _end(child: Child) -> None:
    """End the child and its process group. Each child leads its own group, because it leads a session.

    One-off programs start others, such as `npm ci`, which can outlive their parent.
    """
    if child.process.poll() is None:
        os.kill(-child.process.pid if child.once else child.process.pid, signal.SIGTERM)
    try:
        child.process.wait(ONCE_STOP_TIMEOUT_S if child.once else STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()
    if not _group_ends(child.process.pid, signal.SIGTERM, ONCE_STOP_TIMEOUT_S):
        _group_ends(child.process.pid, signal.SIGKILL, KILL_TIMEOUT_S)


def _group_ends(group: int, number: signal.Signals, within_s: float) -> bool:
    """Signal a process group, and wait until it is empty or the time is over. Return whether it is empty.

    A dead member counts until its parent reaps it, so the wait is bounded even after SIGKILL.
    """
    deadline = time.monotonic() + within_s
    try:
        os.killpg(group, number)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.02)
    except (ProcessLookupError, PermissionError):  # macOS: EPERM for a group of ended processes
        return True
    return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
