"""Delivery of queued usage events and steps of cost records: order, batches, results and back-off. No network and no
threads.

Events are sent in the journal's order. A user's next event is sent only after the earlier ones are settled: accepted,
counted before, or refused. A user whose event cannot be accepted at the moment is held back, and the others continue.
A step is sent alone, and a record's next step only after the earlier ones are settled. For steps, the record has the
user's part in all of this.
"""

import json
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ciris_billing._journal import Segment
from ciris_billing._refused import RefusedUsage, now
from ciris_billing._retry import Chance, Retry
from ciris_billing.cost_records import STEP
from ciris_billing.errors import (
    AccountClosed,
    AccountSuspended,
    BillingError,
    InvalidReply,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    RateLimited,
    ServerError,
    ServiceUnavailable,
    Unauthorized,
    is_limit,
)
from ciris_billing.usage import UsageItem

log = logging.getLogger("ciris_billing")

WINDOW_EVENTS = 5_000
"""The most events in memory. Held users' events count, so that more of them make the other users wait too."""
LONGEST_RETRY_AFTER_S = 900.0
TEMPORARY = frozenset(
    {"busy", "internal_error", "issuer_unavailable", "rate_limited", "unavailable", "upgrade_in_progress"}
)
"""Codes of single events that are sent again. Every other code refuses the event."""
User = tuple[Any, ...]


@dataclass(eq=False, slots=True)
class Entry:
    """An event or a step in the window."""

    end: int
    """The position after it in its segment."""
    user: User
    """Of a step: the record."""
    event: dict[str, Any]
    size: int
    settled: bool = False

    @property
    def is_step(self) -> bool:
        return STEP in self.event


@dataclass(slots=True)
class Hold:
    until_s: float
    failures: int


@dataclass
class Loaded:
    """The part of a segment that was read."""

    position: int
    entries: deque[Entry] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request."""

    events: int
    bytes: int


class Delivery:
    """Chooses the events of the next request and settles them by its answer. Used by one thread."""

    def __init__(
        self,
        limits: Limits,
        retry: Retry,
        refuse: Callable[[Sequence[RefusedUsage]], None],
        chance: Chance = random.random,
    ) -> None:
        self._limits = limits
        self._events_per_request = limits.events
        self._retry = retry
        self._refuse = refuse
        self._chance = chance
        self._loaded: dict[Segment, Loaded] = {}
        self._holds: dict[User, Hold] = {}
        self._failures = 0
        self.next_attempt_at = 0.0
        """Before this time, the service has to be left alone."""
        self.delivered = 0
        self.refused = 0
        self.last_error: BillingError | None = None

    def load(self, segments: Sequence[Segment]) -> bool:
        """Read events into the window, and return whether it is full. Damaged records go to the dead letters. Raises
        OSError."""
        self._loaded = {segment: self._loaded.get(segment) or Loaded(segment.position) for segment in segments}
        free = WINDOW_EVENTS - sum(len(loaded.entries) for loaded in self._loaded.values())
        damaged: list[RefusedUsage] = []
        for segment, loaded in self._loaded.items():
            for line in segment.lines(loaded.position) if free > 0 else ():
                entry = _entry(line.content, line.end)
                if entry is None:
                    damaged.append(_damaged(line.raw))
                else:
                    loaded.entries.append(entry)
                loaded.position = line.end
                free -= 1
                if free <= 0:
                    break
        self._add_refused(damaged)
        self._store_positions()
        return free <= 0

    def batch(self, now_s: float) -> list[Entry]:
        """Return the events of the next request, or one step; none while the service has to be left alone. The first
        event of a user who was held back is sent alone, so that another failure affects no one else."""
        if now_s < self.next_attempt_at:
            return []
        chosen: list[Entry] = []
        size = 0
        for entry in self._unsettled():
            if (hold := self._holds.get(entry.user)) is not None:
                if now_s >= hold.until_s and not chosen:
                    return [entry]
                continue
            if entry.is_step:
                if not chosen:
                    return [entry]
                continue
            size += entry.size + 1
            if chosen and size > self._limits.bytes:
                break
            chosen.append(entry)
            if len(chosen) >= self._events_per_request:
                break
        return chosen

    def answered(self, sent: Sequence[Entry], results: Sequence[UsageItem], now_s: float) -> None:
        """Settle events by their results. Raises OSError if the dead letters cannot be written."""
        outcomes = list(zip(sent, results, strict=True))
        refused = [(entry, result) for entry, result in outcomes if not result.is_delivered]
        held = {entry.user for entry, result in refused if result.error in TEMPORARY}
        refused = [(entry, result) for entry, result in refused if result.error not in TEMPORARY]
        self._add_refused(
            [_refusal(entry, result.error or "refused", result.message or "") for entry, result in refused]
        )
        for entry, result in outcomes:
            entry.settled = result.is_delivered or result.error not in TEMPORARY
            self.delivered += result.is_delivered
            if entry.user not in held:
                self._holds.pop(entry.user, None)
        for user in held:
            self._hold(user, now_s)
        self._failures, self.last_error = 0, None
        self._events_per_request = min(self._limits.events, self._events_per_request * 2)
        self._store_positions()

    def step_done(self, step: Entry) -> None:
        """Settle a step that the service has accepted, now or before."""
        step.settled = True
        self.delivered += 1
        self._holds.pop(step.user, None)
        self._failures, self.last_error = 0, None
        self._store_positions()

    def step_failed(self, step: Entry, error: BillingError, now_s: float) -> None:
        """Decide what follows a failed step: a refusal, a wait of its record, or of everything."""
        self.last_error = error
        if _refuses_step(error):
            self._add_refused([_refusal(step, error.code, error.message)])
            step.settled = True
            self._holds.pop(step.user, None)
            self._store_positions()
            return
        if _is_about_record(error):
            self._hold(step.user, now_s)
            return
        self._failures += 1
        self.next_attempt_at = now_s + self._wait_s(error, self._failures)

    def failed(self, sent: Sequence[Entry], error: BillingError, now_s: float) -> None:
        """Decide what follows a failed request: smaller requests, a wait, or a refusal of the only event in it."""
        self.last_error = error
        if _is_about_content(error):
            if len(sent) == 1:
                self._add_refused([_refusal(sent[0], error.code, error.message)])
                sent[0].settled = True
                self._store_positions()
            self._events_per_request = max(1, len(sent) // 2)
            return
        if isinstance(error, ServerError | InvalidReply) or error.code == "timeout":
            self._events_per_request = max(1, len(sent) // 2)
            if len(sent) == 1:  # this event may be the cause: the others continue soon
                self._hold(sent[0].user, now_s)
                self._failures = 0
        self._failures += 1
        self.next_attempt_at = now_s + self._wait_s(error, self._failures)

    @property
    def next_hold_ends_at(self) -> float | None:
        return min((hold.until_s for hold in self._holds.values()), default=None)

    def _unsettled(self) -> Iterator[Entry]:
        for loaded in self._loaded.values():
            for entry in loaded.entries:
                if not entry.settled:
                    yield entry

    def _hold(self, user: User, now_s: float) -> None:
        """Hold a user's events back, longer after each failure."""
        known = self._holds.get(user)
        failures = 1 if known is None else known.failures + 1
        self._holds[user] = Hold(now_s + self._retry.wait_s(min(failures, 30), None, self._chance), failures)

    def _wait_s(self, error: BillingError, failures: int) -> float:
        requested = error.retry_after if isinstance(error, RateLimited | ServiceUnavailable) else None
        if requested is not None:
            requested = min(requested, LONGEST_RETRY_AFTER_S)
        return self._retry.wait_s(min(failures, 30), requested, self._chance)

    def _add_refused(self, refused: Sequence[RefusedUsage]) -> None:
        if not refused:
            return
        self._refuse(refused)
        self.refused += len(refused)
        for letter in refused:
            fields = {"billing_event_id": letter.event_id, "billing_code": letter.code}
            log.error("billing usage refused: %s", letter.code, extra=fields)

    def _store_positions(self) -> None:
        """Store how far each segment is settled."""
        for segment, loaded in self._loaded.items():
            settled_to = segment.position
            while loaded.entries and loaded.entries[0].settled:
                settled_to = loaded.entries.popleft().end
            segment.settle(settled_to if loaded.entries else loaded.position)


def _entry(content: bytes | None, end: int) -> Entry | None:
    """Return a record's event; None if the record is damaged."""
    if content is None:
        return None
    try:
        event = json.loads(content)
        user = _record_of(event) if STEP in event else _user_of(event)
        return Entry(end, user, event, len(content)) if "event_id" in event else None
    except (ValueError, AttributeError, KeyError, TypeError):
        return None


def _user_of(event: dict[str, Any]) -> User:
    return event.get("user_id"), event.get("oauth_provider"), event.get("external_id")


def _record_of(step: dict[str, Any]) -> User:
    """Return the record of a step, or the request that will open it."""
    if (record_id := step.get("record_id")) is not None:
        return ("record", record_id)
    opening = step["opening"]
    return ("opening", *_user_of(opening), opening.get("client_key"), opening["request_id"])


def _damaged(raw: bytes) -> RefusedUsage:
    return RefusedUsage(None, "damaged_record", raw[:1000].decode("utf-8", "backslashreplace"), now())


def _refusal(entry: Entry, code: str | None, message: str | None) -> RefusedUsage:
    return RefusedUsage(entry.event, code or "refused", message or "", now())


def _is_about_content(error: BillingError) -> bool:
    """Whether the answer refuses the content of the request, so that a smaller part of it can be accepted."""
    if isinstance(error, Unauthorized | PermissionDenied):
        return False
    return isinstance(error, InvalidRequest) or error.status in (402, 409)


def _refuses_step(error: BillingError) -> bool:
    """Whether the answer refuses a step, so that sending it again is of no use."""
    if isinstance(error, AccountSuspended | AccountClosed):
        return True
    if isinstance(error, NotFound):
        return error.code == "cost_record_not_found"
    return _is_about_content(error)


def _is_about_record(error: BillingError) -> bool:
    """Whether other records may be accepted: after an error of the service, a missing permission to state costs, or a
    limit that is reached."""
    is_error = isinstance(error, PermissionDenied | ServerError | InvalidReply)
    return is_error or is_limit(error) or error.code in ("timeout", "busy")
