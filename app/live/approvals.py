"""Approvals on event streams: those that wait, those in force, and the decisions. Pure.

An approval is no ledger entry, so its events have no id. Each stream remembers what it has sent, and begins with the
approvals that are open and the decisions that still apply. So a client that was away misses no decision that matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from app.approvals.schemas import ApprovalReply
from app.ledger.approval_queries import Stored
from app.live import events

MOST_OVER = 100
"""Used and expired approvals of an account that are kept for streams that have not sent them yet."""
Mark: TypeAlias = tuple[object, ...]
Sent: TypeAlias = dict[UUID, Mark]
"""The marks of the last events that a stream has sent, by approval."""


@dataclass(frozen=True, slots=True)
class ApprovalState:
    """An approval as its event. All streams of the account send the same bytes."""

    mark: Mark
    event: bytes
    is_over: bool
    """It was used, or its time is over: nothing about it will change."""

    @classmethod
    def of(cls, approval: Stored, now: datetime) -> "ApprovalState":
        reply = ApprovalReply.of(approval, now)
        mark = (reply.status, reply.amount, reply.allowed, reply.expires_at)
        is_over = reply.status in ("used", "expired") or approval.expires_at <= now
        return cls(mark, events.approval(reply.model_dump_json()), is_over)


@dataclass(slots=True)
class AccountApprovals:
    """The approvals of a watched account, the oldest first. `digest`: of the reading that led to them."""

    digest: str = ""
    by_id: dict[UUID, ApprovalState] = field(default_factory=dict)

    @property
    def known(self) -> list[UUID]:
        """The approvals that may still change."""
        return [approval_id for approval_id, state in self.by_id.items() if not state.is_over]

    def accept(self, found: Sequence[Stored], digest: str, now: datetime) -> None:
        """Take a reading: the approvals in force, and all that were known."""
        self.digest = digest
        self.by_id |= {approval.approval_id: ApprovalState.of(approval, now) for approval in found}
        over = [approval_id for approval_id, state in self.by_id.items() if state.is_over]
        for approval_id in over[:-MOST_OVER]:
            del self.by_id[approval_id]

    def news(self, sent: Sent) -> bytes:
        """Return the events that a stream has not sent, and note them. One that ended before the stream is no news."""
        content = b""
        for approval_id, state in self.by_id.items():
            if sent.get(approval_id) == state.mark:
                continue
            if approval_id in sent or not state.is_over:
                content += state.event
            sent[approval_id] = state.mark
        for approval_id in sent.keys() - self.by_id.keys():
            del sent[approval_id]
        return content
