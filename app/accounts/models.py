"""Tables of identities, profiles and activity."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    func,
    literal_column,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


def _begins_like(table: str, column: str) -> Index:
    """Return an index for case-insensitive prefix search among millions of rows."""
    lowered = func.lower(literal_column(column)).label("lowered")
    return Index(f"ix_{table}_{column}", lowered, postgresql_ops={"lowered": "text_pattern_ops"})


class AccountIdentity(Base):
    """Maps an external user to an account, until the person is erased.

    A trigger notifies every process when a mapping ends.
    """

    __tablename__ = "account_identities"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        Index(None, "account_id"),
        _begins_like("account_identities", "external_id"),
    )

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    oauth_provider: Mapped[str] = mapped_column(Text, primary_key=True)
    external_id: Mapped[str] = mapped_column(Text, primary_key=True)
    account_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(Timestamp)


class ErasedIdentity(Base):
    """A digest of an identity whose user deleted the account. Names no one to a reader without the key."""

    __tablename__ = "erased_identities"
    __table_args__ = (CheckConstraint("length(digest) = 32", name="digest"),)

    digest: Mapped[bytes] = mapped_column(
        LargeBinary, primary_key=True, comment="keyed; of the environment and the identity"
    )
    erased_at: Mapped[datetime] = mapped_column(Timestamp)


class AccountProfile(Base):
    """Attributes of an account's person, as callers sent them. Each may be absent or erased."""

    __tablename__ = "account_profiles"
    __table_args__ = (
        _begins_like("account_profiles", "customer_email"),
        _begins_like("account_profiles", "display_name"),
        Index(None, "updated_at"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    wa_id: Mapped[str | None] = mapped_column(Text)
    tenant_id: Mapped[str | None] = mapped_column(Text)
    customer_email: Mapped[str | None] = mapped_column(Text)
    display_name: Mapped[str | None] = mapped_column(Text)
    user_role: Mapped[str | None] = mapped_column(Text)
    agent_id: Mapped[str | None] = mapped_column(Text)
    marketing_opt_in: Mapped[bool | None]
    marketing_opt_in_at: Mapped[datetime | None] = mapped_column(Timestamp)
    marketing_opt_in_source: Mapped[str | None] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(Timestamp)


class SearchWord(Base):
    """A search word of an account's person, for the back office. The worker writes it, a trigger deletes it."""

    __tablename__ = "account_search_words"
    __table_args__ = (Index(None, "word", "account_id"),)

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    word: Mapped[str] = mapped_column(
        Text(collation="C"), primary_key=True, comment="folded: see app/accounts/search.py"
    )


class IdentitySpelling(Base):
    """A digest of an identity, ignoring case and Unicode form. Deleted with the person, as search words are."""

    __tablename__ = "account_spellings"
    __table_args__ = (
        Index(None, "digest"),
        Index("ix_account_spellings_shared", "digest", "account_id", postgresql_where=text("shared")),
        CheckConstraint("length(digest) = 32", name="digest"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    shared: Mapped[bool] = mapped_column(server_default=text("false"), comment="another account had the same digest")


class SearchRefresh(Base):
    """The time up to which search words are complete, and the progress of the first walk over all accounts."""

    __tablename__ = "account_search_refresh"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    as_of: Mapped[datetime] = mapped_column(Timestamp)
    walked_to: Mapped[UUID | None] = mapped_column(comment="null: all accounts were walked over once")


class AccountActivity(Base):
    """Sort columns of the back office, as the worker last read them (ADR 7). No decision depends on them."""

    __tablename__ = "account_activity"
    __table_args__ = (
        CheckConstraint("environment IN ('live', 'test')", name="environment"),
        Index(None, "environment", "paid", "account_id"),
        Index(None, "environment", "last_activity_at", "account_id"),
    )

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.account_id", ondelete="RESTRICT"), primary_key=True)
    environment: Mapped[str] = mapped_column(Text)
    paid: Mapped[int] = mapped_column(BigInteger)
    last_activity_at: Mapped[datetime] = mapped_column(Timestamp)


class AccountActivityRefresh(Base):
    """The time up to which account_activity is complete: one row, or none before the first refresh."""

    __tablename__ = "account_activity_refresh"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    as_of: Mapped[datetime] = mapped_column(Timestamp)
