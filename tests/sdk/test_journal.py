"""The queue's files: reading, taking over, and damage."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ciris_billing import _journal
from ciris_billing._journal import HEADER_BYTES, SEGMENT_BYTES, Journal, Segment


def filled(folder: Path, *contents: bytes) -> Journal:
    journal = Journal(folder)
    for content in contents:
        journal.append(content)
    return journal


def left(journal: Journal) -> None:
    """End a process's journal as its death does: the files stay, the locks go."""
    for segment in journal.segments:
        segment.abandon()


def contents(segment: Segment) -> list[bytes | None]:
    return [line.content for line in segment.lines(segment.position)]


def taken_over(folder: Path) -> Journal:
    journal = Journal(folder)
    journal.scan()
    return journal


def test_records_are_read_back_in_order_whatever_their_size(folder: Path) -> None:
    many = [b'{"n": %d, "x": "%s"}' % (n, b"x" * (n * 997 % 60_000)) for n in range(60)]
    journal = filled(folder, *many)
    assert len(journal.segments) > 1
    assert [content for segment in journal.segments for content in contents(segment)] == many


def test_reading_continues_from_a_position(folder: Path) -> None:
    (segment,) = filled(folder, b"1", b"2", b"3").segments
    first, second, third = segment.lines(segment.position)
    assert [line.content for line in segment.lines(first.end)] == [b"2", b"3"]
    assert third.end == segment.size
    segment.settle(second.end)
    assert contents(segment) == [b"3"]


def test_living_process_keeps_its_files_and_a_dead_one_loses_them(folder: Path) -> None:
    journal = filled(folder, b"1", b"2")
    first = next(iter(journal.segments[0].lines(HEADER_BYTES)))
    journal.segments[0].settle(first.end)
    assert taken_over(folder).segments == []
    left(journal)
    after = taken_over(folder)
    assert [contents(segment) for segment in after.segments] == [[b"2"]]
    assert taken_over(folder).segments == []


def test_taken_over_files_come_first_and_oldest_first(folder: Path) -> None:
    for content in (b"1", b"2"):
        left(filled(folder, content))
    journal = filled(folder, b"3")
    journal.scan()
    assert [contents(segment) for segment in journal.segments] == [[b"1"], [b"2"], [b"3"]]


def test_settled_files_are_deleted_except_the_one_in_use(folder: Path) -> None:
    left(filled(folder, b"old"))
    journal = filled(folder, b"x" * SEGMENT_BYTES, b"new")
    journal.scan()
    before = journal.used_bytes
    assert before == sum(path.stat().st_size for path in folder.iterdir())
    for segment in journal.segments:
        segment.settle(segment.size)
    journal.remove_settled()
    assert [len(list(folder.iterdir())), journal.used_bytes] == [1, journal.segments[-1].size]
    journal.close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 3, 9, 12])
def test_record_whose_write_was_cut_off_is_dropped(folder: Path, cut: int) -> None:
    """`append` has not returned, so the caller does not count on it."""
    journal = filled(folder, b"1", b"second")
    path = journal.segments[0].path
    left(journal)
    os.truncate(path, path.stat().st_size - cut)
    (segment,) = taken_over(folder).segments
    assert contents(segment) == [b"1"]
    segment.settle(next(iter(segment.lines(HEADER_BYTES))).end)
    assert segment.is_settled


@pytest.mark.parametrize("at", [0, 5, 9, 12])
def test_damaged_record_is_noticed_and_the_others_are_read(folder: Path, at: int) -> None:
    journal = filled(folder, b"first", b"second", b"third")
    first, second, _ = journal.segments[0].lines(HEADER_BYTES)
    path = journal.segments[0].path
    left(journal)
    content = bytearray(path.read_bytes())
    content[first.end + at] ^= 0x01
    path.write_bytes(content)
    (segment,) = taken_over(folder).segments
    lines = list(segment.lines(HEADER_BYTES))
    assert [line.content for line in lines] == [b"first", None, b"third"]
    assert lines[1].end == second.end


@pytest.mark.parametrize("at", [0, 15, 20, 29, 33, 38])
def test_damaged_header_repeats_events_and_loses_none(folder: Path, at: int) -> None:
    journal = filled(folder, b"1", b"2")
    journal.segments[0].settle(journal.segments[0].size)
    path = journal.segments[0].path
    left(journal)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x01
    path.write_bytes(content)
    assert [contents(segment) for segment in taken_over(folder).segments] == [[b"1", b"2"]]


def test_empty_file_of_a_process_that_died_while_creating_it_is_removed(folder: Path) -> None:
    folder.mkdir()
    (folder / f"1{_journal.EVENTS}").touch()
    assert taken_over(folder).segments == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("can_undo", [True, False])
def test_failed_write_loses_no_other_record(folder: Path, monkeypatch: pytest.MonkeyPatch, can_undo: bool) -> None:
    """The disk becomes full in the middle of a record."""
    journal = filled(folder, b"before")
    write, full = os.pwrite, OSError(errno.ENOSPC, "No space left on device")

    def cut_off(fd: int, content: bytes, position: int) -> int:
        if len(content) < 8:
            raise full
        return write(fd, content[: len(content) // 2], position)

    def refuse(fd: int, size: int) -> None:
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", cut_off)
        if not can_undo:
            patched.setattr(os, "ftruncate", refuse)
        with pytest.raises(OSError, match="No space"):
            journal.append(b"not stored")
    journal.append(b"after")
    assert [content for content in contents(journal.segments[0]) if content is not None] == [b"before", b"after"]
    left(journal)
    (segment,) = taken_over(folder).segments
    assert [content for content in contents(segment) if content is not None] == [b"before", b"after"]


def test_files_are_private(folder: Path) -> None:
    (segment,) = filled(folder, b"1").segments
    assert [path.stat().st_mode & 0o077 for path in (folder, segment.path)] == [0, 0]


def test_files_of_two_journals_of_one_process_are_separate(folder: Path) -> None:
    first, second = filled(folder, b"1"), filled(folder, b"2")
    first.scan()
    assert [contents(segment) for segment in first.segments] == [[b"1"]]
    assert [contents(segment) for segment in second.segments] == [[b"2"]]


CREATE = """
import sys
from pathlib import Path
from ciris_billing import _journal
folder = Path(sys.argv[1])
journal = _journal.Journal(folder)
for n in range(50):
    with journal.lock:
        journal._own.append(_journal._create(folder))
        journal._own[-1].append(b"%s %d" % (sys.argv[2].encode(), n))
    journal.scan()
print(len(journal.segments), flush=True)
input()
"""


def test_file_that_is_just_created_is_not_taken_from_its_owner(folder: Path) -> None:
    """Two processes create files, and look for those of dead ones at the same time."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE, str(folder), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "ab"
    ]
    assert [process.stdout.readline() for process in processes if process.stdout] == ["50\n"] * 2
    assert taken_over(folder).segments == []
    for process in processes:
        process.communicate("\n", timeout=60)
    everything = [content for segment in taken_over(folder).segments for content in contents(segment)]
    assert sorted(str(content) for content in everything) == sorted(
        f"b'{name} {n}'" for name in "ab" for n in range(50)
    )


def test_deleting_a_file_waits_for_the_device_without_the_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise `append` would wait for the device too."""
    journal = filled(folder, b"x" * SEGMENT_BYTES, b"new")
    syncing, released = threading.Event(), threading.Event()

    def hang(fd: int) -> None:
        syncing.set()
        released.wait(30)

    monkeypatch.setattr(os, "fsync", hang)
    old = journal.segments[0]
    old.settle(old.size)
    threads = [threading.Thread(target=old.sync), threading.Thread(target=journal.remove_settled)]
    threads[0].start()
    assert syncing.wait(10)
    threads[1].start()
    while len(journal.segments) == 2:
        threads[1].join(0.001)
    assert journal.lock.acquire(timeout=10)
    journal.append(b"newer")
    journal.lock.release()
    assert old.path.exists()
    released.set()
    for thread in threads:
        thread.join(10)
    assert not old.path.exists()


def test_sync_and_close_at_the_same_time_do_not_disturb_each_other(folder: Path) -> None:
    journal = filled(folder, b"1")
    stop = threading.Event()

    def sync() -> None:
        while not stop.is_set():
            journal.sync()

    thread = threading.Thread(target=sync)
    thread.start()
    for n in range(200):
        with journal.lock:
            journal.append(b"%d" % n)
        segment = journal.segments[-1]
        segment.settle(segment.size)
        if n % 20 == 0:
            journal.close()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
