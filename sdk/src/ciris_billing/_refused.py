"""Dead letters: usage events that the service refused, with the reason, in a file that people can read."""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger("ciris_billing")

NAME, EARLIER, LOCK = "refused.jsonl", "refused.1.jsonl", "refused.lock"
_threads = threading.Lock()
"""The lock on the file excludes other processes, but not other threads of this one."""


def _after_fork() -> None:
    """Replace a lock that a thread of the parent process may hold."""
    global _threads
    _threads = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, slots=True)
class RefusedUsage:
    """A usage event that was not accepted, or a step of a cost record, which has the member `cost_record_step`. `event`
    is what was queued; None if the record on disk was damaged, which `message` then contains."""

    event: dict[str, Any] | None
    code: str
    message: str
    refused_at: datetime

    @property
    def event_id(self) -> str | None:
        return None if self.event is None else str(self.event["event_id"])


class DeadLetters:
    """The refused events of all processes on a folder.

    Two generations of half of `max_bytes` each: when the newer one is full, the older one is deleted and logged."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def add(self, refused: Sequence[RefusedUsage]) -> None:
        """Append and write to the device. Raises OSError, and then the events have to stay in the queue."""
        lines = b"".join(_line(one) for one in refused)
        with self._locked():
            path = self._folder / NAME
            if path.exists() and path.stat().st_size + len(lines) > self._max_bytes // 2:
                self._rotate(path)
            _append(path, lines)

    def read(self) -> list[RefusedUsage]:
        """Return the refused events, oldest first."""
        with self._locked():
            return [one for name in (EARLIER, NAME) for one in self._of(name)]

    def take(self, is_taken: Callable[[RefusedUsage], bool], put: Callable[[RefusedUsage], None]) -> int:
        """Pass the chosen events to `put`, then remove them. If `put` raises, nothing is removed."""
        with self._locked():
            kept: dict[str, list[RefusedUsage]] = {EARLIER: [], NAME: []}
            taken = 0
            for name, those in kept.items():
                for one in self._of(name):
                    if one.event is not None and is_taken(one):
                        put(one)
                        taken += 1
                    else:
                        those.append(one)
            for name, those in kept.items():
                fresh = self._folder / f"{name}.new"
                fresh.unlink(missing_ok=True)
                _append(fresh, b"".join(_line(one) for one in those))
                fresh.replace(self._folder / name)
            return taken

    def _of(self, name: str) -> Iterator[RefusedUsage]:
        path = self._folder / name
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    found = json.loads(line)
                    refused_at = datetime.fromisoformat(found["refused_at"])
                    yield RefusedUsage(found["event"], found["code"], found["message"], refused_at)
                except (ValueError, KeyError, TypeError):
                    log.warning("billing usage: a line of %s cannot be read", name)

    def _rotate(self, path: Path) -> None:
        earlier = self._folder / EARLIER
        if earlier.exists():
            lost = earlier.read_bytes().count(b"\n")
            log.error("billing usage: deleted the oldest refused events", extra={"billing_events": lost})
        path.replace(earlier)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other processes. A POSIX lock, because a forked process must not inherit it."""
        with _threads:
            fd = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)


def now() -> datetime:
    return datetime.now(UTC)


def _line(refused: RefusedUsage) -> bytes:
    fields = {
        "refused_at": refused.refused_at.isoformat(),
        "code": refused.code,
        "message": refused.message,
        "event": refused.event,
    }
    return json.dumps(fields).encode() + b"\n"


def _append(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(fd).st_size
        if os.write(fd, content) != len(content):
            os.ftruncate(fd, size)
            raise OSError(f"{path.name} could not be written completely")
        os.fsync(fd)
    finally:
        os.close(fd)
