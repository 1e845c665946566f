"""Returning users: a keyed digest of each identity whose user deleted the account.

A later account of the same identity gets nothing that is given once: no one-time free uses, no initial uses of
products, no one-time grants. Otherwise a user could renew them by deleting the account. Daily free uses begin on the
day after the account's creation.

Without the key, a digest identifies no one: even a reader who guesses an identity cannot test the guess.
"""

import hmac
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Self

from app.accounts import queries
from app.accounts.search import folded_identity
from app.auth.spelling import canonical_uuid
from app.db import Session
from app.db.statements import Tx
from app.settings import Settings


class IdentityDigests:
    """The digests of identities under the setting IDENTITY_DIGEST_KEY. Ignores case and Unicode form."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.digest_key)

    @property
    def are_possible(self) -> bool:
        """Whether the service has a key."""
        return self._key is not None

    def digest(self, environment: str, oauth_provider: str, external_id: str) -> bytes:
        assert self._key is not None, "IDENTITY_DIGEST_KEY is not set"
        folded = folded_identity(environment, oauth_provider, canonical_uuid(external_id))
        return hmac.digest(self._key, folded, sha256)

    async def remember(self, tx: Session, identities: Iterable[tuple[str, str, str]], now: datetime) -> None:
        """Store the digests of identities (environment, provider, external id) whose account is being deleted."""
        await queries.insert_erased_identities(tx, [self.digest(*identity) for identity in identities], now)

    async def returning(self, tx: Tx, identities: Sequence[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
        """Return those of the identities whose user deleted an account before. None without a key."""
        if self._key is None or not identities:
            return set()
        digests = {identity: self.digest(*identity) for identity in identities}
        erased = set(await queries.find_erased_identities(tx, list(digests.values())))
        return {identity for identity, digest in digests.items() if digest in erased}
