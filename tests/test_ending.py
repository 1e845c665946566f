"""The end of background tasks."""

import asyncio

import pytest

from app import ending


async def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "REPEAT_S", 0.01)
    lost = 0

    async def loop() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await ending.end(task)
    assert task.cancelled()
    assert lost == 2


async def test_the_error_of_an_ended_task_is_neither_raised_nor_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("too late")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await ending.end(task)
    assert task.done()
    del task
    assert "never retrieved" not in caplog.text


async def test_who_waits_for_the_end_can_be_cancelled() -> None:
    async def insist() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if asyncio.current_task() in released:
                    raise

    released: set[asyncio.Task[None] | None] = set()
    task = asyncio.create_task(insist())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(ending.end(task))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    released.add(task)
    await ending.end(task)
