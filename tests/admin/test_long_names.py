"""The longest names that callers can send do not stop the roll-up: PostgreSQL bounds the entries of an index."""

import random
from datetime import datetime
from decimal import Decimal

from app.accounts.directory import Identity
from app.analytics.rollup import SETTLED, roll_up
from app.auth.caller import Actor
from app.billing.posting import ChargeRequest
from app.clock import utc_now
from app.ledger.outcomes import New
from app.metering.attribution import MAX_CHARS, Attribution
from app.metering.events import Accepted, StatedCost, Terms, UsageEvent
from app.metering.llm_usage import LlmUsageReport, record_llm_usage
from app.pricing.usage import LlmTokens
from app.verification import verify_books
from tests.books import connected
from tests.conftest import ACTOR, running_app, settings_for
from tests.databases import Urls
from tests.support.wallets import open_account


def name(seed: int) -> str:
    """A name of 255 characters of four bytes each, which PostgreSQL cannot compress."""
    return "".join(map(chr, random.Random(seed).choices(range(0x20000, 0x2A6DF), k=MAX_CHARS)))


async def test_the_longest_names_are_in_the_sums_by_day(own_database: Urls, identity: Identity, now: datetime) -> None:
    provider, model, agent, interaction = map(name, range(4))
    async with running_app(settings_for(own_database)) as app:
        state = app.state
        account_id = await open_account(state.billing, identity, now)
        for event_id, tokens in (("all", LlmTokens(provider, model, {})), ("two", LlmTokens("p", model, {}))):
            event = UsageEvent(
                "tests", event_id, tokens, stated=StatedCost("nanos", 0), attribution=Attribution(agent_id=agent)
            )
            assert isinstance(await state.usage.record_one(account_id, event, Terms(ACTOR, now)), Accepted)
        charge = ChargeRequest(
            account_id,
            *(100, None, Actor("api_key", "0" * 16), now),
            idempotency_key=interaction,
            details={"agent_id": agent},
        )
        assert isinstance(await state.billing.charge(charge), New)
        report = LlmUsageReport(interaction, None, 1, 1, 1, [model], Decimal(1), 1, 0, 0)
        await record_llm_usage(state.db, account_id, report, now)
        await roll_up(state.db, utc_now() + SETTLED)
        verification = await verify_books(state.db, now)
    assert verification.problem is None
    async with connected(own_database) as connection:
        days = await connection.fetch(
            "SELECT provider, model, agent_id, events FROM metered_days ORDER BY length(provider)"
        )
        shares = await connection.fetch("SELECT interaction_id, model, agent_id, interactions FROM interaction_shares")
    assert [tuple(day) for day in days] == [("p", model, agent, 1), (provider[:200], model[:200], agent[:200], 1)]
    assert [tuple(share) for share in shares] == [(interaction, model, agent[:100], 1)]
