"""A lone charge, without HTTP, beside the cheapest durable operation: one row updated by the driver."""

import asyncio
import gc
import statistics
import time
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from app.auth.caller import Actor
from app.billing.posting import ChargeRequest
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import LOOKUP_PLANNING, Database
from app.db.listener import NotificationListener
from app.ledger.outcomes import New
from app.settings import Settings
from tests.databases import Urls

TIMES = 300
UPDATE = "UPDATE accounts SET updated_at = $2 WHERE account_id = $1"


async def medians_ms(database: Urls, settings: Settings, account_id: UUID, actor: Actor) -> tuple[float, float]:
    """Return the medians of (a row update, a charge with a new key), which alternate."""
    db = Database(SecretStr(database.service), planning=LOOKUP_PLANNING)
    listener = NotificationListener(settings.direct_url)  # as in a server, which so keeps its configuration in memory
    configuration = Configuration(db, settings, listener)
    listener.start()
    while not listener.is_current(asyncio.get_running_loop().time()):  # noqa: ASYNC110  (it has no event for that)
        await asyncio.sleep(0.01)
    billing = BillingService(db, configuration)
    driver = await asyncpg.connect(database.service)
    updates, charges = [], []
    gc.disable()
    for number in range(TIMES + 20):
        now = datetime.now(UTC)
        started = time.perf_counter()
        await driver.execute(UPDATE, account_id, now)
        between = time.perf_counter()
        outcome = await billing.charge(
            ChargeRequest(account_id, 100, "USD", actor, now, idempotency_key=f"lone-{number}")
        )
        charges.append(time.perf_counter() - between)
        updates.append(between - started)
        assert isinstance(outcome, New)
    gc.enable()
    await listener.stop()
    await driver.close()
    await db.close()
    return statistics.median(updates[20:]) * 1000, statistics.median(charges[20:]) * 1000
