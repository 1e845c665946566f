"""Queries of revoked tokens and cut-offs."""

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
_FIND_STATE = """
    SELECT EXISTS (SELECT FROM revoked_tokens WHERE token_id = $1) AS revoked,
           greatest((SELECT not_before FROM token_cutoffs
                      WHERE environment = $2 AND oauth_provider = $3 AND external_id = $4),
                    (SELECT max(not_before) FROM erased_cutoffs
                      WHERE identity_digest =
                            sha256(salt || convert_to(jsonb_build_array($2::text, $3::text, $4::text)::text, 'UTF8'))
                    )) AS not_before
"""


async def find_token_state(
    db: Database, token_id: str, environment: Environment, oauth_provider: str, external_id: str
) -> TokenState:
    row = await db.fetch_row(_FIND_STATE, token_id, environment, oauth_provider, external_id)
    assert row is not None
    return TokenState(row["revoked"], row["not_before"])


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
