"""Approvals: a person allows what a limit of action `ask`, or a run, refuses. Pure: reads and writes nothing.

    pending --(a person)--> approved --(the request comes again)--> used
            --(a person)--> denied

A request above such a limit, or in a run that is paused or lacks budget, is refused and asks: the batch that refuses it
stores a pending approval. About a limit, it is for one requester (key, agent, model, tool and run), one amount at most
and a time. The key may be any of its line. The request that uses it counts in the limit: only the allowed amount
exceeds it. About a run, it ends the pause or raises the budget at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from app.db import new_id, opaque_ids

if TYPE_CHECKING:
    from app.ledger.limits import Limit, Spending

Status = Literal["pending", "approved", "denied", "used"]
Kind = Literal["limit", "resume", "budget"]
"""Its subject: a request above a limit, the end of a run's pause, or a higher budget of a run."""
Requester = tuple[str | None, str | None, str | None, str | None, str | None]
PREFIX = "approval_"
PENDING_FOR = timedelta(days=1)
"""The time for which an approval waits for a person."""
MAX_OPEN = 50
"""Approvals of an account that wait or may be used: about limits, and as many about runs. Beyond that, a request is
refused and asks nothing."""


def requester_of(spending: "Spending") -> Requester:
    return spending.key, spending.agent, spending.model, spending.tool, spending.run


@dataclass(slots=True)
class Approval:
    """An approval that is pending, may be used, or was denied lately. Amounts are in the unit of its limit."""

    account_id: UUID
    approval_id: UUID
    kind: Kind
    about: UUID
    """The limit or the run."""
    unit: str
    requester: Requester
    amount: int
    """The largest amount that was asked for."""
    status: Status
    allowed: int | None
    expires_at: datetime
    """A pending one lapses then, an approved one cannot be used from then on, and a denied one may be asked again."""
    created_at: datetime
    used_at: datetime | None = None
    keys: Sequence[str] = ()
    """The requester's key, and all keys that it was rotated from or to. Not stored: empty until it is read again."""
    is_new: bool = False
    is_changed: bool = False

    @property
    def wire_id(self) -> str:
        return opaque_ids.encode(PREFIX, self.account_id, self.approval_id)

    def is_like(self, other: "Approval") -> bool:
        """Return whether both are about the same. Those about a run are for all requesters."""
        is_same = (self.kind, self.about, self.unit) == (other.kind, other.about, other.unit)
        return is_same and (self.kind != "limit" or self._is_of(other.requester))

    def is_from(self, limit: "Limit", spending: "Spending") -> bool:
        return self.about == limit.limit_id and self._is_of(requester_of(spending))

    def _is_of(self, requester: Requester) -> bool:
        """Return whether it is for this requester, whose key may be any of the requester's line."""
        return self.requester == requester or (requester[0] in self.keys and self.requester[1:] == requester[1:])

    def is_open(self, now: datetime) -> bool:
        return self.status in ("pending", "approved") and self.expires_at > now

    def allows(self, amount: int) -> bool:
        return self.status == "approved" and self.allowed is not None and amount <= self.allowed

    def use(self, now: datetime) -> None:
        self.status, self.used_at, self.is_changed = "used", now, True


def ask(known: list[Approval], new: Approval, now: datetime) -> Approval | None:
    """Return the approval that a request waits for: `new`, or one like it that waits already.

    None: the request was denied within the last day, or too many wait.
    """
    for approval in known:
        if not approval.is_like(new) or approval.expires_at <= now:
            continue
        if approval.status == "denied" and new.amount >= approval.amount:
            return None
        if approval.status == "pending":
            if new.amount > approval.amount:
                approval.amount, approval.is_changed = new.amount, True
            return approval
    if sum(approval.is_open(now) for approval in known if approval.account_id == new.account_id) >= MAX_OPEN:
        return None
    known.append(new)
    return new


def new_approval(
    kind: Kind, account_id: UUID, about: UUID, unit: str, amount: int, spending: "Spending", now: datetime
) -> Approval:
    return Approval(
        account_id=account_id,
        approval_id=new_id(),
        kind=kind,
        about=about,
        unit=unit,
        requester=requester_of(spending),
        amount=amount,
        status="pending",
        allowed=None,
        expires_at=now + PENDING_FOR,
        created_at=now,
        is_new=True,
    )


def granted(
    approvals: Sequence[Approval], limit: "Limit", spending: "Spending", amount: int, now: datetime
) -> Approval | None:
    """Return an approval that allows the request."""
    for approval in approvals:
        if approval.is_from(limit, spending) and approval.is_open(now) and approval.allows(amount):
            return approval
    return None
