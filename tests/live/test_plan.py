"""The one query of the watched accounts finds them, and their entries, by indexes alone."""

import asyncpg

from app.db.database import LOOKUP_PLANNING
from app.live.queries import FIND_CHANGES
from tests.databases import Urls
from tests.test_plans import nodes, plan_of


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
