"""State of the interactions to which LiteLLM's calls belong, until they end."""

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from ciris_billing.models import User
from ciris_billing.usage import LlmTokens, UsageEvent

log = logging.getLogger("ciris_billing")

MAX_INTERACTIONS = 10_000
MAX_DOLLARS = 10**7
MAX_TOKENS = 10**12
"""Above the figures of any real call. The service rejects reports with larger ones."""
CENTS_PER_DOLLAR = 100
MAX_CHARS = 255
METADATA = ("agent_id", "tool", "run_id", "interaction_id", "parent_run_id", "session_id", "traceparent")
"""Members of a call's metadata that attribute its usage event."""
Name = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One LLM call, as LiteLLM's callbacks describe it."""

    metadata: Mapping[str, Any]
    call_id: str
    failed: bool = False
    model: str = "unknown"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_cents: float = 0.0
    duration_ms: int = 0
    provider: str = "unknown"
    usage: Mapping[str, Any] | None = None
    """The provider's token counts, as LiteLLM converts them: the totals include their parts."""
    from_cache: bool = False
    ended_at: datetime | None = None

    @property
    def interaction_id(self) -> str:
        """The interaction id in the metadata; without one, the call is a separate interaction."""
        named = self.metadata.get("interaction_id")
        return named if isinstance(named, str) and named else self.call_id

    @classmethod
    def of(cls, kwargs: Mapping[str, Any]) -> Self:
        """Return a call that has not ended."""
        return cls(_metadata(kwargs), str(kwargs.get("litellm_call_id")))

    @classmethod
    def ended(cls, kwargs: Mapping[str, Any], duration_ms: int, *, failed: bool) -> Self:
        counted = kwargs.get("standard_logging_object") or {}
        return cls(
            _metadata(kwargs),
            str(kwargs.get("litellm_call_id")),
            failed=failed,
            model=str(counted.get("model") or kwargs.get("model") or "unknown"),
            prompt_tokens=int(_quantity(counted, "prompt_tokens", MAX_TOKENS)),
            completion_tokens=int(_quantity(counted, "completion_tokens", MAX_TOKENS)),
            cost_cents=_quantity(counted, "response_cost", MAX_DOLLARS) * CENTS_PER_DOLLAR,
            duration_ms=duration_ms,
            provider=str(counted.get("custom_llm_provider") or "unknown"),
            usage=_mapping((counted.get("metadata") or {}).get("usage_object")),
            from_cache=counted.get("cache_hit") is True,
            ended_at=_moment(counted.get("endTime")),
        )

    @property
    def report_id(self) -> str:
        """The report's idempotency key. A failed call and its successful retry share a call id, so their reports
        differ."""
        return f"{self.call_id}:failed" if self.failed else self.call_id

    def report(self) -> dict[str, Any]:
        """Return the usage report of this call."""
        return {
            "call_id": self.report_id,
            "total_llm_calls": 1,
            "total_prompt_tokens": self.prompt_tokens,
            "total_completion_tokens": self.completion_tokens,
            "models_used": [self.model],
            "actual_cost_cents": self.cost_cents,
            "duration_ms": self.duration_ms,
            "error_count": int(self.failed),
        }

    def names(self) -> dict[str, str | None]:
        """Return the metadata that attributes this call."""
        return {name: _short_text(self.metadata.get(name)) for name in METADATA}

    def tokens(self) -> LlmTokens:
        """Return the tokens that this call has used."""
        if self.usage is not None:
            return LlmTokens(self.provider, self.model, usage=self.usage, basis="inclusive")
        return LlmTokens(self.provider, self.model, self.prompt_tokens, self.completion_tokens)

    def usage_event(self, user: User) -> UsageEvent:
        """Return the usage event of this call. Attributes that the service would refuse are left out."""
        named = self.names()
        return UsageEvent(
            usage=self.tokens(),
            user=user,
            event_id=self.call_id,
            time=self.ended_at,
            agent_id=named["agent_id"],
            tool=named["tool"],
            run_id=named["run_id"] or named["interaction_id"],
            parent_run_id=named["parent_run_id"],
            request_id=_short_text(self.call_id),
            conversation=named["session_id"],
            traceparent=named["traceparent"],
        )


def _short_text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_CHARS and "\0" not in value else None


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None


def _moment(seconds: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int | float) else None
    except (OverflowError, OSError, ValueError):
        return None


def _quantity(counted: Mapping[str, Any], name: str, largest: int) -> float:
    """Return a cost or count of LiteLLM. A value that the service would reject is logged and replaced by 0."""
    value = counted.get(name)
    try:
        number = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if 0 <= number <= largest:
        return number
    fields = {"billing_field": name, "billing_value": repr(value)[:50]}
    log.warning("billing report: %s is not valid and reported as 0", name, extra=fields)
    return 0.0


def _metadata(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metadata from both places and both names that callbacks receive; LiteLLM's proxy uses the second
    name."""
    found: dict[str, Any] = {}
    for place in (kwargs, kwargs.get("litellm_params") or {}):
        for name in ("metadata", "litellm_metadata"):
            found.update(place.get(name) or {})
    return found


@dataclass
class Interaction:
    """An interaction with the totals of its calls."""

    user: User
    interaction_id: str
    admitted: bool = False
    """Its calls need no check: it has passed one, or is paid for."""
    in_block: bool = False
    """Its block charges it at the end, instead of its calls."""
    charged: bool = False
    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_cents: float = 0.0
    duration_ms: int = 0
    models: dict[str, None] = field(default_factory=dict)
    in_flight: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    last_s: float = 0.0

    def add(self, call: Call) -> None:
        """Count a call once: LiteLLM's proxy reports some failures twice."""
        if call.report_id in self.reported:
            return
        self.reported.add(call.report_id)
        self.calls += 1
        self.errors += int(call.failed)
        self.prompt_tokens += call.prompt_tokens
        self.completion_tokens += call.completion_tokens
        self.cost_cents += call.cost_cents
        self.duration_ms += call.duration_ms
        self.models[call.model] = None

    def report(self) -> dict[str, Any]:
        """Return the usage report of all calls together."""
        return {
            "total_llm_calls": self.calls,
            "total_prompt_tokens": self.prompt_tokens,
            "total_completion_tokens": self.completion_tokens,
            "models_used": list(self.models),
            "actual_cost_cents": self.cost_cents,
            "duration_ms": self.duration_ms,
            "error_count": self.errors,
        }


class Interactions:
    """Interactions that were admitted or had a call, until they are removed for their summary report. Thread-safe."""

    def __init__(self, *, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._known: OrderedDict[Name, Interaction] = OrderedDict()
        """Least recently used first."""
        self._unfinished: deque[str] = deque(maxlen=MAX_INTERACTIONS)
        """Calls that were in flight when their block ended."""
        self._changed = threading.Condition()

    def is_admitted(self, user: User, interaction_id: str) -> bool:
        with self._changed:
            interaction = self._known.get(_name(user, interaction_id))
            return interaction is not None and interaction.admitted

    def find(self, user: User, interaction_id: str) -> Interaction:
        """Return the interaction; create it if it is not known."""
        name = _name(user, interaction_id)
        with self._changed:
            interaction = self._known.setdefault(name, Interaction(user, interaction_id))
            interaction.last_s = self._clock()
            self._known.move_to_end(name)
            return interaction

    def begin(self, user: User, call: Call) -> None:
        with self._changed:
            if (interaction := self._known.get(_name(user, call.interaction_id))) is not None:
                interaction.in_flight.add(call.call_id)

    def end(self, interaction: Interaction, call: Call) -> None:
        """Count an ended call, and notify `wait_for`."""
        with self._changed:
            interaction.add(call)
            interaction.in_flight.discard(call.call_id)
            self._changed.notify_all()

    def drop(self, user: User, interaction_id: str, call_id: str) -> None:
        """Forget a call whose end LiteLLM will not report."""
        with self._changed:
            if (interaction := self._known.get(_name(user, interaction_id))) is not None:
                interaction.in_flight.discard(call_id)
                self._changed.notify_all()

    def wait_for(self, interaction: Interaction, timeout_s: float) -> None:
        """Wait until the interaction's calls have ended, at most `timeout_s`. LiteLLM reports a call's end after the
        caller has its answer."""
        with self._changed:
            self._changed.wait_for(lambda: not interaction.in_flight, timeout_s)
            self._unfinished.extend(interaction.in_flight)

    def needs_charge(self, interaction: Interaction, call: Call) -> bool:
        """Whether a successful call charges its interaction. Calls of a block never do, even if they end late."""
        if call.failed or interaction.in_block or interaction.charged:
            return False
        with self._changed:
            return call.call_id not in self._unfinished

    def take(self, user: User, interaction_id: str) -> Interaction | None:
        with self._changed:
            return self._known.pop(_name(user, interaction_id), None)

    def take_old(self) -> list[Interaction]:
        """Remove and return idle interactions, and the oldest ones above the maximum number."""
        with self._changed:
            surplus, idle_since_s = len(self._known) - MAX_INTERACTIONS, self._clock() - self._idle_s
            taken = []
            for index, (name, interaction) in enumerate(self._known.items()):
                if index >= surplus and interaction.last_s > idle_since_s:
                    break
                if index < surplus or not (interaction.in_block or interaction.in_flight):
                    taken.append(name)
            return [self._known.pop(name) for name in taken]

    def take_all(self) -> list[Interaction]:
        with self._changed:
            taken = list(self._known.values())
            self._known.clear()
            return taken


def _name(user: User, interaction_id: str) -> Name:
    """Return a key that includes the user, because interaction ids are only unique per user."""
    return user.oauth_provider, user.external_id, interaction_id
