"""The schema's last line of defence: each constraint refuses what it is there to refuse.

A row that keeps every rule is changed in one column at a time. `test_every_constraint_has_a_violation` reads the
catalogue, so a new constraint without a case here fails.
"""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg
import pytest

from app.ledger.pools import MAX_CREDITS
from tests.databases import CONSTRAINTS, SERVICE_ROLE, Urls
from tests.support.row_values import ACCOUNT, ADMIN, BOOK_VERSION, CORRECTION, HOLD, NOBODY, NOW, RECORD, Row
from tests.support.valid_rows import ROWS


@dataclass(frozen=True)
class Violation:
    """Rows of one table of which the last breaks the rule: each is the good row with these changes."""

    table: str
    rows: list[Row] = field(default_factory=lambda: [{}])
    without: str | None = None
    """A narrower key that would refuse the row first. A later revision drops it."""


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
    "ck_ledger_entries_unit": Violation("ledger_entries", [{"pool": "paid", "unit": "USD"}]),
    "ck_ledger_entries_grant_id": Violation("ledger_entries", [{"pool": "grant"}]),
    "fk_ledger_entries_account_id_grant_id_grants": Violation(
        "ledger_entries", [{"pool": "grant", "grant_id": NOBODY}]
    ),
    "ck_accounts_money": Violation("accounts", [{"money_nanos": -1}]),
    "ck_accounts_sums": Violation("accounts", [{"grants_credits": MAX_CREDITS, "held_credits": 1}]),
    "ck_money_credits_amount_nanos": Violation("money_credits", [{"amount_nanos": 0}]),
    "ck_money_credits_currency": Violation("money_credits", [{"currency": "credit"}]),
    "ck_money_credits_caller_kind": Violation("money_credits", [{"caller_kind": "thief"}]),
    "fk_money_credits_account_id_accounts": orphan("money_credits"),
    "uq_money_credits_account_id_entry_no": Violation(
        "money_credits", [{}, {"money_credit_id": OTHER, "idempotency_key": None}]
    ),
    "uq_money_credits_account_id_idempotency_key_caller_kind": Violation(
        "money_credits", [{}, {"money_credit_id": OTHER, "entry_no": 2}]
    ),
    "ck_grants_closed_at": Violation("grants", [{"closed_at": NOW}]),
    "ck_grants_caller_kind": Violation("grants", [{"caller_kind": "thief"}]),
    "uq_grants_account_id_idempotency_key_caller_kind": Violation("grants", [{}, {"grant_id": OTHER}]),
    "ck_grants_unit": Violation("grants", [{"unit": "money"}]),
    "ck_grants_amount": Violation("grants", [{"amount": MAX_CREDITS + 1}]),
    "ck_grants_remaining": Violation("grants", [{"remaining": 6}]),
    "ck_grants_category": Violation("grants", [{"category": "stolen"}]),
    "fk_grants_account_id_accounts": orphan("grants"),
    "ck_holds_unit": Violation("holds", [{"unit": "usd"}]),
    "ck_holds_amount": Violation("holds", [{"amount": 0}]),
    "ck_holds_reported": Violation("holds", [{"reported": 6}]),
    "ck_holds_status": Violation("holds", [{"status": "lost"}]),
    "ck_holds_on_expiry": Violation("holds", [{"on_expiry": "keep"}]),
    "ck_holds_caller_kind": Violation("holds", [{"caller_kind": "robot"}]),
    "fk_holds_account_id_accounts": orphan("holds"),
    "uq_holds_account_id_idempotency_key_caller_kind": Violation("holds", [{}, {"hold_id": OTHER}]),
    "ck_hold_parts_part_no": Violation("hold_parts", [{"part_no": 0}]),
    "ck_hold_parts_pool": Violation("hold_parts", [{"pool": "held"}]),
    "ck_hold_parts_grant_id": Violation("hold_parts", [{"pool": "grant"}]),
    "ck_hold_parts_amount": Violation("hold_parts", [{"amount": 0}]),
    "fk_hold_parts_account_id_hold_id_holds": Violation("hold_parts", [{"hold_id": OTHER}]),
    "fk_hold_parts_account_id_grant_id_grants": Violation("hold_parts", [{"pool": "grant", "grant_id": NOBODY}]),
    "ck_ledger_entries_entry_no": Violation("ledger_entries", [{"entry_no": 0}]),
    "fk_ledger_entries_account_id_accounts": orphan("ledger_entries"),
    "ck_charges_caller_kind": Violation("charges", [{"caller_kind": "robot"}]),
    "ck_charges_amount_minor": Violation("charges", [{"amount_minor": 0}]),
    "ck_charges_cost": Violation("charges", [{"cost": 2}]),
    "ck_charges_parts": Violation("charges", [{"from_free": -1, "from_paid": 2}]),
    "fk_charges_account_id_accounts": orphan("charges"),
    "uq_charges_account_id_entry_no": Violation("charges", [{}, {"charge_id": OTHER, "idempotency_key": None}]),
    "uq_charges_account_id_operation_idempotency_key": Violation("charges", [{}, {"charge_id": OTHER, "entry_no": 2}]),
    "ck_credits_caller_kind": Violation("credits", [{"caller_kind": "robot"}]),
    "ck_credits_credits": Violation("credits", [{"credits": 0}]),
    "fk_credits_account_id_accounts": orphan("credits"),
    "uq_credits_account_id_entry_no": Violation("credits", [{}, {"credit_id": OTHER, "idempotency_key": None}]),
    "uq_credits_account_id_idempotency_key": Violation("credits", [{}, {"credit_id": OTHER, "entry_no": 2}]),
    "ck_llm_usage_not_negative": Violation("llm_usage", [{"actual_cost_cents": -1}]),
    "fk_llm_usage_account_id_accounts": orphan("llm_usage"),
    "uq_llm_usage_account_id_interaction_id_call_id": Violation(
        "llm_usage", [{"call_id": "c"}, {"call_id": "c", "usage_log_id": OTHER}]
    ),
    "ck_usage_events_environment": Violation("usage_events", [{"environment": "prod"}]),
    "ck_usage_events_status": Violation("usage_events", [{"status": "lost"}]),
    "ck_usage_events_refusal": Violation("usage_events", [{"refusal": "insufficient_money"}]),
    "ck_usage_events_debt": Violation("usage_events", [{"debt_nanos": 1}]),
    "ck_usage_events_amounts": Violation("usage_events", [{"stated_nanos": -1}]),
    "fk_usage_events_account_id_accounts": orphan("usage_events"),
    "ck_usage_attempts_attempts": Violation("usage_attempts", [{"attempts": 0}]),
    "fk_usage_attempts_account_id_accounts": orphan("usage_attempts"),
    "uq_cost_records_account_id_client_key_request_id": Violation("cost_records", [{}, {"record_id": OTHER}]),
    "ck_cost_records_environment": Violation("cost_records", [{"environment": "prod"}]),
    "ck_cost_records_client_key": Violation("cost_records", [{"client_key": b"c"}]),
    "ck_cost_records_status": Violation("cost_records", [{"status": "lost", "closed_at": NOW}]),
    "ck_cost_records_closed_at": Violation("cost_records", [{"closed_at": NOW}]),
    "ck_cost_records_on_expiry": Violation("cost_records", [{"on_expiry": "charge_all"}]),
    "ck_cost_records_usage_id": Violation("cost_records", [{"status": "completed", "closed_at": NOW}]),
    "ck_cost_records_amounts": Violation("cost_records", [{"cost_nanos": -1}]),
    "fk_cost_record_items_account_id_record_id_cost_records": Violation("cost_record_items", [{"record_id": NOBODY}]),
    "uq_cost_record_items_account_id_record_id_item_id": Violation("cost_record_items", [{}, {"addition_id": OTHER}]),
    "ck_cost_record_items_item_no": Violation("cost_record_items", [{"item_no": 0}]),
    "ck_cost_record_items_meter": Violation("cost_record_items", [{"meter": None}]),
    "ck_cost_record_items_amounts": Violation("cost_record_items", [{"cost_nanos": -1}]),
    "ck_usage_volumes_quantity": Violation("usage_volumes", [{"quantity": -1}]),
    "fk_usage_volumes_account_id_accounts": orphan("usage_volumes"),
    "ck_reratings_environment": Violation("reratings", [{"environment": "prod"}]),
    "ck_reratings_period": Violation("reratings", [{"since": NOW}]),
    "ck_account_corrections_part_no": Violation("account_corrections", [{"part_no": 0}]),
    "ck_account_corrections_currency": Violation("account_corrections", [{"currency": "usd"}]),
    "fk_account_corrections_account_id_accounts": orphan("account_corrections"),
    "uq_account_corrections_account_id_rerating_id_part_no": Violation(
        "account_corrections", [{}, {"correction_id": OTHER}]
    ),
    "ck_usage_corrections_correction_no": Violation("usage_corrections", [{"correction_no": 0}]),
    "ck_usage_corrections_amounts": Violation("usage_corrections", [{"cost_after_nanos": -1}]),
    "fk_usage_corrections_correction": Violation("usage_corrections", [{"correction_id": NOBODY}]),
    "ck_api_keys_key_id": Violation("api_keys", [{"key_id": "short"}]),
    "ck_api_keys_environment": Violation("api_keys", [{"environment": "prod"}]),
    "ck_api_keys_name": Violation("api_keys", [{"name": ""}]),
    "ck_api_keys_secret_hash": Violation("api_keys", [{"secret_hash": "plain"}]),
    "ck_api_keys_permissions": Violation("api_keys", [{"permissions": ["billing:all"]}]),
    "ck_api_keys_rate_limit_per_minute": Violation("api_keys", [{"rate_limit_per_minute": 0}]),
    "ck_api_keys_client_subject": Violation("api_keys", [{"client_subject": ""}]),
    "ck_api_keys_identity_provider": Violation("api_keys", [{"identity_provider": "zero"}]),
    "ck_api_keys_event_source": Violation("api_keys", [{"event_source": "a b"}]),
    "ck_api_keys_usage_policy": Violation("api_keys", [{"usage_policy": "debt"}]),
    "ck_api_keys_debt_limit_nanos": Violation("api_keys", [{"debt_limit_nanos": -1}]),
    "ck_api_keys_max_cost_nanos": Violation("api_keys", [{"max_cost_nanos": -1}]),
    "ck_api_keys_stated_cost": Violation("api_keys", [{"permissions": ["usage:set_cost"]}]),
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
    "ck_configuration_versions_section": Violation("configuration_versions", [{"section": "New prices"}]),
    "ck_configuration_versions_version": Violation("configuration_versions", [{"version": 0}]),
    "fk_configuration_versions_admin_id_admin_users": Violation("configuration_versions", [{"admin_id": NOBODY}]),
    "ck_price_books_version": Violation("price_books", [{"version": 0}]),
    "ck_price_books_currency": Violation("price_books", [{"currency": "usd"}]),
    "ck_price_books_based_on": Violation("price_books", [{"based_on": BOOK_VERSION + 1}]),
    "fk_price_books_based_on_price_books": Violation("price_books", [{"based_on": BOOK_VERSION - 1}]),
    "fk_price_books_admin_id_admin_users": Violation("price_books", [{"admin_id": NOBODY}]),
    "ck_price_book_activations_activation_no": Violation("price_book_activations", [{"activation_no": 0}]),
    "ck_price_book_activations_currency": Violation("price_book_activations", [{"currency": "dollar"}]),
    "fk_price_book_activations_version_price_books": Violation(
        "price_book_activations", [{"version": BOOK_VERSION + 1}]
    ),
    "fk_price_book_activations_admin_id_admin_users": Violation("price_book_activations", [{"admin_id": NOBODY}]),
    "ck_unknown_models_events": Violation("unknown_models", [{"events": 0}]),
    "ck_unknown_models_outcome": Violation("unknown_models", [{"outcome": "free"}]),
    "ck_payment_providers_environment": Violation("payment_providers", [{"environment": "prod"}]),
    "ck_token_cutoffs_environment": Violation("token_cutoffs", [{"environment": "prod"}]),
    "fk_interaction_calls_account_id_llm_interactions": orphan("interaction_calls"),
    "fk_interaction_shares_account_id_llm_interactions": orphan("interaction_shares"),
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
    "ck_purchases_provider": Violation("purchases", [{"provider": "fondy"}]),
    "ck_purchases_status": Violation("purchases", [{"status": "lost"}]),
    "ck_purchases_caller_kind": Violation("purchases", [{"caller_kind": "robot"}]),
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
    "uq_purchases_provider_payment": Violation(
        "purchases",
        [{}, {"purchase_id": OTHER, "idempotency_key": None}],
        without="uq_purchases_account_id_payment_intent_id",
    ),
    "uq_payment_events_provider_event": Violation("payment_events", [{}, {}], without="pk_payment_events"),
    "uq_payment_cursors_provider": Violation("payment_cursors", [{}, {}], without="pk_payment_cursors"),
    "ck_purchase_disputes_status": Violation("purchase_disputes", [{"status": "maybe"}]),
    "ck_purchase_disputes_amount_minor": Violation("purchase_disputes", [{"amount_minor": -1}]),
    "fk_purchase_disputes_account_id_purchase_id_purchases": Violation("purchase_disputes", [{"purchase_id": OTHER}]),
    "ck_purchase_refunds_status": Violation("purchase_refunds", [{"status": "won"}]),
    "ck_purchase_refunds_amount_minor": Violation("purchase_refunds", [{"amount_minor": -1}]),
    "fk_purchase_refunds_account_id_purchase_id_purchases": Violation("purchase_refunds", [{"purchase_id": OTHER}]),
    "ck_payment_events_environment": Violation("payment_events", [{"environment": "prod"}]),
    "ck_payment_events_provider": Violation("payment_events", [{"provider": "fondy"}]),
    "ck_payment_cursors_provider": Violation("payment_cursors", [{"provider": "fondy"}]),
    "ck_payment_events_outcome": Violation("payment_events", [{"outcome": "lost"}]),
    "ck_payment_cursors_environment": Violation("payment_cursors", [{"environment": "prod"}]),
    "ck_free_grants_credits": Violation("free_grants", [{"credits": 0}]),
    "fk_free_grants_account_id_accounts": orphan("free_grants"),
    "uq_free_grants_account_id_entry_no": Violation("free_grants", [{}, {"grant_id": OTHER, "idempotency_key": None}]),
    "uq_free_grants_account_id_idempotency_key": Violation("free_grants", [{}, {"grant_id": OTHER, "entry_no": 2}]),
    "ck_account_spellings_digest": Violation("account_spellings", [{"digest": b"ann@example.com"}]),
    "ck_moved_accounts_origin": Violation("moved_accounts", [{"origin": "elsewhere"}]),
    "fk_moved_accounts_account_id_accounts": orphan("moved_accounts"),
    "ck_erased_identities_digest": Violation("erased_identities", [{"digest": b"ann@example.com"}]),
    "ck_account_search_refresh_singleton": Violation("account_search_refresh", [{"singleton": False}]),
    "ck_ledger_verifications_problem": Violation("ledger_verifications", [{"problem": "x"}]),
}


@pytest.fixture
async def tx(database: Urls) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A transaction of the service's role, undone after the test, with one account to hang rows on."""
    connection = await asyncpg.connect(database.superuser)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("DELETE FROM alert_rules")  # a migration inserted them, permanently
    await connection.execute(f"SET ROLE {SERVICE_ROLE}")
    await insert(connection, "accounts", ROWS["accounts"] | {"account_id": ACCOUNT})
    admin = {"admin_id": ADMIN, "email": "other@example.com"}
    await insert(connection, "admin_users", ROWS["admin_users"] | admin)
    disputed = {"purchase_id": uuid.UUID(int=9), "idempotency_key": None, "payment_intent_id": None}
    await insert(connection, "purchases", ROWS["purchases"] | disputed)
    await insert(connection, "llm_interactions", ROWS["llm_interactions"] | {"interaction_id": "attributed"})
    await insert(connection, "holds", ROWS["holds"] | {"hold_id": HOLD, "idempotency_key": "held"})
    await insert(connection, "cost_records", ROWS["cost_records"] | {"record_id": RECORD, "request_id": "with items"})
    await insert(
        connection, "account_corrections", ROWS["account_corrections"] | {"correction_id": CORRECTION, "part_no": 1}
    )
    await insert(connection, "price_books", ROWS["price_books"] | {"version": BOOK_VERSION})
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
    if violation.without is not None:
        await tx.execute("RESET ROLE")
        await tx.execute(f"ALTER TABLE {violation.table} DROP CONSTRAINT {violation.without}")
        await tx.execute(f"SET ROLE {SERVICE_ROLE}")
    for changes in before:
        await insert(tx, violation.table, ROWS[violation.table] | changes)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await insert(tx, violation.table, ROWS[violation.table] | last)
    assert refused.value.constraint_name == name


UNIT_VIOLATIONS = {
    "money in a product's pool": ("ledger_entries", {"pool": "web_search/paid", "unit": "USD"}, "unit"),
    "money in a debt of credits": ("ledger_entries", {"pool": "debt", "unit": "USD"}, "unit"),
    "a unit that is no currency": ("ledger_entries", {"pool": "money", "unit": "usd"}, "unit"),
    "more credits than 64 bits of hundredths": ("ledger_entries", {"balance_after": MAX_CREDITS + 1}, "balance_after"),
    "less than no money": ("ledger_entries", {"pool": "money", "unit": "USD", "balance_after": -1}, "balance_after"),
    "a lot outside its pool": ("ledger_entries", {"grant_id": NOBODY}, "grant_id"),
    "a charge of less than nothing from grants": ("charges", {"from_grants": -1, "from_paid": 2}, "parts"),
    "a charge that grants overpay": ("charges", {"from_grants": 1}, "cost"),
}


@pytest.mark.parametrize(("table", "changes", "name"), UNIT_VIOLATIONS.values(), ids=UNIT_VIOLATIONS)
async def test_units_and_grants_keep_their_bounds(
    tx: "asyncpg.Connection[asyncpg.Record]", table: str, changes: Row, name: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await insert(tx, table, ROWS[table] | changes)
    assert refused.value.constraint_name == f"ck_{table}_{name}"


async def test_money_uses_all_64_bits(tx: "asyncpg.Connection[asyncpg.Record]") -> None:
    most = 2**63 - 1
    await insert(tx, "grants", ROWS["grants"] | {"unit": "USD", "amount": most, "remaining": most})
    await insert(tx, "holds", ROWS["holds"] | {"unit": "USD", "amount": most})
    entry = {"unit": "USD", "delta": most, "balance_after": most}
    await insert(tx, "ledger_entries", ROWS["ledger_entries"] | entry | {"pool": "money"})
    grant = {"pool": "grant", "grant_id": ROWS["grants"]["grant_id"], "entry_no": 2}
    await insert(tx, "ledger_entries", ROWS["ledger_entries"] | entry | grant)
    await insert(tx, "charges", ROWS["charges"] | {"from_grants": 1, "from_paid": 0})


async def test_every_constraint_has_a_violation(tx: "asyncpg.Connection[asyncpg.Record]") -> None:
    assert {row["name"] for row in await tx.fetch(CONSTRAINTS)} == set(VIOLATIONS)
