"""Journal of usage events and steps of cost records on disk: append-only segment files, each owned by one process.

A segment's owner holds an exclusive lock on the file. The kernel releases it when the owner dies, however it dies, and
another process on the same folder then takes the segment over. A segment starts with a header that contains the
position of the first event that is not settled, and is deleted when all its events are settled.

Steps of cost records have separate segments, because a process of an earlier version would take over any file that it
knows, and send its records as events.

A record is one line: a checksum and the event as JSON. `append` is one write to the page cache, so a record survives
the death of the process as soon as `append` returns. It survives the death of the machine after `sync`.
"""

import contextlib
import fcntl
import logging
import os
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("ciris_billing")

EVENTS, STEPS = ".events", ".steps"
"""Suffixes of a segment's name, by its contents."""
FORMAT = b"ciris-usage-1 %016d"
HEADER_BYTES = len(FORMAT % 0) + len(" 01234567\n")
SEGMENT_BYTES = 1024 * 1024
READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a segment, with the position after it. `content` is None if the checksum does not match."""

    content: bytes | None
    raw: bytes
    end: int


@dataclass(eq=False)
class Segment:
    """A file that this process owns. One thread appends, one reads and settles, and any thread may sync."""

    path: Path
    fd: int
    size: int
    position: int
    """Events before it are settled."""
    adopted: bool = False
    """It was written by another process or an earlier reporter. Nothing is appended to it."""
    _io: threading.Lock = field(default_factory=threading.Lock)
    """Held during a sync, so that the file is not closed in the meantime."""
    _torn: bool = False
    """The last line is incomplete: a write failed and could not be undone."""

    def append(self, content: bytes) -> int:
        """Append a record and return its size. Raises OSError, and then the segment is unchanged."""
        record = b"%08x %s\n" % (zlib.crc32(content), content)
        if self._torn:
            record = b"\n" + record
        try:
            _write(self.fd, record, self.size)
        except OSError:
            self._undo()
            raise
        self._torn = False
        self.size += len(record)
        return len(record)

    def _undo(self) -> None:
        try:
            os.ftruncate(self.fd, self.size)
        except OSError:
            self.size, self._torn = os.fstat(self.fd).st_size, True

    def lines(self, start: int) -> Iterator[Line]:
        """Iterate over the complete lines from a position. Lines that are appended during the iteration may be left
        for the next one."""
        size, rest = self.size, b""
        while start < size:
            chunk = os.pread(self.fd, min(READ_BYTES, size - start), start)
            if not chunk:
                return
            start += len(chunk)
            *complete, rest = (rest + chunk).split(b"\n")
            end = start - len(rest) - sum(len(line) + 1 for line in complete)
            for line in complete:
                end += len(line) + 1
                yield Line(_checked(line), line, end)

    def settle(self, position: int) -> None:
        """Store that the events before this position are settled."""
        if position > self.position:
            self.position = position
            _write(self.fd, _header(position), 0)

    @property
    def is_settled(self) -> bool:
        return self.position >= self.size

    def sync(self) -> None:
        """Write the segment to the device."""
        with self._io:
            if self.fd >= 0:
                os.fsync(self.fd)

    def close(self) -> None:
        """Release the segment: another process may take it over. Delete it if it is settled."""
        with self._io:
            if self.fd < 0:
                return
            if self.is_settled:
                self.path.unlink(missing_ok=True)
            os.close(self.fd)
            self.fd = -1

    def abandon(self) -> None:
        """Close the file descriptor that a fork has copied. The lock stays with the parent process."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Journal:
    """The segments of one reporter in a folder, oldest first. Thread-safe.

    `lock` is held for short work in memory and single writes to the page cache only, so that `append` never waits for
    the device. A fork while it is held would copy a lock that no one releases, so a forking thread holds it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.lock = threading.Lock()
        self._adopted: list[Segment] = []
        self._own: list[Segment] = []
        self._appendable: dict[str, Segment] = {}
        """The segment of each kind that is appended to."""
        self._unsynced: set[Segment] = set()
        self._bytes = 0
        """Of the segments of this journal."""
        self._bytes_of_others = 0

    @property
    def segments(self) -> list[Segment]:
        """All segments in the order of delivery: those of earlier processes come first."""
        with self.lock:
            return [*self._adopted, *self._own]

    @property
    def used_bytes(self) -> int:
        """The size of all queues in the folder, those of other processes as of the last `scan`."""
        return self._bytes + self._bytes_of_others

    def append(self, content: bytes, kind: str = EVENTS) -> None:
        """Append an event, or a step. The caller holds the lock. Raises OSError."""
        segment = self._appendable.get(kind)
        if segment is None or segment.size >= SEGMENT_BYTES:
            segment = self._appendable[kind] = _create(self._folder, kind)
            self._own.append(segment)
            self._bytes += HEADER_BYTES
        self._bytes += segment.append(content)
        self._unsynced.add(segment)

    def scan(self) -> None:
        """Take over the segments of processes that have ended, and measure those of the others."""
        others = 0
        for path in sorted(path for kind in (EVENTS, STEPS) for path in self._folder.glob(f"*{kind}")):
            with self.lock, contextlib.suppress(FileNotFoundError):
                if not any(segment.path == path for segment in (*self._adopted, *self._own)):
                    size = path.stat().st_size
                    others += size if self._is_owned_by_another(path) else 0
        self._bytes_of_others = others

    def _is_owned_by_another(self, path: Path) -> bool:
        """Try to take a segment over, and return whether another process owns it."""
        segment = _open(path)
        if segment is None:
            return True
        if segment.is_settled:
            segment.close()
            return False
        log.info("billing usage: took over a queue", extra={"billing_bytes": segment.size - segment.position})
        self._adopted.append(segment)
        self._adopted.sort(key=lambda segment: segment.path.name)
        self._bytes += segment.size
        return False

    def remove_settled(self) -> None:
        """Delete the segments whose events are all settled, except those that are appended to."""
        with self.lock:
            kept = self._appendable.values()
            settled = [one for one in (*self._adopted, *self._own) if one.is_settled and one not in kept]
            self._forget(settled)
        for segment in settled:
            segment.close()

    def sync(self) -> None:
        """Write the appended events to the device."""
        with self.lock:
            segments = list(self._unsynced)
            self._unsynced.clear()
        if segments:
            for segment in segments:
                segment.sync()
            _sync_folder(self._folder)

    def close(self) -> None:
        """Release all segments."""
        with self.lock:
            segments = [*self._adopted, *self._own]
            self._forget(segments)
        for segment in segments:
            segment.close()

    def abandon(self) -> None:
        """Close the parent's segments in a process that was forked. The journal is not used afterwards."""
        for segment in (*self._adopted, *self._own):
            segment.abandon()

    def _forget(self, segments: Sequence[Segment]) -> None:
        self._adopted = [segment for segment in self._adopted if segment not in segments]
        self._own = [segment for segment in self._own if segment not in segments]
        self._appendable = {kind: one for kind, one in self._appendable.items() if one not in segments}
        self._unsynced.difference_update(segments)
        self._bytes -= sum(segment.size for segment in segments)


def _create(folder: Path, kind: str = EVENTS) -> Segment:
    """Create and lock a segment. Another process that scans the folder may lock it first; then it gets another name."""
    while True:
        path = folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}{kind}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if _lock(fd):
                _write(fd, _header(HEADER_BYTES), 0)
                return Segment(path, fd, HEADER_BYTES, HEADER_BYTES)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _open(path: Path) -> Segment | None:
    """Take over a segment. Return None if its owner is alive or it was deleted."""
    fd = os.open(path, os.O_RDWR)
    try:
        if _lock(fd):
            size = _complete_bytes(fd)
            return Segment(path, fd, size, _position(fd, size), adopted=True)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _lock(fd: int) -> bool:
    """Lock a file for this descriptor. Return False if another one holds it, or the file was deleted."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(fd).st_nlink > 0


def _complete_bytes(fd: int) -> int:
    """Return the size without an incomplete last line, whose `append` never returned."""
    end = os.fstat(fd).st_size
    while end > 0:
        start = max(0, end - READ_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _header(position: int) -> bytes:
    fields = FORMAT % position
    return b"%s %08x\n" % (fields, zlib.crc32(fields))


def _position(fd: int, size: int) -> int:
    """Read the header. A damaged one means that nothing is settled: a repeated event is harmless."""
    if size <= HEADER_BYTES:
        return size  # its owner died while creating it
    header = os.pread(fd, HEADER_BYTES, 0)
    digits = header.split(b" ")[1:2]
    position = int(digits[0]) if digits and digits[0].isdigit() else 0
    return position if header == _header(position) and HEADER_BYTES <= position <= size else HEADER_BYTES


def _write(fd: int, content: bytes, position: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written


def _checked(line: bytes) -> bytes | None:
    checksum, _, content = line.partition(b" ")
    try:
        return content if int(checksum, 16) == zlib.crc32(content) and len(checksum) == 8 else None
    except ValueError:
        return None


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
