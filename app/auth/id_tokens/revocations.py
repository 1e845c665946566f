"""Token revocation: end users' tokens that are revoked before they expire."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.auth.cache import InvalidatedCache
from app.auth.caller import Environment
from app.auth.id_tokens import queries
from app.auth.id_tokens.queries import TokenState
from app.auth.id_tokens.verifier import MAX_TOKEN_LIFE, TokenClaims
from app.auth.spelling import FoldedProviders
from app.db import Database, Session
from app.errors import InvalidRequest

MAX_CACHED_TOKENS = 10_000
KEEP_AFTER_EXPIRY = timedelta(hours=1)  # well past the leeway with which an expired token is still accepted
ALL_TOKENS = ""
"""Notified instead of a token's id when a user's cut-off changes: the tokens affected are unknown."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """The facts of a verified token that decide whether it still counts."""

    environment: Environment
    oauth_provider: str
    external_id: str
    token_id: str
    issued_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, claims: TokenClaims) -> "IssuedToken":
        return cls(**{name: getattr(claims, name) for name in cls.__slots__})


async def revoke_token(tx: Session, token_id: str, *, expires_at: datetime, now: datetime) -> None:
    """Reject the token (`TokenClaims.token_id` or `token_id_of_jti`) in every process within 1 s of the commit."""
    await queries.upsert_revoked_token(tx, token_id, expires_at, now)


async def revoke_tokens_before(
    tx: Session,
    moment: datetime,
    *,
    environment: Environment,
    oauth_provider: str,
    external_id: str,
    now: datetime,
) -> None:
    """Reject all of a user's tokens issued before `moment`, within 1 s of the commit. The cut-off never moves back.

    Raise InvalidRequest for a moment in the future, which would reject tokens that do not exist yet.
    """
    if moment > now:
        raise InvalidRequest("Tokens can be revoked up to now, not up to a moment in the future")
    await queries.upsert_token_cutoff(tx, environment, oauth_provider, external_id, moment)


async def forget_user(tx: Session, *, environment: Environment, oauth_provider: str, external_id: str) -> None:
    """Delete the cut-off of the user's tokens, which names the person. A salted digest continues to reject them.

    Without it a stolen token would work again.
    """
    await queries.replace_token_cutoff_by_digest(tx, environment, oauth_provider, external_id)


async def purge_expired_revocations(tx: Session, *, now: datetime) -> int:
    """Delete revocations of expired tokens, and such cut-offs of erased users. Return their number."""
    tokens = await queries.delete_revoked_tokens_expired_before(tx, now - KEEP_AFTER_EXPIRY)
    return tokens + await queries.delete_erased_cutoffs_before(tx, now - MAX_TOKEN_LIFE - KEEP_AFTER_EXPIRY)


class TokenRevocations:
    """Checks whether a verified token was revoked, from memory while the notification listener is current."""

    def __init__(self, db: Database, folded_providers: FoldedProviders) -> None:
        self._db = db
        self._folded_providers = folded_providers
        self._states: InvalidatedCache[str, TokenState] = InvalidatedCache(MAX_CACHED_TOKENS)

    async def is_revoked(self, token: TokenClaims, *, cache_counts: bool) -> bool:
        state = self._states.get(token.token_id) if cache_counts else None
        if state is None:
            state = (await self._states.load_all(lambda: self._read([token])))[token.token_id]
        return _revokes(state, token)

    async def revoked_among(self, tokens: Collection[IssuedToken], *, cache_counts: bool) -> frozenset[str]:
        """Return the ids of the tokens that are revoked. All that are not in memory cost one statement."""
        states = {token.token_id: self._states.get(token.token_id) if cache_counts else None for token in tokens}
        unknown = [token for token in tokens if states[token.token_id] is None]
        if unknown:
            states |= await self._states.load_all(lambda: self._read(unknown))
        return frozenset(
            token.token_id
            for token in tokens
            if (state := states[token.token_id]) is not None and _revokes(state, token)
        )

    async def _read(self, tokens: Collection[IssuedToken | TokenClaims]) -> Mapping[str, TokenState]:
        # The cut-off has the spelling of the account, which may be the folded one.
        keys = [
            (token.token_id, token.environment, *spelling)
            for token in tokens
            for own in [(token.oauth_provider, token.external_id)]
            for spelling in dict.fromkeys((own, self._folded_providers.fold(*own)))
        ]
        return await queries.find_token_states(self._db, keys)

    def forget(self, token_id: str) -> None:
        """Handle a notification: this token's state changed, or with ALL_TOKENS any token's."""
        if token_id == ALL_TOKENS:
            self._states.forget_all()
        else:
            self._states.forget(token_id)

    def forget_all(self) -> None:
        self._states.forget_all()


def _revokes(state: TokenState, token: IssuedToken | TokenClaims) -> bool:
    return state.revoked or (state.not_before is not None and token.issued_at < state.not_before)
