"""Events of the story. Each has a time, and the identity of the account that it concerns."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.accounts.directory import Identity, Profile
from app.ledger.lots import Category
from app.metering.events import UsageEvent
from app.metering.llm_usage import LlmUsageReport
from app.pricing.usage import Usage


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    identity: Identity


@dataclass(frozen=True, slots=True)
class ProfileSet(Event):
    """A profile is sent. The first one opens the account."""

    profile: Profile


@dataclass(frozen=True, slots=True)
class Charged(Event):
    """One interaction, which costs one credit."""

    message_id: str
    key_name: str
    agent_id: str
    channel_id: str


@dataclass(frozen=True, slots=True)
class ToolUsed(Event):
    request_id: str
    product_type: str


@dataclass(frozen=True, slots=True)
class Reported(Event):
    report: LlmUsageReport


@dataclass(frozen=True, slots=True)
class Credited(Event):
    credits: int
    transaction_type: str
    description: str


@dataclass(frozen=True, slots=True)
class Bought(Event):
    """A purchase. `attempts`: test cards and times. `given_up_at`: when the worker cancels an unpaid one."""

    name: str
    pack: str
    attempts: tuple[tuple[str, datetime], ...]
    given_up_at: datetime | None = None

    @property
    def is_paid(self) -> bool:
        return bool(self.attempts) and self.attempts[-1][0] == "pm_card_visa"


@dataclass(frozen=True, slots=True)
class Refunded(Event):
    """A refund by an admin. `amount_minor` None: the whole remainder."""

    purchase: str
    amount_minor: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Disputed(Event):
    purchase: str


@dataclass(frozen=True, slots=True)
class DisputeLost(Event):
    purchase: str


@dataclass(frozen=True, slots=True)
class StatusSet(Event):
    """A status set by the staff."""

    action: Literal["suspend", "reopen", "close"]
    reason: str


@dataclass(frozen=True, slots=True)
class Adjusted(Event):
    """A balance adjusted by the staff."""

    credits: int
    reason: str


@dataclass(frozen=True, slots=True)
class GrantGiven(Event):
    """A grant of money."""

    nanos: int
    category: Category
    priority: int
    source: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class MoneyPaid(Event):
    """Money that was paid outside of Stripe."""

    nanos: int
    description: str


@dataclass(frozen=True, slots=True)
class Metered(Event):
    """A usage event that an API key reports."""

    usage: UsageEvent
    key_name: str


@dataclass(frozen=True, slots=True)
class Worked(Event):
    """A piece of work whose cost was recorded while it ran. Each part takes a second."""

    request_id: str
    tool: str
    query: str
    agent_id: str
    parts: tuple[Usage, ...]
    succeeded: bool
