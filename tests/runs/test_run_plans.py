"""Query plans of runs on big tables: every statement finds its rows through an index."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from app.cost_records import queries as record_queries
from app.ledger import hold_queries, limit_queries, run_queries
from app.runs import receipt_queries
from tests.books import connected
from tests.databases import Urls
from tests.test_plans import nodes

FILL = """
    INSERT INTO accounts (account_id, environment, currency, plan_name, daily_free, free, paid, debt, total_uses,
                          last_entry_no, created_at, updated_at)
    SELECT gen_random_uuid(), 'live', 'USD', 'free', 0, 0, 0, 0, 0, 0, now(), now() FROM generate_series(1, 500);
    INSERT INTO runs (account_id, run_uuid, run_id, ancestors, status, fingerprint, created_at, updated_at)
    SELECT account_id, gen_random_uuid(), 'r' || n, '{}', 'open', '', now(), now()
      FROM accounts, generate_series(1, 40) n;
    INSERT INTO key_uses (account_id, key_id, minute_start) SELECT account_id, 'k' || n, now()
      FROM accounts, generate_series(1, 20) n;
    INSERT INTO limits (account_id, limit_id, scope, scope_value, time_window, unit, amount, action, owner, created_at,
                        updated_at)
    SELECT account_id, gen_random_uuid(), 'agent', 'a' || n, 'day', 'credit', 1, 'refuse', 'user', now(), now()
      FROM accounts, generate_series(1, 3) n;
    INSERT INTO limit_counters (account_id, limit_id, window_start, counted)
    SELECT account_id, limit_id, now() - n * interval '1 day', 0 FROM limits, generate_series(1, 30) n;
    INSERT INTO charges (account_id, charge_id, entry_no, operation, amount_minor, currency, cost, from_daily_free,
                         from_free, from_paid, paid_after, metadata, created_at, run_id)
    SELECT account_id, gen_random_uuid(), n, 'charge', 100, 'USD', 1, 0, 0, 1, 0, '{}', now(),
           CASE WHEN n % 2 = 0 THEN 'r' || n END FROM accounts, generate_series(1, 40) n;
    INSERT INTO product_usage_log (account_id, usage_log_id, product_type, source, result, actor_type, actor_id,
                                   created_at, run_id)
    SELECT account_id, gen_random_uuid(), 'p', 'free', '{}', 'system', 'tests', now(), 'r' || n
      FROM accounts, generate_series(1, 40) n;
    INSERT INTO usage_events (account_id, usage_id, environment, source, meter, quantities, status, currency,
                              cost_nanos, debt_nanos, balance_after_nanos, plan_name, occurred_at, created_at, run_id)
    SELECT account_id, gen_random_uuid(), 'live', 's', 'm', '{}', 'charged', 'USD', 1, 0, 0, 'free', now(), now(),
           'r' || n FROM accounts, generate_series(1, 40) n;
    INSERT INTO holds (account_id, hold_id, unit, amount, reported, status, on_expiry, caller_kind, expires_at,
                       created_at, run_id)
    SELECT account_id, gen_random_uuid(), 'credit', 1, 0,
           CASE n % 2 WHEN 0 THEN 'held' ELSE 'released' END, 'release', 'key', now(), now(), 'r' || n
      FROM accounts, generate_series(1, 40) n;
    INSERT INTO cost_records (account_id, record_id, environment, client_key, request_id, fingerprint, source, tool,
                              currency, status, items, cost_nanos, tokens, on_expiry, expires_at, created_at,
                              closed_at, run_id)
    SELECT account_id, gen_random_uuid(), 'live', '', 'q' || n, '', 's', 't', 'USD',
           CASE n % 2 WHEN 0 THEN 'open' ELSE 'failed' END, 0, 0, '{}',
           'charge_nothing', now(), now(), CASE n % 2 WHEN 1 THEN now() END, 'r' || n
      FROM accounts, generate_series(1, 40) n;
    """
BIG = {
    *("runs", "key_uses", "limits", "limit_counters", "charges", "product_usage_log", "usage_events", "holds"),
    *("cost_records", "accounts"),
}
ACCOUNT, RUN = uuid.UUID(int=1), uuid.UUID(int=2)
STATEMENTS: dict[str, tuple[str, list[Any]]] = {
    "load": (run_queries._FIND_WITH_ANCESTORS, [[ACCOUNT] * 3, ["r1", "r2", "x"]]),
    "load with limits": (
        limit_queries._FIND_IN_FORCE_WITH_RUNS,
        [[ACCOUNT], ["day"], [datetime(2026, 1, 1, tzinfo=UTC)], [ACCOUNT] * 3, ["r1", "r2", "x"]],
    ),
    "holds by place and by key": (
        hold_queries._FIND_ANY,
        [[ACCOUNT] * 2, [RUN] * 2, [ACCOUNT] * 2, ["key"] * 2, ["k1", "k2"]],
    ),
    "find": (run_queries._FIND.sql, [[ACCOUNT], ["r1"]]),
    "tree": (run_queries._FIND_TREE, [ACCOUNT, RUN, 101]),
    "list": (run_queries._LIST, [ACCOUNT, RUN, 51]),
    "count": (run_queries._COUNT_OPEN, [ACCOUNT, 10_000]),
    "held": (run_queries._FIND_HELD, [ACCOUNT, "r1"]),
    "paused keys": (run_queries._LIST_PAUSED_KEYS, [ACCOUNT]),
    "open records": (record_queries._FIND_OPEN_OF_RUN, [ACCOUNT, "r1"]),
    **{f"calls {number}": (sql, [ACCOUNT, ["r1", "r2"]]) for number, sql in enumerate(receipt_queries._KINDS)},
}


def reads_whole_tables(plan: Any) -> list[str]:
    """The nodes that read a big table without an index, or an index without its first column, the account."""
    return [
        f"{node['Node Type']} on {node.get('Relation Name', node.get('Index Name'))}"
        for node in nodes(plan)
        if (node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG)
        or (
            node["Node Type"].endswith(("Index Scan", "Index Only Scan"))
            and "account_id" not in str(node.get("Index Cond"))
        )
    ]


async def test_every_statement_about_runs_uses_an_index(own_database: Urls) -> None:
    wrong = []
    async with connected(own_database) as connection:
        await connection.execute(f"SET session_replication_role = replica; {FILL}; ANALYZE")
        for name, (statement, values) in STATEMENTS.items():
            plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))[0]["Plan"]
            wrong += [(name, problem) for problem in reads_whole_tables(plan)]
    assert wrong == []


@pytest.mark.parametrize("statement", ["SELECT * FROM runs", "SELECT count(*) FROM charges WHERE run_id = 'r1'"])
async def test_the_test_sees_a_scan_of_a_table(statement: str, own_database: Urls) -> None:
    async with connected(own_database) as connection:
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}"))[0]["Plan"]
    assert reads_whole_tables(plan)
