"""Tells the whole story to the database and the local Stripe of the environment, and ends."""

import asyncio
import json
import os
from datetime import datetime

from app.config import load_settings
from app.demo.data import PAID_USER
from app.demo.traffic.past import Past, past
from app.demo.traffic.tell import tell
from app.observability import configure_logging

NICENESS = 5
"""The service that somebody is about to try goes first."""


async def story_ends(services: Past) -> datetime:
    """When the demo was set up: kept in the database, so that the story is the same however often it is begun."""
    account_id = await services.billing.find_account_id(PAID_USER)
    created_at: datetime = (await services.billing.state(account_id))["created_at"]
    return created_at


async def main() -> None:
    settings = load_settings()
    configure_logging(level="WARNING", json=settings.log_json)
    os.nice(NICENESS)
    async with past(settings) as services:
        print(json.dumps(await tell(services, await story_ends(services)), indent=2, sort_keys=True))


asyncio.run(main())
