"""Wire types of the audit log."""

from typing import Any
from uuid import UUID

from pydantic import Field

from app.admin.schemas import Person
from app.auth.caller import Environment
from app.http.schemas import Reply, Timestamp


class AuditEntryReply(Reply):
    audit_id: UUID
    created_at: Timestamp
    admin_id: UUID
    admin_email: str = Field(
        description="The author at that time: an admin's email, `system`, `user` or `API key` with its id."
    )
    address: str
    request_id: str
    action: str
    environment: Environment | None
    target_type: str
    target_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None


class AuditRow(AuditEntryReply):
    person: "Person | None" = Field(description="The person of an account or a purchase; null for other targets.")


class AuditLogReply(Reply):
    entries: list[AuditRow]
    next_cursor: UUID | None = Field(description="Value of `cursor` for the next page; null on the last page.")
