"""Decisions about queued events: batches, results, holds and back-off. Real files, no network, the test's clock."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciris_billing import (
    BillingError,
    InvalidReply,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    ServiceUnavailable,
    Unauthorized,
    UsageItem,
)
from ciris_billing import _delivery as delivery_module
from ciris_billing._delivery import LONGEST_RETRY_AFTER_S, Delivery, Entry, Limits
from ciris_billing._refused import RefusedUsage
from tests.sdk.queues import RETRY, Queue, ids_of


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


def test_events_go_in_order_and_leave_the_queue_when_they_are_accepted(queue: Queue) -> None:
    queue.put("a-1", "b-1", "a-2")
    assert queue.next() == ["a-1", "b-1", "a-2"]
    assert queue.stored() == ["a-1", "b-1", "a-2"]
    queue.answer()
    assert (queue.stored(), queue.next(), queue.delivery.delivered) == ([], [], 3)


def test_event_that_was_counted_before_is_delivered(queue: Queue) -> None:
    queue.put("a-1")
    queue.next()
    queue.answer(a_1="duplicate_event")
    assert (queue.stored(), queue.letters, queue.delivery.delivered) == ([], [], 1)


def test_refused_event_is_kept_with_its_reason_and_not_sent_again(queue: Queue) -> None:
    queue.put("a-1", "a-2", "a-3")
    queue.next()
    queue.answer(a_2="insufficient_credits")
    assert [(letter.event_id, letter.code) for letter in queue.letters] == [("a-2", "insufficient_credits")]
    assert queue.letters[0].event == {"user_id": "a", "event_id": "a-2", "metadata": {"x": ""}}
    assert (queue.next(), queue.stored(), queue.delivery.refused) == ([], [], 1)


@pytest.mark.parametrize("code", sorted(delivery_module.TEMPORARY))
def test_temporary_refusal_holds_its_user_back_and_no_other(queue: Queue, code: str) -> None:
    queue.put("a-1", "b-1")
    queue.next()
    queue.answer(a_1=code)
    queue.put("a-2", "b-2")
    assert queue.next() == ["b-2"]
    queue.answer()
    assert queue.stored() == ["a-1", "b-1", "a-2", "b-2"]  # a position cannot skip: repetitions are harmless
    queue.now_s += 1
    assert queue.next() == ["a-1"]
    queue.answer()
    assert queue.next() == ["a-2"]
    queue.answer()
    assert (queue.stored(), queue.letters) == ([], [])


def test_holds_grow_and_end_with_a_success(queue: Queue) -> None:
    queue.put("a-1")
    waits = []
    for _ in range(9):
        queue.next()
        queue.answer(a_1="busy")
        until = queue.delivery.next_hold_ends_at
        assert until is not None
        waits.append(round(until - queue.now_s))
        queue.now_s = until
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert queue.next() == ["a-1"]
    queue.answer()
    assert queue.delivery.next_hold_ends_at is None


@pytest.mark.parametrize(
    ("events", "max_bytes", "sizes"), [(2, 10**6, [2, 2, 1]), (500, 2500, [2, 2, 1]), (500, 1, [1] * 5)]
)
def test_requests_are_bounded_in_events_and_bytes(
    tmp_path: Path, events: int, max_bytes: int, sizes: list[int]
) -> None:
    queue = Queue(tmp_path, events=events, max_bytes=max_bytes)
    queue.put("a-1", "a-2", "a-3", "a-4", "a-5", size=1000)
    found = []
    while queue.next():
        found.append(len(queue.batch))
        queue.answer()
    assert found == sizes


def test_window_is_bounded_and_continues(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "WINDOW_EVENTS", 3)
    queue.put(*(f"a-{n}" for n in range(8)))
    sent = []
    while found := queue.next():
        sent.append(found)
        queue.answer()
    assert sent == [["a-0", "a-1", "a-2"], ["a-3", "a-4", "a-5"], ["a-6", "a-7"]]


NO_ANSWER = ServiceUnavailable("no", code="network_error")


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (NO_ANSWER, [1, 2, 4]),
        (ServiceUnavailable("no", status=503, retry_after=20.0), [21, 21, 21]),
        (RateLimited("no", status=429, retry_after=7.0), [8, 8, 8]),
        (ServiceUnavailable("no", status=503, retry_after=float("inf")), [LONGEST_RETRY_AFTER_S + 1] * 3),
        (Unauthorized("no", status=401), [1, 2, 4]),
        (PermissionDenied("no", status=403), [1, 2, 4]),
        (NotFound("no", status=404), [1, 2, 4]),
        (InvalidReply("no", status=200), [1, 2, 4]),
        (ServerError("no", status=500), [1, 2, 4]),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_outage_keeps_every_event_and_waits(queue: Queue, error: BillingError, waits: list[float]) -> None:
    queue.put("a-1", "b-1", "c-1", "d-1", "e-1", "f-1", "g-1", "h-1")
    everything = queue.stored()
    found = []
    for _ in waits:
        assert queue.next()
        found.append(round(queue.fail(error)))
        assert queue.next() == []
        queue.now_s = queue.delivery.next_attempt_at
    assert (found, queue.stored(), queue.letters) == (waits, everything, [])
    assert queue.delivery.last_error is error


def test_wait_is_bounded_after_any_number_of_failures(queue: Queue) -> None:
    queue.put("a-1")
    for _ in range(2000):
        queue.next()
        assert queue.fail(ServerError("no", status=500)) <= 60
        queue.now_s = queue.delivery.next_attempt_at + 60


def settle_all(queue: Queue, is_bad: Callable[[dict[str, Any]], bool], error: BillingError) -> int:
    """Deliver until nothing is left; a request with a bad event fails as a whole. Return the number of requests."""
    requests = 0
    while queue.stored():
        queue.next()
        requests += 1
        if any(is_bad(entry.event) for entry in queue.batch):
            queue.fail(error)
            queue.now_s = max(queue.now_s, queue.delivery.next_attempt_at)
        else:
            queue.answer()
        assert requests < 200
    return requests


@pytest.mark.parametrize("status", [400, 413, 422])
def test_event_that_spoils_a_whole_request_is_found_and_refused_alone(queue: Queue, status: int) -> None:
    queue.put(*(f"a-{n}" for n in range(100)))
    settle_all(queue, lambda event: event["event_id"] in ("a-17", "a-71"), InvalidRequest("bad", status=status))
    assert [letter.event_id for letter in queue.letters] == ["a-17", "a-71"]
    assert queue.delivery.delivered == 98


def test_event_that_breaks_the_service_blocks_only_its_user(queue: Queue) -> None:
    queue.put(*(f"{user}-{n}" for n in range(20) for user in "abc"))
    sent: list[str] = []
    for _ in range(200):
        queue.next()
        if any(entry.event["event_id"] == "b-5" for entry in queue.batch):
            queue.fail(ServerError("bug", status=500))
        elif queue.batch:
            sent += ids_of(queue.batch)
            queue.answer()
        queue.now_s += 1
    assert [one for one in sent if one[0] != "b"] == [f"{user}-{n}" for n in range(20) for user in "ac"]
    assert [one for one in sent if one[0] == "b"] == [f"b-{n}" for n in range(5)]
    assert queue.letters == []
    assert "b-5" in queue.stored()


def test_request_that_takes_too_long_is_made_smaller(queue: Queue) -> None:
    queue.put(*(f"a-{n}" for n in range(8)))
    sizes = []
    for _ in range(4):
        sizes.append(len(queue.next()))
        queue.fail(ServiceUnavailable("slow", code="timeout"))
        queue.now_s = queue.delivery.next_attempt_at + 60
    assert sizes == [8, 4, 2, 1]


def test_damaged_records_are_kept_as_text(queue: Queue) -> None:
    queue.put("a-1")
    for content in (b"[]", b"no json", b"{}", b'"event_id"'):
        queue.journal.append(content)
    queue.put("a-2")
    assert queue.next() == ["a-1", "a-2"]
    assert [(letter.event, letter.code) for letter in queue.letters] == [(None, "damaged_record")] * 4
    assert queue.letters[1].message.endswith("no json")
    queue.answer()
    assert queue.stored() == []


def test_refusal_that_cannot_be_written_keeps_the_events(queue: Queue) -> None:
    def full(letters: Sequence[RefusedUsage]) -> None:
        raise OSError("disk full")

    queue.delivery = Delivery(Limits(10, 10**6), RETRY, full)
    queue.put("a-1", "a-2")
    queue.next()
    with pytest.raises(OSError, match="disk full"):
        queue.answer(a_1="insufficient_credits")
    assert queue.stored() == ["a-1", "a-2"]
    assert queue.next() == ["a-1", "a-2"]


ERRORS = [
    NO_ANSWER,
    ServiceUnavailable("slow", code="timeout"),
    RateLimited("no", status=429, retry_after=3.0),
    ServerError("bug", status=500),
    InvalidRequest("bad", status=413),
    Unauthorized("no", status=401),
]
CODES = [None, None, None, "duplicate_event", "insufficient_credits", "busy"]
Step = tuple[str, Any]
STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("abc")),
    st.tuples(st.just("answer"), st.lists(st.sampled_from(CODES), min_size=1, max_size=5)),
    st.tuples(st.just("lost"), st.none()),
    st.tuples(st.just("fail"), st.sampled_from(ERRORS)),
    st.tuples(st.just("die"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 5.0, 120.0])),
)


class QueueAndService:
    """A service that records events once, and processes that queue them, die, and take over."""

    def __init__(self, folder: Path) -> None:
        self.queue = Queue(folder, events=4)
        self.put: list[str] = []
        self.recorded: list[str] = []
        self.refused: list[str] = []

    def run(self, steps: Sequence[Step]) -> None:
        for name, value in steps:
            getattr(self, name)(value)

    def put_(self, user: str) -> None:
        self.put.append(f"{user}-{len(self.put)}")
        self.queue.put(self.put[-1])

    def answer(self, codes: Sequence[str | None]) -> None:
        """Answer the next request; the codes are those of its events in turn."""
        self.queue.next()
        results = []
        for place, entry in enumerate(self.queue.batch):
            results.append(self._result(entry, codes[place % len(codes)]))
        if results:
            self.queue.delivery.answered(self.queue.batch, results, self.queue.now_s)
        self._collect()

    def _result(self, entry: Entry, code: str | None) -> UsageItem:
        event_id = entry.event["event_id"]
        if event_id in self.recorded:
            return UsageItem(event_id=event_id, success=False, error="duplicate_event")
        if code in (None, "duplicate_event"):
            self.recorded.append(event_id)
        return UsageItem(event_id=event_id, success=code is None, error=code)

    def lost(self, _: None) -> None:
        """The service records the events, and the answer is lost."""
        self.queue.next()
        for entry in self.queue.batch:
            self._result(entry, None)
        if self.queue.batch:
            self.queue.fail(NO_ANSWER)

    def fail(self, error: BillingError) -> None:
        self.queue.next()
        if self.queue.batch:
            self.queue.fail(error)
        self._collect()

    def die(self, _: None) -> None:
        self.queue = self.queue.successor()

    def wait(self, seconds: float) -> None:
        self.queue.now_s += seconds
        self.queue.journal.remove_settled()

    def _collect(self) -> None:
        self.refused += [str(letter.event_id) for letter in self.queue.letters]
        self.queue.letters.clear()


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=60))
def test_no_history_of_failures_and_deaths_loses_or_reorders_events(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = QueueAndService(Path(folder))
        history.run([(name if name != "put" else "put_", value) for name, value in steps])
        for _ in range(400):
            if not history.queue.stored():
                break
            history.wait(120.0)
            history.answer([None])
        assert history.queue.stored() == []
        assert set(history.recorded) | set(history.refused) == set(history.put)
        assert len(history.recorded) == len(set(history.recorded))
        in_one_request = any(name == "answer" and "busy" in value for name, value in steps)
        for user in "abc":
            arrived = [int(one[2:]) for one in history.recorded if one[0] == user]
            assert in_one_request or arrived == sorted(arrived)
        history.queue.abandon()
