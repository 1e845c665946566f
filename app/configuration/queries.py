"""The configuration's SQL: one statement a function. A function that takes a lock has `lock` in its name."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from app.auth.caller import Environment
from app.configuration.models import ConfigurationVersion, PaymentProvider
from app.configuration.sealing import Sealed
from app.db import Database, Session

_FIND_CURRENT = """
    SELECT (SELECT count(*) FROM configuration_versions) AS changes,
           (SELECT jsonb_object_agg(section, document)
              FROM (SELECT DISTINCT ON (section) section, document FROM configuration_versions
                     ORDER BY section, version DESC) latest) AS documents,
           (SELECT jsonb_object_agg(environment, jsonb_build_array(encryption_key_id, encode(sealed, 'hex')))
              FROM payment_providers) AS sealed
"""
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('configuration'))")


async def find_current(db: Database) -> Mapping[str, Any]:
    """Return the number of changes, each section's last document, and the sealed secrets, in one consistent state."""
    row = await db.fetch_row(_FIND_CURRENT)
    assert row is not None
    return row


async def lock_configuration(tx: Session) -> None:
    """Lock the configuration until commit, so that changes happen one at a time."""
    await tx.execute(_LOCK)


async def find_latest(db: Session, section: str) -> Mapping[str, Any] | None:
    query = (
        select(*ConfigurationVersion.__table__.columns)
        .where(ConfigurationVersion.section == section)
        .order_by(ConfigurationVersion.version.desc())
        .limit(1)
    )
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def find_version(db: Session, section: str, version: int) -> Mapping[str, Any] | None:
    key = ConfigurationVersion.section == section, ConfigurationVersion.version == version
    query = select(*ConfigurationVersion.__table__.columns).where(*key)
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def list_versions(db: Session, section: str, *, before: int | None, limit: int) -> Sequence[Mapping[str, Any]]:
    """Return the section's versions, newest first."""
    query = (
        select(*ConfigurationVersion.__table__.columns)
        .where(ConfigurationVersion.section == section)
        .order_by(ConfigurationVersion.version.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(ConfigurationVersion.version < before)
    return [dict(row) for row in (await db.execute(query)).mappings()]


async def insert_version(tx: Session, row: Mapping[str, Any]) -> None:
    await tx.execute(insert(ConfigurationVersion).values(**row))


async def find_sealed(db: Session, environment: Environment) -> Sealed | None:
    query = select(*PaymentProvider.__table__.columns).where(PaymentProvider.environment == environment)
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else Sealed(row["encryption_key_id"], row["sealed"])


async def upsert_sealed(tx: Session, environment: Environment, sealed: Sealed, now: datetime) -> None:
    values = {"encryption_key_id": sealed.key_id, "sealed": sealed.data, "updated_at": now}
    statement = upsert(PaymentProvider).values(environment=environment, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["environment"], set_=values))


async def delete_sealed(tx: Session, environment: Environment) -> None:
    await tx.execute(delete(PaymentProvider).where(PaymentProvider.environment == environment))
