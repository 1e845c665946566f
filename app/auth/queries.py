"""Auth's SQL: one statement a function. A function that takes a lock says so in its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Row, Text, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from app.auth.caller import Environment, Permission
from app.auth.keys import KeyFacts
from app.auth.models import AdminSession, AdminUser, ApiKey, ErasedCutoff, RevokedToken, TokenCutoff
from app.db import Database, Session

_FACTS = [column for column in ApiKey.__table__.columns if column.name != "secret_hash"]
_ADMIN = list(AdminUser.__table__.columns)

# --- API keys -------------------------------------------------------------------------------------------------


def _facts(row: Mapping[Any, Any]) -> KeyFacts:
    return KeyFacts(
        key_id=row["key_id"],
        environment=row["environment"],
        name=row["name"],
        permissions=frozenset(Permission(permission) for permission in row["permissions"]),
        ip_allow_list=tuple(ip_network(network) for network in row["ip_allow_list"]),
        client_subject=row["client_subject"],
        rate_limit_per_minute=row["rate_limit_per_minute"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        rotated_to=row["rotated_to"],
        grace_ends_at=row["grace_ends_at"],
        last_used_at=row["last_used_at"],
        requests_total=row["requests_total"],
    )


_FIND_KEY = f"SELECT {', '.join(column.name for column in ApiKey.__table__.columns)} FROM api_keys WHERE key_id = $1"  # noqa: S608  (the names are our own columns')


async def find_key(db: Database, key_id: str) -> tuple[KeyFacts, str] | None:
    """The key and its hash."""
    row = await db.fetch_row(_FIND_KEY, key_id)
    return None if row is None else (_facts(row), row["secret_hash"])


async def find_key_facts(db: Session, key_id: str) -> KeyFacts | None:
    row = (await db.execute(select(*_FACTS).where(ApiKey.key_id == key_id))).mappings().one_or_none()
    return None if row is None else _facts(row)


async def lock_key(tx: Session, key_id: str) -> KeyFacts | None:
    query = select(*_FACTS).where(ApiKey.key_id == key_id).with_for_update()
    row = (await tx.execute(query)).mappings().one_or_none()
    return None if row is None else _facts(row)


async def list_keys(
    db: Session, environment: Environment | None, after: tuple[datetime, str] | None, limit: int
) -> list[KeyFacts]:
    """Newest first, from behind (created_at, key_id)."""
    query = select(*_FACTS).order_by(ApiKey.created_at.desc(), ApiKey.key_id.desc()).limit(limit)
    if environment is not None:
        query = query.where(ApiKey.environment == environment)
    if after is not None:
        created_at, key_id = after
        query = query.where(
            (ApiKey.created_at < created_at) | ((ApiKey.created_at == created_at) & (ApiKey.key_id < key_id))
        )
    return [_facts(row) for row in (await db.execute(query)).mappings()]


async def insert_key(tx: Session, values: Mapping[str, Any]) -> None:
    await tx.execute(insert(ApiKey).values(**values))


async def update_key(tx: Session, key_id: str, values: Mapping[str, Any]) -> KeyFacts:
    """The key as it is then. The caller holds its lock."""
    statement = update(ApiKey).where(ApiKey.key_id == key_id).values(**values).returning(*_FACTS)
    return _facts((await tx.execute(statement)).mappings().one())


# Rows that somebody holds are passed over: a mark that may be a minute late never waits, and never deadlocks.
_MARK_USED = text("""
    WITH used AS (SELECT * FROM unnest(:key_ids, :used_at, :requests) AS used (key_id, used_at, requests)),
         free AS (
            SELECT key_id, used.used_at, used.requests FROM api_keys JOIN used USING (key_id)
            ORDER BY key_id FOR NO KEY UPDATE OF api_keys SKIP LOCKED)
    UPDATE api_keys
       SET requests_total = requests_total + free.requests,
           last_used_at = CASE WHEN last_used_at > free.used_at - CAST(:interval AS interval) THEN last_used_at
                               ELSE free.used_at END
      FROM free WHERE api_keys.key_id = free.key_id
 RETURNING api_keys.key_id
""").bindparams(
    bindparam("key_ids", type_=ARRAY(Text)),
    bindparam("used_at", type_=ARRAY(DateTime(timezone=True))),
    bindparam("requests", type_=ARRAY(BigInteger)),
)


async def lock_and_mark_used(
    tx: Session, used_at: Mapping[str, datetime], requests: Mapping[str, int], interval: timedelta
) -> Sequence[str]:
    """Add the requests, and set last_used_at where it is `interval` older: the ids of those keys that nobody held."""
    values = {
        "key_ids": list(used_at),
        "used_at": list(used_at.values()),
        "requests": [requests[key_id] for key_id in used_at],
        "interval": interval,
    }
    return (await tx.execute(_MARK_USED, values)).scalars().all()


# --- end users' tokens ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenState:
    """What was revoked of a token: itself, and its user's tokens before a moment."""

    revoked: bool
    not_before: datetime | None


# Of an erased person there is no name to look up: the few salts that are kept are tried one by one.
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
    """A cut-off only ever moves forward."""
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


# --- administrators -------------------------------------------------------------------------------------------


async def upsert_admin(tx: Session, admin_id: UUID, email: str, role: str, now: datetime) -> Row[Any]:
    statement = upsert(AdminUser).values(admin_id=admin_id, email=email, role=role, created_at=now)
    changed = {"role": role, "disabled_at": None}
    return (
        await tx.execute(statement.on_conflict_do_update(index_elements=["email"], set_=changed).returning(*_ADMIN))
    ).one()


async def list_admins(db: Session, limit: int) -> Sequence[Row[Any]]:
    return (await db.execute(select(*_ADMIN).order_by(AdminUser.email).limit(limit))).all()


async def invite_admin(tx: Session, admin_id: UUID, email: str, role: str, now: datetime) -> Row[Any] | None:
    """None when that person may sign in already. Waits for a simultaneous invitation of the same person."""
    statement = upsert(AdminUser).values(admin_id=admin_id, email=email, role=role, created_at=now)
    statement = statement.on_conflict_do_update(
        index_elements=["email"], set_={"role": role, "disabled_at": None}, where=AdminUser.disabled_at.is_not(None)
    )
    return (await tx.execute(statement.returning(*_ADMIN))).one_or_none()


async def insert_disabled_admin(tx: Session, admin_id: UUID, email: str, now: datetime) -> None:
    """No effect when there is such an admin."""
    row = {"admin_id": admin_id, "email": email, "role": "viewer", "created_at": now, "disabled_at": now}
    await tx.execute(upsert(AdminUser).values(**row).on_conflict_do_nothing())


async def find_admin(db: Session, email: str) -> Row[Any] | None:
    return (await db.execute(select(*_ADMIN).where(AdminUser.email == email))).one_or_none()


async def find_admin_by_id(db: Session, admin_id: UUID) -> Row[Any] | None:
    return (await db.execute(select(*_ADMIN).where(AdminUser.admin_id == admin_id))).one_or_none()


async def lock_active_admins(tx: Session, role: str) -> Sequence[UUID]:
    """The admins of a role who may sign in. Locks their rows, so that no two changes remove the last one.

    Not so far that what refers to them (sessions, audit rows) would wait.
    """
    query = select(AdminUser.admin_id).where(AdminUser.role == role, AdminUser.disabled_at.is_(None))
    return (await tx.execute(query.order_by(AdminUser.admin_id).with_for_update(key_share=True))).scalars().all()


async def lock_admin(tx: Session, admin_id: UUID) -> Row[Any] | None:
    query = select(*_ADMIN).where(AdminUser.admin_id == admin_id).with_for_update(key_share=True)
    return (await tx.execute(query)).one_or_none()


async def update_admin(tx: Session, admin_id: UUID, role: str, disabled_at: datetime | None) -> Row[Any]:
    statement = update(AdminUser).where(AdminUser.admin_id == admin_id).values(role=role, disabled_at=disabled_at)
    return (await tx.execute(statement.returning(*_ADMIN))).one()


async def disable_admin(tx: Session, email: str, now: datetime) -> Row[Any] | None:
    """None when there is no such admin. The time of an earlier removal stays."""
    statement = (
        update(AdminUser)
        .where(AdminUser.email == email)
        .values(disabled_at=func.coalesce(AdminUser.disabled_at, bindparam("now", now, type_=DateTime(timezone=True))))
        .returning(*_ADMIN)
    )
    return (await tx.execute(statement)).one_or_none()


# --- administrators' sessions ---------------------------------------------------------------------------------

_SESSION = list(AdminSession.__table__.columns)
_FIND_SESSION = """
    SELECT s.session_id, s.admin_id, s.created_at, s.expires_at, s.revoked_at, u.email, u.role, u.disabled_at
      FROM admin_sessions s JOIN admin_users u ON u.admin_id = s.admin_id
     WHERE s.session_id = $1
"""


async def find_admin_session(db: Database, session_id: UUID) -> Mapping[str, Any] | None:
    """The session with its admin."""
    return await db.fetch_row(_FIND_SESSION, session_id)


async def insert_admin_session(tx: Session, row: Mapping[str, Any]) -> bool:
    """False when there is a session of that id."""
    statement = upsert(AdminSession).values(**row).on_conflict_do_nothing().returning(AdminSession.session_id)
    return (await tx.execute(statement)).scalar_one_or_none() is not None


async def extend_admin_session(tx: Session, session_id: UUID, expires_at: datetime) -> None:
    await tx.execute(
        update(AdminSession)
        .where(AdminSession.session_id == session_id, AdminSession.revoked_at.is_(None))
        .values(expires_at=func.greatest(AdminSession.expires_at, bindparam("until", expires_at, DateTime(True))))
    )


async def list_admin_sessions(db: Session, admin_id: UUID, now: datetime, limit: int) -> Sequence[Row[Any]]:
    """Those that still work, newest first."""
    query = select(*_SESSION).where(
        AdminSession.admin_id == admin_id, AdminSession.revoked_at.is_(None), AdminSession.expires_at > now
    )
    return (await db.execute(query.order_by(AdminSession.created_at.desc()).limit(limit))).all()


async def revoke_admin_sessions(
    tx: Session, admin_id: UUID, now: datetime, session_id: UUID | None = None
) -> Sequence[UUID]:
    """End an admin's session, or all of them: those that worked until now."""
    statement = update(AdminSession).where(
        AdminSession.admin_id == admin_id, AdminSession.revoked_at.is_(None), AdminSession.expires_at > now
    )
    if session_id is not None:
        statement = statement.where(AdminSession.session_id == session_id)
    return (await tx.execute(statement.values(revoked_at=now).returning(AdminSession.session_id))).scalars().all()


async def delete_admin_sessions_expired_before(tx: Session, moment: datetime) -> int:
    return (await tx.execute(delete(AdminSession).where(AdminSession.expires_at < moment))).rowcount
