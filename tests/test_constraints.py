"""The schema's last line of defence: each constraint refuses what it is there to refuse.

A row that keeps every rule is changed in one column at a time. `test_every_constraint_has_a_violation` reads the
catalogue, so a new constraint without a case here fails.
"""

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.ledger.pools import MAX_CREDITS
from tests.databases import CONSTRAINTS, SERVICE_ROLE, Urls
from tests.support.refill_rows import OTHER_PURCHASE
from tests.support.row_values import (
    ACCOUNT,
    ADMIN,
    BOOK_VERSION,
    CARD,
    CHARGED,
    CLAIMED,
    CONSENT,
    CORRECTION,
    HOLD,
    LIMIT,
    NOBODY,
    RECORD,
    Row,
)
from tests.support.valid_rows import ROWS
from tests.support.violations import VIOLATIONS


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
    await insert(connection, "grants", ROWS["grants"] | {"grant_id": CLAIMED, "idempotency_key": "claimed"})
    disputed = {"purchase_id": uuid.UUID(int=9), "idempotency_key": None, "payment_intent_id": None}
    await insert(connection, "purchases", ROWS["purchases"] | disputed)
    other = {"purchase_id": OTHER_PURCHASE, "idempotency_key": None, "payment_intent_id": "pi_other"}
    await insert(connection, "purchases", ROWS["purchases"] | other)
    await insert(connection, "card_consents", ROWS["card_consents"] | {"consent_id": CONSENT})
    kept = {"card_id": CARD, "is_primary": False, "provider_method_id": "pm_kept"}
    await insert(connection, "saved_cards", ROWS["saved_cards"] | kept)
    await insert(connection, "llm_interactions", ROWS["llm_interactions"] | {"interaction_id": "attributed"})
    charged = {"charge_id": CHARGED, "entry_no": 1_000, "idempotency_key": None}
    await insert(connection, "charges", ROWS["charges"] | charged)
    await insert(connection, "holds", ROWS["holds"] | {"hold_id": HOLD, "idempotency_key": "held"})
    await insert(connection, "limits", ROWS["limits"] | {"limit_id": LIMIT, "scope_value": "counted"})
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
