"""Group commit: the answers of a batch and the next batch."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from app.ledger.group_commit import ANSWERS_AT_ONCE, GroupCommit

CALLERS = 10 * ANSWERS_AT_ONCE
ACCOUNT = UUID(int=1)
STATEMENTS = 3


async def test_next_batch_is_decided_while_answers_of_a_batch_are_sent() -> None:
    happened: list[object] = []

    async def run_together(requests: Sequence[int], skip_locked: bool) -> Sequence[int]:
        for _ in range(STATEMENTS):
            await asyncio.sleep(0)
        happened.append(list(requests))
        return [-request for request in requests]

    group: GroupCommit[int, int] = GroupCommit(run_together, asyncio.Semaphore(), name="test")

    async def ask(number: int) -> None:
        assert await group.run(number, ACCOUNT, may_repeat=True) == -number
        happened.append(number)

    async with asyncio.TaskGroup() as callers:
        for number in range(2 * CALLERS):
            callers.create_task(ask(number))
            if number == CALLERS:
                await asyncio.sleep(0)  # so many wait when the first transaction begins
    first, second, *others = [what for what in happened if isinstance(what, list)]
    assert not others
    assert first + second == list(range(2 * CALLERS))
    assert sorted(what for what in happened if isinstance(what, int)) == list(range(2 * CALLERS))
    assert happened.index(second) < happened.index(first[-1])


async def test_batch_is_answered_although_one_of_its_callers_has_left() -> None:
    async def run_together(requests: Sequence[int], skip_locked: bool) -> Sequence[int]:
        callers[1].cancel()
        await asyncio.sleep(0)
        return requests

    group: GroupCommit[int, int] = GroupCommit(run_together, asyncio.Semaphore(), name="test")
    callers = [asyncio.create_task(group.run(number, ACCOUNT, may_repeat=True)) for number in range(CALLERS)]
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(found.pop(1), asyncio.CancelledError)
    assert found == [0, *range(2, CALLERS)]
    assert group.size == 0
