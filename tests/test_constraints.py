"""The schema's last line of defence: each constraint refuses what it is there to refuse.

A row that keeps every rule is changed in one column at a time. `test_every_constraint_has_a_violation` reads the
catalogue, so a new constraint without a case here fails.
"""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from app.analytics.books import COUNTS
from app.billing.pools import MAX_CREDITS
from tests.databases import SERVICE_ROLE, Urls

NOW = datetime.now(UTC)
ACCOUNT = uuid.UUID(int=1)
ADMIN = uuid.UUID(int=78)
NOBODY = uuid.UUID(int=99)
Row = dict[str, Any]

ROWS: dict[str, Row] = {
    "account_identities": {
        "environment": "live",
        "oauth_provider": "oauth:google",
        "external_id": "a",
        "account_id": ACCOUNT,
        "created_at": NOW,
    },
    "accounts": {
        "account_id": uuid.UUID(int=2),
        "environment": "live",
        "currency": "USD",
        "plan_name": "free",
        "status": "active",
        "status_reason": None,
        "daily_free": 0,
        "daily_free_day": None,
        "free": 0,
        "paid": 0,
        "debt": 0,
        "total_uses": 0,
        "last_entry_no": 0,
        "created_at": NOW,
        "updated_at": NOW,
    },
    "configuration_versions": {
        "section": "packs",
        "version": 1,
        "document": None,
        "reason": "because",
        "changed_by": "admin@example.com",
        "admin_id": ADMIN,
        "created_at": NOW,
    },
    "payment_providers": {"environment": "live", "encryption_key_id": "k", "sealed": b"x", "updated_at": NOW},
    "ledger_entries": {
        "account_id": ACCOUNT,
        "entry_no": 1,
        "pool": "paid",
        "delta": 1,
        "balance_after": 1,
        "kind": "grant",
        "cause_type": "credit",
        "cause_id": NOBODY,
        "actor_type": "system",
        "actor_id": "tests",
        "created_at": NOW,
    },
    "charges": {
        "account_id": ACCOUNT,
        "charge_id": uuid.UUID(int=3),
        "entry_no": 1,
        "operation": "charge",
        "idempotency_key": "key",
        "amount_minor": 100,
        "currency": "USD",
        "cost": 1,
        "from_daily_free": 0,
        "from_free": 0,
        "from_paid": 1,
        "paid_after": 0,
        "metadata": "{}",
        "created_at": NOW,
    },
    "credits": {
        "account_id": ACCOUNT,
        "credit_id": uuid.UUID(int=4),
        "entry_no": 1,
        "transaction_type": "grant",
        "idempotency_key": "key",
        "credits": 1,
        "currency": "USD",
        "paid_after": 1,
        "created_at": NOW,
    },
    "llm_usage": {
        "account_id": ACCOUNT,
        "usage_log_id": uuid.UUID(int=5),
        "interaction_id": "i",
        "total_llm_calls": 1,
        "total_prompt_tokens": 1,
        "total_completion_tokens": 1,
        "models_used": ["m"],
        "actual_cost_cents": 1,
        "duration_ms": 1,
        "error_count": 0,
        "fallback_count": 0,
        "created_at": NOW,
    },
}

ROWS |= {
    "api_keys": {
        "key_id": "0123456789abcdef",
        "environment": "live",
        "name": "k",
        "secret_hash": "$argon2id$x",
        "permissions": ["billing:read"],
        "ip_allow_list": [],
        "rate_limit_per_minute": None,
        "rotated_to": None,
        "grace_ends_at": None,
        "created_at": NOW,
    },
    "admin_users": {"admin_id": uuid.UUID(int=6), "email": "a@b.c", "role": "admin", "created_at": NOW},
    "token_cutoffs": {
        "environment": "live",
        "oauth_provider": "oauth:google",
        "external_id": "a",
        "not_before": NOW,
    },
    "llm_interactions": {
        "account_id": ACCOUNT,
        "interaction_id": "i",
        "environment": "live",
        "currency": "USD",
        "day": NOW.date(),
        "model": "m",
        "first_usage_log_id": NOBODY,
        "started_at": NOW,
        "models": ["m"],
        **{f"{part}{count}": 1 for part in ("", "called_", "summary_") for count in COUNTS},
    },
    "erased_cutoffs": {"salt": b"s" * 16, "identity_digest": b"d" * 32, "not_before": NOW},
    "product_inventory": {
        "account_id": ACCOUNT,
        "product_type": "web_search",
        "free": 1,
        "free_day": NOW.date(),
        "paid": 1,
        "total_uses": 0,
        "updated_at": NOW,
    },
    "product_usage_log": {
        "account_id": ACCOUNT,
        "usage_log_id": uuid.UUID(int=7),
        "idempotency_key": "key",
        "product_type": "web_search",
        "source": "free",
        "charge_id": None,
        "result": "{}",
        "actor_type": "system",
        "actor_id": "tests",
        "created_at": NOW,
    },
    "purchases": {
        "account_id": ACCOUNT,
        "purchase_id": uuid.UUID(int=8),
        "environment": "live",
        "pack": "standard",
        "credits": 20,
        "amount_minor": 500,
        "currency": "USD",
        "idempotency_key": "key",
        "payment_intent_id": "pi_1",
        "status": "pending",
        "status_at": NOW,
        "credit_id": None,
        "refunded_minor": 0,
        "credits_refunded": 0,
        "credits_disputed": 0,
        "created_at": NOW,
        "updated_at": NOW,
    },
    "alert_rules": {"rule": "spend_spike", "action": "notify", "threshold": 1, "window_h": 24, "minimum": 0},
    "alerts": {
        "alert_id": uuid.UUID(int=70),
        "environment": "live",
        "rule": "spend_spike",
        "subject": str(ACCOUNT),
        "day": NOW.date(),
        "observed": 1,
        "usual": None,
        "threshold": 1,
        "window_h": 24,
        "account_ids": [ACCOUNT],
        "status": "open",
        "stopped": None,
        "created_at": NOW,
        "last_seen_at": NOW,
        "decided_at": None,
        "decided_by": None,
    },
    "purchase_disputes": {
        "account_id": ACCOUNT,
        "purchase_id": uuid.UUID(int=9),
        "dispute_id": "du_1",
        "amount_minor": 500,
        "status": "open",
        "updated_at": NOW,
    },
    "payment_events": {
        "environment": "live",
        "event_id": "evt_1",
        "type": "charge.refunded",
        "payment_intent_id": None,
        "outcome": "applied",
        "created_at": NOW,
        "received_at": NOW,
    },
    "payment_cursors": {"environment": "live", "events_read_until": NOW},
    "admin_sessions": {
        "session_id": uuid.UUID(int=11),
        "admin_id": ADMIN,
        "address": "127.0.0.1",
        "user_agent": "",
        "created_at": NOW,
        "expires_at": NOW,
    },
    "admin_audit_log": {
        "audit_id": uuid.UUID(int=12),
        "created_at": NOW,
        "admin_id": ADMIN,
        "admin_email": "other@example.com",
        "session_id": uuid.UUID(int=11),
        "address": "127.0.0.1",
        "request_id": "r",
        "action": "account.suspend",
        "environment": "live",
        "target_type": "account",
        "target_id": str(ACCOUNT),
    },
    "account_activity": {"account_id": ACCOUNT, "environment": "live", "paid": 1, "last_activity_at": NOW},
    "account_activity_refresh": {"singleton": True, "as_of": NOW},
    "ledger_verifications": {
        "verification_id": uuid.UUID(int=10),
        "started_at": NOW,
        "finished_at": NOW,
        "ok": True,
        "accounts": 0,
        "entries": 0,
        "problem": None,
    },
}


@dataclass(frozen=True)
class Violation:
    """Rows of one table of which the last breaks the rule: each is the good row with these changes."""

    table: str
    rows: list[Row] = field(default_factory=lambda: [{}])


def over(table: str, column: str) -> Violation:
    return Violation(table, [{column: MAX_CREDITS + 1}])


def orphan(table: str) -> Violation:
    return Violation(table, [{"account_id": NOBODY}])


OTHER = uuid.UUID(int=77)
VIOLATIONS: dict[str, Violation] = {
    "ck_account_identities_environment": Violation("account_identities", [{"environment": "prod"}]),
    "ck_accounts_environment": Violation("accounts", [{"environment": "prod"}]),
    "ck_accounts_status": Violation("accounts", [{"status": "gone"}]),
    "ck_accounts_erased_at": Violation("accounts", [{"erased_at": NOW}]),
    "ck_account_activity_environment": Violation("account_activity", [{"environment": "prod"}]),
    "fk_account_activity_account_id_accounts": Violation("account_activity", [{"account_id": NOBODY}]),
    "ck_account_activity_refresh_singleton": Violation("account_activity_refresh", [{"singleton": False}]),
    "ck_accounts_status_reason": Violation("accounts", [{"status": "suspended"}]),
    "ck_accounts_daily_free": over("accounts", "daily_free"),
    "ck_accounts_free": over("accounts", "free"),
    "ck_accounts_paid": Violation("accounts", [{"paid": -1}]),
    "ck_accounts_debt": Violation("accounts", [{"debt": -1}]),
    "ck_accounts_total_uses": Violation("accounts", [{"total_uses": -1}]),
    "ck_accounts_last_entry_no": Violation("accounts", [{"last_entry_no": -1}]),
    "ck_ledger_entries_delta": Violation("ledger_entries", [{"delta": 0}]),
    "ck_ledger_entries_balance_after": Violation("ledger_entries", [{"balance_after": -1}]),
    "ck_ledger_entries_entry_no": Violation("ledger_entries", [{"entry_no": 0}]),
    "fk_ledger_entries_account_id_accounts": orphan("ledger_entries"),
    "ck_charges_amount_minor": Violation("charges", [{"amount_minor": 0}]),
    "ck_charges_cost": Violation("charges", [{"cost": 2}]),
    "ck_charges_parts": Violation("charges", [{"from_free": -1, "from_paid": 2}]),
    "fk_charges_account_id_accounts": orphan("charges"),
    "uq_charges_account_id_entry_no": Violation("charges", [{}, {"charge_id": OTHER, "idempotency_key": None}]),
    "uq_charges_account_id_operation_idempotency_key": Violation("charges", [{}, {"charge_id": OTHER, "entry_no": 2}]),
    "ck_credits_credits": Violation("credits", [{"credits": 0}]),
    "fk_credits_account_id_accounts": orphan("credits"),
    "uq_credits_account_id_entry_no": Violation("credits", [{}, {"credit_id": OTHER, "idempotency_key": None}]),
    "uq_credits_account_id_idempotency_key": Violation("credits", [{}, {"credit_id": OTHER, "entry_no": 2}]),
    "ck_llm_usage_not_negative": Violation("llm_usage", [{"actual_cost_cents": -1}]),
    "fk_llm_usage_account_id_accounts": orphan("llm_usage"),
    "ck_api_keys_key_id": Violation("api_keys", [{"key_id": "short"}]),
    "ck_api_keys_environment": Violation("api_keys", [{"environment": "prod"}]),
    "ck_api_keys_name": Violation("api_keys", [{"name": ""}]),
    "ck_api_keys_secret_hash": Violation("api_keys", [{"secret_hash": "plain"}]),
    "ck_api_keys_permissions": Violation("api_keys", [{"permissions": ["billing:all"]}]),
    "ck_api_keys_rate_limit_per_minute": Violation("api_keys", [{"rate_limit_per_minute": 0}]),
    "ck_api_keys_client_subject": Violation("api_keys", [{"client_subject": ""}]),
    "ck_api_keys_rotation": Violation("api_keys", [{"grace_ends_at": NOW}]),
    "fk_api_keys_rotated_to_api_keys": Violation("api_keys", [{"rotated_to": "f" * 16, "grace_ends_at": NOW}]),
    "uq_api_keys_rotated_to": Violation(
        "api_keys",
        [
            {},
            {"key_id": "1" * 16, "rotated_to": "0123456789abcdef", "grace_ends_at": NOW},
            {"key_id": "2" * 16, "rotated_to": "0123456789abcdef", "grace_ends_at": NOW},
        ],
    ),
    "ck_admin_users_email": Violation("admin_users", [{"email": "A@B.C"}]),
    "ck_admin_users_role": Violation("admin_users", [{"role": "root"}]),
    "uq_admin_users_email": Violation("admin_users", [{}, {"admin_id": OTHER}]),
    "fk_admin_sessions_admin_id_admin_users": Violation("admin_sessions", [{"admin_id": NOBODY}]),
    "fk_admin_audit_log_admin_id_admin_users": Violation("admin_audit_log", [{"admin_id": NOBODY}]),
    "ck_admin_audit_log_action": Violation("admin_audit_log", [{"action": ""}]),
    "ck_admin_audit_log_environment": Violation("admin_audit_log", [{"environment": "prod"}]),
    "ck_configuration_versions_section": Violation("configuration_versions", [{"section": "prices"}]),
    "ck_configuration_versions_version": Violation("configuration_versions", [{"version": 0}]),
    "fk_configuration_versions_admin_id_admin_users": Violation("configuration_versions", [{"admin_id": NOBODY}]),
    "ck_payment_providers_environment": Violation("payment_providers", [{"environment": "prod"}]),
    "ck_token_cutoffs_environment": Violation("token_cutoffs", [{"environment": "prod"}]),
    "ck_llm_interactions_whole": Violation("llm_interactions", [{"called_cost_cents": None}]),
    "ck_erased_cutoffs_digest": Violation("erased_cutoffs", [{"identity_digest": b"someone@example.com"}]),
    "ck_product_inventory_free": Violation("product_inventory", [{"free": -1}]),
    "ck_product_inventory_paid": over("product_inventory", "paid"),
    "ck_product_inventory_total_uses": Violation("product_inventory", [{"total_uses": -1}]),
    "fk_product_inventory_account_id_accounts": orphan("product_inventory"),
    "ck_product_usage_log_source": Violation("product_usage_log", [{"source": "air"}]),
    "ck_product_usage_log_charge_id": Violation("product_usage_log", [{"source": "main_pool"}]),
    "fk_product_usage_log_account_id_accounts": orphan("product_usage_log"),
    "uq_product_usage_log_account_id_idempotency_key": Violation("product_usage_log", [{}, {"usage_log_id": OTHER}]),
    "ck_alert_rules_rule": Violation("alert_rules", [{"rule": "moon"}]),
    "ck_alert_rules_action": Violation("alert_rules", [{"action": "close"}]),
    "ck_alert_rules_keys_only_notify": Violation("alert_rules", [{"rule": "accounts_per_key", "action": "hold"}]),
    "ck_alert_rules_threshold": Violation("alert_rules", [{"threshold": 0}]),
    "ck_alert_rules_window_h": Violation("alert_rules", [{"window_h": 721}]),
    "ck_alert_rules_minimum": Violation("alert_rules", [{"minimum": -1}]),
    "ck_alerts_environment": Violation("alerts", [{"environment": "prod"}]),
    "ck_alerts_rule": Violation("alerts", [{"rule": "moon"}]),
    "ck_alerts_status": Violation("alerts", [{"status": "new"}]),
    "ck_alerts_stopped": Violation("alerts", [{"stopped": "close"}]),
    "ck_alerts_decided": Violation("alerts", [{"decided_at": NOW}]),
    "uq_alerts_environment_rule_subject_day": Violation("alerts", [{}, {"alert_id": OTHER}]),
    "ck_purchases_environment": Violation("purchases", [{"environment": "prod"}]),
    "ck_purchases_status": Violation("purchases", [{"status": "lost"}]),
    "ck_purchases_credits": Violation("purchases", [{"credits": 0}]),
    "ck_purchases_amount_minor": Violation("purchases", [{"amount_minor": 0}]),
    "ck_purchases_refunded_minor": Violation("purchases", [{"refunded_minor": -1}]),
    "ck_purchases_succeeded": Violation("purchases", [{"status": "succeeded"}]),
    "ck_purchases_credited_first": Violation("purchases", [{"credits_refunded": 1}]),
    "ck_purchases_credits_taken_back": Violation(
        "purchases", [{"status": "succeeded", "credit_id": OTHER, "credits_refunded": 15, "credits_disputed": 6}]
    ),
    "fk_purchases_account_id_accounts": orphan("purchases"),
    "uq_purchases_account_id_idempotency_key": Violation(
        "purchases", [{}, {"purchase_id": OTHER, "payment_intent_id": "pi_2"}]
    ),
    "uq_purchases_account_id_payment_intent_id": Violation(
        "purchases", [{}, {"purchase_id": OTHER, "idempotency_key": None}]
    ),
    "ck_purchase_disputes_status": Violation("purchase_disputes", [{"status": "maybe"}]),
    "ck_purchase_disputes_amount_minor": Violation("purchase_disputes", [{"amount_minor": -1}]),
    "fk_purchase_disputes_account_id_purchase_id_purchases": Violation("purchase_disputes", [{"purchase_id": OTHER}]),
    "ck_payment_events_environment": Violation("payment_events", [{"environment": "prod"}]),
    "ck_payment_events_outcome": Violation("payment_events", [{"outcome": "lost"}]),
    "ck_payment_cursors_environment": Violation("payment_cursors", [{"environment": "prod"}]),
    "ck_ledger_verifications_problem": Violation("ledger_verifications", [{"problem": "x"}]),
}


@pytest.fixture
async def tx(database: Urls) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A transaction of the service's role, undone after the test, with one account to hang rows on."""
    connection = await asyncpg.connect(database.superuser)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("DELETE FROM alert_rules")  # which are there from the migration on, for ever
    await connection.execute(f"SET ROLE {SERVICE_ROLE}")
    await insert(connection, "accounts", ROWS["accounts"] | {"account_id": ACCOUNT})
    admin = {"admin_id": ADMIN, "email": "other@example.com"}
    await insert(connection, "admin_users", ROWS["admin_users"] | admin)
    disputed = {"purchase_id": uuid.UUID(int=9), "idempotency_key": None, "payment_intent_id": None}
    await insert(connection, "purchases", ROWS["purchases"] | disputed)
    yield connection
    await transaction.rollback()
    await connection.close()


async def insert(connection: "asyncpg.Connection[asyncpg.Record]", table: str, row: Row) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join(f"${i}" for i in range(1, len(row) + 1))
    await connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", *row.values())


@pytest.mark.parametrize("table", ROWS)
async def test_good_row_is_accepted(tx: "asyncpg.Connection[asyncpg.Record]", table: str) -> None:
    await insert(tx, table, ROWS[table])


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_violation_is_refused(tx: "asyncpg.Connection[asyncpg.Record]", name: str) -> None:
    violation = VIOLATIONS[name]
    *before, last = violation.rows
    for changes in before:
        await insert(tx, violation.table, ROWS[violation.table] | changes)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await insert(tx, violation.table, ROWS[violation.table] | last)
    assert refused.value.constraint_name == name


async def test_every_constraint_has_a_violation(tx: "asyncpg.Connection[asyncpg.Record]") -> None:
    rows = await tx.fetch(
        """
        SELECT c.conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
         WHERE t.relnamespace = 'public'::regnamespace AND c.contype IN ('c', 'u', 'f')
           AND t.relname NOT LIKE 'procrastinate%'
        """
    )
    assert {row["conname"] for row in rows} == set(VIOLATIONS)
