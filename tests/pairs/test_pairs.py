"""Every pair of events that meet on one account, in both orders: the table of docs/pairs.md says how it ends."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from app.db import Database
from tests.conftest import settings_for
from tests.databases import ROOT, Urls
from tests.pairs.account_with_hold import DAILY_FREE, EVENTS, AccountWithHold, Process
from tests.payments.test_history import SECRET
from tests.servers import running_stripe

PAGE = ROOT / "docs" / "pairs.md"
PAIRS = [(first, second) for first in EVENTS for second in EVENTS]


def documented() -> dict[tuple[str, str], str]:
    """The page's cells by pair: the row's event comes first."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    table = [row for row in rows if len(row) == len(EVENTS) + 1 and row[1:] != [*EVENTS]]
    return {(row[0].strip("*"), second): cell for row in table for second, cell in zip(EVENTS, row[1:], strict=True)}


@pytest.fixture(scope="module")
def stripe() -> Iterator[Any]:
    with running_stripe() as local:
        yield local


@pytest.fixture(scope="module")
async def processes(database: Urls, stripe: Any) -> AsyncIterator[tuple[Process, Process]]:
    settings = settings_for(
        database,
        stripe_live={**stripe.keys, "webhook_secret": SECRET},
        stripe_api_base=stripe.url,
        daily_free_uses=DAILY_FREE,
        free_uses=0,
    )
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(2):
            process = Process(Database(settings.database_url, pool_size=2), settings)
            stack.push_async_callback(process.db.close)
            stack.push_async_callback(process.gateway.close)
            opened.append(process)
        yield opened[0], opened[1]


@pytest.mark.parametrize("pair", PAIRS, ids=", ".join)
async def test_a_pair_of_events_ends_as_the_page_says(
    pair: tuple[str, str], processes: tuple[Process, Process], database: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = AccountWithHold(processes, database, pair)
    await account.prepare(monkeypatch)
    answers = await account.meet()
    left, held, spent = await account.end()
    assert f"{', '.join(answers)}: {left} {held} {spent}" == documented()[pair]
    if not {"capture", "release", "expiry"} & set(pair):
        assert await account.capture_all() == "done"
