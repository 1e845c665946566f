"""Tables of revoked tokens and cut-offs."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


class RevokedToken(Base):
    """A revoked end-user token. The row is useless once the token has expired."""

    __tablename__ = "revoked_tokens"
    __table_args__ = (Index(None, "expires_at"),)

    token_id: Mapped[str] = mapped_column(Text, primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    revoked_at: Mapped[datetime] = mapped_column(Timestamp)


class TokenCutoff(Base):
    """Rejects all of a user's tokens that were issued before `not_before`."""

    __tablename__ = "token_cutoffs"
    __table_args__ = (CheckConstraint("environment IN ('live', 'test')", name="environment"),)

    environment: Mapped[str] = mapped_column(Text, primary_key=True)
    oauth_provider: Mapped[str] = mapped_column(Text, primary_key=True)
    external_id: Mapped[str] = mapped_column(Text, primary_key=True)
    not_before: Mapped[datetime] = mapped_column(Timestamp)


class ErasedCutoff(Base):
    """The cut-off of an erased person, kept until every token that it rejects has expired.

    The digest covers the salt and the identity, so a row identifies no one to a reader who does not know the identity.
    """

    __tablename__ = "erased_cutoffs"
    __table_args__ = (CheckConstraint("length(salt) = 16 AND length(identity_digest) = 32", name="digest"),)

    salt: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    identity_digest: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256")
    not_before: Mapped[datetime] = mapped_column(Timestamp)
