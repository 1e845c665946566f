"""Ids give the order of writing, through every change of the clock."""

import os
import string
import time
import warnings
from datetime import UTC, datetime

from app.db import IdClock, new_id, opaque_ids
from app.db.ids import RandomBytes

HOUR_MS = 3_600_000


class SettableClock:
    """A clock that can be set. Its own and not the process's, by which servers of other tests give ids."""

    ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ms * 1_000_000


def test_an_id_begins_with_the_time() -> None:
    assert abs((new_id().int >> 80) - datetime.now(UTC).timestamp() * 1000) < 60_000


def test_ids_follow_a_clock_set_ahead_and_go_on_when_it_is_set_back() -> None:
    settable = SettableClock()
    clock = IdClock(settable)
    first = clock.now_ms()
    settable.ahead_ms = -HOUR_MS
    behind = clock.now_ms()
    assert first <= behind < first + 60_000
    time.sleep(0.01)
    assert clock.now_ms() > behind
    settable.ahead_ms = HOUR_MS
    ahead = clock.now_ms()
    assert ahead >= first + HOUR_MS
    settable.ahead_ms = 0
    assert clock.now_ms() >= ahead


def test_ids_are_put_right_by_the_databases_clock_when_far_off() -> None:
    clock = IdClock()
    right_ms = clock.now_ms()
    clock.compare(right_ms, right_ms + 3000)
    assert clock.now_ms() < right_ms + 2000  # near enough
    for off_ms in (60_000, -60_000):
        clock.compare(clock.now_ms(), right_ms + off_ms)
        assert right_ms + off_ms <= clock.now_ms() < right_ms + off_ms + 2000


def test_an_answer_that_was_long_under_way_moves_nothing() -> None:
    """The process was suspended after the database had answered; on its clock a minute and a half have passed."""
    settable = SettableClock()
    clock = IdClock(settable)
    before_ms = clock.now_ms()
    settable.ahead_ms = 90_000
    clock.compare(before_ms, before_ms + 5)
    assert clock.now_ms() >= before_ms + 90_000


def test_ids_of_one_process_increase_within_a_millisecond() -> None:
    ids = []
    for _ in range(200):
        ids.append(new_id())
        started = time.perf_counter_ns()
        while time.perf_counter_ns() - started < 2_000:  # two rows are at least that far apart
            pass
    assert ids == sorted(ids)
    assert {(made.version, made.variant) for made in ids} == {(7, "specified in RFC 4122")}


def test_random_bytes_are_given_once_and_never_by_two_processes() -> None:
    random = RandomBytes()
    taken = [random.take(8) for _ in range(2 * random.size // 8 + 1)]
    taken += [random.take(random.size - 1), random.take(2)]
    assert len(set(taken)) == len(taken)
    assert [len(part) for part in taken[-3:]] == [8, random.size - 1, 2]
    random.take(8)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of other threads: the child needs none of their locks
        child = os.fork()
    if child == 0:
        os.write(writer, random.take(8))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 8) != random.take(8)
    os.close(reader)
    os.close(writer)


def test_opaque_id_has_one_text() -> None:
    account_id, row_id = new_id(), new_id()
    text = opaque_ids.encode("row_", account_id, row_id)
    letters = string.ascii_letters + string.digits + "-_"
    others = [text[:-1] + letter for letter in letters if letter != text[-1]]
    found = [opaque_ids.decode("row_", other) for other in others]
    assert opaque_ids.decode("row_", text) == (account_id, row_id)
    assert (account_id, row_id) not in found
    assert sum(one is not None for one in found) == 15, "those whose unused bits are zero"
