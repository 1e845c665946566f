"""Values of holds: requests and outcomes. Amounts are credits, or nanos of the account's currency."""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias
from uuid import UUID

from app.auth.caller import Actor, Environment
from app.errors import AppError
from app.ledger.hold_queries import Key, Place
from app.ledger.holds import Hold, OnExpiry

Overage = Literal["refuse", "charge_what_fits"]
"""A capture of more than the hold changes nothing, or it also charges the balance as far as that suffices."""
DIGEST_BYTES = 16
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
"""Stored fingerprints depend on it."""


class Amount(NamedTuple):
    """Credits, or nanos of money. `field` is its name on the wire."""

    value: int
    is_money: bool

    @property
    def field(self) -> str:
        return "amount" if self.is_money else "amount_minor"


@dataclass(frozen=True, slots=True)
class Opening:
    """A hold to open. `currency` of money: None means the account's."""

    account_id: UUID
    amount: Amount
    currency: str | None
    expires_in: timedelta
    on_expiry: OnExpiry
    actor: Actor
    at: datetime
    idempotency_key: str | None = None
    product_type: str | None = None
    run_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key | None:
        if self.idempotency_key is None:
            return None
        return Key(self.account_id, self.actor.kind or "key", self.idempotency_key)

    def fingerprint(self) -> bytes:
        """Return a digest of what makes the hold: equal for a repeat of the request."""
        facts = [
            *(self.amount.value, self.amount.is_money, self.currency, self.expires_in.total_seconds()),
            *(self.on_expiry, self.product_type, self.run_id, self.details),
        ]
        return blake2b(_CANONICAL.encode(facts).encode(), digest_size=DIGEST_BYTES).digest()


class Capture(NamedTuple):
    """Spend `amount` of a hold and return the rest."""

    place: Place
    environment: Environment
    amount: Amount
    overage: Overage
    actor: Actor
    at: datetime


class Release(NamedTuple):
    """Return all of a hold. `outcome`: why, as the caller says."""

    place: Place
    environment: Environment
    outcome: str | None
    actor: Actor
    at: datetime


@dataclass(frozen=True, slots=True)
class Extension:
    """Let a hold expire later: `expires_in` from now, unless it does anyway."""

    place: Place
    environment: Environment
    expires_in: timedelta
    actor: Actor
    at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """The cost of the work so far. The largest report counts, up to the held amount."""

    place: Place
    environment: Environment
    amount: Amount
    actor: Actor
    at: datetime


@dataclass(frozen=True, slots=True)
class Expiry:
    """The end of a hold that was left open. Has no effect before its time, and on one that is settled."""

    place: Place
    actor: Actor
    at: datetime


Change: TypeAlias = Capture | Release | Extension | Progress | Expiry


@dataclass(frozen=True, slots=True)
class Work:
    """A request of the batcher: its account, and the key under which it may be repeated."""

    request: Opening | Change

    @property
    def account_id(self) -> UUID:
        return self.request.account_id if isinstance(self.request, Opening) else self.request.place.account_id

    @property
    def at(self) -> datetime:
        return self.request.at

    @property
    def key(self) -> Hashable | None:
        """None: a hold without an idempotency key, which may not run again. All changes may: their effect is one."""
        if isinstance(self.request, Opening):
            return self.request.key
        return type(self.request).__name__, self.request.place, self.request.at

    @property
    def run_ids(self) -> Sequence[str]:
        """The run of a new hold. An open hold's own is known only once the hold is read."""
        run_id = self.request.run_id if isinstance(self.request, Opening) else None
        return () if run_id is None else (run_id,)


@dataclass(frozen=True, slots=True)
class Done:
    """The request's effect is in force: since now, or (`is_new` False) by an earlier request like it.

    `hold` is a copy of the hold after the request.
    """

    hold: Hold
    is_new: bool


@dataclass(frozen=True, slots=True)
class Unpaid:
    """The account cannot pay for the hold. Amounts are in `unit`."""

    available: int
    required: int
    unit: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request changed nothing."""

    error: AppError


Outcome: TypeAlias = Done | Unpaid | Rejected
