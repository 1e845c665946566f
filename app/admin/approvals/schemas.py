"""Wire format of the approvals queue."""

from uuid import UUID

from app.admin.schemas import Person, Reason
from app.approvals.schemas import ApprovalReply, ApproveBody
from app.auth.caller import Environment
from app.http.schemas import Reply


class ApproveQueuedBody(ApproveBody):
    reason: Reason


class QueuedApproval(ApprovalReply):
    account_id: UUID
    environment: Environment
    person: Person


class QueuedApprovalsReply(Reply):
    approvals: list[QueuedApproval]
    next_cursor: UUID | None
