"""Limits of an account's spending, and the counters of their current windows. Pure: reads and writes nothing.

    account.limits                                # None: the account has no limits, and pays nothing for the feature
    account.limits.admit(spending)                # raises LimitExceeded, or counts: all under the account's lock
    account.limits.adjust(correction, opened_at, hold_id)  # a hold or cost record cost less than it was counted with

A limit has a scope (the account, or within it one key, agent, model or tool), a window and an amount. Every limit of
action `refuse` that matches must leave room for the whole amount. One of action `ask` refuses until a person allows the
request (app.ledger.approvals). Those of action `notify` count and never refuse.

A batch is decided at one time, so all its requests count in the same windows. Hours, days and months begin in the time
zone of the operator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal
from uuid import UUID

from app.db import opaque_ids
from app.errors import AppError
from app.ledger.approvals import Approval, ask, granted, new_approval
from app.ledger.brake import AccountBrake
from app.ledger.remedies import NO_STORE, smaller_amount
from app.ledger.runs import MAX_COUNT, RUN_REFUSALS, RunRefusal, Runs
from app.ledger.units import USE, amount_text, unit_text

Scope = Literal["account", "key", "agent", "model", "tool"]
Window = Literal["minute", "hour", "day", "month", "lifetime"]
Action = Literal["refuse", "notify", "ask"]
Owner = Literal["user", "operator"]
"""Users change their own limits only; both apply."""
WINDOWS: tuple[Window, ...] = ("minute", "hour", "day", "month", "lifetime")
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""The start of the window `lifetime`."""
PREFIX = "limit_"


def window_start(window: Window, now: datetime, zone: tzinfo) -> datetime:
    """Return the start of the window that `now` is in, in UTC."""
    if window == "lifetime":
        return BEGINNING
    if window == "minute":
        return now.astimezone(UTC).replace(second=0, microsecond=0)
    local = now.astimezone(zone)
    if window == "hour":  # by elapsed time, because the clock may have been set back within the hour
        past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return now.astimezone(UTC) - past
    first = local.date() if window == "day" else local.date().replace(day=1)
    return _midnight(first, zone)


def _midnight(day: date, zone: tzinfo) -> datetime:
    """Return the first moment of a day. Where the clock skips midnight, that is the moment of the change."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def window_end(window: Window, now: datetime, zone: tzinfo) -> datetime | None:
    """Return the start of the next window, in UTC. None: the window does not end."""
    start = window_start(window, now, zone)
    if window == "lifetime":
        return None
    if window in ("minute", "hour"):
        return start + (timedelta(minutes=1) if window == "minute" else timedelta(hours=1))
    day = start.astimezone(zone).date()
    later = day + timedelta(days=1) if window == "day" else (day + timedelta(days=31)).replace(day=1)
    return _midnight(later, zone)


@dataclass(frozen=True, slots=True)
class Spending:
    """The spending of a request, in credits or in nanos of money, and the caller that limits may name."""

    unit: str
    amount: int
    key: str | None = None
    agent: str | None = None
    model: str | None = None
    tool: str | None = None
    run: str | None = None
    uses: int = 1

    def of(self, scope: Scope) -> str | None:
        value: str | None = "" if scope == "account" else getattr(self, scope)
        return value


@dataclass(slots=True)
class Limit:
    """A limit with the counter of its current window. Amounts are in `unit`: credits, nanos of money, or uses."""

    account_id: UUID
    limit_id: UUID
    scope: Scope
    scope_value: str
    window: Window
    unit: str
    amount: int
    action: Action
    owner: Owner
    created_at: datetime
    window_start: datetime
    counted: int = 0
    crossed_at: datetime | None = None
    """When the window first counted more than the amount."""
    keys: Sequence[str] = ()
    """Of the scope `key`: the ids of the key's line (app/ledger/key_lines.py)."""
    is_changed: bool = False
    is_crossed: bool = False
    """The window counted more than the amount for the first time: in this transaction."""

    @property
    def wire_id(self) -> str:
        return opaque_ids.encode(PREFIX, self.account_id, self.limit_id)

    @property
    def room(self) -> int:
        return max(0, self.amount - self.counted)

    def asked(self, spending: Spending) -> int:
        """Return how much of the limit's unit a request needs: 0 if the limit is not about it."""
        if self.scope != "account":
            name = spending.of(self.scope)
            if name != self.scope_value and name not in self.keys:
                return 0
        if self.unit == USE:
            return spending.uses
        return spending.amount if self.unit == spending.unit else 0

    def count(self, amount: int, now: datetime) -> None:
        """Count an amount, or give some back if it is negative."""
        if amount == 0:
            return
        self.counted = min(max(0, self.counted + amount), MAX_COUNT)
        self.is_changed = True
        self._note_crossing(now)

    def change_amount(self, amount: int, now: datetime) -> None:
        """Change the amount. The counter stays."""
        self.amount = amount
        if self.counted <= amount:
            self.crossed_at = None
        self._note_crossing(now)

    def _note_crossing(self, now: datetime) -> None:
        if self.counted > self.amount and self.crossed_at is None:
            self.crossed_at, self.is_crossed = now, True


@dataclass(slots=True)
class AccountLimits:
    """The limits of one locked account, in the order in which they refuse: shorter windows first."""

    now: datetime
    zone: tzinfo
    limits: list[Limit] = field(default_factory=list)
    runs: Runs = field(default_factory=Runs)
    brake: AccountBrake | None = None
    """None: no burn rate is configured."""
    approvals: list[Approval] = field(default_factory=list)
    """The open ones about limits, and those that this transaction made or used."""
    evaluated: list[tuple[UUID, str]] = field(default_factory=list)
    """Requests of this transaction, each with the limits that allowed it, as JSON."""
    refused_runs: list[tuple[RunRefusal, Spending]] = field(default_factory=list)
    """Requests that a run refused. They ask for an approval before the commit (app.ledger.approval_hooks)."""

    def admit(self, spending: Spending) -> None:
        """Count a request, if every limit, its run and the brake allow it, and use the approvals that it needs.

        Raises LimitExceeded, RUN_REFUSALS, BurnRateExceeded, and ApprovalRequired if only a person has to allow it.
        Nothing is counted or used then.
        """
        above = self._above(spending)
        if refusing := [pair for pair in above if pair[0].action == "refuse"]:
            raise self._exceeded(spending, refusing)
        self._require_run(spending)
        if unapproved := self._unapproved(spending, above):
            raise self._asked(spending, unapproved)
        if self.brake is not None:
            self.brake.require(spending, self.runs.chain(spending.run))
        for limit, amount in above:
            if limit.action != "ask":
                continue
            if (approval := granted(self.approvals, limit, spending, amount, self.now)) is not None:
                approval.use(self.now)
        self.count(spending)

    def _require_run(self, spending: Spending) -> None:
        try:
            self.runs.require(spending.run, spending.unit, spending.amount)
        except RUN_REFUSALS as refusal:
            self.refused_runs.append((refusal, spending))
            raise

    def refusal(self, spending: Spending) -> "LimitExceeded | None":
        """Return why a limit would refuse a request now; None if all admit it. Counts and asks nothing."""
        above = self._above(spending)
        missing = [pair for pair in above if pair[0].action == "refuse"] + self._unapproved(spending, above)
        return self._exceeded(spending, missing) if missing else None

    def _above(self, spending: Spending) -> list[tuple[Limit, int]]:
        """Return the limits without room for a request, of any action, each with what the request needs of it."""
        return [(limit, amount) for limit in self.limits if (amount := limit.asked(spending)) > limit.room]

    def _unapproved(self, spending: Spending, above: Sequence[tuple[Limit, int]]) -> list[tuple[Limit, int]]:
        """Return those of the limits without room for which a person has to allow the request, and has not."""
        return [
            (limit, amount)
            for limit, amount in above
            if limit.action == "ask" and granted(self.approvals, limit, spending, amount, self.now) is None
        ]

    def _asked(self, spending: Spending, unapproved: list[tuple[Limit, int]]) -> "LimitExceeded":
        """Ask for an approval, and return the refusal."""
        limit, amount = unapproved[0]
        refusal = self._exceeded(spending, unapproved)
        new = new_approval("limit", limit.account_id, limit.limit_id, limit.unit, amount, spending, self.now)
        approval = ask(self.approvals, new, self.now)
        return refusal if approval is None else ApprovalRequired(refusal, approval)

    def _exceeded(self, spending: Spending, missing: list[tuple[Limit, int]]) -> "LimitExceeded":
        """Return the refusal of a request. It names the first limit without room, and what all of them allow."""
        ends = [window_end(limit.window, self.now, self.zone) for limit, _ in missing]
        helps = [amount <= limit.amount for limit, amount in missing]  # else the next window is as small
        until = max((end for end in ends if end is not None), default=None) if all(helps) and all(ends) else None
        limit, amount = missing[0]
        return LimitExceeded(limit, amount, ends[0], _remedies(spending.unit, self.room(spending), until))

    def room(self, spending: Spending) -> int:
        """Return how much of its unit the limits leave to spend, at most the amount of the request."""
        refusing = [limit for limit in self.limits if limit.action != "notify" and limit.asked(spending)]
        if any(limit.unit == USE and limit.asked(spending) > limit.room for limit in refusing):
            return 0
        room = min([spending.amount, *(limit.room for limit in refusing if limit.unit == spending.unit)])
        room = self.runs.room(spending.run, spending.unit, room)
        return room if self.brake is None else self.brake.room(spending, self.runs.chain(spending.run), room)

    def count(self, spending: Spending) -> None:
        """Count a request, allowed or not."""
        for limit in self.limits:
            limit.count(limit.asked(spending), self.now)
        self._count_run(spending)
        self._count_pace(spending)

    def note(self, spending: Spending, cause_id: UUID) -> None:
        """Note the limits of a request that has just been counted, for its explanation."""
        evaluated = [
            f'["{limit.limit_id}",{limit.amount},{limit.counted}]' for limit in self.limits if limit.asked(spending)
        ]
        if evaluated:
            self.evaluated.append((cause_id, f"[{','.join(evaluated)}]"))

    @property
    def has_models(self) -> bool:
        """Whether a limit names a model."""
        return any(limit.scope == "model" for limit in self.limits)

    def count_model(self, spending: Spending, counted_at: datetime | None = None) -> None:
        """Count an item of a cost record in the limits of its model, or take back an item that was counted at a time.

        The other limits count its record. What was counted in an earlier window stays there.
        """
        for limit in self.limits:
            if limit.scope == "model" and (counted_at is None or counted_at >= limit.window_start):
                limit.count(limit.asked(spending), self.now)

    def _count_run(self, spending: Spending) -> None:
        self.runs.count(spending.run, spending.unit, spending.amount, spending.uses)

    def _count_pace(self, spending: Spending) -> None:
        if self.brake is not None:
            self.brake.count(spending, self.runs.chain(spending.run))

    def adjust(self, spending: Spending, opened_at: datetime, opening: UUID) -> None:
        """Correct what a hold or a cost record (`opening`) was counted with, by a negative or positive spending.

        It counts in the window of its opening: if that has passed, there is nothing to correct. A new limit begins with
        what is open, so each of them has counted it. A run has no window: all that is open in it is corrected.
        """
        self._count_run(spending)
        if self.brake is not None:
            self.brake.adjust(spending, self.runs.chain(spending.run), opened_at, opening)
        for limit in self.limits:
            if window_start(limit.window, opened_at, self.zone) == limit.window_start:
                limit.count(limit.asked(spending), self.now)


class LimitExceeded(AppError):
    """A limit does not leave room for the request. Nothing was spent."""

    status, code = 402, "limit_exceeded"

    def __init__(
        self, limit: Limit, required: int, resets_at: datetime | None, remedies: Sequence[Mapping[str, object]]
    ) -> None:
        of = "" if limit.scope == "account" else f" of {limit.scope} {limit.scope_value}"
        self.limit, self.required, self.resets_at, self.remedies = limit, required, resets_at, remedies
        super().__init__(
            f"The {limit.window} limit{of} does not allow this request",
            figures={
                "limit": limit_figures(limit, resets_at),
                "required": amount_text(limit.unit, required),
                "retryable": False,
                "remedies": remedies,
            },
            headers=NO_STORE,
        )


class ApprovalRequired(LimitExceeded):
    """A person has to allow the request, and is asked to. The same request succeeds once it is approved."""

    code = "approval_required"

    def __init__(self, refusal: LimitExceeded, approval: Approval) -> None:
        super().__init__(refusal.limit, refusal.required, refusal.resets_at, refusal.remedies)
        name_approval(self, approval)


def name_approval(refusal: AppError, approval: Approval) -> None:
    """Name the approval that a refused request waits for, as the last of its remedies."""
    remedy = {"type": "request_approval", "approval_id": approval.wire_id, "until": _text(approval.expires_at)}
    remedies = refusal.figures["remedies"]
    assert isinstance(remedies, Sequence)
    refusal.figures |= {"approval_id": approval.wire_id, "remedies": [*remedies, remedy]}


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def limit_figures(limit: Limit, resets_at: datetime | None) -> dict[str, object]:
    """Return a limit and its counter as they are on the wire."""
    return {
        "id": limit.wire_id,
        "scope": limit.scope,
        "scope_value": limit.scope_value or None,
        "window": limit.window,
        "unit": unit_text(limit.unit),
        "amount": amount_text(limit.unit, limit.amount),
        "spent": amount_text(limit.unit, limit.counted),
        "resets_at": None if resets_at is None else _text(resets_at),
    }


def _remedies(unit: str, room: int, until: datetime | None) -> list[dict[str, object]]:
    """Return the ways to continue, the best first: the amount that all limits leave, and when they leave enough."""
    remedies = [smaller_amount(unit, room)] if room else []
    if until is not None:
        remedies.append({"type": "wait", "until": _text(until), "reason": "limit"})
    return remedies
