"""Models without a price: counted by the metric and in a bounded list, outside of requests."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from app.clock import utc_now
from app.db import Database
from app.observability.metrics import REGISTRY
from app.pricing import queries, unknown_models
from app.pricing.compiled import UnknownModel
from app.pricing.unknown_models import UnknownModels
from tests.conftest import settings_for
from tests.databases import Urls

NOW = utc_now()
NEW = UnknownModel("openai", "gpt-next", "no_row")


@pytest.fixture
async def own_db(own_database: Urls) -> AsyncIterator[Database]:
    db = Database(settings_for(own_database).database_url, pool_size=5)
    yield db
    await db.close()


def counted(reason: str, outcome: str) -> float:
    labels = {"reason": reason, "outcome": outcome}
    return REGISTRY.get_sample_value("billing_unknown_models_total", labels) or 0.0


async def listed(db: Database) -> list[tuple[object, ...]]:
    async with db.read() as session:
        rows = await queries.list_unknown_models(session, limit=100)
    return [(row["provider"], row["model"], row["reason"], row["outcome"], row["events"]) for row in rows]


async def test_a_model_is_listed_once_with_its_first_and_last_event(own_db: Database) -> None:
    first, second = UnknownModels(own_db), UnknownModels(own_db)  # of two processes
    before = counted("no_row", "refused"), counted("disputed", "stated_price")
    first.note(NEW, NOW, stated_price=False)
    first.note(NEW, NOW + timedelta(seconds=1), stated_price=False)
    await first.flush()
    second.note(UnknownModel("openai", "gpt-next", "disputed"), NOW + timedelta(seconds=5), stated_price=True)
    second.note(UnknownModel("", "", "no_row"), NOW, stated_price=False)
    await second.stop()
    assert await listed(own_db) == [
        ("openai", "gpt-next", "disputed", "stated_price", 3),
        ("", "", "no_row", "refused", 1),
    ]
    async with own_db.read() as session:
        row = (await queries.list_unknown_models(session, limit=1))[0]
    assert (row["first_seen_at"], row["last_seen_at"]) == (NOW, NOW + timedelta(seconds=5))
    assert (counted("no_row", "refused"), counted("disputed", "stated_price")) == (before[0] + 3, before[1] + 1)


async def test_what_a_full_list_cannot_take_is_counted_by_the_metric_alone(
    own_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_models, "MAX_COLLECTED", 2)
    monkeypatch.setattr(queries, "_COUNT_UNKNOWN", queries._COUNT_UNKNOWN.bindparams(most=1))
    models = UnknownModels(own_db)
    before = counted("no_row", "refused")
    for name in ("a", "b", "c"):
        models.note(UnknownModel("p", name, "no_row"), NOW, stated_price=False)
    await models.flush()
    models.note(UnknownModel("p", "a", "no_row"), NOW, stated_price=False)
    models.note(UnknownModel("p", "d", "no_row"), NOW, stated_price=False)
    await models.flush()
    assert sorted(await listed(own_db)) == [("p", "a", "no_row", "refused", 2), ("p", "b", "no_row", "refused", 1)]
    assert counted("no_row", "refused") == before + 5


async def test_a_model_that_no_event_names_for_90_days_is_forgotten(own_db: Database) -> None:
    models = UnknownModels(own_db)
    models.note(NEW, NOW - timedelta(days=91), stated_price=False)
    await models.flush()
    assert len(await listed(own_db)) == 1
    models.note(UnknownModel("p", "a", "no_row"), NOW, stated_price=False)
    await models.flush()
    assert await listed(own_db) == [("p", "a", "no_row", "refused", 1)]


async def test_counts_wait_for_the_database(own_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    models = UnknownModels(own_db)
    models.note(NEW, NOW, stated_price=False)
    transaction = own_db.transaction

    def fail() -> None:
        models.note(NEW, NOW + timedelta(seconds=1), stated_price=False)  # an event during the write
        raise OSError("down")

    monkeypatch.setattr(own_db, "transaction", fail)
    await models.flush()
    monkeypatch.setattr(own_db, "transaction", transaction)
    await models.flush()
    assert await listed(own_db) == [("openai", "gpt-next", "no_row", "refused", 2)]


async def test_failed_writes_do_not_let_the_list_grow(own_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown_models, "MAX_COLLECTED", 2)
    models = UnknownModels(own_db)
    transaction = own_db.transaction

    def fail() -> None:
        for name in ("c", "d"):  # events during the write
            models.note(UnknownModel("p", name, "no_row"), NOW, stated_price=False)
        raise OSError("down")

    for name in ("a", "b"):
        models.note(UnknownModel("p", name, "no_row"), NOW, stated_price=False)
    monkeypatch.setattr(own_db, "transaction", fail)
    await models.flush()
    monkeypatch.setattr(own_db, "transaction", transaction)
    await models.flush()
    assert sorted(await listed(own_db)) == [("p", name, "no_row", "refused", 1) for name in ("c", "d")]
