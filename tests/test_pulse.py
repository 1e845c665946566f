"""A database that is away is known to be away, beside the requests and for all of them."""

import asyncio

import pytest
from pydantic import SecretStr

from app.db import Database
from app.errors import DatabaseAway
from app.pulse import Pulse
from tests.auth.conftest import until
from tests.chaos.proxy import PostgresProxy
from tests.databases import Urls


async def test_one_missed_beat_means_nothing_two_mean_away_and_one_answer_means_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.pulse.EVERY_S", 0)
    answers = [True, False, True, False, False, False, True]
    seen: list[bool] = []
    done = asyncio.Event()

    async def beat() -> None:
        seen.append(pulse.is_away)
        if not answers:
            done.set()
            await asyncio.Event().wait()
        if not answers.pop(0):
            raise ConnectionError

    pulse = Pulse(beat, of="test")
    pulse.start()
    await asyncio.wait_for(done.wait(), 5)
    await pulse.stop()
    assert seen == [False, False, False, False, False, True, True, False]


async def test_whoever_is_answered_shows_that_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.pulse.EVERY_S", 0)
    beats, away = 0, []
    done = asyncio.Event()

    async def beat() -> None:
        nonlocal beats
        beats += 1
        away.append(pulse.is_away)
        if beats == 20:
            done.set()
        if beats % 2:
            pulse.answers += 1
        raise TimeoutError

    pulse = Pulse(beat, of="test")
    pulse.start()
    await asyncio.wait_for(done.wait(), 5)
    await pulse.stop()
    assert not any(away)


async def test_nobody_waits_for_a_database_in_a_black_hole(database: Urls) -> None:
    proxy = PostgresProxy(SecretStr(database.service))
    await proxy.start()
    db = Database(proxy.url, timeout_s=60)  # by which time whoever waited would fail this test
    db.watch()
    try:
        await db.ping()
        proxy.black_hole()
        async with asyncio.timeout(60):
            await until(lambda: db.is_away, 20)
            with pytest.raises(DatabaseAway):
                await db.ping()
            with pytest.raises(DatabaseAway):
                async with db.transaction():
                    pass
            with pytest.raises(DatabaseAway):
                async with db.read():
                    pass
            proxy.heal()
            await until(lambda: not db.is_away, 20)
            await db.ping()
    finally:
        await db.close()
        await proxy.stop()
