"""PriceBookEditor: proposes versions of price books, confirms disputed rows, and puts versions in force."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db import Session
from app.errors import InvalidRequest
from app.pricing import queries
from app.pricing.book import BookDocument, LlmRow, OtherSource, Tariff
from app.pricing.errors import PriceBookNotFound

MAX_LISTED = 200


@dataclass(frozen=True, slots=True)
class Author:
    """The author, time and reason of a change. `admin_id` is None for the command line."""

    name: str
    admin_id: UUID | None
    reason: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """A stored version of a price book."""

    version: int
    document: BookDocument
    based_on: int | None
    reason: str
    proposed_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Activation:
    """The activation by which a version is in force."""

    version: int
    effective_at: datetime
    activated_by: str
    activated_at: datetime


async def lock(tx: Session) -> None:
    """Lock the price books until commit, so that changes happen one at a time."""
    await queries.lock_price_books(tx)


async def find_activation(db: Session, currency: str, at: datetime) -> Activation | None:
    """Return the activation that decides the version in force for a currency at a time."""
    row = await queries.find_activation_in_force(db, currency, at)
    if row is None:
        return None
    return Activation(row["version"], row["effective_at"], row["activated_by"], row["created_at"])


async def find_version(db: Session, version: int) -> Version:
    """Return a version. Raises PriceBookNotFound."""
    row = await queries.find_version(db, version)
    if row is None:
        raise PriceBookNotFound(version)
    return _version(row)


async def find_newest(db: Session) -> Version | None:
    """Return the newest version, of any currency."""
    last = await queries.next_version(db) - 1
    return await find_version(db, last) if last else None


async def find_in_force(db: Session, currency: str, at: datetime) -> Version | None:
    """Return the version in force for a currency at a time. For changes; requests use `PriceBooks.current`."""
    activation = await find_activation(db, currency, at)
    return None if activation is None else await find_version(db, activation.version)


async def propose(tx: Session, document: BookDocument, author: Author, *, based_on: int | None = None) -> int:
    """Store a document as a new version, not in force. Return its number. Locks the price books until commit."""
    await queries.lock_price_books(tx)
    version = await queries.next_version(tx)
    await queries.insert_version(
        tx,
        {
            "version": version,
            "name": document.name,
            "currency": document.currency,
            "document": document.model_dump(mode="json"),
            "based_on": based_on,
            "reason": author.reason,
            "proposed_by": author.name,
            "admin_id": author.admin_id,
            "created_at": author.now,
        },
    )
    return version


async def activate(tx: Session, version: int, effective_at: datetime, author: Author) -> int:
    """Put a version in force for its currency from a time on. Return the activation's number.

    Every process uses it within 1 s of the commit. A time in the past changes no stored event. Locks the price books
    until commit. Raises PriceBookNotFound.
    """
    await queries.lock_price_books(tx)
    found = await find_version(tx, version)
    number = await queries.next_activation(tx)
    await queries.insert_activation(
        tx,
        {
            "activation_no": number,
            "version": version,
            "currency": found.document.currency,
            "effective_at": effective_at,
            "reason": author.reason,
            "activated_by": author.name,
            "admin_id": author.admin_id,
            "created_at": author.now,
        },
    )
    return number


async def confirm(tx: Session, version: int, choices: Mapping[str, str | None], author: Author) -> int:
    """Store a new version in which disputed rows are confirmed. Return its number.

    `choices` maps a row's id to the source whose prices are right; None keeps the row's own. Locks the price books
    until commit. Raises PriceBookNotFound, and InvalidRequest for a row that is not disputed or a source without
    prices.
    """
    found = await find_version(tx, version)
    rows = {row.id: row for row in found.document.llm}
    for row_id, source in choices.items():
        if row_id not in rows or rows[row_id].status != "disputed":
            raise InvalidRequest(f"row {row_id} is not a disputed row of version {version}", field="row")
        rows[row_id] = _confirmed(rows[row_id], source)
    document = BookDocument.model_validate(
        found.document.model_dump() | {"llm": [row.model_dump() for row in rows.values()]}
    )
    return await propose(tx, document, author, based_on=version)


def _confirmed(row: LlmRow, source: str | None) -> LlmRow:
    """Return the row with the prices of a source. The other sources stay on the row, so the choice can be explained."""
    if source is None or source == row.source:
        return row.model_copy(update={"status": "confirmed"})
    chosen = next((other for other in row.others if other.source == source), None)
    if chosen is None or chosen.tariff is None:
        raise InvalidRequest(f"source {source} has no prices for row {row.id}", field="source")
    own = OtherSource(source=row.source, source_version=row.source_version, tariff=row.tariff, note=row.note)
    return row.model_copy(
        update={
            "status": "confirmed",
            "source": chosen.source,
            "source_version": chosen.source_version,
            "note": chosen.note,
            "others": [own if other is chosen else other for other in row.others],
            **{name: getattr(chosen.tariff, name) for name in Tariff.model_fields},
        }
    )


def _version(row: Mapping[str, Any]) -> Version:
    return Version(
        version=row["version"],
        document=BookDocument.model_validate(row["document"]),
        based_on=row["based_on"],
        reason=row["reason"],
        proposed_by=row["proposed_by"],
        created_at=row["created_at"],
    )
