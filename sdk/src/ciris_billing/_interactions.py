"""What is known of the interactions that LiteLLM's calls belong to, while they last."""

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ciris_billing.models import User

log = logging.getLogger("ciris_billing")

MAX_INTERACTIONS = 10_000
MAX_DOLLARS = 10**7
MAX_TOKENS = 10**12
"""More than any call has. The service refuses a report with figures that are larger still."""
CENTS_PER_DOLLAR = 100
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

    @property
    def interaction_id(self) -> str:
        """The caller's name for what is paid for; without one, the call is an interaction of its own."""
        named = self.metadata.get("interaction_id")
        return named if isinstance(named, str) and named else self.call_id

    @classmethod
    def of(cls, kwargs: Mapping[str, Any]) -> Self:
        """Before it is made, or while it is under way."""
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
        )

    @property
    def report_id(self) -> str:
        """A failed call's report has another name than that of the try that succeeds under the same id."""
        return f"{self.call_id}:failed" if self.failed else self.call_id

    def report(self) -> dict[str, Any]:
        """The call's own report."""
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


def _quantity(counted: Mapping[str, Any], name: str, largest: int) -> float:
    """A cost or count of LiteLLM's. One that the service would refuse is logged and counts as 0: the rest is right."""
    value = counted.get(name)
    try:
        number = float(value or 0)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if 0 <= number <= largest:
        return number
    fields = {"billing_field": name, "billing_value": repr(value)[:50]}
    log.warning("billing report: %s is not usable and counts as 0", name, extra=fields)
    return 0.0


def _metadata(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Callbacks get it in two places and under two names; LiteLLM's proxy writes what it knows under the second."""
    found: dict[str, Any] = {}
    for place in (kwargs, kwargs.get("litellm_params") or {}):
        for name in ("metadata", "litellm_metadata"):
            found.update(place.get(name) or {})
    return found


@dataclass
class Interaction:
    """An interaction's calls so far."""

    user: User
    interaction_id: str
    let_through: bool = False
    """Its calls need no check: there was one, or it is paid for."""
    in_block: bool = False
    """A block charges it when it ends; the calls do not."""
    charged: bool = False
    calls: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_cents: float = 0.0
    duration_ms: int = 0
    models: dict[str, None] = field(default_factory=dict)
    under_way: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    last_s: float = 0.0

    def add(self, call: Call) -> None:
        """Once: LiteLLM's proxy tells of some failures twice."""
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
        """What all calls came to."""
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
    """Those that were let through or had a call, until they are taken out to be summed up. Shared by threads."""

    def __init__(self, *, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._known: OrderedDict[Name, Interaction] = OrderedDict()
        """The one that was found last is the last."""
        self._left_behind: deque[str] = deque(maxlen=MAX_INTERACTIONS)
        """Calls that had not ended when their block did."""
        self._changed = threading.Condition()

    def is_let_through(self, user: User, interaction_id: str) -> bool:
        with self._changed:
            interaction = self._known.get(_name(user, interaction_id))
            return interaction is not None and interaction.let_through

    def find(self, user: User, interaction_id: str) -> Interaction:
        """The interaction, a new one if it is not known."""
        name = _name(user, interaction_id)
        with self._changed:
            interaction = self._known.setdefault(name, Interaction(user, interaction_id))
            interaction.last_s = self._clock()
            self._known.move_to_end(name)
            return interaction

    def begin(self, user: User, call: Call) -> None:
        with self._changed:
            if (interaction := self._known.get(_name(user, call.interaction_id))) is not None:
                interaction.under_way.add(call.call_id)

    def end(self, interaction: Interaction, call: Call) -> None:
        """Count the call, and tell who waits for it."""
        with self._changed:
            interaction.add(call)
            interaction.under_way.discard(call.call_id)
            self._changed.notify_all()

    def wait_for(self, interaction: Interaction, timeout_s: float) -> None:
        """Until its calls have ended: LiteLLM tells of a call's end some time after the caller has the answer."""
        with self._changed:
            self._changed.wait_for(lambda: not interaction.under_way, timeout_s)
            self._left_behind.extend(interaction.under_way)

    def needs_charge(self, interaction: Interaction, call: Call) -> bool:
        """Whether a call that has succeeded is to be charged. A block's calls never are, however late they end."""
        if call.failed or interaction.in_block or interaction.charged:
            return False
        with self._changed:
            return call.call_id not in self._left_behind

    def take(self, user: User, interaction_id: str) -> Interaction | None:
        with self._changed:
            return self._known.pop(_name(user, interaction_id), None)

    def take_old(self) -> list[Interaction]:
        """Those whose last call ended long ago, and the oldest of too many."""
        with self._changed:
            surplus, idle_since_s = len(self._known) - MAX_INTERACTIONS, self._clock() - self._idle_s
            taken = []
            for index, (name, interaction) in enumerate(self._known.items()):
                if index >= surplus and interaction.last_s > idle_since_s:
                    break
                if index < surplus or not (interaction.in_block or interaction.under_way):
                    taken.append(name)
            return [self._known.pop(name) for name in taken]

    def take_all(self) -> list[Interaction]:
        with self._changed:
            taken = list(self._known.values())
            self._known.clear()
            return taken


def _name(user: User, interaction_id: str) -> Name:
    """An interaction's name is its user's own: two users' may have the same one."""
    return user.oauth_provider, user.external_id, interaction_id
