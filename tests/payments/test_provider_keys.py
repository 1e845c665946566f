"""The provider in the keys of purchases, events and cursors, beside a version of the service that does not write it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from app.payments import event_queries, queries
from app.payments.facts import Event as ProviderEvent
from app.payments.stripe_objects import STRIPE
from app.verification import verify_books
from tests.books import connected
from tests.databases import SERVICE_ROLE, Urls, alembic
from tests.payments.conftest import Event, Shop
from tests.payments.test_history import CREDITS, PRICE
from tests.payments.test_upgrade import OldPurchase, decided, history_of, revision_before
from tests.support.earlier_version import Connection, insert

AT = datetime(2026, 11, 1, tzinfo=UTC)
TABLES = ("purchases", "payment_events", "payment_cursors")
REVISION = "provider_keys"

# The statements of the version before, word for word.
OLD_INSERT_EVENT = """
    INSERT INTO payment_events (environment, event_id, type, payment_intent_id, outcome, created_at, received_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (environment, event_id) DO UPDATE SET received_at = $8
     WHERE payment_events.outcome = $9 RETURNING payment_events.event_id
"""
OLD_UPDATE_OUTCOME = "UPDATE payment_events SET outcome = $1 WHERE environment = $2 AND event_id = $3"
OLD_UPSERT_CURSOR = """
    INSERT INTO payment_cursors (environment, events_read_until) VALUES ($1, $2)
    ON CONFLICT (environment) DO UPDATE SET events_read_until = $3
"""
OLD_INSERT_PURCHASE = """
    INSERT INTO purchases (account_id, purchase_id, environment, pack, credits, amount_minor, currency, attempt,
                           idempotency_key, caller_kind, payment_intent_id, status, status_at, refunded_minor,
                           credits_refunded, credits_disputed, created_at, updated_at)
    VALUES ($1, $2, 'live', 'standard', 20, 500, 'USD', 1, NULL, 'key', $3, 'pending', $4, 0, 0, 0, $4, $4)
"""


async def old_insert_event(connection: Connection, event_id: str, payment_id: str | None, now: datetime) -> bool:
    """Insert an event as the version before does. Return whether it has to be applied."""
    row = ("live", event_id, "payment_intent.succeeded", payment_id, "ignored", now, now)
    return await connection.fetchval(OLD_INSERT_EVENT, *row, now, "ignored") is not None


async def count_events(shop: Shop) -> int:
    [row] = await shop.rows(
        "SELECT count(*) AS events, count(*) FILTER (WHERE provider = 'stripe') FROM payment_events"
    )
    assert row["events"] == row["count"]
    return int(row["events"])


async def succeeded(shop: Shop, account_id: UUID) -> Event:
    """Buy and pay. Return Stripe's event, not delivered."""
    payment = await shop.open(account_id)
    await shop.pay(payment.payment_id)
    return (await shop.events("payment_intent.succeeded"))[-1]


@pytest.fixture
async def upgraded(own_database: Urls) -> tuple[Urls, OldPurchase]:
    """A database of the revision before, with a paid purchase, its event and a cursor, then upgraded."""
    alembic(own_database, "downgrade", revision_before(REVISION))
    purchase = OldPurchase()
    async with connected(own_database) as connection:
        await purchase.insert(connection)
        assert await old_insert_event(connection, "evt_before", purchase.payment_id, AT)
        await connection.execute(OLD_UPDATE_OUTCOME, "applied", "live", "evt_before")
        await connection.execute(OLD_UPSERT_CURSOR, "live", AT, AT)
    alembic(own_database, "upgrade", "head")
    return own_database, purchase


async def test_rows_from_before_belong_to_stripe_and_keep_their_credits(
    upgraded: tuple[Urls, OldPurchase], shop: Shop
) -> None:
    _, purchase = upgraded
    assert (await verify_books(shop.db, shop.now)).ok
    async with shop.db.read() as db:
        assert await event_queries.find_cursor(db, "live", STRIPE, "payments") == AT
        found = await queries.find_purchase_of_payment(db, "live", STRIPE, purchase.payment_id)
    assert found is not None
    assert (found.provider, found.credits, found.is_booked) == ("stripe", CREDITS, True)
    history = history_of(purchase)
    [paid] = [event for event in history.events if event["type"] == "payment_intent.succeeded"]
    await shop.deliver({**paid, "id": "evt_before"})  # a repetition
    await shop.deliver(paid)  # the same news under another id
    assert await shop.balances(purchase.account_id) == (CREDITS, 0)
    await shop.deliver(decided(history, "lost"))
    assert await shop.balances(purchase.account_id) == (0, 0)


async def test_an_event_of_either_version_has_its_effect_once(shop: Shop) -> None:
    account_id = await shop.account()
    event = await succeeded(shop, account_id)
    async with connected(shop.urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        await shop.deliver(event)
        assert not await old_insert_event(connection, event["id"], None, shop.now)
        later = await succeeded(shop, account_id)
        assert await old_insert_event(connection, later["id"], None, shop.now)
        await connection.execute(OLD_UPDATE_OUTCOME, "applied", "live", later["id"])
        await shop.deliver(later)
    assert await shop.inbox() == {event["id"]: "applied", later["id"]: "applied"}
    assert await shop.balances(account_id) == (CREDITS, 0)  # the old version's effect is its own, and none in this test


async def test_an_event_that_the_version_before_ignored_is_applied(shop: Shop) -> None:
    account_id = await shop.account()
    event = await succeeded(shop, account_id)
    async with connected(shop.urls) as connection:
        assert await old_insert_event(connection, event["id"], None, shop.now)
    await shop.deliver(event)
    assert await shop.balances(account_id) == (CREDITS, 0)


async def test_concurrent_deliveries_to_both_versions_apply_once(shop: Shop) -> None:
    """Each of many events arrives at both versions at once: one of them applies it, and it is stored once.

    PostgreSQL may refuse one of two simultaneous inserts with a unique violation, because the version before names one
    of the two keys. That delivery fails as a whole, and Stripe repeats it.
    """
    applied: dict[str, int] = {}

    async def old(connection: Connection, event_id: str) -> None:
        try:
            async with connection.transaction():
                if await old_insert_event(connection, event_id, None, shop.now):
                    await connection.execute(OLD_UPDATE_OUTCOME, "applied", "live", event_id)
                    applied[event_id] = applied.get(event_id, 0) + 1
        except asyncpg.UniqueViolationError:
            pass

    async def new(event_id: str) -> None:
        event = ProviderEvent(STRIPE, event_id, "payment_intent.succeeded", shop.now, True, None)
        async with shop.db.transaction() as tx:
            if await event_queries.insert_event(tx, "live", event, shop.now):
                await event_queries.update_event_outcome(tx, "live", event, "applied")
                applied[event_id] = applied.get(event_id, 0) + 1

    async with connected(shop.urls) as one, connected(shop.urls) as other:
        for number in range(60):
            event_id = f"evt_{number}"
            await asyncio.gather(old(one, event_id), new(event_id), old(other, event_id), new(event_id))
    assert set(applied.values()) == {1}
    assert len(applied) == await count_events(shop) == 60


async def test_both_versions_move_one_cursor(shop: Shop) -> None:
    hour = timedelta(hours=1)
    async with connected(shop.urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        await connection.execute(OLD_UPSERT_CURSOR, "live", AT, AT)
        for feed, until in (("payments", AT + hour), ("refunds", AT + 2 * hour)):
            async with shop.db.transaction() as tx:
                await event_queries.upsert_cursor(tx, "live", STRIPE, feed, until)  # type: ignore[arg-type]  # one of the two
        assert await connection.fetchval("SELECT events_read_until FROM payment_cursors") == AT + hour
        await connection.execute(OLD_UPSERT_CURSOR, "live", AT, AT + 3 * hour)
    async with shop.db.read() as db:
        assert await event_queries.find_cursor(db, "live", STRIPE, "payments") == AT + 3 * hour
        assert await event_queries.find_cursor(db, "live", STRIPE, "refunds") == AT + 2 * hour


async def test_a_purchase_that_the_version_before_opened_is_found_and_booked(shop: Shop) -> None:
    account_id, purchase_id = await shop.account(), uuid.uuid4()
    intent = await shop.stripe(
        "POST",
        "payment_intents",
        amount=PRICE,
        currency="usd",
        **{"metadata[account_id]": str(account_id), "metadata[purchase_id]": str(purchase_id)},
    )
    async with connected(shop.urls) as connection:
        await connection.execute(f"SET ROLE {SERVICE_ROLE}")
        await connection.execute(OLD_INSERT_PURCHASE, account_id, purchase_id, intent["id"], shop.now)
    clicked = await shop.open(account_id)
    assert clicked.payment_id == intent["id"]
    await shop.pay(intent["id"])
    await shop.deliver_all(("payment_intent.succeeded",))
    assert await shop.balances(account_id) == (CREDITS, 0)


@pytest.fixture
async def next_schema(shop: Shop) -> AsyncIterator[Shop]:
    """The schema as the revision for a second provider leaves it: without the earlier keys and the checks."""
    dropped = [(table, f"ck_{table}_provider") for table in TABLES] + [
        ("purchases", "uq_purchases_account_id_payment_intent_id"),
        ("payment_events", "pk_payment_events"),
        ("payment_cursors", "pk_payment_cursors"),
    ]
    definition = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1"
    async with connected(shop.urls) as connection:
        definitions = {name: await connection.fetchval(definition, name) for _, name in dropped}
        for table, name in dropped:
            await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    yield shop
    async with connected(shop.urls) as connection:
        for table in TABLES:
            await connection.execute(f"DELETE FROM {table} WHERE provider <> 'stripe'")
        for table, name in dropped:
            await connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definitions[name]}")


async def test_this_version_tells_providers_apart_once_the_earlier_keys_are_gone(next_schema: Shop) -> None:
    """Another provider's payment, event and cursor have the ids of Stripe's. This version leaves them alone."""
    shop = next_schema
    account_id = await shop.account()
    event = await succeeded(shop, account_id)
    [purchase] = await shop.purchases(account_id)
    async with connected(shop.urls) as connection:
        await insert(connection, "purchases", **{**purchase, "purchase_id": uuid.uuid4(), "provider": "fondy"})
        received = {"environment": "live", "event_id": event["id"], "type": "approved", "outcome": "applied"}
        await insert(connection, "payment_events", **received, provider="fondy", created_at=AT, received_at=AT)
        await insert(connection, "payment_cursors", environment="live", provider="fondy", events_read_until=AT)
    await shop.deliver(event)
    await shop.deliver(event)
    assert await shop.balances(account_id) == (CREDITS, 0)
    await shop.payments.reconcile(shop.now + timedelta(minutes=30))
    rows = await shop.rows(
        "SELECT provider, events_read_until FROM payment_cursors WHERE environment = 'live' ORDER BY 1"
    )
    assert [row["provider"] for row in rows] == ["fondy", "stripe"]
    assert rows[0]["events_read_until"] == AT
    both = {row["provider"]: row for row in await shop.purchases(account_id)}
    assert both["stripe"]["credit_id"] is not None
    assert both["fondy"]["updated_at"] == purchase["updated_at"]
