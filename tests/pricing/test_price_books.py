"""Versions of price books: put in force from a moment on, in every process, and kept."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.db import Database
from app.db.listener import NotificationListener
from app.errors import InvalidRequest
from app.pricing.editing import Author, activate, confirm, find_in_force, find_version, propose
from app.pricing.engine import Priced, price
from app.pricing.errors import PriceBookNotFound
from app.pricing.service import KEPT_BOOKS, PriceBooks
from tests.auth.conftest import until
from tests.conftest import settings_for
from tests.databases import Urls
from tests.pricing.books import NOON, document, row, tokens

AUTHOR = Author("tests", None, "because", NOON)
HOUR = timedelta(hours=1)


@pytest.fixture
async def own_db(own_database: Urls) -> AsyncIterator[Database]:
    """A database without price books, which other tests would put in force for all."""
    db = Database(settings_for(own_database).database_url, pool_size=10)
    yield db
    await db.close()


async def put_in_force(db: Database, effective_at: datetime, **fields: Any) -> int:
    async with db.transaction() as tx:
        version = await propose(tx, document(**fields), AUTHOR)
        await activate(tx, version, effective_at, AUTHOR)
    return version


async def version_at(books: PriceBooks, at: datetime, currency: str = "USD") -> int | None:
    book = await books.current(currency, at)
    return None if book is None else book.version


async def test_the_version_in_force_at_the_event_s_time_counts(own_db: Database) -> None:
    books = PriceBooks(own_db)
    assert await books.current("USD", NOON) is None
    async with own_db.transaction() as tx:
        proposal = await propose(tx, document(), AUTHOR)
    assert await books.current("USD", NOON) is None  # a proposal prices nothing
    first = await put_in_force(own_db, NOON - 2 * HOUR)
    later = await put_in_force(own_db, NOON)
    between = await put_in_force(own_db, NOON - HOUR)
    euros = await put_in_force(own_db, NOON, currency="EUR")
    assert [proposal, first, later, between, euros] == [1, 2, 3, 4, 5]
    found = [await version_at(books, NOON + hours * HOUR) for hours in (-3, -2, -1, 0, 1)]
    assert found == [None, first, between, later, later]
    assert [await version_at(books, NOON + hours * HOUR, "EUR") for hours in (-1, 0)] == [None, euros]
    async with own_db.transaction() as tx:
        await activate(tx, first, NOON, AUTHOR)  # back to an earlier version: of equal times the later activation
        in_force = await find_in_force(tx, "USD", NOON)
    assert await version_at(books, NOON) == first
    assert in_force is not None
    assert in_force.version == first


async def test_a_version_explains_an_event_after_later_ones(own_db: Database) -> None:
    books = PriceBooks(own_db)
    version = await put_in_force(own_db, NOON - HOUR)
    book = await books.current("USD", NOON)
    assert book is not None
    charged = price(book, tokens(10, 3), at=NOON)
    await put_in_force(own_db, NOON - HOUR, llm=[row()])
    assert await PriceBooks(own_db).explain(version, tokens(10, 3), at=NOON) == charged
    assert isinstance(charged, Priced)
    assert charged.version == version
    with pytest.raises(PriceBookNotFound):
        await books.book(99)


async def test_a_version_is_loaded_once_for_all_who_ask_at_once(
    own_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_in_force(own_db, NOON)
    books = PriceBooks(own_db)
    found = await asyncio.gather(*(books.current("USD", NOON) for _ in range(20)))
    assert len({id(book) for book in found}) == 1


async def test_the_book_in_force_stays_in_memory_while_an_admin_reads_other_versions(own_db: Database) -> None:
    in_force = await put_in_force(own_db, NOON)
    books = PriceBooks(own_db)
    book = await books.current("USD", NOON)
    async with own_db.transaction() as tx:
        others = [await propose(tx, document(), AUTHOR) for _ in range(KEPT_BOOKS)]
    for version in others:
        await books.book(version)
        assert await books.book(in_force) is book


async def sees(books: PriceBooks, version: int) -> None:
    """Wait until the version is in force."""
    async with asyncio.timeout(20):
        while await version_at(books, NOON) != version:  # noqa: ASYNC110  # it has no event for tests
            await asyncio.sleep(0.01)


async def test_a_change_reaches_a_process_that_reads_nothing_in_between(
    own_database: Urls, own_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = NotificationListener(settings_for(own_database).direct_url)
    books = PriceBooks(own_db, listener)
    listener.start()
    try:
        await until(lambda: listener.is_current(asyncio.get_running_loop().time()), timeout_s=20)
        first = await put_in_force(own_db, NOON)
        await sees(books, first)
        reads = 0
        fetch_row = own_db.fetch_row

        async def counted(*arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            return await fetch_row(*arguments)

        monkeypatch.setattr(own_db, "fetch_row", counted)
        for _ in range(100):
            assert await version_at(books, NOON) == first
        assert reads < 10  # none, unless the listener fell behind for a moment
        await sees(books, await put_in_force(own_db, NOON))
    finally:
        await listener.stop()


OTHER = {"source": "other", "source_version": "2", "tariff": {"prices": {"input_uncached": "2", "output_text": "4"}}}
DISPUTED = row(
    status="disputed",
    source="first",
    others=[OTHER, {"source": "silent", "source_version": "1", "note": "not listed"}],
)


@pytest.mark.parametrize(("source", "nanos"), [(None, 2_000), ("first", 2_000), ("other", 6_000)])
async def test_a_disputed_row_prices_only_after_its_confirmation(db: Database, source: str | None, nanos: int) -> None:
    usage = tokens(1, 1, provider="openai", model="gpt")
    async with db.transaction() as tx:
        version = await propose(tx, document(llm=[DISPUTED]), AUTHOR)
        confirmed = await confirm(tx, version, {"row": source}, AUTHOR)
    books = PriceBooks(db)
    assert not isinstance(await books.explain(version, usage, at=NOON), Priced)
    found = await books.explain(confirmed, usage, at=NOON)
    assert isinstance(found, Priced)
    assert found.cost_nanos == nanos
    async with db.read() as session:
        stored = await find_version(session, confirmed)
    assert (stored.based_on, stored.document.llm[0].status) == (version, "confirmed")


@pytest.mark.parametrize(
    ("row_id", "source", "message"),
    [
        ("missing", None, "row missing is not a disputed row"),
        ("agreed", None, "row agreed is not a disputed row"),
        ("row", "silent", "source silent has no prices"),
        ("row", "unheard", "source unheard has no prices"),
    ],
)
async def test_only_a_disputed_row_can_be_confirmed(
    db: Database, row_id: str, source: str | None, message: str
) -> None:
    async with db.transaction() as tx:
        version = await propose(tx, document(llm=[DISPUTED, row(id="agreed", model="b", status="agreed")]), AUTHOR)
        with pytest.raises(InvalidRequest, match=message):
            await confirm(tx, version, {row_id: source}, AUTHOR)
        with pytest.raises(PriceBookNotFound):
            await confirm(tx, 10**9, {}, AUTHOR)
        with pytest.raises(PriceBookNotFound):
            await activate(tx, 10**9, NOON, AUTHOR)
