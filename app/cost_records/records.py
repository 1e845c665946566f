"""Values of cost records: requests, the state of a record, and outcomes."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal, TypeAlias
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.errors import AppError
from app.metering.events import Books, StatedCost, Terms, names_of, quantities_of
from app.metering.events import Status as Charge
from app.pricing.compiled import UnknownModel
from app.pricing.usage import Usage

Result = Literal["completed", "failed"]
Status = Literal["open", "completed", "failed", "expired"]
OnExpiry = Literal["charge_reported", "charge_nothing"]
"""The settlement of a record that is left open: it is charged as if it had been completed, or not at all."""
DIGEST_BYTES = 16


def digest(*facts: object) -> bytes:
    """Return a digest of JSON values: equal for equal ones."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).digest()


def _facts_of(stated: StatedCost | None) -> list[object] | None:
    return None if stated is None else [stated.unit, stated.amount]


@dataclass(frozen=True, slots=True)
class Opening:
    """A record to open. `client_key` is a digest, of work without a user; else empty."""

    account_id: UUID
    environment: Environment
    client_key: bytes
    request_id: str
    tool: str
    query: str | None
    agent_id: str | None
    run_id: str | None
    estimate: StatedCost | None
    expires_in: timedelta
    on_expiry: OnExpiry
    currency: str
    """Of work without a user."""
    source: str
    actor: Actor
    at: datetime
    fingerprint: bytes
    """Of the request as it was sent."""

    @property
    def key(self) -> tuple[UUID, bytes, str]:
        return self.account_id, self.client_key, self.request_id

    @property
    def run_ids(self) -> Sequence[str]:
        return () if self.run_id is None else (self.run_id,)


@dataclass(frozen=True, slots=True)
class Item:
    """A part of the cost: a measure, a stated cost, or both. Then the stated cost decides. `raw` is a JSON text."""

    item_id: str
    usage: Usage | None
    stated: StatedCost | None
    raw: str | None

    def fingerprint(self) -> bytes:
        """Return a digest of the measure and the stated cost: equal for a repeat of the item."""
        usage = self.usage
        measure = None if usage is None else [usage.meter, *names_of(usage), quantities_of(usage)]
        return digest(measure, _facts_of(self.stated))


@dataclass(frozen=True, slots=True)
class Addition:
    """An item to add to a record, and the terms on which it is priced."""

    account_id: UUID
    environment: Environment
    record_id: UUID
    item: Item
    terms: Terms
    books: Books
    markups: Mapping[str, Decimal]
    """Of the plans on sale, in percent."""

    @property
    def at(self) -> datetime:
        return self.terms.at

    @property
    def key(self) -> tuple[UUID, UUID, str]:
        return self.account_id, self.record_id, self.item.item_id

    @property
    def run_ids(self) -> Sequence[str]:
        """None: a record's run is known only once the record is read."""
        return ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The outcome of the work of a record."""

    account_id: UUID
    environment: Environment
    record_id: UUID
    status: Result
    execution_time_ms: int | None
    error_message: str | None
    actor: Actor
    at: datetime

    @property
    def key(self) -> Hashable:
        return self.record_id, self.status

    @property
    def run_ids(self) -> Sequence[str]:
        """None: a record's run is known only once the record is read."""
        return ()


@dataclass(frozen=True, slots=True)
class Expiry:
    """The end of a record that was left open. Has no effect before its time, and on one that is settled."""

    account_id: UUID
    record_id: UUID
    actor: Actor
    at: datetime

    @property
    def key(self) -> Hashable:
        return self.record_id, "expiry"

    @property
    def run_ids(self) -> Sequence[str]:
        """None: a record's run is known only once the record is read."""
        return ()


Request: TypeAlias = Opening | Addition | Completion | Expiry


@dataclass(slots=True)
class Record:
    """A record as its transaction sees it. Amounts are nanos of `currency`.

    `charge` and `debt_nanos` are of the usage event, if the record was settled with one.
    """

    record_id: UUID
    account_id: UUID
    environment: Environment
    client_key: bytes
    request_id: str | None
    fingerprint: bytes
    source: str
    key_id: str | None
    tool: str
    query: str | None
    agent_id: str | None
    run_id: str | None
    currency: str
    estimate_nanos: int | None
    on_expiry: OnExpiry
    expires_at: datetime
    created_at: datetime
    status: Status = "open"
    items: int = 0
    cost_nanos: int = 0
    provider_cost_nanos: int | None = 0
    tokens: dict[str, int] = field(default_factory=dict)
    provider: str | None = None
    model: str | None = None
    usage_id: UUID | None = None
    execution_time_ms: int | None = None
    error_message: str | None = None
    closed_at: datetime | None = None
    charge: Charge | None = None
    debt_nanos: int = 0

    @property
    def counted_nanos(self) -> int:
        """The amount that limits count while it is open: the estimate, or the sum so far if that is larger."""
        return max(self.estimate_nanos or 0, self.cost_nanos)

    @property
    def charged_nanos(self) -> int:
        """The amount that the account paid and owes for it."""
        return self.cost_nanos if self.charge in ("charged", "debt") else 0


@dataclass(frozen=True, slots=True)
class Done:
    """The request's effect is in force: since now, or (`is_new` False) by an earlier request like it.

    `record` is a copy of the record after the request; `item` the row of an added item.
    """

    record: Record
    is_new: bool
    item: dict[str, Any] | None = None
    unknown: UnknownModel | None = None
    """The model without a row, if the book's prices for unknown models applied."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request changed nothing."""

    error: AppError


Outcome: TypeAlias = Done | Rejected
