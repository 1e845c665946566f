"""Queries of revoked tokens and cut-offs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, text
from sqlalchemy.dialects.postgresql import insert as upsert

from app.auth.caller import Environment
from app.auth.id_tokens.models import ErasedCutoff, RevokedToken, TokenCutoff
from app.db import Database, Session


@dataclass(frozen=True, slots=True)
class TokenState:
    """The revocation of a token: its own, and its user's cut-off."""

    revoked: bool
    not_before: datetime | None


# An erased person has no name to look up: the few salts that are kept are tried one by one.
_FIND_STATES = """
    SELECT k.token_id,
           EXISTS (SELECT FROM revoked_tokens r WHERE r.token_id = k.token_id) AS revoked,
           greatest((SELECT c.not_before FROM token_cutoffs c
                      WHERE c.environment = k.environment AND c.oauth_provider = k.oauth_provider
                        AND c.external_id = k.external_id),
                    (SELECT max(e.not_before) FROM erased_cutoffs e
                      WHERE e.identity_digest =
                            sha256(e.salt || convert_to(jsonb_build_array(k.environment, k.oauth_provider,
                                                                          k.external_id)::text, 'UTF8'))
                    )) AS not_before
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
           AS k (token_id, environment, oauth_provider, external_id)
"""


async def find_token_states(db: Database, tokens: Sequence[tuple[str, Environment, str, str]]) -> dict[str, TokenState]:
    """Return the state by token id, for (token id, environment, provider, external id).

    A token may come with several spellings of its user: the latest cut-off counts.
    """
    states: dict[str, TokenState] = {}
    for row in await db.fetch_rows(_FIND_STATES, *map(list, zip(*tokens, strict=True))):
        known = states.get(row["token_id"])
        moments = [row["not_before"], known.not_before if known is not None else None]
        latest = max((moment for moment in moments if moment is not None), default=None)
        states[row["token_id"]] = TokenState(row["revoked"], latest)
    return states


async def upsert_revoked_token(tx: Session, token_id: str, expires_at: datetime, now: datetime) -> None:
    statement = upsert(RevokedToken).values(token_id=token_id, expires_at=expires_at, revoked_at=now)
    later = func.greatest(RevokedToken.expires_at, statement.excluded.expires_at)
    await tx.execute(statement.on_conflict_do_update(index_elements=["token_id"], set_={"expires_at": later}))


async def upsert_token_cutoff(
    tx: Session, environment: Environment, oauth_provider: str, external_id: str, not_before: datetime
) -> None:
    """Set the cut-off unless the stored one is later."""
    statement = upsert(TokenCutoff).values(
        environment=environment, oauth_provider=oauth_provider, external_id=external_id, not_before=not_before
    )
    later = func.greatest(TokenCutoff.not_before, statement.excluded.not_before)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=["environment", "oauth_provider", "external_id"], set_={"not_before": later}
        )
    )


_FORGET_CUTOFF = text(
    """
    WITH forgotten AS (
        DELETE FROM token_cutoffs
         WHERE environment = :environment AND oauth_provider = :oauth_provider AND external_id = :external_id
        RETURNING jsonb_build_array(environment, oauth_provider, external_id) AS identity, not_before,
                  uuid_send(gen_random_uuid()) AS salt)
    INSERT INTO erased_cutoffs (salt, identity_digest, not_before)
    SELECT salt, sha256(salt || convert_to(CAST(identity AS text), 'UTF8')), not_before FROM forgotten
    """
)


async def replace_token_cutoff_by_digest(
    tx: Session, environment: Environment, oauth_provider: str, external_id: str
) -> None:
    values = {"environment": environment, "oauth_provider": oauth_provider, "external_id": external_id}
    await tx.execute(_FORGET_CUTOFF, values)


async def delete_erased_cutoffs_before(tx: Session, moment: datetime) -> int:
    return (await tx.execute(delete(ErasedCutoff).where(ErasedCutoff.not_before < moment))).rowcount


async def delete_revoked_tokens_expired_before(tx: Session, moment: datetime) -> int:
    return (await tx.execute(delete(RevokedToken).where(RevokedToken.expires_at < moment))).rowcount
