"""HealthProbe: a database that is down is known to be down, beside the requests and for all of them."""

import asyncio

import pytest
from pydantic import SecretStr

from app.db import Database
from app.db.health_probe import HealthProbe
from app.errors import DatabaseDown
from tests.auth.conftest import until
from tests.chaos.proxy import PostgresProxy
from tests.databases import Urls


async def test_one_missed_beat_means_nothing_two_mean_away_and_one_answer_means_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.db.health_probe.EVERY_S", 0)
    answers = [True, False, True, False, False, False, True]
    seen: list[bool] = []
    done = asyncio.Event()

    async def check() -> None:
        seen.append(probe.is_down)
        if not answers:
            done.set()
            await asyncio.Event().wait()
        if not answers.pop(0):
            raise ConnectionError

    probe = HealthProbe(check, of="test")
    probe.start()
    await asyncio.wait_for(done.wait(), 60)
    await probe.stop()
    assert seen == [False, False, False, False, False, True, True, False]


async def test_whoever_is_answered_shows_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.health_probe.EVERY_S", 0)
    beats, down = 0, []
    done = asyncio.Event()

    async def check() -> None:
        nonlocal beats
        beats += 1
        down.append(probe.is_down)
        if beats == 20:
            done.set()
        if beats % 2:
            probe.answers += 1
        raise TimeoutError

    probe = HealthProbe(check, of="test")
    probe.start()
    await asyncio.wait_for(done.wait(), 60)
    await probe.stop()
    assert not any(down)


async def test_nobody_waits_for_a_database_in_a_black_hole(database: Urls) -> None:
    proxy = PostgresProxy(SecretStr(database.service))
    await proxy.start()
    db = Database(proxy.url, timeout_s=60)  # a caller that waited so long would fail this test
    db.watch()
    try:
        await db.ping()
        proxy.black_hole()
        async with asyncio.timeout(60):
            await until(lambda: db.is_down)
            with pytest.raises(DatabaseDown):
                await db.ping()
            with pytest.raises(DatabaseDown):
                async with db.transaction():
                    pass
            with pytest.raises(DatabaseDown):
                async with db.read():
                    pass
            proxy.heal()
            await until(lambda: not db.is_down)
            await db.ping()
    finally:
        await db.close()
        await proxy.stop()
