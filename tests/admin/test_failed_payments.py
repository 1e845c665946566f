"""Failed payments of subscriptions and refills, with the next attempt, over all users."""

import uuid
from datetime import datetime
from typing import Any

import httpx

from tests.admin.conftest import Office
from tests.admin.subscribers import DAY, miss_payment, open_account, sell, subscribe, today
from tests.books import connected
from tests.subscriptions.made import DOLLAR

SETTINGS = """
    INSERT INTO refill_settings (account_id, enabled, trigger_below_nanos, amount_nanos, declines, last_declined_at,
                                 last_decline, check_at, off_reason, off_at, created_at, updated_at)
    VALUES ($1, $2, 1, $3, $4, $5, 'insufficient_funds', $6, $7, $8, now(), now())
"""
CARD = """
    WITH consents AS (INSERT INTO card_consents VALUES ($1, $2, 'I agree', NULL, 'user', now()))
    INSERT INTO saved_cards (account_id, card_id, consent_id, provider, provider_customer_id, provider_method_id,
                             is_primary, created_at)
    VALUES ($1, $2, $2, 'stripe', 'cus', 'pm', true, now())
"""
REFILL = """
    WITH purchase AS (
      INSERT INTO purchases (account_id, purchase_id, environment, pack, unit, credits, money_nanos, amount_minor,
                             currency, status, status_at, refunded_minor, credits_refunded, credits_disputed,
                             created_at, updated_at)
      VALUES ($1, $2, 'live', 'money', 'USD', 0, $3, 2500, 'USD', 'requires_action', $4, 0, 0, 0, $4, $4))
    INSERT INTO refills (account_id, purchase_id, card_id, amount_nanos, status, decline, created_at, updated_at)
    VALUES ($1, $2, $2, $3, 'action_required', 'authentication_required', $4, $4)
"""


async def decline(office: Office, at: datetime, *, declines: int, next_at: datetime | None) -> str:
    """Return an account whose refills were declined, and are switched off without a next time."""
    account_id = await open_account(office, at)
    off = (None, None) if next_at is not None else ("declined", at)
    async with connected(office.urls) as connection:
        await connection.execute(SETTINGS, account_id, next_at is not None, 25 * DOLLAR, declines, at, next_at, *off)
    return str(account_id)


async def wait_for_owner(office: Office, at: datetime) -> str:
    """Return an account with a refill that its owner has to authenticate."""
    account_id, purchase_id = await open_account(office, at), uuid.uuid4()
    async with connected(office.urls) as connection:
        await connection.execute(CARD, account_id, purchase_id)
        await connection.execute(REFILL, account_id, purchase_id, 25 * DOLLAR, at)
    return str(account_id)


async def test_list_names_each_payment_that_is_due_with_its_next_attempt(
    office: Office, viewer: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    await sell(admin)
    now = today()
    late = await subscribe(office, now - 40 * DAY)
    await miss_payment(office, late, now - 4 * DAY)
    retried = await decline(office, now - 2 * DAY, declines=1, next_at=now + DAY)
    off = await decline(office, now - 3 * DAY, declines=3, next_at=None)
    waiting = await wait_for_owner(office, now - DAY)

    async def found(**filters: Any) -> list[dict[str, Any]]:
        answer = await viewer.get("/admin/failed-payments", params=filters)
        assert answer.status_code == 200, answer.text
        listed: list[dict[str, Any]] = answer.json()["payments"]
        return listed

    shown = [
        (row["kind"], row["account_id"], row["amount_minor"], row["currency"], row["attempts"], row["state"])
        for row in await found()
    ]
    assert shown == [
        ("authentication", waiting, 2500, "USD", 1, "action_required"),
        ("refill", retried, 2500, "USD", 1, "retried"),
        ("refill", off, 2500, "USD", 3, "declined"),
        ("subscription", str(late.account_id), 2000, "USD", 1, "past_due"),
    ]
    times = [row["next_attempt_at"] for row in await found()]
    assert [None if at is None else datetime.fromisoformat(at) for at in times] == [
        *(None, now + DAY),
        *(None, now - 4 * DAY + 3 * DAY),
    ]
    assert [row["account_id"] for row in await found(kind="refill")] == [retried, off]
    assert await found(environment="test") == []

    pages, cursor = [], None
    for _ in shown:
        given: dict[str, str] = {} if cursor is None else {"cursor": cursor}
        page = (await viewer.get("/admin/failed-payments", params={"limit": 1, **given})).json()
        pages += page["payments"]
        cursor = page["next_cursor"]
    assert (pages, cursor) == (await found(), None)
    bad = await viewer.get("/admin/failed-payments", params={"cursor": "1"})
    assert (bad.status_code, bad.json()["field"]) == (422, "cursor")
