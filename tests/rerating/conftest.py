"""A server with usage to price again, and the command that does it."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.databases import Urls
from tests.metering.conftest import BOOK, Desk, put_in_force, running_desk
from tests.processes import Printed, Process, run_command
from tests.servers import environment

DONE, FAILED, WRONG, UNUSABLE = 0, 1, 2, 3
LONG_AGO = "2026-01-01T00:00:00Z"
PATH = "/v1/usage"


@pytest.fixture
async def desk(own_database: Urls) -> AsyncIterator[Desk]:
    """A server with an own database, so that a rerating of all accounts concerns those of one test."""
    async with running_desk(own_database) as desk:
        yield desk


def rerate(desk: Desk, *arguments: str, since: str = LONG_AGO) -> Printed:
    """Run the command as an operator does."""
    env = {**os.environ, **environment(desk.urls)}
    done = run_command(env, "prices", "rerate", "--from", since, *arguments)
    assert "Traceback" not in done.err, done.err
    return done


@contextlib.contextmanager
def rerating(desk: Desk) -> Iterator[Process]:
    """Run the command with --apply in the background. It is killed at the end of the block."""
    env = {**os.environ, **environment(desk.urls)}
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        process = Process(["prices", "rerate", "--from", LONG_AGO, "--apply"], env, out, err)
        try:
            yield process
        finally:
            process.kill()


def effect(desk: Desk, *arguments: str, **more: Any) -> dict[str, Any]:
    done = rerate(desk, "--json", *arguments, **more)
    assert done.status == DONE, done.err
    found: dict[str, Any] = done.json
    return found


async def report(desk: Desk, body: dict[str, Any]) -> None:
    answer = await desk.debtor.post(PATH, json=body)
    assert answer.status_code == 200, answer.text


async def entries(desk: Desk, account_id: UUID, kind: str = "correction") -> list[tuple[str, int]]:
    """The pools and amounts of the account's corrections, with the debts that they made."""
    rows = await desk.rows(
        "SELECT pool, delta FROM ledger_entries WHERE account_id = $1 AND (kind = $2 OR cause_type = $2)"
        " ORDER BY entry_no",
        account_id,
        kind,
    )
    return [(row["pool"], row["delta"]) for row in rows]


async def double_prices(desk: Desk, factor: int = 2, at: datetime | None = None, **changes: Any) -> int:
    """Put a book in force from a time in the past on, whose prices of models are so many times the first ones."""
    llm = [
        {**row, "prices": {name: str(factor * Decimal(price)) for name, price in row["prices"].items()}, "modes": {}}
        for row in BOOK["llm"]
    ]
    return await put_in_force(desk.db, at or datetime(2026, 1, 2, tzinfo=UTC), **{"llm": llm, **changes})
