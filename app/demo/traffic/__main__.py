"""Replay the whole story into the environment's database and local Stripe, and exit."""

import argparse
import asyncio
import json
import os
from datetime import datetime

from app.demo.data import PAID_USER
from app.demo.traffic.past import Past, past
from app.demo.traffic.people import LIVE_PEOPLE
from app.demo.traffic.replay import replay
from app.demo.traffic.subscribers import add_subscribers
from app.observability.logs import configure_logging
from app.settings import load_settings

NICENESS = 5
"""The service has priority, because the person wants to try it."""


async def story_ends(services: Past) -> datetime:
    """Return the time of the demo's set-up. It is stored in the database, so that each restart has the same story."""
    account_id = await services.billing.accounts.find_account_id(PAID_USER)
    created_at: datetime = (await services.billing.accounts.state(account_id))["created_at"]
    return created_at


def print_progress(done: int, total: int) -> None:
    """Print a line that the demo's supervisor reads."""
    print(f"{done}/{total}", flush=True)


async def main(live_people: int) -> None:
    settings = load_settings()
    configure_logging(level="WARNING", json=settings.log_json)
    os.nice(NICENESS)
    async with past(settings) as services:
        until = await story_ends(services)
        outcomes = await replay(services, until, live_people, print_progress)
        outcomes["subscribers"] = await add_subscribers(services, until)
    print(json.dumps(outcomes, indent=2, sort_keys=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m app.demo.traffic", description=__doc__)
    parser.add_argument("--people", type=int, default=LIVE_PEOPLE, help="Number of users in the live environment.")
    asyncio.run(main(parser.parse_args().people))
