"""PriceBooks: the price book in force, from memory, in every process within a second of a change."""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeAlias

from app.clock import steady_s
from app.db import Database
from app.db.listener import NotificationListener
from app.pricing import queries
from app.pricing.book import BookDocument
from app.pricing.comparison import Change, compare
from app.pricing.compiled import PriceBook
from app.pricing.engine import Price, price
from app.pricing.errors import PriceBookNotFound
from app.pricing.usage import Usage

CHANNEL = "price_books"
KEPT_BOOKS = 16
"""The least recently used is dropped, so versions that an admin reads do not displace the books of requests."""
Activations: TypeAlias = Mapping[str, Sequence[tuple[datetime, int]]]
"""By currency: the moments from which versions are in force, in their order."""


@dataclass(frozen=True, slots=True)
class BooksInForce:
    """The books of all currencies that are in force at some moments. Finding one waits for nothing."""

    _activations: Activations
    _books: Mapping[int, PriceBook]

    def at(self, currency: str, moment: datetime) -> PriceBook | None:
        """Return the book in force. None: there is none, or the moment was not among those asked for."""
        version = _version_at(self._activations.get(currency, ()), moment)
        return None if version is None else self._books.get(version)


class PriceBooks:
    """Finds price books. A version never changes, so each is read and compiled once per process.

    With a listener, the list of activations is reused until a change is notified, as long as the listener is current.
    Without one (the worker, commands), every call reads one row.
    """

    def __init__(self, db: Database, listener: NotificationListener | None = None) -> None:
        self._db = db
        self._listener = listener
        self._activations: Activations | None = None
        self._books: OrderedDict[int, PriceBook] = OrderedDict()
        self._differences: dict[tuple[int | None, int], list[Change]] = {}
        self._loading = asyncio.Lock()
        self._notifications = 0
        if listener is not None:
            listener.subscribe(CHANNEL, lambda _: self._forget(), self._forget)

    async def current(self, currency: str, at: datetime) -> PriceBook | None:
        """Return the book that is in force for a currency at a time. None: no book has been put in force."""
        return (await self.in_force((at,))).at(currency, at)

    async def in_force(self, moments: Iterable[datetime]) -> BooksInForce:
        """Return the books of all currencies that are in force at these moments, for decisions under a lock."""
        activations = await self._current_activations()
        versions = {_version_at(known, moment) for known in activations.values() for moment in moments}
        return BooksInForce(
            activations, {version: await self.book(version) for version in versions if version is not None}
        )

    async def throughout(self, since: datetime, until: datetime) -> BooksInForce:
        """Return the books of all currencies that are in force at any moment from `since` to `until`."""
        activations = await self._current_activations()
        moments = [since, *(at for known in activations.values() for at, _ in known if since < at <= until)]
        return await self.in_force(moments)

    async def book(self, version: int) -> PriceBook:
        """Return a version, in force or not. Raises PriceBookNotFound."""
        if (book := self._books.get(version)) is not None:
            self._books.move_to_end(version)
            return book
        async with self._loading:  # several requests may ask at once
            if version not in self._books:
                document = await queries.find_document(self._db, version)
                if document is None:
                    raise PriceBookNotFound(version)
                book = await asyncio.to_thread(_compile, document, version)
                if len(self._books) >= KEPT_BOOKS:
                    self._books.popitem(last=False)
                self._books[version] = book
            return self._books[version]

    async def difference(self, before: int | None, after: int) -> list[Change]:
        """Return what a version changes about another one, or about no prices. Raises PriceBookNotFound."""
        key = before, after
        if key not in self._differences:
            old = None if before is None else (await self.book(before)).document
            changes = await asyncio.to_thread(compare, old, (await self.book(after)).document)
            self._differences.clear()  # an admin turns the pages of one
            self._differences[key] = changes
        return self._differences[key]

    async def explain(
        self,
        version: int,
        usage: Usage,
        *,
        at: datetime,
        plan: str | None = None,
        plan_markup: Decimal | None = None,
        tool: str | None = None,
        month_quantity: Decimal | int = 0,
    ) -> Price:
        """Return the cost of a stored event again, line by line, from the values that were stored with it."""
        return price(
            await self.book(version),
            usage,
            at=at,
            plan=plan,
            plan_markup=plan_markup,
            tool=tool,
            month_quantity=month_quantity,
        )

    async def _current_activations(self) -> Activations:
        known = self._activations
        if known is not None and self._listener is not None and self._listener.is_current(steady_s()):
            return known
        before = self._notifications
        found: dict[str, list[tuple[datetime, int]]] = {}
        for currency, version, effective_at in await queries.find_activations(self._db):
            found.setdefault(currency, []).append((effective_at, version))
        if before == self._notifications:  # else the list may be older than a change, and serves this call only
            self._activations = found
        return found

    def _forget(self) -> None:
        self._notifications += 1
        self._activations = None


def _version_at(activations: Sequence[tuple[datetime, int]], moment: datetime) -> int | None:
    return next((version for effective_at, version in reversed(activations) if effective_at <= moment), None)


def _compile(document: object, version: int) -> PriceBook:
    return PriceBook.of(BookDocument.model_validate(document), version)
