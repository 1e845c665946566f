"""Reporter of usage events with a queue on disk. Needs Linux or macOS.

reporter = UsageReporter("https://billing.example.com", api_key, "/var/lib/agent/usage")
reporter.report(UsageEvent(usage=LlmTokens("openai", "gpt-4o-mini", 1200, 80), user_id=user_id))
"""

import asyncio
import codecs
import json
import os
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import httpx

from ciris_billing._refused import DeadLetters, RefusedUsage
from ciris_billing._retry import Retry, check_address
from ciris_billing._sender import ReporterOptions, ReporterStatus, Sender
from ciris_billing._wire import check_credential
from ciris_billing.client import BillingClient
from ciris_billing.cost_records import STEP, CostRecordStep
from ciris_billing.errors import InvalidRequest, unsendable
from ciris_billing.options import Options
from ciris_billing.usage import UsageEvent

__all__ = ["RefusedUsage", "ReporterOptions", "ReporterStatus", "UsageReporter"]

MAX_EVENT_BYTES = 64 * 1024
codecs.lookup("idna")  # imported at a connection otherwise, when a fork could interrupt it


class UsageReporter:
    """Reports usage events in the background, from a queue on disk.

    A client that has the reporter as `usage` queues the items and completions of its cost records here, too.

    `report` stores an event in `folder` and returns. A thread sends the events in batches, in order, until each is
    settled: recorded by the service, by this request or an earlier one, or refused. An event is charged once, because
    its id is stored with it. Refused events are kept in the file `refused.jsonl` with the reason. They are sent again
    only by `requeue`.

    A stored event survives the death of the process at any moment, and the death of the machine after
    `ReporterOptions.sync_s`. The reporter does not give up while the service is unavailable.

    Processes can share a folder on a local disk: each has its own files, and takes over those of processes that have
    ended, which are sent first. The order of a user's events is kept within a process, and from one process to the one
    that takes over its files.

    After a fork, the child begins with an empty queue; the parent sends what was queued before. `http_client` makes an
    HTTP client for each process, for a proxy or a client certificate.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        folder: str | os.PathLike[str],
        *,
        options: ReporterOptions | None = None,
        client_options: Options | None = None,
        http_client: Callable[[], httpx.Client] | None = None,
    ) -> None:
        check_address(base_url)
        check_credential(api_key, None)
        self._base_url = base_url
        self._api_key = api_key
        self._folder = Path(folder)
        self._options = options or ReporterOptions()
        self._client_options = _without_retries(client_options or Options(timeout_s=30.0, deadline_s=60.0))
        self._http_client = http_client
        self._dead_letters = DeadLetters(self._folder, self._options.max_refused_bytes)
        # Made here and not in the thread: a fork during the imports that it causes would block the child's imports.
        self._sender = self._new_sender(self._new_client())
        self._sender.journal.scan()
        _reporters.add(self)
        self._sender.start()

    def report(self, event: UsageEvent) -> str:
        """Store an event and return its id. An event without a time gets the present one.

        Waits neither for the network nor for the device nor for another process: it is one write to the operating
        system's memory. Safe in an event loop and from any thread, but not in a signal handler. Raises UsageNotQueued
        if the event cannot be stored, and InvalidRequest if it could never be sent."""
        body = event.body()
        body.setdefault("time", datetime.now(UTC).isoformat())
        self._sender.append(self._encoded(body, "event"), event.event_id)
        return event.event_id

    def add_step(self, step: CostRecordStep) -> None:
        """Store an item or the completion of a cost record. A client's `record` calls it.

        Like `report`. A completion is stored in a full queue, too."""
        self._sender.append(self._encoded(step.content(), "item"), step.event_id, step=step.action)

    def _encoded(self, body: Mapping[str, Any], thing: str) -> bytes:
        """Return an entry of the journal. Raises InvalidRequest if it could never be sent."""
        try:
            content = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
        except ValueError as error:
            raise unsendable() from error
        if len(content) > min(MAX_EVENT_BYTES, self._options.batch_bytes):
            raise InvalidRequest(f"The {thing} has {len(content)} bytes: make its metadata or usage object smaller")
        return content

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Wait until the events that are stored now are settled, and return whether they are.

        Returns early if the service asked to be left alone for longer than `timeout_s`."""
        return self._sender.flush(timeout_s)

    async def aflush(self, timeout_s: float = 10.0) -> bool:
        """Flush without blocking the event loop."""
        return await asyncio.to_thread(self.flush, timeout_s)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Flush, stop, and return whether everything is settled. The rest stays on disk, for the next reporter."""
        return self._sender.close(timeout_s)

    async def aclose(self, timeout_s: float = 10.0) -> bool:
        """Close without blocking the event loop."""
        return await asyncio.to_thread(self.close, timeout_s)

    def status(self) -> ReporterStatus:
        """Return how much is queued, and what became of the events so far."""
        return self._sender.status()

    def refused(self) -> list[RefusedUsage]:
        """Return the refused events of all processes on this folder, oldest first."""
        return self._dead_letters.read()

    def requeue(self, event_ids: Collection[str] | None = None) -> int:
        """Queue refused events again, under their ids, after the reason was removed: the user has paid, the price
        exists. Queues all, or those with the given ids, and returns their number. Damaged records stay where they
        are."""

        def put(letter: RefusedUsage) -> None:
            event = letter.event or {}
            content = json.dumps(event, ensure_ascii=False).encode()
            self._sender.append(content, str(letter.event_id), step=event.get(STEP))

        return self._dead_letters.take(lambda letter: event_ids is None or letter.event_id in event_ids, put)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def _new_sender(self, client: BillingClient | None = None) -> Sender:
        return Sender(self._folder, self._options, self._new_client, self._dead_letters.add, client)

    def _new_client(self) -> BillingClient:
        http = self._http_client() if self._http_client is not None else None
        return BillingClient(self._base_url, self._api_key, options=self._client_options, http_client=http)

    def _hold_for_fork(self) -> None:
        self._sender.journal.lock.acquire()

    def _continue_in_parent(self) -> None:
        self._sender.journal.lock.release()

    def _begin_in_child(self) -> None:
        self._sender.journal.abandon()
        self._sender = self._new_sender()


def _without_retries(options: Options) -> Options:
    """Return options with one attempt per address: the reporter itself decides when to try again."""
    return replace(options, retry=Retry(attempts=1 + len(options.fallback_urls), first_wait_s=0.0))


_reporters: weakref.WeakSet[UsageReporter] = weakref.WeakSet()


def _each(step: Callable[[UsageReporter], None]) -> Callable[[], None]:
    def run() -> None:
        for reporter in list(_reporters):
            step(reporter)

    return run


os.register_at_fork(
    before=_each(UsageReporter._hold_for_fork),
    after_in_parent=_each(UsageReporter._continue_in_parent),
    after_in_child=_each(UsageReporter._begin_in_child),
)
