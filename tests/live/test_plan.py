"""Streams cost spending nothing: their one query uses indexes alone, and no trigger of the books notifies."""

import asyncpg

from app.db.database import LOOKUP_PLANNING
from app.live.queries import FIND_CHANGES
from tests.databases import Urls
from tests.test_plans import nodes, plan_of

NOTIFYING = """
    SELECT DISTINCT t.tgrelid::regclass::text AS "table" FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE NOT t.tgisinternal AND p.prosrc ~* 'notify' AND t.tgrelid::regclass::text !~ '^procrastinate'
"""


async def test_watched_accounts_and_their_entries_are_found_by_indexes(books: Urls) -> None:
    connection = await asyncpg.connect(books.service, server_settings=dict(LOOKUP_PLANNING))
    try:
        plan = await plan_of(connection, FIND_CHANGES, [None] * 8, generic=True)
    finally:
        await connection.close()
    tables = {node["Relation Name"]: node for node in nodes(plan) if "Relation Name" in node}
    causes = {"charges", "product_usage_log", "holds", "usage_events", "cost_records"}
    assert tables.keys() == {"accounts", "ledger_entries", "grants", "approvals", *causes}
    for table, node in tables.items():
        assert "Index Cond" in node, (table, node)
        # A cause has an index on its id as well, which finds one row.
        assert "account_id" in node["Index Cond"] or "cause_id" in node["Index Cond"], (table, node)


async def test_no_trigger_of_the_books_sends_a_notification(books: Urls) -> None:
    """A NOTIFY takes a lock of the whole database at commit. So only changes that are rare send one."""
    connection = await asyncpg.connect(books.superuser)
    try:
        rows = await connection.fetch(NOTIFYING)
    finally:
        await connection.close()
    assert {row["table"] for row in rows} == {
        *("account_identities", "api_keys", "configuration_versions", "payment_providers", "price_book_activations"),
        *("revoked_tokens", "token_cutoffs"),
    }
