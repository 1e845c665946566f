"""Queries of API keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_network
from typing import Any

from sqlalchemy import ARRAY, BigInteger, DateTime, Text, bindparam, insert, select, text, update

from app.auth.api_keys.keys import KeyFacts, UsageTerms
from app.auth.api_keys.models import ApiKey
from app.auth.caller import Environment, Permission
from app.db import Database, Session
from app.db.sql import sql

_KNOWN = frozenset(Permission)
_FACTS = [column for column in ApiKey.__table__.columns if column.name != "secret_hash"]


def _facts(row: Mapping[Any, Any]) -> KeyFacts:
    return KeyFacts(
        key_id=row["key_id"],
        environment=row["environment"],
        name=row["name"],
        # A later version may have permissions that this one does not know, and has no route for.
        permissions=frozenset(Permission(name) for name in row["permissions"] if name in _KNOWN),
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
        usage=UsageTerms(
            identity_provider=row["identity_provider"],
            event_source=row["event_source"],
            usage_policy=row["usage_policy"],
            debt_limit_nanos=row["debt_limit_nanos"],
            max_cost_nanos=row["max_cost_nanos"],
        ),
        double_charges=row["double_charges"],
    )


_FIND_KEY = sql(
    "SELECT {columns} FROM api_keys WHERE key_id = $1",
    columns=", ".join(column.name for column in ApiKey.__table__.columns),
)


async def find_key(db: Database, key_id: str) -> tuple[KeyFacts, str] | None:
    """Return the key and its hash."""
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
    """Return keys, newest first, after (created_at, key_id)."""
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
    """Return the updated key. The caller holds its lock."""
    statement = update(ApiKey).where(ApiKey.key_id == key_id).values(**values).returning(*_FACTS)
    return _facts((await tx.execute(statement)).mappings().one())


# Skips locked rows: this write may be a minute late, so it never waits and never deadlocks.
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
    """Add the requests, and set last_used_at if it is `interval` older. Return the keys that were not locked."""
    values = {
        "key_ids": list(used_at),
        "used_at": list(used_at.values()),
        "requests": [requests[key_id] for key_id in used_at],
        "interval": interval,
    }
    return (await tx.execute(_MARK_USED, values)).scalars().all()
