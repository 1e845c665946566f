"""Continuing checks: whether the credential of a long answer would still be accepted."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from app.auth.api_keys.keys import Address
from app.auth.api_keys.verifier import KeyVerifier, KnownKey
from app.auth.caller import Permission
from app.auth.errors import InvalidApiKey
from app.auth.id_tokens.revocations import IssuedToken, TokenRevocations


@dataclass(frozen=True, slots=True)
class KeyUse:
    """An API key as a request used it: from an address, with a verified client certificate or none."""

    key_id: str
    permission: Permission
    address: Address | None
    client_subject: str | None

    def is_allowed(self, key: KnownKey) -> bool:
        facts = key.facts
        return (
            self.permission in facts.permissions
            and facts.allows(self.address)
            and facts.client_subject in (None, self.client_subject)
        )


Credential = KeyUse | IssuedToken


class ContinuingChecks:
    """Checks credentials that were accepted before, from memory while other processes' changes arrive."""

    def __init__(self, keys: KeyVerifier, revocations: TokenRevocations, is_current: Callable[[], bool]) -> None:
        self._keys = keys
        self._revocations = revocations
        self._is_current = is_current

    async def refused(self, credentials: Collection[Credential], now: datetime) -> frozenset[Credential]:
        """Return the credentials that would be refused at `now`. Raise if the database cannot say."""
        tokens = [credential for credential in credentials if isinstance(credential, IssuedToken)]
        revoked = await self._revocations.revoked_among(tokens, cache_counts=self._is_current()) if tokens else ()
        refused: set[Credential] = {token for token in tokens if token.token_id in revoked or token.expires_at <= now}
        uses = [credential for credential in credentials if isinstance(credential, KeyUse)]
        keys = {key_id: await self._find(key_id, now) for key_id in {use.key_id for use in uses}}
        refused |= {use for use in uses if (key := keys[use.key_id]) is None or not use.is_allowed(key)}
        return frozenset(refused)

    async def _find(self, key_id: str, now: datetime) -> KnownKey | None:
        try:
            return await self._keys.working_key(key_id, now)
        except InvalidApiKey:
            return None
