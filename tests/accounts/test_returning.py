"""Digests of identities whose users deleted their accounts."""

import uuid
from datetime import datetime

from app.accounts.returning import IdentityDigests
from app.db import Database


async def test_every_spelling_of_a_deleted_identity_is_returning(db: Database, now: datetime) -> None:
    """Also in one batch: two of them must not hide each other."""
    name = f"ann-{uuid.uuid4()}"
    spellings = [("live", "oauth:google", each) for each in (name, name.upper(), name.title())]
    others = [("test", "oauth:google", name), ("live", "oauth:google", f"{name}x")]
    digests = IdentityDigests(b"k" * 32)
    async with db.transaction() as tx:
        await digests.remember(tx, spellings[:1], now)
    async with db.batch() as batch:
        assert await digests.returning(batch, [*spellings, *others]) == set(spellings)
