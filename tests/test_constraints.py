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

from app.billing.pools import MAX_CREDITS
from tests.databases import Urls

NOW = datetime.now(UTC)
ACCOUNT = uuid.UUID(int=1)
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
}


@pytest.fixture
async def tx(database: Urls) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A transaction of the service's role, undone after the test, with one account to hang rows on."""
    connection = await asyncpg.connect(database.service)
    transaction = connection.transaction()
    await transaction.start()
    await insert(connection, "accounts", ROWS["accounts"] | {"account_id": ACCOUNT})
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
