"""The export: all data kept about one person, nothing about others, and little of it in memory at a time."""

import json
import tracemalloc
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.admin.users.personal_data_export import PAGE_ROWS, export_account
from tests.admin.conftest import Office
from tests.admin.people import Person, somebody
from tests.books import connected

REASON = {"reason": "a ticket"}
TABLES = {
    "charges": ("charges", "charge_id"),
    "credits": ("credits", "credit_id"),
    "tool_uses": ("product_usage_log", "usage_log_id"),
    "purchases": ("purchases", "purchase_id"),
    "ledger": ("ledger_entries", "entry_no"),
    "llm_usage": ("llm_usage", "usage_log_id"),
    "usage_events": ("usage_events", "usage_id"),
}
ALERT = """
    INSERT INTO alerts (alert_id, environment, rule, subject, day, observed, threshold, window_h, account_ids,
                        created_at, last_seen_at)
    VALUES ($1, 'live', 'purchases_per_card', gen_random_uuid(), '2026-01-02', cardinality($2::uuid[]), 2, 24, $2,
            now(), now())
"""


async def exported(client: httpx.AsyncClient, person: Person) -> dict[str, Any]:
    answer = await client.get(f"/admin/users/{person.account_id}/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="account-{person.account_id}.json"'
    document: dict[str, Any] = json.loads(answer.content)
    return document


async def test_everything_that_is_kept_about_a_person_is_in_it(office: Office, admin: httpx.AsyncClient) -> None:
    person, neighbour = await somebody(office), await somebody(office)
    path = f"/admin/users/{person.account_id}"
    assert (await admin.post(f"{path}/suspend", json=REASON)).status_code == 200
    assert (await admin.post(f"{path}/revoke-tokens", json=REASON)).status_code == 200
    for account_ids in ([neighbour.account_id, person.account_id], [neighbour.account_id]):
        await office.rows(ALERT, uuid4(), account_ids)
    document = await exported(admin, person)
    for section, (table, key) in TABLES.items():
        rows = await office.rows(f"SELECT {key} FROM {table} WHERE account_id = $1 ORDER BY 1", person.account_id)
        assert rows
        assert [str(row[key]) for row in document[section]] == [str(row[key]) for row in rows]
    text = json.dumps(document)
    assert [name for name in person.names if name not in text] == []
    assert [name for name in neighbour.names if name in text] == []
    assert document["account"]["paid"] == 50 + 3 - 2 - 1 - 10  # 3 free, then 3 of 6 by credits, and a picture
    assert document["profile"]["marketing_opt_in"] is True
    assert document["identities"][0]["tokens_refused_before"] is not None
    assert {row["interaction_id"] for row in document["llm_usage"]} <= set(person.names)
    assert document["llm_usage"][0]["actual_cost_cents"] == "0.1250000000"
    assert document["purchases"][0]["disputes"] == []
    assert [alert["observed"] for alert in document["alerts"]] == [2]
    assert str(neighbour.account_id) not in text
    actions = [row["action"] for row in document["admin_actions"]]
    assert actions == ["account.suspend", "account.revoke_tokens", "account.export"]
    assert "admin@example.com" not in text


async def test_columns_of_the_books_are_all_told_or_known_to_be_ours(office: Office, admin: httpx.AsyncClient) -> None:
    """A column that is added later must be exported, or be listed here."""
    ours = {
        "account_id": "said once, above",
        "entry_no": "the ledger's order",
        "attempt": "how often we asked Stripe",
        "environment": "said once, above",
        "status_at": "Stripe's clock",
        "refunds_reported_minor": "what refunded_minor is computed from",
        "caller_kind": "whose idempotency key it is",
        "payment_intent_id": "exported as payment_id",
        "provider": "of the payment: Stripe",
        "actor_type": "in the ledger",
        "actor_id": "in the ledger",
    }
    document = await exported(admin, await somebody(office))
    for section, (table, _) in TABLES.items():
        rows = await office.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1",
            table,
        )
        untold = {row["column_name"] for row in rows} - set(document[section][0]) - set(ours)
        assert not untold, f"{table}: {untold}"


async def test_it_is_written_down_who_took_a_copy_and_not_of_whom(office: Office, admin: httpx.AsyncClient) -> None:
    person = await somebody(office)
    await exported(admin, person)
    [row] = await office.rows("SELECT * FROM admin_audit_log WHERE target_id = $1", str(person.account_id))
    assert (row["action"], row["admin_email"]) == ("account.export", "admin@example.com")
    assert not [name for name in person.names if name in str(row)]


@pytest.mark.parametrize("charges", [PAGE_ROWS - 1, PAGE_ROWS, 2 * PAGE_ROWS + 1])
async def test_pages_join_without_a_seam(office: Office, admin: httpx.AsyncClient, charges: int) -> None:
    person = await somebody(office)
    await fill(office, person, charges - 4)  # three by the main pool, and a tool's
    document = await exported(admin, person)
    assert len({row["charge_id"] for row in document["charges"]}) == len(document["charges"]) == charges


async def test_a_long_history_is_never_in_memory_as_a_whole(office: Office, person_with_much: Person) -> None:
    size = 0
    tracemalloc.start()
    try:
        pieces = export_account(office.db, person_with_much.account_id, await now_of(office))
        async for piece in pieces:
            size += len(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 4_000_000
    assert peak < size / 2


@pytest.fixture
async def person_with_much(office: Office) -> Person:
    person = await somebody(office)
    await fill(office, person, 10_000)
    return person


async def now_of(office: Office) -> Any:
    [row] = await office.rows("SELECT now() AS now")
    return row["now"]


async def fill(office: Office, person: Person, charges: int) -> None:
    """That many charges more. They have no ledger entries; this database is not verified."""
    async with connected(office.urls) as connection:
        await connection.execute(
            """
            INSERT INTO charges (account_id, charge_id, entry_no, operation, amount_minor, currency, cost,
                                 from_daily_free, from_free, from_paid, paid_after, description, metadata, created_at)
            SELECT $1, gen_random_uuid(), 1000 + i, 'charge', 100, 'USD', 1, 0, 0, 1, 0, repeat('x', 200), '{}', now()
              FROM generate_series(1, $2::int) AS i
            """,
            person.account_id,
            charges,
        )
