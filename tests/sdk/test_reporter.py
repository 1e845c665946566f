"""The reporter as a whole: threads, files and processes, against a server that keeps the contract or breaks it."""

import asyncio
import json
import logging
import os
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from ciris_billing import BillingError, InvalidRequest, LlmTokens, Metered, Retry, UsageEvent, UsageNotQueued, User
from ciris_billing import _sender as sender_module
from ciris_billing._delivery import Delivery
from ciris_billing._journal import SEGMENT_BYTES, Journal
from ciris_billing.reporter import ReporterOptions, UsageReporter
from tests.sdk.reactions import Reaction
from tests.sdk.usage_contract import UsageContract

QUICK = ReporterOptions(interval_s=0.01, sync_s=0.01, retry=Retry(first_wait_s=0.01, longest_wait_s=0.05))
SLOW = ReporterOptions(interval_s=60)
"""Sends only full batches, and what `flush` asks for."""


def event(event_id: str, **more: Any) -> UsageEvent:
    """An event of the user before the dash."""
    tokens = LlmTokens("openai", "gpt-4o-mini", 1200, 80)
    return UsageEvent(usage=tokens, user_id=event_id.partition("-")[0], event_id=event_id, **more)


def reporter_of(contract: UsageContract, folder: Path, options: ReporterOptions = QUICK, **more: Any) -> UsageReporter:
    return UsageReporter(contract.url, "key", folder, options=options, **more)


def test_events_arrive_in_batches_and_in_order(contract: UsageContract, folder: Path) -> None:
    ids = [f"{user}-{n}" for n in range(600) for user in ("a", "b")]
    with reporter_of(contract, folder, SLOW) as reporter:
        for event_id in ids:
            assert reporter.report(event(event_id)) == event_id
    assert (contract.ids(), contract.duplicates) == (ids, 0)
    assert max(len(events) for events in contract.requests) == 500
    assert len(contract.requests) <= 6
    assert list(folder.iterdir()) == []


def test_event_arrives_as_it_was_reported(contract: UsageContract, folder: Path) -> None:
    at = datetime(2026, 11, 30, 12, tzinfo=UTC)
    user = User("oauth:google", "ada@example.com", customer_email="ada@example.com")
    with reporter_of(contract, folder) as reporter:
        storage = Metered("storage", Decimal("0.1"))
        reporter.report(UsageEvent(usage=storage, user=user, event_id="é-1", time=at, cost="0.000400", run_id="r"))
        before = datetime.now(UTC)
        reporter.report(event("a-1"))
    first, second = contract.recorded.values()
    assert first == {
        "oauth_provider": "oauth:google",
        "external_id": "ada@example.com",
        "customer_email": "ada@example.com",
        "event_id": "é-1",
        "metric": {"type": "storage", "quantity": "0.1"},
        "time": "2026-11-30T12:00:00+00:00",
        "cost": "0.000400",
        "run_id": "r",
    }
    assert before <= datetime.fromisoformat(second["time"]) <= datetime.now(UTC)


def test_outage_delays_and_loses_nothing(contract: UsageContract, folder: Path) -> None:
    lost, slow = Reaction(None, forward=True), Reaction(503, forward=True, slow_s=0.05)
    contract.reactions = [Reaction(503), lost, Reaction(None), slow, Reaction(200, b"<html>"), Reaction(429)]
    contract.reactions += [Reaction(500), Reaction(401), Reaction(404), Reaction(302)]
    ids = [f"{user}-{n}" for n in range(20) for user in ("a", "b")]
    with reporter_of(contract, folder) as reporter:
        for event_id in ids:
            reporter.report(event(event_id))
        assert reporter.flush(30)
        status = reporter.status()
    assert contract.ids() == ids
    assert (status.queued_bytes, status.refused, status.last_error) == (0, 0, None)


def test_retry_after_is_honoured(contract: UsageContract, folder: Path) -> None:
    contract.reactions = [Reaction(503, headers={"Retry-After": "1"})]
    with reporter_of(contract, folder) as reporter:
        reporter.report(event("a-1"))
        contract.wait_until(lambda: len(contract.requests) == 1)
        asked = time.monotonic()
        assert reporter.flush(10)
        assert time.monotonic() - asked >= 0.9


def test_flush_does_not_wait_for_what_the_service_has_put_off(contract: UsageContract, folder: Path) -> None:
    contract.reactions = [Reaction(503, headers={"Retry-After": "600"})]
    reporter = reporter_of(contract, folder)
    reporter.report(event("a-1"))
    contract.wait_until(lambda: len(contract.requests) == 1)
    started = time.monotonic()
    assert not reporter.close(30)
    assert time.monotonic() - started < 10
    error = reporter.status().last_error
    assert isinstance(error, BillingError)
    assert error.status == 503
    with reporter_of(contract, folder) as successor:
        assert successor.flush(20)
    assert contract.ids() == ["a-1"]


def test_refused_events_are_kept_with_the_reason_and_can_be_queued_again(
    contract: UsageContract, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contract.refusal_of = lambda event: "insufficient_credits" if event["user_id"] == "poor" else None
    with reporter_of(contract, folder) as reporter:
        for event_id in ("poor-1", "rich-1", "poor-2"):
            reporter.report(event(event_id))
        assert reporter.flush(20)
        assert [(one.event_id, one.code) for one in reporter.refused()] == [
            ("poor-1", "insufficient_credits"),
            ("poor-2", "insufficient_credits"),
        ]
        assert (reporter.status().refused, reporter.status().delivered) == (2, 1)
        lines = (folder / "refused.jsonl").read_text().splitlines()
        assert [json.loads(line)["event"]["event_id"] for line in lines] == ["poor-1", "poor-2"]
        contract.refusal_of = lambda event: None
        assert reporter.requeue(["poor-2"]) == 1
        assert reporter.flush(20)
        assert [one.event_id for one in reporter.refused()] == ["poor-1"]
    assert contract.ids() == ["rich-1", "poor-2"]
    refusals = [record for record in caplog.records if record.getMessage().startswith("billing usage refused")]
    assert [vars(record)["billing_event_id"] for record in refusals] == ["poor-1", "poor-2"]


def test_damaged_record_is_kept_as_text_and_cannot_be_queued_again(contract: UsageContract, folder: Path) -> None:
    journal = Journal(folder)
    journal.append(b'{"user_id": "a", "event_id": "a-1"}')
    journal.append(b'{"user_id": "a", "event_id": "a-2"}')
    (segment,) = journal.segments
    journal.abandon()
    segment.path.write_bytes(segment.path.read_bytes().replace(b"a-1", b"a-7"))
    with reporter_of(contract, folder) as reporter:
        assert reporter.flush(20)
        (letter,) = reporter.refused()
        assert (letter.event_id, letter.code, "a-7" in letter.message) == (None, "damaged_record", True)
        assert reporter.requeue() == 0
        assert reporter.refused() == [letter]
    assert contract.ids() == ["a-2"]


def test_refused_events_are_bounded_and_the_newest_stay(contract: UsageContract, folder: Path) -> None:
    contract.refusal_of = lambda event: "invalid_request"
    options = ReporterOptions(interval_s=0.01, batch_events=10, max_refused_bytes=20_000)
    with reporter_of(contract, folder, options) as reporter:
        for n in range(100):
            reporter.report(event(f"a-{n}", metadata={"x": "x" * 200}))
        assert reporter.flush(20)
        kept = [one.event_id for one in reporter.refused()]
    assert 10 <= len(kept) < 60
    assert kept == [f"a-{n}" for n in range(100 - len(kept), 100)]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20_000


def test_full_queue_refuses_new_events_and_keeps_the_old_ones(
    contract: UsageContract, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "TAKE_OVER_EVERY_S", 0.0)  # the size is measured each time
    contract.whole = lambda events: Reaction(503)
    options = ReporterOptions(interval_s=0.01, max_bytes=2 * SEGMENT_BYTES, retry=QUICK.retry)
    reporter = reporter_of(contract, folder, options)
    stored: list[str] = []

    def fill() -> None:
        for n in range(1000):
            stored.append(reporter.report(event(f"a-{n}", metadata={"x": "x" * 10_000})))  # noqa: PERF401  # it raises

    with pytest.raises(UsageNotQueued) as full:
        fill()
    assert (full.value.code, full.value.event_id) == ("queue_full", f"a-{len(stored)}")
    assert 180 < len(stored) < 210
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2 * SEGMENT_BYTES
    contract.whole = lambda events: None
    assert reporter.flush(30)
    reporter.report(event("a-last"))
    assert reporter.close(20)
    assert contract.ids() == [*stored, "a-last"]


def test_report_waits_neither_for_the_service_nor_for_the_disk(
    contract: UsageContract, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service does not answer, and the device does not either."""
    released, syncing = threading.Event(), threading.Event()

    def hang(fd: int) -> None:
        syncing.set()
        released.wait(30)

    monkeypatch.setattr(os, "fsync", hang)
    contract.reactions = [Reaction(503, slow_s=1)]
    reporter = reporter_of(contract, folder)
    reporter.report(event("a-0"))
    contract.wait_until(lambda: len(contract.requests) == 1)
    assert syncing.wait(10)
    started = time.monotonic()
    for n in range(1, 101):
        reporter.report(event(f"a-{n}"))
    assert time.monotonic() - started < 0.5
    released.set()
    assert reporter.close(20)
    assert len(contract.ids()) == 101


async def test_event_loop_is_not_blocked_by_flush_and_close(contract: UsageContract, folder: Path) -> None:
    contract.reactions = [Reaction(503, slow_s=0.3)]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    async with reporter_of(contract, folder) as reporter:
        reporter.report(event("a-1"))
        assert await reporter.aflush(20)
    ticking.cancel()
    assert ticks > 10
    assert contract.ids() == ["a-1"]


def test_threads_report_at_the_same_time(contract: UsageContract, folder: Path) -> None:
    with reporter_of(contract, folder) as reporter:

        def work(user: str) -> None:
            for n in range(100):
                reporter.report(event(f"{user}-{n}"))

        threads = [threading.Thread(target=work, args=(user,)) for user in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(contract.ids(user) == [f"{user}-{n}" for n in range(100)] for user in "abcd")


def test_a_bug_in_the_delivery_does_not_end_it(
    contract: UsageContract, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender_module, "DISK_RETRY_S", 0.01)
    load, failures = Delivery.load, [OSError(5, "Input/output error"), ZeroDivisionError()]

    def fail_first(self: Delivery, segments: Any) -> bool:
        if failures:
            raise failures.pop(0)
        return load(self, segments)

    monkeypatch.setattr(Delivery, "load", fail_first)
    with reporter_of(contract, folder) as reporter:
        reporter.report(event("a-1"))
        assert reporter.flush(20)
    assert contract.ids() == ["a-1"]
    assert "Input/output error" in caplog.text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("unsendable", "error"),
    [
        ({"metadata": {"x": "x" * 70_000}}, InvalidRequest),
        ({"metadata": {"x": float("nan")}}, InvalidRequest),
        ({"run_id": "half \ud83d"}, InvalidRequest),
        ({"cost": 0.1}, TypeError),
        ({"cost": "1", "cost_cents": 1}, TypeError),
        ({"user": User("oauth:google", "x")}, TypeError),
        ({"time": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001  # without a zone
    ],
    ids=str,
)
def test_what_can_never_be_sent_is_refused_at_once(
    contract: UsageContract, folder: Path, unsendable: dict[str, Any], error: type[Exception]
) -> None:
    with reporter_of(contract, folder) as reporter, pytest.raises(error):
        reporter.report(event("a-1", **unsendable))
    assert contract.requests == []


def test_closed_reporter_refuses(contract: UsageContract, folder: Path) -> None:
    reporter = reporter_of(contract, folder)
    assert reporter.close()
    with pytest.raises(UsageNotQueued) as closed:
        reporter.report(event("a-1"))
    assert closed.value.code == "queue_closed"
    assert not reporter.flush(1) or reporter.status().queued_bytes == 0


def test_unwritable_queue_says_so(contract: UsageContract, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with reporter_of(contract, folder) as reporter:

        def fail(*args: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", fail)
        with pytest.raises(UsageNotQueued, match="No space left") as failed:
            reporter.report(event("a-1"))
        assert failed.value.code == "queue_unwritable"
        monkeypatch.undo()
        reporter.report(event("a-2"))
    assert contract.ids() == ["a-2"]


def test_each_process_gets_its_own_http_client(contract: UsageContract, folder: Path) -> None:
    made: list[httpx.Client] = []

    def make() -> httpx.Client:
        made.append(httpx.Client())
        return made[-1]

    with reporter_of(contract, folder, http_client=make) as reporter:
        reporter.report(event("a-1"))
    assert (len(made), contract.ids()) == (1, ["a-1"])


def test_no_log_line_names_the_person(contract: UsageContract, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    contract.reactions = [Reaction(503)]
    contract.refusal_of = lambda event: "invalid_request"
    with reporter_of(contract, folder) as reporter:
        user = User("oauth:google", "ada@example.com", display_name="Ada Lovelace")
        reporter.report(UsageEvent(usage=Metered("storage", 1), user=user, event_id="e-1"))
        assert reporter.flush(20)
    lines = [str(vars(record)) for record in caplog.records if record.name == "ciris_billing"]
    assert any("refused" in line for line in lines)
    assert not [line for line in lines if "ada@" in line or "Ada" in line]
