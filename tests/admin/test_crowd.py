"""The list of users among 200,000 accounts: every query uses an index and reads few rows."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import event, text

from app.accounts.activity import refresh_activity
from app.admin.users import queries as user_queries
from app.admin.users.queries import Position
from app.db import Database, Session
from tests.books import connected
from tests.databases import Urls, create_database, drop_database

MANY = 200_000
REPETITIONS = 12
"""More than the five after which PostgreSQL may plan a prepared statement without looking at its values."""
NOW = datetime.now(UTC)
MIDDLE = UUID("80000000-0000-0000-0000-000000000000")

FILL = (
    """
    INSERT INTO accounts (account_id, environment, currency, plan_name, status, status_reason, daily_free, free, paid,
                          debt, total_uses, last_entry_no, created_at, updated_at)
    SELECT md5(i::text)::uuid, CASE WHEN i % 10 = 0 THEN 'test' ELSE 'live' END, 'USD', 'free',
           CASE WHEN i % 1000 = 1 THEN 'suspended' WHEN i % 1000 = 2 THEN 'closed' ELSE 'active' END,
           CASE WHEN i % 1000 = 1 THEN 'because' END, 0, i % 4, (i % 7) * (i % 1000),
           CASE WHEN i % 2000 = 3 THEN 5 ELSE 0 END, 0, 0, now() - interval '400 days',
           now() - i * interval '1 minute'
      FROM generate_series(1, $1::int) AS i
    """,
    """
    INSERT INTO account_identities (environment, oauth_provider, external_id, account_id, created_at)
    SELECT CASE WHEN i % 10 = 0 THEN 'test' ELSE 'live' END, 'oauth:google', 'User' || i || '@example.com',
           md5(i::text)::uuid, now()
      FROM generate_series(1, $1::int) AS i
    """,
    """
    INSERT INTO account_profiles (account_id, customer_email, display_name, updated_at)
    SELECT md5(i::text)::uuid, 'Mail' || i || '@example.com', 'Name ' || i, now() - interval '1 hour'
      FROM generate_series(1, $1::int) AS i
    """,
    """
    INSERT INTO account_search_words (account_id, word)
    SELECT md5(i::text)::uuid, word FROM generate_series(1, $1::int) AS i, unnest(ARRAY['name', i::text]) AS word
    """,
    # Complete: ids that do not grow with time must not look like new ones.
    "INSERT INTO account_search_refresh (as_of) SELECT now() + interval '100000 days' WHERE $1::int > 0",
)
QUESTIONS: dict[str, dict[str, Any]] = {
    "first page": {},
    "later page": {"before": Position(None, MIDDLE)},
    "environment": {"environment": "test"},
    "search": {"search": "user12345"},
    "search for nothing": {"search": "zzz"},
    "search and filters": {"search": "name 1234", "environment": "live", "status": "active"},
    "search for many": {"search": "name 1", "environment": "live"},
    "search for a word inside": {"search": "12345"},
    "search for words, one of which is everybody's": {"search": "name 12345"},
    "account id": {"search": str(UUID(int=1))},
    "suspended": {"status": "suspended"},
    "closed": {"status": "closed"},
    "debt": {"balance": "debt"},
    "suspended, later page": {"status": "suspended", "before": Position(None, MIDDLE)},
    "richest": {"sort": "balance"},
    "richest, later page": {"sort": "balance", "before": Position(900, MIDDLE)},
    "richest of test": {"sort": "balance", "environment": "test"},
    "richest with debt": {"sort": "balance", "balance": "debt"},
    "richest of nothing": {"sort": "balance", "balance": "empty"},
    "richest suspended": {"sort": "balance", "status": "suspended"},
    "richest of a search": {"sort": "balance", "search": "name 1234"},
    "latest": {"sort": "last_activity"},
    "latest, later page": {"sort": "last_activity", "before": Position(NOW - timedelta(days=60), MIDDLE)},
    "latest before": {"sort": "last_activity", "inactive_since": NOW - timedelta(days=90)},
    "newest that were active": {"active_since": NOW - timedelta(hours=2)},
    "newest that were not": {"inactive_since": NOW - timedelta(days=1), "environment": "live"},
}
READ = """
    SELECT sum(seq_scan) FILTER (WHERE relname IN ('accounts', 'account_activity')) AS scans,
           sum(seq_tup_read) + sum(idx_tup_fetch) AS rows
      FROM pg_stat_xact_user_tables
     WHERE relname IN ('accounts', 'account_activity', 'account_identities', 'account_profiles')
"""


@pytest.fixture(scope="module")
async def crowd(worker_id: str) -> AsyncIterator[Urls]:
    name = f"billing_crowd_{worker_id}"
    urls = await create_database(name)
    async with connected(urls) as connection:
        for statement in FILL:
            await connection.execute(statement, MANY)
    db = Database(SecretStr(urls.service), timeout_s=30)
    assert await refresh_activity(db, datetime.now(UTC)) == MANY
    await db.close()
    async with connected(urls) as connection:
        # So many that the statistics come from every row: a sample of them changed a plan now and then.
        await connection.execute("SET default_statistics_target = 1000")
        await connection.execute("VACUUM ANALYZE")
    yield urls
    await drop_database(name)


@pytest.fixture
async def crowded(crowd: Urls) -> AsyncIterator[Database]:
    db = Database(SecretStr(crowd.service))
    yield db
    await db.close()


async def ask(session: Session, **question: Any) -> list[dict[str, Any]]:
    rows = await user_queries.list_users(session, limit=51, **{"before": None, **question})
    return [dict(row) for row in rows]


@pytest.mark.parametrize("name", QUESTIONS)
async def test_among_200000_accounts_an_index_is_used(crowded: Database, name: str) -> None:
    """The back office's own statement with EXPLAIN before it."""

    @event.listens_for(crowded.engine.sync_engine, "before_cursor_execute", retval=True)
    def explain(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        return (
            f"EXPLAIN {statement}" if "FROM accounts" in statement or "account_activity" in statement else statement,
            parameters,
        )

    async with crowded.transaction() as tx:
        plan = "\n".join(str(row["QUERY PLAN"]) for row in await ask(tx, **QUESTIONS[name]))
    assert "Index" in plan
    assert "Seq Scan on accounts" not in plan, plan
    if name == "search for many":
        return  # so many match that the first 500 are found as fast without an index
    assert "Seq Scan" not in plan, plan
    if "search" in name:
        assert "ix_account_identities_external_id" in plan, plan
        assert "ix_account_profiles_customer_email" in plan, plan
        assert "ix_account_profiles_display_name" in plan, plan
    if "suspended" in name or name == "closed":
        assert "ix_accounts_not_active" in plan, plan
    if name.startswith(("richest", "latest")) and name not in (
        "richest suspended",
        "richest of a search",
        "richest with debt",
    ):
        assert "ix_account_activity_environment_" in plan, plan
    if name == "debt":
        assert "ix_accounts_debt" in plan, plan


@pytest.mark.parametrize("name", QUESTIONS)
async def test_among_200000_accounts_few_rows_are_read_however_often_one_asks(crowded: Database, name: str) -> None:
    """PostgreSQL counts what the statement reads, also when it has stopped to look at the values while planning."""
    async with crowded.transaction() as tx:
        for _ in range(REPETITIONS):
            found = await ask(tx, **QUESTIONS[name])
        read = (await tx.execute(text(READ))).mappings().one()
    assert (not found) == (name in ("search for nothing", "account id"))
    assert read["scans"] == 0
    # Each time a page of 51 with its persons, and for a search 500 matches of each kind at most, with their accounts,
    # and the texts of 500 matches of its words.
    assert read["rows"] <= REPETITIONS * 5000, dict(read)
