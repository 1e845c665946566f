"""The background work of a usage reporter in one process: store events and steps of cost records, send them, and write
them to the device."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ciris_billing._delivery import Delivery, Entry, Limits
from ciris_billing._journal import EVENTS, SEGMENT_BYTES, STEPS, Journal
from ciris_billing._refused import RefusedUsage
from ciris_billing._retry import Retry
from ciris_billing._usage import MAX_BATCH_EVENTS
from ciris_billing.client import BillingClient
from ciris_billing.cost_records import STEP
from ciris_billing.errors import BillingError, UsageNotQueued

log = logging.getLogger("ciris_billing")

TAKE_OVER_EVERY_S = 5.0
DISK_RETRY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ReporterOptions:
    """Options of a UsageReporter.

    `interval_s`: how long events are collected before they are sent. A full batch is sent at once.
    `batch_events`, `batch_bytes`: the most in one request; the service accepts 1,000 events and 1 MiB.
    `max_bytes`: the most that the queue may take on disk. When it is full, `report` raises UsageNotQueued. Several
    processes on one folder can exceed it by the events of five seconds.
    `max_refused_bytes`: the most that refused events may take in addition. When it is full, the older half is deleted.
    `sync_s`: how often the queue is written to the device.
    `retry`: the waits after failures. Its `attempts` has no meaning, because the reporter does not give up.
    """

    interval_s: float = 1.0
    batch_events: int = 500
    batch_bytes: int = 512 * 1024
    max_bytes: int = 256 * 1024 * 1024
    max_refused_bytes: int = 16 * 1024 * 1024
    sync_s: float = 1.0
    retry: Retry = field(default_factory=lambda: Retry(first_wait_s=1.0, longest_wait_s=60.0))

    def __post_init__(self) -> None:
        if not 1 <= self.batch_events <= MAX_BATCH_EVENTS:
            raise ValueError(f"batch_events is {self.batch_events}, not 1 to {MAX_BATCH_EVENTS}")
        if self.max_bytes < 2 * SEGMENT_BYTES:
            raise ValueError(f"max_bytes is {self.max_bytes}, less than {2 * SEGMENT_BYTES}")


@dataclass(frozen=True)
class ReporterStatus:
    """The state of a reporter. The counts are of this process, since its start."""

    queued_bytes: int
    """On disk and not settled: this process's events, and those that it took over."""
    used_bytes: int
    """Of the queues of all processes on the folder. `max_bytes` bounds it."""
    delivered: int
    refused: int
    last_error: BillingError | None
    """The reason that the last request failed; None if it succeeded."""


class Sender:
    """Owns the journal and the threads of one process. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        options: ReporterOptions,
        new_client: Callable[[], BillingClient],
        refuse: Callable[[Sequence[RefusedUsage]], None],
        client: BillingClient | None = None,
    ) -> None:
        self._options = options
        self._new_client = new_client
        self._client = client
        self.journal = Journal(folder)
        self._delivery = Delivery(Limits(options.batch_events, options.batch_bytes), options.retry, refuse)
        self._progress = threading.Condition()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._appended = 0

    def start(self) -> None:
        """Start the threads, unless they were started before."""
        with self.journal.lock:
            if self._thread is not None or self._stop.is_set():
                return
            self._thread = threading.Thread(target=self._send_loop, name="ciris-billing-usage", daemon=True)
            self._thread.start()
            threading.Thread(target=self._sync_loop, name="ciris-billing-usage-sync", daemon=True).start()

    def append(self, content: bytes, event_id: str, *, step: str | None = None) -> None:
        """Store an event, or a step of a cost record. Raises UsageNotQueued."""
        with self.journal.lock:
            if self._stop.is_set():
                raise UsageNotQueued("The reporter is closed", code="queue_closed", event_id=event_id)
            # A completion is small, and one for each open record: it may exceed the bound.
            if step != "complete" and self.journal.used_bytes + len(content) > self._options.max_bytes:
                raise UsageNotQueued("The queue of usage events is full", event_id=event_id)
            try:
                self.journal.append(content, EVENTS if step is None else STEPS)
            except OSError as error:
                message = f"The usage event cannot be stored: {error.strerror}"
                raise UsageNotQueued(message, code="queue_unwritable", event_id=event_id) from error
            self._appended += 1
            is_full_batch = self._appended % self._options.batch_events == 0
        if self._thread is None:
            self.start()
        if is_full_batch:
            self._wake.set()

    def flush(self, timeout_s: float) -> bool:
        give_up_at = time.monotonic() + timeout_s
        awaited = [(segment, segment.size) for segment in self.journal.segments]
        if awaited:
            self.start()
        self._wake.set()
        with self._progress:
            while not all(segment.position >= end for segment, end in awaited):
                left = give_up_at - time.monotonic()
                if left <= 0 or self._delivery.next_attempt_at > give_up_at or self._stop.is_set():
                    return False
                self._progress.wait(min(left, 1.0))
        return True

    def close(self, timeout_s: float) -> bool:
        """Flush, then stop the threads. A request that is under way ends later, in the background."""
        settled = self.flush(timeout_s)
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join(1.0 if settled else 0.1)
        return settled

    def status(self) -> ReporterStatus:
        queued = sum(segment.size - segment.position for segment in self.journal.segments)
        delivery = self._delivery
        used = self.journal.used_bytes
        return ReporterStatus(queued, used, delivery.delivered, delivery.refused, delivery.last_error)

    def _send_loop(self) -> None:
        client = self._client or self._new_client()
        take_over_at = 0.0
        while not self._stop.is_set():
            try:
                if time.monotonic() >= take_over_at:
                    self.journal.scan()
                    take_over_at = time.monotonic() + TAKE_OVER_EVERY_S
                self._send_all(client)
                wait_s = self._wait_s()
            except OSError as error:
                log.error("billing usage: the queue cannot be read or written: %s", error.strerror)
                wait_s = DISK_RETRY_S
            except Exception:  # a bug: the queue must not stop until the process restarts
                log.exception("billing usage: the delivery failed")
                wait_s = DISK_RETRY_S
            self._wake.wait(wait_s)
            self._wake.clear()
        client.close()
        with suppress(OSError):
            self.journal.close()

    def _send_all(self, client: BillingClient) -> None:
        """Send the events that are queued now. Later ones are collected for the next time."""
        more = sent = True
        while more and sent and not self._stop.is_set():
            more = self._delivery.load(self.journal.segments)
            sent = False
            while (batch := self._delivery.batch(time.monotonic())) and not self._stop.is_set():
                self._send(client, batch)
                sent = True
            self.journal.remove_settled()

    def _send(self, client: BillingClient, batch: Sequence[Entry]) -> None:
        if batch[0].is_step:
            self._send_step(client, batch[0])
        else:
            self._send_events(client, batch)
        with self._progress:
            self._progress.notify_all()

    def _send_step(self, client: BillingClient, step: Entry) -> None:
        try:
            _deliver(client, step.event)
        except BillingError as error:
            self._delivery.step_failed(step, error, time.monotonic())
            fields = {"billing_event_id": step.event["event_id"], "billing_code": error.code}
            log.warning("billing cost record not delivered yet: %s", error.code, extra=fields)
        else:
            self._delivery.step_done(step)

    def _send_events(self, client: BillingClient, batch: Sequence[Entry]) -> None:
        try:
            results = client.report_usage_batch([entry.event for entry in batch])
        except BillingError as error:
            self._delivery.failed(batch, error, time.monotonic())
            fields = {"billing_events": len(batch), "billing_code": error.code}
            log.warning("billing usage not delivered yet: %s", error.code, extra=fields)
        else:
            self._delivery.answered(batch, results, time.monotonic())

    def _wait_s(self) -> float:
        """Return the time until the next request: the interval, or until the service or a user may be tried again."""
        now_s = time.monotonic()
        if self._delivery.next_attempt_at > now_s:
            return self._delivery.next_attempt_at - now_s
        hold_ends_at = self._delivery.next_hold_ends_at
        return self._options.interval_s if hold_ends_at is None else max(0.01, hold_ends_at - now_s)

    def _sync_loop(self) -> None:
        while not self._stop.wait(self._options.sync_s):
            try:
                self.journal.sync()
            except OSError as error:
                log.error("billing usage: the queue cannot be written to the device: %s", error.strerror)


def _deliver(client: BillingClient, step: Mapping[str, Any]) -> None:
    """Send a step. A record that could not be opened when its work began is opened first: a repeat returns its id."""
    record_id = step.get("record_id") or client.open_cost_record(step["opening"]).record_id
    body = step["body"]
    if step[STEP] == "items":
        client.add_cost_record_item(record_id, body)
    else:
        client.complete_cost_record(record_id, **body)
