"""Approvals as a list: their part of the oracle of test_machine.py."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tests.support.run_model import Asked

DAY = timedelta(days=1)


@dataclass(eq=False)
class ModelApproval:
    kind: str
    about: object
    """A limit or a run of the model."""
    unit: str
    requester: tuple[str | None, ...] | None
    amount: int
    expires_at: datetime
    status: str = "pending"
    allowed: int | None = None

    def is_live(self, now: datetime) -> bool:
        return self.expires_at > now

    def shown(self, now: datetime) -> str:
        """The status for its reader. An approved one about a run does not expire."""
        lapses = self.status == "pending" or (self.status == "approved" and self.kind == "limit")
        return "expired" if lapses and not self.is_live(now) else self.status


@dataclass
class ApprovalModel:
    all: list[ModelApproval] = field(default_factory=list)

    def ask(
        self,
        kind: str,
        about: object,
        unit: str,
        amount: int,
        requester: tuple[str | None, ...] | None,
        now: datetime,
    ) -> bool:
        """Whether the request waits for a person: not if the same or a smaller one was denied within the day."""
        subject = (kind, about, unit, requester)
        like = [
            each
            for each in self.all
            if (each.kind, each.about, each.unit, each.requester) == subject and each.is_live(now)
        ]
        if any(each.status == "denied" and each.amount <= amount for each in like):
            return False
        waiting = next((each for each in like if each.status == "pending"), None)
        if waiting is None:
            self.all.append(ModelApproval(kind, about, unit, requester, amount, now + DAY))
        else:
            waiting.amount = max(waiting.amount, amount)
        return True

    def granted(self, limit: object, asked: Asked, amount: int, now: datetime) -> ModelApproval | None:
        for each in self.all:
            is_theirs = each.about is limit and each.requester == asked.requester
            if is_theirs and each.status == "approved" and each.is_live(now) and amount <= (each.allowed or 0):
                return each
        return None

    def decide(self, approval: ModelApproval, allowed: int | None, valid_for: timedelta, now: datetime) -> None:
        approval.status, approval.allowed = ("denied", None) if allowed is None else ("approved", allowed)
        if allowed is not None:
            approval.expires_at = now + valid_for
