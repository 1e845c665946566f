"""Query plans of the hot path: every statement finds its rows through an index, with any statistics.

The statements are those that the service sends: the test sends every kind of hot request to the application and records
the driver's statements, and how that connection was opened, because a plan depends on the connection's settings.
"""

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import asyncpg
import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.auth.caller import Permission
from tests.books import connected
from tests.conftest import make_key, running_app, settings_for
from tests.databases import Urls

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Node: TypeAlias = Mapping[str, Any]

USER = {"oauth_provider": "oauth:google", "external_id": "plans@example.com"}
LIMITED = {"oauth_provider": "oauth:google", "external_id": "limited@example.com"}
LIMIT = {**LIMITED, "window": "day", "unit": "credits", "amount": "1000"}
CHARGE = {**USER, "amount_minor": 100, "currency": "USD"}
CREDIT = {**CHARGE, "amount_minor": 100_000, "description": "plans", "transaction_type": "grant"}
TOOL = {**USER, "product_type": "image_gen"}
HOT: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/v1/billing/check", {**USER, "display_name": "Ann"}, 200),  # creates the account
    ("POST", "/v1/billing/check", {**USER, "display_name": "Bob"}, 200),
    ("POST", "/v1/billing/credits", {**CREDIT, "idempotency_key": "k"}, 201),
    ("POST", "/v1/billing/credits", {**CREDIT, "idempotency_key": "k"}, 409),
    ("POST", "/v1/billing/grants", {**USER, "amount_minor": 300, "expires_at": "2090-01-01T00:00:00Z"}, 201),
    ("POST", "/v1/billing/grants", {**USER, "amount_minor": 300, "idempotency_key": "k"}, 201),
    ("POST", "/v1/billing/grants", {**USER, "amount_minor": 300, "idempotency_key": "k"}, 409),
    ("POST", "/v1/billing/charges", CHARGE, 201),
    ("POST", "/v1/billing/charges", {**CHARGE, "idempotency_key": "k"}, 201),
    ("POST", "/v1/billing/charges", {**CHARGE, "idempotency_key": "k"}, 409),
    *[("POST", "/v1/tools/charge", {**TOOL, "idempotency_key": f"k{n}"}, 200) for n in range(6)],  # 5 of them are free
    ("POST", "/v1/tools/charge", {**TOOL, "idempotency_key": "k5"}, 200),
    ("GET", "/v1/tools/check/web_search", USER, 200),
    ("POST", "/v1/billing/charges", {**CHARGE, **LIMITED}, 201),
    ("POST", "/v1/billing/check", LIMITED, 200),
]
TABLES = {
    "accounts",
    "account_identities",
    "account_profiles",
    "charges",
    "credits",
    "grants",
    "ledger_entries",
    "limits",
    "limit_counters",
    "product_inventory",
    "product_usage_log",
    "api_keys",
}
FILL = """
    INSERT INTO accounts (account_id, environment, currency, plan_name, daily_free, free, paid, debt, total_uses,
                          last_entry_no, created_at, updated_at)
    SELECT gen_random_uuid(), 'live', 'USD', 'free', 0, 0, 0, 0, 0, 0, now(), now() FROM generate_series(1, 3000);
    INSERT INTO account_identities (environment, oauth_provider, external_id, account_id, created_at)
    SELECT 'live', 'oauth:google', account_id::text, account_id, now() FROM accounts;
    INSERT INTO account_profiles (account_id, updated_at) SELECT account_id, now() FROM accounts
        ON CONFLICT DO NOTHING;
    INSERT INTO charges (account_id, charge_id, entry_no, operation, idempotency_key, amount_minor, currency, cost,
                         from_daily_free, from_free, from_paid, paid_after, metadata, created_at)
    SELECT account_id, gen_random_uuid(), 100 + n, 'charge', 'f' || n, 100, 'USD', 1, 0, 0, 1, 0, '{}', now()
      FROM accounts, generate_series(1, 3) AS n;
    INSERT INTO credits (account_id, credit_id, entry_no, transaction_type, idempotency_key, credits, currency,
                         paid_after, created_at)
    SELECT account_id, gen_random_uuid(), 100 + n, 'grant', 'f' || n, 1, 'USD', 1, now()
      FROM accounts, generate_series(1, 3) AS n;
    INSERT INTO grants (account_id, grant_id, unit, amount, remaining, priority, category, source, idempotency_key,
                        caller_kind, created_at, closed_at)
    SELECT account_id, gen_random_uuid(), 'credit', 1, n % 2, 50, 'promotional', 'f', 'f' || n, 'key', now(),
           CASE n % 2 WHEN 0 THEN now() END
      FROM accounts, generate_series(1, 4) AS n;
    INSERT INTO limits (account_id, limit_id, scope, scope_value, time_window, unit, amount, action, owner, created_at,
                        updated_at)
    SELECT account_id, gen_random_uuid(), 'agent', gen_random_uuid()::text, 'day', 'credit', 1, 'refuse', 'user', now(),
           now()
      FROM accounts, generate_series(1, 3) AS n;
    INSERT INTO limit_counters (account_id, limit_id, window_start, counted)
    SELECT account_id, limit_id, now() - n * interval '1 day', 0 FROM limits, generate_series(1, 30) AS n
        ON CONFLICT DO NOTHING;
    INSERT INTO ledger_entries (account_id, entry_no, pool, delta, balance_after, kind, cause_type, cause_id,
                                actor_type, actor_id, created_at)
    SELECT account_id, 100 + n, 'paid', 1, 1, 'grant', 'credit', gen_random_uuid(), 'system', 'plans', now()
      FROM accounts, generate_series(1, 3) AS n;
    INSERT INTO product_inventory (account_id, product_type, free, free_day, paid, total_uses, updated_at)
    SELECT account_id, 'p' || n, 0, now(), 0, 0, now() FROM accounts, generate_series(1, 3) AS n;
    INSERT INTO product_usage_log (account_id, usage_log_id, idempotency_key, product_type, source, result, actor_type,
                                   actor_id, created_at)
    SELECT account_id, gen_random_uuid(), 'f' || n, 'p', 'free', '{}', 'system', 'plans', now()
      FROM accounts, generate_series(1, 3) AS n;
    """
NO_AUTOVACUUM = "; ".join(f"ALTER TABLE {table} SET (autovacuum_enabled = false)" for table in sorted(TABLES))
EMPTY = f"TRUNCATE {', '.join(TABLES - {'api_keys'})} CASCADE"
# From a new database to a full one, and from statistics of an empty database to a full one without an ANALYZE.
STATES = {
    "missing, empty": NO_AUTOVACUUM,
    "missing, filled": FILL,
    "fresh, filled": "ANALYZE",
    "fresh, empty": f"SET session_replication_role = replica; {EMPTY}; ANALYZE",
    "stale, filled": f"SET session_replication_role = origin; {FILL}",
}


@dataclass(frozen=True)
class Sent:
    """A statement about our own tables, and the options of the connection that it was sent on."""

    values: Sequence[object]
    options: Mapping[str, Any]


def tables_in(statement: str) -> set[str]:
    return TABLES & set(re.findall(r"\w+", statement))


@asynccontextmanager
async def recorded(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Sent]]:
    """Record the statements sent on connections that open inside the block."""
    sent: dict[str, Sent] = {}
    open_connection = asyncpg.connect
    options_of: WeakKeyDictionary[Connection, Mapping[str, Any]] = WeakKeyDictionary()

    def record(connection: Connection, statement: str, values: Sequence[object]) -> None:
        if tables_in(statement):
            sent.setdefault(statement, Sent(values, options_of[connection]))

    async def connect(dsn: str | None = None, **options: Any) -> Connection:
        options["dsn"] = dsn
        connection = await open_connection(**options)
        options_of[connection] = options
        connection.add_query_logger(lambda query: record(connection, query.query, query.args))
        return connection

    def executing(connection: Any, _: object, statement: str, values: Sequence[object], *__: object) -> None:
        record(connection.connection.driver_connection, statement, values)

    event.listen(Engine, "before_cursor_execute", executing)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(asyncpg, "connect", connect)
            yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", executing)


async def hot_statements(database: Urls, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Sent]:
    """Return the statements that the application sends for one hot request of each kind."""
    async with recorded(monkeypatch) as sent, running_app(settings_for(database)) as app:
        headers = {"X-API-Key": await make_key(app.state.db, "live", *Permission)}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://billing", headers=headers) as client:
            other = {"X-API-Key": await make_key(app.state.db, "live", Permission.LIMITS_WRITE)}
            assert (await client.put("/v1/billing/limits", json=LIMIT, headers=other)).status_code == 200
            sent.clear()
            for method, path, fields, status in HOT:
                where = {"params": fields} if method == "GET" else {"json": fields}
                answer = await client.request(method, path, **where)  # type: ignore[arg-type]  # either of two arguments
                assert answer.status_code == status, answer.text
            return dict(sent)


async def connections_like(sent: Iterable[Sent], stack: AsyncExitStack) -> Mapping[str, Connection]:
    """A connection for each set of options, with the same settings as the application's."""
    opened: dict[str, Connection] = {}
    for options in {str(each.options): each.options for each in sent}.values():
        opened[str(options)] = await asyncpg.connect(**options)
        stack.push_async_callback(opened[str(options)].close)
    return opened


async def plan_of(connection: Connection, statement: str, values: Sequence[object], *, generic: bool) -> Node:
    """The plan for these values, or the one that a prepared statement keeps for all values."""
    async with connection.transaction():
        if generic:
            await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            await connection.execute(f"PREPARE hot AS {statement}")
            nothing = f"({', '.join('NULL' for _ in values)})" if values else ""
            plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE hot {nothing}")
            await connection.execute("DEALLOCATE hot")
        else:
            plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values)
    described = json.loads(plan) if isinstance(plan, str) else plan
    return described[0]["Plan"]  # type: ignore[no-any-return]  # it is PostgreSQL's


def nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans_more_than_asked(plan: Node) -> list[str]:
    """The nodes that read rows of a table other than those of the keys: all of it, or an index without a condition.

    Grants and limits may be read by any index that begins with the account: without statistics all of them cost the
    same.
    """
    return [
        f"{node['Node Type']} on {node.get('Relation Name', node.get('Index Name'))}: {node.get('Filter', 'all rows')}"
        for node in nodes(plan)
        if (node["Node Type"] == "Seq Scan")
        or (node["Node Type"].startswith(("Index", "Bitmap Index")) and "Index Cond" not in node)
        or ("Relation Name" in node and "Filter" in node and node["Relation Name"] not in ("grants", "limits"))
    ]


async def test_every_hot_statement_looks_into_an_index_whatever_the_statistics_say(
    own_database: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan is kept while a new installation's tables grow, and statistics can describe an empty table for long."""
    hot = await hot_statements(own_database, monkeypatch)
    assert set().union(*map(tables_in, hot)) == TABLES
    wrong = []
    async with connected(own_database) as superuser, AsyncExitStack() as stack:
        connections = await connections_like(hot.values(), stack)
        for state, change in STATES.items():
            await superuser.execute(change)
            for statement, sent in hot.items():
                for generic in (False, True):
                    connection = connections[str(sent.options)]
                    plan = await plan_of(connection, statement, sent.values, generic=generic)
                    if problems := scans_more_than_asked(plan):
                        wrong.append((state, "generic" if generic else "custom", problems, statement))
    assert not wrong, wrong[0]
