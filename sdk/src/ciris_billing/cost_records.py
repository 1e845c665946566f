"""Cost records: work that is priced while it runs, and charged once when it is done.

async with billing.record(user, tool="search") as record:
    record.llm("openai", "gpt-4o-mini", 1200, 80)
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol, TypedDict

from ciris_billing.models import Reply, User, without_none
from ciris_billing.usage import Amount, ApiCalls, Basis, LlmTokens, Mode, Usage, exact, payer

OnExpiry = Literal["charge_reported", "charge_nothing"]
Outcome = Literal["completed", "failed"]
Action = Literal["items", "complete"]
STEP = "cost_record_step"
"""The member that distinguishes a queued step from a usage event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRecordOpening:
    """Work that begins: of a `User`, of a `user_id` (the external id under the identity provider of the API key), or
    with a `client_key` of no user. Work of no user is recorded and never charged.

    The service opens one record for a `request_id` and user. Without one, the record gets a random id, which is the
    same each time this object is sent. `estimate` (exact, in the major unit) or `estimate_cents` is the expected cost:
    it counts against limits while the record is open. A record that is left open for `expires_in_s` is settled as
    `on_expiry` says; the service has defaults for both.
    """

    tool: str
    user: User | None = None
    user_id: str | None = None
    client_key: str | None = None
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    query: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    estimate: Decimal | str | None = None
    estimate_cents: int | None = None
    expires_in_s: int | None = None
    on_expiry: OnExpiry | None = None

    def __post_init__(self) -> None:
        if [self.user, self.user_id, self.client_key].count(None) != 2:
            raise TypeError("pass user, user_id or client_key, one of the three")
        if self.estimate is not None and self.estimate_cents is not None:
            raise TypeError("pass either estimate or estimate_cents, not both")
        if not self.request_id:
            raise ValueError("request_id is empty: pass the id of the work, or none")

    def body(self) -> dict[str, Any]:
        """Return the opening as the service reads it."""
        who = {"client_key": self.client_key} if self.client_key is not None else payer(self.user, self.user_id)
        names = ("request_id", "tool", "query", "agent_id", "run_id", "estimate_cents", "expires_in_s", "on_expiry")
        given = {name: getattr(self, name) for name in names}
        given["estimate"] = None if self.estimate is None else exact("estimate", self.estimate)
        return {**who, **without_none(given)}


class OpeningFields(TypedDict, total=False):
    """The further fields of a CostRecordOpening, as keyword arguments."""

    user_id: str | None
    client_key: str | None
    request_id: str
    query: str | None
    agent_id: str | None
    run_id: str | None
    estimate: Decimal | str | None
    estimate_cents: int | None
    expires_in_s: int | None
    on_expiry: OnExpiry | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRecordItem:
    """A part of a record's cost: a `usage` that the service prices when it receives it, or a stated `cost` (exact, in
    the major unit) or `cost_cents`, or both. A stated cost needs a key with the permission `usage:set_cost`.

    An `item_id` counts once in its record. Without one, the item gets a random id, which is the same each time this
    object is sent.
    """

    usage: Usage | None = None
    cost: Decimal | str | None = None
    cost_cents: int | None = None
    item_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        if self.usage is None and self.cost is None and self.cost_cents is None:
            raise TypeError("pass a usage, a cost or cost_cents")
        if self.cost is not None and self.cost_cents is not None:
            raise TypeError("pass either cost or cost_cents, not both")
        if not self.item_id:
            raise ValueError("item_id is empty: pass the id of the item, or none")

    def body(self) -> dict[str, Any]:
        """Return the item as the service reads it."""
        fields = {
            "item_id": self.item_id,
            "metric": None if self.usage is None else self.usage.metric(),
            "cost": None if self.cost is None else exact("cost", self.cost),
            "cost_cents": self.cost_cents,
        }
        return without_none(fields)


@dataclass(frozen=True, slots=True)
class CostRecordStep:
    """An item or the completion of a record, as a queue stores it. `record_id` is None if the record could not be
    opened yet: then the `opening` precedes the step."""

    action: Action
    body: Mapping[str, Any]
    request_id: str
    record_id: str | None
    opening: Mapping[str, Any] | None = None

    @property
    def event_id(self) -> str:
        """A name of the step for people, unique in its record."""
        return f"{self.request_id}/{self.body.get('item_id', self.action)}"

    def content(self) -> dict[str, Any]:
        """Return the step as a queue stores it, in JSON."""
        fields = {"record_id": self.record_id, "opening": self.opening}
        return {STEP: self.action, "event_id": self.event_id, "body": self.body, **without_none(fields)}


class CostRecordSink(Protocol):
    """Takes the items and completions of cost records and delivers them in the background: a `UsageReporter`."""

    def add_step(self, step: CostRecordStep) -> None: ...


class Recording:
    """One piece of work whose cost is recorded. Its methods queue items and return, so they may be called in an event
    loop. They raise UsageNotQueued if the queue cannot store the item, and InvalidRequest if it could never be sent."""

    def __init__(self, opening: CostRecordOpening, record: "CostRecord | None", sink: CostRecordSink) -> None:
        self._opening = opening
        self._sink = sink
        self.record_id = None if record is None else record.record_id
        """None if the service was unavailable and the policy is `fail_open`: the record is opened later."""
        self.request_id = opening.request_id
        self.replayed = record is not None and record.status != "open"
        """The work was completed before, under the same `request_id`. Its items are dropped: it is charged already."""
        self._has_ended = False

    def llm(
        self,
        provider: str,
        model: str,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        *,
        usage: Mapping[str, Any] | None = None,
        tokens: Mapping[str, int] | None = None,
        basis: Basis | None = None,
        mode: Mode | None = None,
        item_id: str | None = None,
    ) -> None:
        """Add the tokens of a call of a model, as `LlmTokens` takes them."""
        call = LlmTokens(provider, model, input_tokens, output_tokens, usage, tokens, basis, mode)
        self.add(call, item_id=item_id)

    def api_calls(self, endpoint: str, count: int = 1, *, item_id: str | None = None) -> None:
        """Add calls of an endpoint."""
        self.add(ApiCalls(endpoint, count), item_id=item_id)

    def cost(self, amount: Decimal | str | int, *, item_id: str | None = None) -> None:
        """Add a stated cost, exact and in the currency's major unit. The key needs `usage:set_cost`."""
        self.add(cost=exact("amount", amount), item_id=item_id)

    def add(self, usage: Usage | None = None, *, cost: Decimal | str | None = None, item_id: str | None = None) -> None:
        """Add a use of any kind, with a stated cost or at the price book's. An `item_id` counts once in the record."""
        item = CostRecordItem(usage=usage, cost=cost, item_id=uuid.uuid4().hex if item_id is None else item_id)
        if self._has_ended:
            raise RuntimeError("the record has ended: add items in its block")
        self._queue("items", item.body())

    def _end(self, completion: Mapping[str, Any]) -> None:
        """Queue the outcome. Items can no longer be added, also if the queue cannot store it."""
        self._has_ended = True
        self._queue("complete", completion)

    def _queue(self, action: Action, body: Mapping[str, Any]) -> None:
        if self.replayed:
            return
        opening = self._opening.body() if self.record_id is None else None
        self._sink.add_step(CostRecordStep(action, body, self.request_id, self.record_id, opening))


class RecordedItem(Reply):
    """An item of a record. `cost_cents` is rounded up."""

    item_id: str | None
    type: str | None
    """The kind of use; None if only a cost was stated."""
    provider: str | None
    model: str | None
    quantities: dict[str, Any]
    cost_cents: int
    cost: Amount
    stated: bool
    created_at: datetime


class CostRecord(Reply):
    """A cost record. `cost` is the sum of its items so far; `charged` is what the account paid and owes."""

    record_id: str
    request_id: str | None
    status: str
    """`open`, `completed`, `failed` or `expired`."""
    tool: str
    query: str | None
    agent_id: str | None
    run_id: str | None
    currency: str
    estimate: Amount | None
    item_count: int
    cost_cents: int
    cost: Amount
    charged_cents: int
    charged: Amount
    debt: Amount
    """The part of `charged` that the account owes."""
    transaction_id: str | None
    """The usage event of the charge."""
    execution_time_ms: int | None
    error_message: str | None
    on_expiry: str
    expires_at: datetime
    created_at: datetime
    closed_at: datetime | None


class CostRecordDetail(CostRecord):
    """A cost record with its items."""

    items: list[RecordedItem]


class ItemAdded(Reply):
    """An item, and the sum of the record's items so far."""

    record_id: str
    item: RecordedItem
    item_count: int
    cost_cents: int
    cost: Amount
    replayed: bool = False
    """The item was added before; this request added nothing."""
