"""Wire types of admins and their sessions."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from app.auth.admins.admins import MAX_EMAIL_CHARS, Role
from app.http.schemas import Reply, Timestamp


class WhoAmI(Reply):
    admin_id: UUID
    email: str
    role: Role
    expires_at: Timestamp
    credit_limit: int | None = Field(
        description="The most credits that the admin may give or take at once; null: no limit.",
    )
    money_limit: int | None = Field(
        description="The most money that the admin may give or take at once, in the major unit; null: no limit.",
    )
    csrf_token: str = Field(description="Value of X-CSRF-Token, for every write by cookie.")


class AdminBody(Reply):
    email: Annotated[str, StringConstraints(max_length=MAX_EMAIL_CHARS)]
    role: Role


class AdminChange(Reply):
    role: Role | None = None
    disabled: bool | None = None


class AdminReply(Reply):
    admin_id: UUID
    email: str
    role: Role
    created_at: Timestamp
    disabled_at: Timestamp | None


class AdminsReply(Reply):
    admins: list[AdminReply]


class SessionReply(Reply):
    session_id: UUID
    address: str
    user_agent: str
    created_at: Timestamp
    expires_at: Timestamp
    current: bool = Field(description="True for the session of this request.")


class SessionsReply(Reply):
    sessions: list[SessionReply]


class RevokedReply(Reply):
    revoked: int
