"""The SQL of prices: one statement a function. A function that takes a lock has `lock` in its name."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, text

from app.db import Database, Session
from app.pricing.models import PriceBookActivation, PriceBookVersion, UnknownModelSeen

Row = Mapping[str, Any]
MAX_UNKNOWN_MODELS = 10_000
_FIND_ACTIVATIONS = """
    SELECT array_agg(currency ORDER BY effective_at, activation_no) AS currencies,
           array_agg(version ORDER BY effective_at, activation_no) AS versions,
           array_agg(effective_at ORDER BY effective_at, activation_no) AS effective_at
      FROM price_book_activations
"""
_FIND_DOCUMENT = "SELECT document FROM price_books WHERE version = $1"
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('price_books'))")
_LOCK_UNKNOWN = text("SELECT pg_advisory_xact_lock(hashtext('unknown_models'))")
_FORGET_UNKNOWN = text("DELETE FROM unknown_models WHERE last_seen_at < :before")
_COUNT_UNKNOWN = text(
    """
    INSERT INTO unknown_models AS known
           (provider, model, reason, missing, outcome, events, first_seen_at, last_seen_at)
    SELECT * FROM unnest(CAST(:providers AS text[]), CAST(:models AS text[]), CAST(:reasons AS text[]),
                         CAST(:missing AS text[]), CAST(:outcomes AS text[]), CAST(:events AS bigint[]),
                         CAST(:firsts AS timestamptz[]), CAST(:lasts AS timestamptz[]))
                  AS seen (provider, model, reason, missing, outcome, events, first, last)
     WHERE (SELECT count(*) FROM unknown_models) < :most
        OR EXISTS (SELECT FROM unknown_models u WHERE u.provider = seen.provider AND u.model = seen.model)
    ON CONFLICT (provider, model) DO UPDATE
       SET reason = excluded.reason, missing = excluded.missing, outcome = excluded.outcome,
           events = known.events + excluded.events,
           first_seen_at = least(known.first_seen_at, excluded.first_seen_at),
           last_seen_at = greatest(known.last_seen_at, excluded.last_seen_at)
    """
).bindparams(most=MAX_UNKNOWN_MODELS)
_HEAD = [column for column in PriceBookVersion.__table__.columns if column.name != "document"]


async def find_activations(db: Database) -> Sequence[tuple[str, int, datetime]]:
    """Return (currency, version, effective time) of all activations, the latest last."""
    row = await db.fetch_row(_FIND_ACTIVATIONS)
    assert row is not None
    columns = (row[name] or () for name in ("currencies", "versions", "effective_at"))
    return list(zip(*columns, strict=True))


async def find_document(db: Database, version: int) -> Any | None:
    row = await db.fetch_row(_FIND_DOCUMENT, version)
    return None if row is None else row["document"]


async def lock_price_books(tx: Session) -> None:
    """Lock the numbering of versions and activations until commit."""
    await tx.execute(_LOCK)


async def next_version(tx: Session) -> int:
    return (await _last(tx, func.max(PriceBookVersion.version))) + 1


async def next_activation(tx: Session) -> int:
    return (await _last(tx, func.max(PriceBookActivation.activation_no))) + 1


async def _last(tx: Session, maximum: Any) -> int:
    return (await tx.execute(select(maximum))).scalar_one() or 0


async def insert_version(tx: Session, row: Row) -> None:
    await tx.execute(insert(PriceBookVersion).values(**row))


async def insert_activation(tx: Session, row: Row) -> None:
    await tx.execute(insert(PriceBookActivation).values(**row))


async def find_version(db: Session, version: int) -> Row | None:
    """Return a version with its document."""
    query = select(*PriceBookVersion.__table__.columns).where(PriceBookVersion.version == version)
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def list_versions(db: Session, *, before: int | None, limit: int) -> Sequence[Row]:
    """Return the versions without their documents, newest first."""
    query = select(*_HEAD).order_by(PriceBookVersion.version.desc()).limit(limit)
    if before is not None:
        query = query.where(PriceBookVersion.version < before)
    return [dict(row) for row in (await db.execute(query)).mappings()]


async def list_activations(db: Session, *, limit: int) -> Sequence[Row]:
    """Return the activations, newest first."""
    query = select(*PriceBookActivation.__table__.columns).order_by(PriceBookActivation.activation_no.desc())
    return [dict(row) for row in (await db.execute(query.limit(limit))).mappings()]


async def find_activation_in_force(db: Session, currency: str, at: datetime) -> Row | None:
    """Return the activation that decides the version in force for a currency at a time."""
    query = (
        select(*PriceBookActivation.__table__.columns)
        .where(PriceBookActivation.currency == currency, PriceBookActivation.effective_at <= at)
        .order_by(PriceBookActivation.effective_at.desc(), PriceBookActivation.activation_no.desc())
        .limit(1)
    )
    row = (await db.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def lock_and_count_unknown(tx: Session, seen: Sequence[Row], *, forget_before: datetime) -> None:
    """Add to the counts of unknown models. Drop models last seen before a time; ignore new ones when the table is full.

    Locks the table's writers until commit.
    """
    await tx.execute(_LOCK_UNKNOWN)
    await tx.execute(_FORGET_UNKNOWN, {"before": forget_before})
    await tx.execute(
        _COUNT_UNKNOWN,
        {
            "providers": [row["provider"] for row in seen],
            "models": [row["model"] for row in seen],
            "reasons": [row["reason"] for row in seen],
            "missing": [row["missing"] for row in seen],
            "outcomes": [row["outcome"] for row in seen],
            "events": [row["events"] for row in seen],
            "firsts": [row["first_seen_at"] for row in seen],
            "lasts": [row["last_seen_at"] for row in seen],
        },
    )


async def list_unknown_models(db: Session, *, limit: int) -> Sequence[Row]:
    """Return the unknown models, the last seen first."""
    query = select(*UnknownModelSeen.__table__.columns).order_by(UnknownModelSeen.last_seen_at.desc()).limit(limit)
    return [dict(row) for row in (await db.execute(query)).mappings()]
