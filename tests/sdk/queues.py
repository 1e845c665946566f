"""A queue of usage events and steps of cost records, for tests of its delivery. Real files, no network, the test's
clock."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ciris_billing import BillingError, Retry, UsageItem
from ciris_billing._delivery import Delivery, Entry, Limits
from ciris_billing._journal import STEPS, Journal
from ciris_billing._refused import RefusedUsage
from ciris_billing.cost_records import CostRecordStep

RETRY = Retry(first_wait_s=1, longest_wait_s=60)
FULL = 0.999


class Queue:
    """A journal with events and steps, and the delivery of them."""

    def __init__(self, folder: Path, *, events: int = 500, max_bytes: int = 10**6) -> None:
        self._folder = folder
        self._limits = Limits(events, max_bytes)
        self.journal = Journal(folder)
        self.letters: list[RefusedUsage] = []
        self.delivery = Delivery(self._limits, RETRY, self.letters.extend, lambda: FULL)
        self.now_s = 100.0

    def put(self, *names: str, size: int = 0) -> None:
        """Events by their ids: user, dash, number. Steps by their names: record, slash, item."""
        for name in names:
            if "/" in name:
                self.put_step(step(name))
            else:
                event = {"user_id": name.partition("-")[0], "event_id": name, "metadata": {"x": "x" * size}}
                self.journal.append(json.dumps(event).encode())

    def put_step(self, content: dict[str, Any]) -> None:
        self.journal.append(json.dumps(content).encode(), STEPS)

    def next(self) -> list[str]:
        self.delivery.load(self.journal.segments)
        self.batch = self.delivery.batch(self.now_s)
        return ids_of(self.batch)

    def answer(self, **codes: str) -> None:
        """Accept every event of the batch, except those with a code, or the step. Underscores are dashes."""
        if self.batch and self.batch[0].is_step:
            self.delivery.step_done(self.batch[0])
            return
        named = {name.replace("_", "-"): code for name, code in codes.items()}
        self.delivery.answered(self.batch, [result(entry, named) for entry in self.batch], self.now_s)

    def answer_all(self) -> list[list[str]]:
        """Accept all that is queued, and return what each request contained."""
        sent = []
        while found := self.next():
            sent.append(found)
            self.answer()
        return sent

    def fail(self, error: BillingError) -> float:
        """Fail the request, and return the wait."""
        if self.batch[0].is_step:
            self.delivery.step_failed(self.batch[0], error, self.now_s)
        else:
            self.delivery.failed(self.batch, error, self.now_s)
        return round(self.delivery.next_attempt_at - self.now_s, 2)

    def stored(self) -> list[str]:
        """Return what the next process would send."""
        lines = [line.content for segment in self.journal.segments for line in segment.lines(segment.position)]
        return [json.loads(line)["event_id"] for line in lines if line is not None]

    def abandon(self) -> None:
        """Release the files, as the death of the process does."""
        for segment in self.journal.segments:
            segment.abandon()

    def successor(self) -> "Queue":
        """Return the queue of a process that takes over after the death of this one."""
        self.abandon()
        queue = Queue(self._folder, events=self._limits.events, max_bytes=self._limits.bytes)
        queue.now_s = self.now_s
        queue.journal.scan()
        return queue


def step(name: str, *, opening: dict[str, Any] | None = None) -> dict[str, Any]:
    """A step by its name: record, slash, item; the item `complete` is the completion."""
    record, _, item = name.partition("/")
    body = {"status": "completed"} if item == "complete" else {"item_id": item, "cost": "1"}
    action: Any = "complete" if item == "complete" else "items"
    return CostRecordStep(action, body, record, None if opening else f"cr_{record}", opening).content()


def ids_of(entries: Sequence[Entry]) -> list[str]:
    return [entry.event["event_id"] for entry in entries]


def result(entry: Entry, codes: dict[str, str]) -> UsageItem:
    event_id = entry.event["event_id"]
    return UsageItem(event_id=event_id, success=event_id not in codes, error=codes.get(event_id))
