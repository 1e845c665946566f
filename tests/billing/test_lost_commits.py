"""A connection that is lost at COMMIT: a charge is tried again only where that cannot spend twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from uuid import UUID

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.accounts.directory import Identity, Profile
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database, was_rolled_back
from app.errors import Busy, is_database_unavailable
from app.tools.service import ProductInventoryService
from tests.books import connected
from tests.chaos.proxy import CommitCutter, CommitMessage
from tests.conftest import ACTOR, settings_for
from tests.databases import Urls


@pytest.fixture
async def cutter(database: Urls) -> AsyncIterator[CommitCutter]:
    cutter = CommitCutter(SecretStr(database.service))
    await cutter.start()
    yield cutter
    await cutter.stop()


@pytest.fixture
async def services(
    cutter: CommitCutter, database: Urls
) -> AsyncIterator[tuple[BillingService, ProductInventoryService]]:
    db = Database(cutter.url)
    configuration = Configuration(db, settings_for(database))
    billing = BillingService(db, configuration)
    yield billing, ProductInventoryService(db, configuration, billing)
    await db.close()


async def recorded(database: Urls, account_id: UUID) -> tuple[int, int]:
    """The account's charges and tool uses."""
    async with connected(database) as connection:
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM charges WHERE account_id = $1), "
            "(SELECT count(*) FROM product_usage_log WHERE account_id = $1)",
            account_id,
        )
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("operation", ["charge", "tool_charge"])
@pytest.mark.parametrize(
    ("key", "cuts", "result", "effects"),
    [
        (None, "answer", "unknown", 1),
        (None, "request", "unknown", 0),
        ("k", "answer", "Replayed", 1),
        ("k", "request", "New", 1),
    ],
)
async def test_a_charge_whose_commit_is_lost_is_retried_only_with_a_key(
    operation: str,
    key: str | None,
    cuts: CommitMessage,
    result: str,
    effects: int,
    cutter: CommitCutter,
    services: tuple[BillingService, ProductInventoryService],
    identity: Identity,
    now: datetime,
    database: Urls,
) -> None:
    billing, tools = services
    account_id = await billing.accounts.directory.resolve(identity, Profile(), ACTOR, now)
    cutter.cut_next(cuts)
    if operation == "charge":
        charging: Awaitable[object] = billing.charge(
            ChargeRequest(account_id, 100, None, ACTOR, now, idempotency_key=key)
        )
    else:
        charging = tools.charge(account_id, "web_search", actor=ACTOR, now=now, idempotency_key=key)
    [outcome] = await asyncio.gather(charging, return_exceptions=True)
    assert cutter.has_cut
    if isinstance(outcome, Exception):
        assert is_database_unavailable(outcome)
        assert result == "unknown"
    else:
        assert type(outcome).__name__ == result
    await asyncio.gather(billing.stop(), tools.stop())
    assert await recorded(database, account_id) == ((effects, 0) if operation == "charge" else (0, effects))


def wrapped(error: Exception, *, invalidated: bool = False) -> DBAPIError:
    return DBAPIError("COMMIT", None, error, connection_invalidated=invalidated)


CERTAIN = [
    asyncpg.UniqueViolationError("refused"),
    asyncpg.CheckViolationError("refused"),
    asyncpg.DeadlockDetectedError("refused"),
    asyncpg.LockNotAvailableError("refused"),
    asyncpg.ReadOnlySQLTransactionError("refused"),
    asyncpg.DiskFullError("refused"),
]
UNCERTAIN = [
    asyncpg.ConnectionDoesNotExistError("lost"),
    asyncpg.ConnectionFailureError("lost"),
    asyncpg.AdminShutdownError("lost"),
    asyncpg.CrashShutdownError("lost"),
    asyncpg.QueryCanceledError("canceled"),
    asyncpg.StatementCompletionUnknownError("lost"),
]
LOST = [
    InterfaceError("COMMIT", None, Exception("lost")),
    asyncpg.InterfaceError("lost"),
    asyncpg.InternalClientError("lost"),
    ConnectionResetError("lost"),
    TimeoutError("lost"),
    wrapped(asyncpg.UniqueViolationError("refused"), invalidated=True),
    wrapped(Exception("lost")),
]
NOTHING_SENT = [Busy(), AssertionError("a bug before COMMIT"), PoolTimeout("no connection")]


@pytest.mark.parametrize("error", [*CERTAIN, *map(wrapped, CERTAIN), *NOTHING_SENT], ids=repr)
def test_a_transaction_that_the_server_refused_left_nothing(error: Exception) -> None:
    assert was_rolled_back(error)


@pytest.mark.parametrize("error", [*UNCERTAIN, *map(wrapped, UNCERTAIN), *LOST], ids=repr)
def test_a_transaction_whose_connection_was_lost_may_have_been_committed(error: Exception) -> None:
    assert not was_rolled_back(error)
