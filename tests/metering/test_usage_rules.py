"""Settings that decide about usage: plans that owe, the window of an event's own time, the rounding of a cost."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from fastapi import FastAPI

from app.accounts.directory import Identity, Opening
from app.ledger.entries import Cause, Kind
from app.metering.events import Accepted, Outcome, Rejected, StatedCost, Terms, UsageEvent
from app.metering.service import EVENTS_AT_ONCE
from app.metering.usage_schemas import nanos_of
from app.pricing.usage import Metered
from tests.conftest import ACTOR, running_app, settings_for
from tests.databases import Urls
from tests.support.wallets import DOLLAR, locked, open_account

DAY, MINUTE, INSTANT = timedelta(days=1), timedelta(minutes=1), timedelta(microseconds=1)


async def reported(app: FastAPI, plan: str, at: datetime | None, now: datetime) -> Outcome:
    """Report an event of a dollar for the account of a plan, which has no money. It may owe one dollar."""
    identity = Identity("live", "oauth:google", plan)
    account_id, _ = await app.state.accounts.directory.find_or_create(identity, ACTOR, now, Opening(plan_name=plan))
    usage, stated = Metered("sms", Decimal(1)), StatedCost("nanos", DOLLAR)
    event = UsageEvent("tests", uuid.uuid4().hex, usage, stated=stated, occurred_at=at)
    terms = Terms(ACTOR, now, "refuse", debt_limit_nanos=DOLLAR, max_stated_nanos=DOLLAR)
    outcome: Outcome = await app.state.usage.record_one(account_id, event, terms)
    return outcome


async def test_accounts_on_listed_plans_owe_under_every_policy_up_to_the_limit(
    own_database: Urls, now: datetime
) -> None:
    async with running_app(settings_for(own_database, usage_debt_plans=["pro"])) as app:
        outcomes = [await reported(app, plan, None, now) for plan in ("pro", "pro", "free")]
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [True, False, False]
    assert isinstance(outcomes[0], Accepted)
    assert (outcomes[0].record.status, outcomes[0].record.debt_nanos) == ("debt", DOLLAR)


@pytest.mark.parametrize(
    ("settings", "oldest", "latest"),
    [({}, 35 * DAY, 5 * MINUTE), ({"usage_max_age_days": 1, "usage_max_ahead_s": 0}, DAY, timedelta())],
)
async def test_an_event_is_accepted_to_the_bounds_of_its_window(
    own_database: Urls, now: datetime, settings: dict[str, Any], oldest: timedelta, latest: timedelta
) -> None:
    configured = settings_for(own_database, usage_debt_plans=["a", "b"], **settings)
    async with running_app(configured) as app:
        within = [await reported(app, plan, at, now) for plan, at in (("a", now - oldest), ("b", now + latest))]
        beyond = [await reported(app, "a", at, now) for at in (now - oldest - INSTANT, now + latest + INSTANT)]
    assert [isinstance(outcome, Accepted) for outcome in (*within, *beyond)] == [True, True, False, False]
    fields = [outcome.error.figures for outcome in beyond if isinstance(outcome, Rejected)]
    assert fields == [{"field": "time"}] * 2


@pytest.mark.parametrize(
    ("cost", "nanos"),
    [
        ("0.000000001", 1),
        ("0.0000000004", 0),
        ("0.0000000015", 2),
        (f"0.0000000014{'9' * 30}", 1),  # not first to 0.0000000015
        ("9223372036.854775807", 2**63 - 1),
        ("10000000000", 10**19),
        ("1e-999999", 0),
    ],
)
def test_a_stated_cost_is_rounded_once_to_the_ninth_decimal(cost: str, nanos: int) -> None:
    assert nanos_of(Decimal(cost)) == nanos


async def test_a_transaction_of_events_takes_as_many_statements_for_one_as_for_very_many(
    own_database: Urls, identity: Identity, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report has new events, repeats and refused ones."""
    open_connection, sent = asyncpg.connect, list[str]()

    async def connect(*arguments: Any, **options: Any) -> Any:
        connection = await open_connection(*arguments, **options)
        connection.add_query_logger(lambda query: sent.append(query.query))
        return connection

    monkeypatch.setattr(asyncpg, "connect", connect)

    def events(number: int, cost: int, name: str) -> Sequence[UsageEvent]:
        usage, stated = Metered("sms", Decimal(1)), StatedCost("nanos", cost)
        return [UsageEvent("tests", f"{name}{each}", usage, stated=stated) for each in range(number)]

    async with running_app(settings_for(own_database)) as app:
        account_id = await open_account(app.state.billing, identity, now)
        async with locked(app.state.db, account_id, now) as account:
            account.give_money(DOLLAR, Kind.BONUS, Cause("account", account_id), ACTOR, now)
        terms = Terms(ACTOR, now, max_stated_nanos=2 * DOLLAR)
        numbers: dict[int, int] = {}
        for each in (1, EVENTS_AT_ONCE // 4):
            new, dear = events(each, 1, f"new{each}-"), events(each, 2 * DOLLAR, f"dear{each}-")
            report = [*new, *new, *dear, *dear]
            await app.state.usage.record(account_id, events(1, 0, f"first{each}-"), terms)  # what is read once
            sent.clear()
            assert len(await app.state.usage.record(account_id, report, terms)) == len(report)
            numbers[each] = sum("usage_" in statement or "accounts" in statement for statement in sent)
    assert len(set(numbers.values())) == 1, numbers
    assert 3 <= numbers[1] <= 6
