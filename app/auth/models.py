"""Who may call: API keys, administrators, and what was taken back from end users' tokens."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, DateTime, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import CIDR
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base

Timestamp = DateTime(timezone=True)


class ApiKey(Base):
    """A key by its public id. Of the secret there is only a hash.

    A trigger notifies every process of a change to anything here but `name`, `last_used_at` and `requests_total`.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("key_id ~ '^[0-9a-z]{16}$'", name="key_id"),
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        CheckConstraint("length(name) BETWEEN 1 AND 255", name="name"),
        CheckConstraint("secret_hash LIKE '$argon2id$%'", name="secret_hash"),
        CheckConstraint(
            "cardinality(permissions) > 0"
            " AND permissions <@ ARRAY['billing:read', 'billing:write', 'billing:credit']::text[]",
            name="permissions",
        ),
        CheckConstraint("rate_limit_per_minute > 0", name="rate_limit_per_minute"),
        CheckConstraint("length(client_subject) BETWEEN 1 AND 512", name="client_subject"),
        CheckConstraint("(rotated_to IS NULL) = (grace_ends_at IS NULL)", name="rotation"),
    )

    key_id: Mapped[str] = mapped_column(Text, primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    secret_hash: Mapped[str] = mapped_column(Text, comment="Argon2id of the whole key text")
    permissions: Mapped[list[str]] = mapped_column(ARRAY(Text))
    ip_allow_list: Mapped[list[str]] = mapped_column(ARRAY(CIDR), comment="empty: any address")
    rate_limit_per_minute: Mapped[int | None] = mapped_column(BigInteger, comment="null: the configured default")
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime | None] = mapped_column(Timestamp)
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)
    rotated_to: Mapped[str | None] = mapped_column(ForeignKey("api_keys.key_id", ondelete="RESTRICT"), unique=True)
    grace_ends_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="end of a rotated key")
    last_used_at: Mapped[datetime | None] = mapped_column(Timestamp, comment="written at most once a minute")
    requests_total: Mapped[int] = mapped_column(
        BigInteger, server_default=text("0"), comment="written with last_used_at or soon after"
    )
    client_subject: Mapped[str | None] = mapped_column(
        Text, comment="subject of the client certificate that requests must come with; null: none is needed"
    )


class AdminUser(Base):
    """Who may sign in to the back office."""

    __tablename__ = "admin_users"
    __table_args__ = (
        CheckConstraint("email = lower(email) AND email LIKE '%_@_%' AND length(email) <= 254", name="email"),
        CheckConstraint("role IN ('viewer', 'support', 'admin')", name="role"),
    )

    admin_id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    role: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    disabled_at: Mapped[datetime | None] = mapped_column(Timestamp)


class AdminSession(Base):
    """An admin's session, named by the `jti` of its token."""

    __tablename__ = "admin_sessions"
    __table_args__ = (Index(None, "admin_id", "created_at"), Index(None, "expires_at"))

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    admin_id: Mapped[UUID] = mapped_column(ForeignKey("admin_users.admin_id", ondelete="RESTRICT"))
    address: Mapped[str] = mapped_column(Text)
    user_agent: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Timestamp)
    expires_at: Mapped[datetime] = mapped_column(Timestamp, comment="moves on while the session is used")
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)


class RevokedToken(Base):
    """One end-user token that must not be accepted any more. Of no use once the token has expired."""

    __tablename__ = "revoked_tokens"
    __table_args__ = (Index(None, "expires_at"),)

    token_id: Mapped[str] = mapped_column(Text, primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    revoked_at: Mapped[datetime] = mapped_column(Timestamp)


class TokenCutoff(Base):
    """A user's tokens issued before `not_before` are refused, whichever they are."""

    __tablename__ = "token_cutoffs"
    __table_args__ = (CheckConstraint("environment IN ('live', 'test')", name="environment"),)

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    oauth_provider: Mapped[str] = mapped_column(Text, primary_key=True)
    external_id: Mapped[str] = mapped_column(Text, primary_key=True)
    not_before: Mapped[datetime] = mapped_column(Timestamp)


class ErasedCutoff(Base):
    """The cut-off of somebody who was erased, until no token is left that it refuses.

    The digest is of the salt and the identity, so a row says nothing to who does not know the person already.
    """

    __tablename__ = "erased_cutoffs"
    __table_args__ = (CheckConstraint("length(salt) = 16 AND length(identity_digest) = 32", name="digest"),)

    salt: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    identity_digest: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256")
    not_before: Mapped[datetime] = mapped_column(Timestamp)
