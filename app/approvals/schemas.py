"""Wire format of approvals. Amounts are texts: whole credits and uses, and exact money in the currency's major unit."""

import re
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import BaseModel, Field

from app.approvals.service import Decision
from app.errors import InvalidRequest
from app.http.schemas import MAX_INT64, Reply, Timestamp
from app.ledger.approval_queries import Stored
from app.ledger.approvals import Kind
from app.ledger.limits import Scope, Window
from app.ledger.money import nanos_of_text
from app.ledger.pools import CREDIT
from app.ledger.units import USE, amount_text, unit_text

DEFAULT_VALID_S, MAX_VALID_S = 900, 86_400
WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
ApprovalStatus = Literal["pending", "approved", "denied", "used", "expired"]


class ApproveBody(BaseModel):
    amount: str | None = Field(
        default=None,
        max_length=40,
        description="The most that the request may need, or the raise of a budget. Absent: the amount asked for.",
        examples=["25.00"],
    )
    valid_for_s: int = Field(
        default=DEFAULT_VALID_S, strict=True, ge=1, le=MAX_VALID_S, description="From now, in seconds."
    )

    def decision(self, approval: Stored) -> Decision:
        """Return the decision. Raises InvalidRequest for an amount that the limit's unit does not have."""
        allowed = approval.amount if self.amount is None else _parsed(self.amount, approval.unit)
        return Decision(allowed, timedelta(seconds=self.valid_for_s))


DENIAL = Decision(None, timedelta())


def _parsed(text: str, unit: str) -> int:
    if unit not in (CREDIT, USE):
        try:
            amount = nanos_of_text(text)
        except ValueError as error:
            raise InvalidRequest(f"amount {error}", field="amount") from None
    elif WHOLE.fullmatch(text) is None:
        raise InvalidRequest("amount must be a whole number", field="amount")
    else:
        amount = int(text)
    if not 0 < amount <= MAX_INT64:
        raise InvalidRequest("amount must be above 0 and fit 64 bits", field="amount")
    return amount


class LimitOfApproval(Reply):
    scope: Scope
    scope_value: str | None
    window: Window
    unit: str
    amount: str

    @classmethod
    def of(cls, approval: Stored) -> Self | None:
        if approval.scope is None or approval.window is None or approval.limit_amount is None:
            return None
        return cls(
            scope=approval.scope,
            scope_value=approval.scope_value or None,
            window=approval.window,
            unit=unit_text(approval.unit),
            amount=amount_text(approval.unit, approval.limit_amount),
        )


class ApprovalReply(Reply):
    """A refused request that waits for a person, and the decision."""

    approval_id: str
    kind: Kind = Field(
        description="`limit`: one request above a limit. `resume`: a paused run. `budget`: a higher budget of a run."
    )
    status: ApprovalStatus
    unit: str = Field(description="`credits`, `uses`, or the currency of money.")
    amount: str = Field(description="Asked for. Of `budget`: the missing amount.")
    allowed: str | None = Field(description="The most that the request may need. Of `budget`: the raise.")
    limit: LimitOfApproval | None = Field(description="Of `limit`.")
    refused_run_id: str | None = Field(
        description="Of `resume` and `budget`: the run, or the one above it, that refused."
    )
    key_id: str | None = Field(description="The API key that asked.")
    agent_id: str | None
    model: str | None
    tool: str | None
    run_id: str | None
    created_at: Timestamp
    expires_at: Timestamp = Field(description="A pending one lapses then; an approved one cannot be used from then on.")
    decided_at: Timestamp | None
    decided_by: Literal["user", "admin"] | None
    used_at: Timestamp | None

    @classmethod
    def of(cls, approval: Stored, now: datetime) -> Self:
        same = (
            "kind",
            "refused_run_id",
            "key_id",
            "agent_id",
            "model",
            "tool",
            "run_id",
            "created_at",
            "expires_at",
            "decided_at",
            "used_at",
        )
        return cls(
            **{name: getattr(approval, name) for name in same},
            approval_id=approval.wire_id,
            status=approval.status_at(now),
            unit=unit_text(approval.unit),
            amount=amount_text(approval.unit, approval.amount),
            allowed=None if approval.allowed is None else amount_text(approval.unit, approval.allowed),
            limit=LimitOfApproval.of(approval),
            decided_by=approval.decided_by_type,
        )


class ApprovalsReply(Reply):
    """Newest first, at most 200."""

    approvals: list[ApprovalReply]
