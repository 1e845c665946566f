"""The import: both packages of open price data become a proposal."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.db import Database, Session
from app.pricing import seed
from app.pricing.book import BookDocument, Status
from app.pricing.comparison import Change, compare
from app.pricing.editing import Author, Version, find_in_force, find_newest, lock, propose
from app.pricing.importing import genai_prices, merge, model_prices

CURRENCY = "USD"
"""Of both sources."""
NAME = "Open price data"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A document that was made from a base, and its difference. `based_on` is None for an empty base."""

    document: BookDocument
    based_on: int | None
    changes: list[Change]
    skipped: list[str]

    @property
    def statuses(self) -> Mapping[Status, int]:
        return Counter(row.status for row in self.document.llm)


def from_packages(base: Version | None, now: datetime) -> Proposal:
    """Read and merge both packages. Raises ImportError if one is not installed."""
    main, other = genai_prices.read(), model_prices.read()
    rows, sources = merge.rows_of(main, other, now), (main, other)
    document = merge.proposal(_document(base), rows, sources)
    return _proposal(base, document, [line for source in sources for line in source.skipped])


def from_seed(base: Version | None) -> Proposal:
    """Take the rows from the shipped data, which needs no package."""
    shipped = seed.read()
    sources = {row.source for row in shipped.llm}
    document = merge.replace_rows(_document(base), shipped.llm, sources, shipped.notices)
    return _proposal(base, document, [])


async def store(tx: Session, proposal: Proposal, author: Author) -> tuple[int | None, bool]:
    """Store the proposal, not in force. Return its version, and whether it is new.

    None: it changes nothing. A proposal that equals the newest version adds none. Locks the price books until commit.
    """
    if not proposal.changes:
        return None, False
    await lock(tx)
    newest = await find_newest(tx)
    if newest is not None and newest.document == proposal.document:
        return newest.version, False
    return await propose(tx, proposal.document, author, based_on=proposal.based_on), True


async def find_base(db: Database, now: datetime) -> Version | None:
    """Return the version in force, whose own rows, rules and decisions an import keeps."""
    async with db.read() as session:
        return await find_in_force(session, CURRENCY, now)


def _document(base: Version | None) -> BookDocument:
    return BookDocument(name=NAME, currency=CURRENCY) if base is None else base.document


def _proposal(base: Version | None, document: BookDocument, skipped: list[str]) -> Proposal:
    changes = compare(None if base is None else base.document, document)
    return Proposal(document, None if base is None else base.version, changes, skipped)
