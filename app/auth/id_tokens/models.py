"""Tables of revoked tokens and cut-offs."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base
from app.db.columns import Timestamp


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
