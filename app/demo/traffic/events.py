"""What can happen in the story. Each event has a time, and an identity whose account it concerns."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from app.accounts.directory import Identity, Profile
from app.metering.llm_usage import LlmUsageReport


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    identity: Identity


@dataclass(frozen=True, slots=True)
class ProfileTold(Event):
    """The first one opens the account."""

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
    """`attempts`: the test cards that were tried, and when. `given_up_at`: when the worker cancels what is not paid."""

    name: str
    pack: str
    attempts: tuple[tuple[str, datetime], ...]
    given_up_at: datetime | None = None

    @property
    def is_paid(self) -> bool:
        return bool(self.attempts) and self.attempts[-1][0] == "pm_card_visa"


@dataclass(frozen=True, slots=True)
class Refunded(Event):
    """By an admin. `amount_minor` None: all of it."""

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
    """By the staff."""

    action: Literal["suspend", "reopen", "close"]
    reason: str


@dataclass(frozen=True, slots=True)
class Adjusted(Event):
    """By the staff."""

    credits: int
    reason: str
