"""Role check: the privileges of the service's role on each table, and whether it has more than these.

The owner's role runs migrations and grants these privileges (alembic/env.py). A service that could change its schema or
rewrite its books would make every proof of them worthless, so `serve` and `worker` check before they start (ADR 12).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import text

from app.db import Database
from app.db.sql import sql

READ = "SELECT"
ADD = "SELECT, INSERT"
KEEP = "SELECT, INSERT, UPDATE"
"""Rows may change, but are never deleted."""
ALL = "SELECT, INSERT, UPDATE, DELETE"

DECIDED: Mapping[str, str] = MappingProxyType(
    {
        "alembic_version": READ,
        # The books
        "ledger_entries": ADD,
        "ledger_chain": ADD,
        "accounts": KEEP,
        "charges": KEEP,  # only their texts change, when a person is erased; the amounts are in the ledger
        "charge_purposes": KEEP,  # digests, removed when a person is erased
        "credits": KEEP,
        "free_grants": KEEP,
        "grants": KEEP,
        "holds": KEEP,
        "money_credits": KEEP,
        "grant_claims": ADD,
        "referrals": KEEP,
        "hold_parts": ADD,
        "limits": KEEP,
        "limit_counters": ALL,  # bounds, not books: those of past windows are deleted
        "evaluated_limits": ALL,  # as limit_counters
        "runs": KEEP,
        "key_uses": KEEP,
        "approvals": KEEP,
        "product_inventory": KEEP,
        "product_usage_log": KEEP,
        "purchases": KEEP,
        "purchase_disputes": KEEP,
        "purchase_refunds": KEEP,
        "payment_events": KEEP,
        "payment_cursors": KEEP,
        "payment_customers": KEEP,
        "subscription_orders": KEEP,
        "subscriptions": KEEP,
        "subscription_terms": ADD,
        "subscription_invoices": KEEP,
        "period_grants": KEEP,
        "subscribers": KEEP,
        "refill_settings": KEEP,
        "card_consents": KEEP,  # only an address changes, when a person is erased; a trigger refuses the rest
        "card_setups": KEEP,
        "saved_cards": KEEP,
        "refills": KEEP,
        "llm_usage": KEEP,
        "usage_keys": KEEP,  # like usage events, changed only when a person is erased
        "usage_events": KEEP,
        "usage_attempts": KEEP,
        "usage_volumes": KEEP,
        "reratings": ADD,
        "account_corrections": ADD,
        "usage_corrections": ADD,
        "cost_records": KEEP,
        "cost_record_items": KEEP,  # changed only when a person is erased
        "moved_accounts": KEEP,
        "ledger_verifications": ADD,
        # Audit trail
        "admin_audit_log": ADD,
        "configuration_versions": ADD,
        "price_books": ADD,
        "price_book_activations": ADD,
        # Personal data, which can be erased
        "account_identities": ALL,
        "account_profiles": ALL,
        "provider_objects": ADD,  # the accounts of providers' objects
        "erased_identities": ADD,  # digests of deleted identities
        "account_search_words": ALL,
        "account_spellings": ALL,
        # Access
        "api_keys": KEEP,
        "admin_users": KEEP,
        "alert_rules": KEEP,
        "alerts": KEEP,
        "admin_sessions": ALL,
        "stream_tickets": ALL,
        "revoked_tokens": ALL,
        "token_cutoffs": ALL,
        "erased_cutoffs": ALL,
        "payment_providers": ALL,
        # Data for reports
        "unknown_models": ALL,
        "refused_requests": ALL,
        "account_activity": KEEP,
        "account_activity_refresh": KEEP,
        "account_search_refresh": KEEP,
        "rollup_state": KEEP,
        "usage_days": KEEP,
        "metered_days": KEEP,
        "account_days": KEEP,
        "active_days": KEEP,
        "cohort_weeks": KEEP,
        "llm_interactions": KEEP,
        "llm_days": KEEP,
        "interaction_calls": KEEP,
        "interaction_shares": ALL,
        "attribution_days": KEEP,
        # The job queue, which deletes finished jobs
        "procrastinate_events": ALL,
        "procrastinate_jobs": ALL,
        "procrastinate_periodic_defers": ALL,
        "procrastinate_workers": ALL,
    }
)
GRANTABLE = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
MAX_LISTED = 12


def privileges_of(table: str) -> str:
    """Return the privileges of the service's role on a table. An undecided table fails a test, and gets all."""
    return DECIDED.get(table, ALL)


# Counts every role that the login is or can become, inherited or not.
_ROLES = """
    WITH mine AS (SELECT oid, rolname FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')),
    ours AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
    """
_IS_SUPERUSER = text("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
_EXCESS = text(
    sql(
        """
        {roles}
        SELECT format('%s has the attribute %s', r.rolname, a.name) AS line
          FROM pg_roles r JOIN mine USING (oid),
               LATERAL (VALUES ('SUPERUSER', r.rolsuper), ('CREATEROLE', r.rolcreaterole), ('CREATEDB', r.rolcreatedb),
                               ('REPLICATION', r.rolreplication), ('BYPASSRLS', r.rolbypassrls)) a(name, given)
         WHERE a.given
        UNION ALL
        SELECT format('it is a member of %s', rolname) FROM mine
         WHERE rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files',
                           'pg_create_subscription')
        UNION ALL
        SELECT format('%s owns the database', m.rolname)
          FROM pg_database d JOIN mine m ON m.oid = d.datdba WHERE d.datname = current_database()
        UNION ALL
        SELECT format('%s may create schemas', m.rolname)
          FROM mine m WHERE has_database_privilege(m.oid, current_database(), 'CREATE')
        UNION ALL
        SELECT format('%s may create objects in the schema %s', m.rolname, n.nspname)
          FROM mine m, ours n WHERE has_schema_privilege(m.oid, n.oid, 'CREATE')
        UNION ALL
        SELECT format('%s owns the relation %s', m.rolname, c.relname)
          FROM pg_class c JOIN mine m ON m.oid = c.relowner JOIN ours n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION ALL
        SELECT format('%s owns the function %s', m.rolname, p.proname)
          FROM pg_proc p JOIN mine m ON m.oid = p.proowner JOIN ours n ON n.oid = p.pronamespace
        UNION ALL
        SELECT format('%s may run the function %s as its owner', m.rolname, p.proname)
          FROM pg_proc p JOIN ours n ON n.oid = p.pronamespace, mine m
         WHERE p.prosecdef AND has_function_privilege(m.oid, p.oid, 'EXECUTE')
        UNION ALL
        SELECT format('%s may switch triggers off (session_replication_role)', m.rolname)
          FROM mine m WHERE has_parameter_privilege(m.oid, 'session_replication_role', 'SET')
        ORDER BY line
        """,
        roles=_ROLES,
    )
)
_HELD = text(
    sql(
        """
        {roles}
        SELECT c.relname AS "table", m.rolname AS role, p.name AS privilege
          FROM pg_class c JOIN ours n ON n.oid = c.relnamespace, mine m, unnest(CAST(:grantable AS text[])) p(name)
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
           AND (has_table_privilege(m.oid, c.oid, p.name)
                OR p.name IN ('INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege(m.oid, c.oid, p.name))
         ORDER BY c.relname, m.rolname, p.name
        """,
        roles=_ROLES,
    )
)


async def excess_privileges(db: Database) -> Sequence[str]:
    """Return the privileges that the role of `db` has and the service does not need, one per line. Empty if correct."""
    async with db.read() as session:
        if (await session.execute(_IS_SUPERUSER)).scalar_one():
            return ["it is a superuser"]
        lines: list[str] = [row.line for row in await session.execute(_EXCESS)]
        held = (await session.execute(_HELD, {"grantable": list(GRANTABLE)})).mappings().all()
    beyond: dict[tuple[str, str], list[str]] = {}
    for row in held:
        if row["privilege"] not in privileges_of(row["table"]).split(", "):
            beyond.setdefault((row["role"], row["table"]), []).append(row["privilege"])
    return [*lines, *(f"{role} may {', '.join(names)} on {table}" for (role, table), names in beyond.items())]


def summarize(excess: Sequence[str]) -> str:
    """Return one line for an operator: the first few privileges and the number of the rest (an owner has hundreds)."""
    more = len(excess) - MAX_LISTED
    return "; ".join([*excess[:MAX_LISTED], *([f"and {more} more"] if more > 0 else [])])
