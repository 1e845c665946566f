"""Outcomes of charges: of credits (app/billing) and of tool uses (app/tools).

match outcome:
    case New(record, debits): ...    # committed now
    case Replayed(record): ...       # the idempotency key was used before: nothing changed
    case Shortfall(available, required): ...
    case Refused(error): ...         # suspended, closed, another currency, a reused key

The batcher's other operations have outcomes with more facts: usage events (app/metering/events.py), holds
(app/holds/requests.py) and cost records (app/cost_records/records.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from app.errors import AppError
from app.ledger.pools import Debit, Shortfall

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class New(Generic[Record]):
    """The request is recorded and paid for."""

    record: Record
    debits: Sequence[Debit] = ()
    """The buckets of the account that paid."""


@dataclass(frozen=True, slots=True)
class Replayed(Generic[Record]):
    """The record existed before this request. The request changed nothing."""

    record: Record


@dataclass(frozen=True, slots=True)
class Refused:
    """The account or the idempotency key does not allow this request."""

    error: AppError


Outcome: TypeAlias = New[Record] | Replayed[Record] | Shortfall | Refused
