"""Decisions about queued steps of cost records: order, refusals, holds. Real files, no network, the test's clock."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ciris_billing import (
    AccountClosed,
    AccountSuspended,
    BillingError,
    CostRecordSettled,
    InsufficientMoney,
    InvalidReply,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    ServiceUnavailable,
    Unauthorized,
)
from ciris_billing._journal import STEPS
from tests.sdk.queues import Queue, step


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


def test_steps_go_alone_and_in_order_and_events_together(queue: Queue) -> None:
    queue.put("r/1", "a-1", "s/1", "a-2", "r/complete")
    assert queue.answer_all() == [["r/1"], ["s/1"], ["r/complete"], ["a-1", "a-2"]]
    assert (queue.stored(), queue.letters, queue.delivery.delivered) == ([], [], 5)


def test_step_that_precedes_events_does_not_stop_them(queue: Queue) -> None:
    queue.put("a-1", "r/1", "a-2")
    assert queue.answer_all() == [["a-1", "a-2"], ["r/1"]]


REFUSED: list[BillingError] = [
    InvalidRequest("bad", status=422, code="unknown_model"),
    CostRecordSettled("settled", status=409),
    InsufficientMoney("unpaid", status=402),
    AccountSuspended("no", status=403, code="account_suspended"),
    AccountClosed("no", status=403, code="account_closed"),
    NotFound("no", status=404, code="cost_record_not_found"),
]
HELD: list[BillingError] = [
    PermissionDenied("no", status=403, code="missing_permission"),
    ServerError("bug", status=500),
    InvalidReply("what", status=200),
    ServiceUnavailable("slow", code="timeout"),
    ServiceUnavailable("busy", status=503, code="busy"),
    RateLimited("limit", status=429, code="DAILY_LIMIT_EXCEEDED"),
]
WAITING: list[BillingError] = [
    ServiceUnavailable("no", code="network_error"),
    ServiceUnavailable("no", status=503),
    RateLimited("no", status=429),
    Unauthorized("no", status=401),
    NotFound("no", status=404),
]


def name_of(error: BillingError) -> str:
    return f"{error.status}-{error.code}"


@pytest.mark.parametrize("error", REFUSED, ids=name_of)
def test_refused_step_is_kept_with_its_reason_and_the_next_ones_are_sent(queue: Queue, error: BillingError) -> None:
    queue.put("r/1", "r/2")
    queue.next()
    queue.fail(error)
    assert [(letter.event_id, letter.code, letter.event) for letter in queue.letters] == [
        ("r/1", error.code, step("r/1"))
    ]
    assert queue.answer_all() == [["r/2"]]


@pytest.mark.parametrize("error", HELD, ids=name_of)
def test_failed_step_holds_its_record_back_and_nothing_else(queue: Queue, error: BillingError) -> None:
    queue.put("r/1", "r/complete", "s/1", "a-1")
    queue.next()
    queue.fail(error)
    assert queue.answer_all() == [["s/1"], ["a-1"]]
    assert (queue.letters, queue.delivery.last_error) == ([], None)
    for wait in (1, 2, 4):
        until = queue.delivery.next_hold_ends_at
        assert until is not None
        assert round(until - queue.now_s) == wait
        queue.now_s = until
        assert queue.next() == ["r/1"]
        queue.fail(error)
    queue.now_s += 60
    assert queue.answer_all() == [["r/1"], ["r/complete"]]
    assert queue.delivery.next_hold_ends_at is None


@pytest.mark.parametrize("error", WAITING, ids=name_of)
def test_outage_keeps_every_step_and_waits(queue: Queue, error: BillingError) -> None:
    queue.put("r/1", "s/1", "a-1")
    for wait in (1, 2, 4):
        assert queue.next() == ["r/1"]
        queue.fail(error)
        assert queue.next() == []
        assert round(queue.delivery.next_attempt_at - queue.now_s) == wait
        queue.now_s = queue.delivery.next_attempt_at
    assert (queue.letters, queue.answer_all()) == ([], [["r/1"], ["s/1"], ["a-1"]])


def test_accepted_step_does_not_enlarge_the_requests_of_events(queue: Queue) -> None:
    """Otherwise an event that spoils its request would never be found."""
    queue.put(*(f"a-{n}" for n in range(8)), *(f"r/{n}" for n in range(3)))
    sizes = []
    for _ in range(3):
        sizes.append(len(queue.next()))
        queue.fail(InvalidRequest("bad", status=422))
        entry = next(entry for loaded in queue.delivery._loaded.values() for entry in loaded.entries if entry.is_step)
        queue.delivery.step_done(entry)
    assert sizes == [8, 4, 2]


def test_steps_of_a_record_that_is_not_opened_yet_belong_together(queue: Queue) -> None:
    opening = {"user_id": "ada", "request_id": "r", "tool": "search"}
    others = [{**opening, "request_id": "s"}, {**opening, "user_id": "bob"}, {"client_key": "k", **opening}]
    queue.put_step(step("r/1", opening=opening))
    for other in others:
        queue.put_step(step("x/1", opening=other))
    queue.put_step(step("r/complete", opening=opening))
    queue.next()
    queue.fail(ServerError("bug", status=500))
    assert queue.answer_all() == [["x/1"]] * 3


def test_damaged_steps_are_kept_as_text(queue: Queue) -> None:
    for content in (b'{"cost_record_step": "items"}', b'{"cost_record_step": "items", "opening": 1, "event_id": "x"}'):
        queue.journal.append(content, STEPS)
    queue.put("r/1")
    assert queue.answer_all() == [["r/1"]]
    assert [(letter.event, letter.code) for letter in queue.letters] == [(None, "damaged_record")] * 2


def test_journal_of_an_earlier_version_is_read(queue: Queue, tmp_path: Path) -> None:
    """The bytes of a queue that the version before cost records has left."""
    old = tmp_path / "00000001764489600000-0123456789ab.events"
    header = b"ciris-usage-1 0000000000000040 1db060c1\n"
    old.write_bytes(header + b'f35467dc {"user_id": "a", "event_id": "a-1"}\n')
    queue.journal.scan()
    queue.put("r/1", "a-2")
    assert queue.answer_all() == [["a-1", "a-2"], ["r/1"]]


def test_earlier_version_leaves_steps_alone(queue: Queue, tmp_path: Path) -> None:
    """It takes over what is named `*.events`, and would send steps as events."""
    queue.put("r/1", "a-1")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".events", ".steps"]
    [events] = tmp_path.glob("*.events")
    assert b"a-1" in events.read_bytes()
    assert b"r/1" not in events.read_bytes()


PASSING = [*HELD, *WAITING]
MOVES = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("rst")),
    st.tuples(st.just("accept"), st.none()),
    st.tuples(st.just("lost"), st.none()),
    st.tuples(st.just("fail"), st.sampled_from(PASSING)),
    st.tuples(st.just("die"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 5.0, 120.0])),
)


class QueueAndService:
    """A service that counts steps once and in order, and processes that queue them, die, and take over."""

    def __init__(self, folder: Path) -> None:
        self.queue = Queue(folder)
        self.reported: list[str] = []
        self.arrived: list[str] = []

    def move(self, name: str, value: Any) -> None:
        if name == "put":
            self.reported.append(f"{value}/{len(self.reported)}")
            self.queue.put(self.reported[-1])
        elif name == "wait":
            self.queue.now_s += value
            self.queue.journal.remove_settled()
        elif name == "die":
            self.queue = self.queue.successor()
        elif sent := self.queue.next():
            self.arrived += [one for one in sent if name in ("accept", "lost") and one not in self.arrived]
            if name == "accept":
                self.queue.answer()
            else:
                self.queue.fail(value or ServiceUnavailable("lost", code="network_error"))


@settings(max_examples=200)
@given(st.lists(MOVES, max_size=60))
def test_no_history_of_failures_and_deaths_loses_or_reorders_steps(moves: Sequence[tuple[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = QueueAndService(Path(folder))
        for name, value in moves:
            history.move(name, value)
        for _ in range(200):
            history.move("wait", 120.0)
            history.move("accept", None)
        assert history.queue.stored() == []
        assert sorted(history.arrived) == sorted(history.reported)
        for record in "rst":
            assert [one for one in history.arrived if one[0] == record] == [
                one for one in history.reported if one[0] == record
            ]
        history.queue.abandon()
