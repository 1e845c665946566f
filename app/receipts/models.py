"""Table of the ledger chain."""

from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, LargeBinary
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class ChainedEntry(Base):
    """The hash of one ledger entry and of all earlier ones of its account. Append-only, by privilege and by trigger.

    No foreign key to the entry: its check would lock, and so rewrite, each entry. The proof of the books covers it.
    """

    __tablename__ = "ledger_chain"
    __table_args__ = (
        CheckConstraint("entry_no > 0", name="entry_no"),
        CheckConstraint("octet_length(hash) = 32", name="hash"),
        CheckConstraint("(latest IS NOT NULL) = (entry_no % 1000 = 0)", name="latest"),
    )

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    entry_no: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 of the entry and of the hash before it")
    latest: Mapped[list[int] | None] = mapped_column(
        ARRAY(BigInteger), comment="of every 1,000th entry: the last entry of each pool that is not empty"
    )
