"""Usage at the real service: reported, repeated, refused, checked and quoted, by both clients and the reporter."""

import asyncio
import json
import math
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ciris_billing import (
    ApiCalls,
    AsyncBillingClient,
    BillingClient,
    BillingError,
    Compute,
    EventIdReused,
    InsufficientMoney,
    InvalidReply,
    InvalidRequest,
    LlmTokens,
    Metered,
    Options,
    PermissionDenied,
    ServerError,
    ToolCalls,
    Usage,
    UsageEvent,
    User,
)
from ciris_billing.reporter import ReporterOptions, UsageReporter
from tests.metering.conftest import PROVIDER, Desk
from tests.sdk.conftest import QUICK, Faulty, InThreads, usage_key
from tests.sdk.reactions import Reaction
from tests.sdk.test_retries import LOST
from tests.support.wallets import DOLLAR

SONNET = LlmTokens("anthropic", "claude-3-5-sonnet", 1000, 100)
"""0.0045 dollars."""


@pytest.fixture(params=["blocking", "awaited"])
async def reporting(request: pytest.FixtureRequest, between: Faulty, desk: Desk) -> AsyncIterator[Any]:
    """Each client in turn, behind the misbehaving server, with a key that may state costs."""
    if request.param == "blocking":
        with BillingClient(between.url, usage_key(desk), options=QUICK) as client:
            yield InThreads(client)
    else:
        async with AsyncBillingClient(between.url, usage_key(desk), options=QUICK) as awaited:
            yield awaited


PRICES: list[tuple[Usage, str]] = [
    (SONNET, "0.0045"),
    (LlmTokens("anthropic", "claude-3-5-sonnet", 1000, 100, mode="batch"), "0.00225"),
    (LlmTokens("anthropic", "claude-3-5-sonnet", tokens={"cache_read": 1000, "output_text": 100}), "0.0018"),
    (LlmTokens("openai", "gpt-4o-mini", usage={"prompt_tokens": 1000, "completion_tokens": 100}), "0.00021"),
    (
        LlmTokens(
            "anthropic",
            "claude-3-5-sonnet",
            usage={"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 500},
            basis="inclusive",
        ),
        "0.00315",
    ),
    (LlmTokens("openai", "gpt-4o-mini"), "0"),
    (Compute(Decimal("0.5"), Decimal("0.25")), "0.035"),
    (Compute(cpu_hours=1), "0.06"),
    (ApiCalls("/search", 100), "0.001"),
    (ToolCalls("search", 2), "0.004"),
    (Metered("storage", Decimal("0.1")), "0.001"),
    (Metered("sms", 3), "0.15"),
]


@pytest.mark.parametrize(("usage", "cost"), PRICES, ids=lambda value: str(value)[:60])
async def test_usage_of_each_kind_costs_what_it_was_quoted(reporting: Any, payer: str, usage: Usage, cost: str) -> None:
    quote = await reporting.quote(usage)
    recorded = await reporting.report_usage(UsageEvent(usage=usage, user_id=payer))
    assert quote.cost == recorded.cost == Decimal(cost)
    assert sum(line.amount for line in quote.lines) == quote.cost
    assert recorded.balance == 10 - Decimal(cost)
    cents = math.ceil(recorded.cost * 100), math.floor(recorded.balance * 100)
    assert (recorded.cost_cents, recorded.balance_cents) == cents
    assert (recorded.success, recorded.status, recorded.replayed, recorded.debt) == (True, "charged", False, 0)


@pytest.mark.parametrize("reaction", [LOST, Reaction(502, forward=True), Reaction(503), Reaction(None)], ids=str)
async def test_event_is_charged_once_whatever_becomes_of_its_answer(
    reporting: Any, between: Faulty, payer: str, reaction: Reaction
) -> None:
    event = UsageEvent(usage=SONNET, user_id=payer)
    between.reactions = [reaction, reaction]
    first = await reporting.report_usage(event)
    assert (first.replayed, len({request["body"] for request in between.requests})) == (reaction.forward, 1)
    again = await reporting.report_usage(event)
    assert (again.replayed, again.transaction_id, again.cost) == (True, first.transaction_id, first.cost)
    assert again.balance == first.balance == Decimal("9.9955")


async def test_events_without_an_id_are_separate(reporting: Any, payer: str) -> None:
    for _ in range(2):
        recorded = await reporting.report_usage(UsageEvent(usage=SONNET, user_id=payer))
    assert recorded.balance == Decimal("9.991")


async def test_used_id_with_other_content_is_refused(reporting: Any, payer: str) -> None:
    await reporting.report_usage(UsageEvent(usage=SONNET, user_id=payer, event_id="e-1"))
    with pytest.raises(EventIdReused) as reused:
        await reporting.report_usage(UsageEvent(usage=ApiCalls("/search"), user_id=payer, event_id="e-1"))
    assert (reused.value.status, reused.value.code) == (422, "event_id_reused")


async def test_user_without_money_is_refused_with_exact_figures_and_can_pay_later(reporting: Any, desk: Desk) -> None:
    poor = await desk.user(0)
    event = UsageEvent(usage=SONNET, user_id=poor)
    with pytest.raises(InsufficientMoney) as unpaid:
        await reporting.report_usage(event)
    error = unpaid.value
    assert (error.balance, error.required, error.shortfall) == (Decimal(0), Decimal("0.0045"), Decimal("0.0045"))
    assert (error.balance_cents, error.required_cents, error.currency) == (0, 1, "USD")
    assert (error.status, error.code) == (402, "insufficient_money")
    await desk.give(poor, DOLLAR)
    assert not (await reporting.report_usage(event)).replayed


@pytest.mark.parametrize(
    "stated", [{"cost": Decimal("0.0004")}, {"cost": "0.000400"}, {"cost_cents": 3}, {"cost": "0"}]
)
async def test_stated_cost_decides(reporting: Any, payer: str, stated: dict[str, Any]) -> None:
    recorded = await reporting.report_usage(UsageEvent(usage=SONNET, user_id=payer, **stated))
    assert recorded.cost == (Decimal(stated["cost"]) if "cost" in stated else Decimal("0.03"))


async def test_stated_cost_needs_the_permission(desk: Desk, payer: str) -> None:
    with BillingClient(desk.url, usage_key(desk, "writer")) as writer, pytest.raises(PermissionDenied):
        await asyncio.to_thread(writer.report_usage, UsageEvent(usage=SONNET, user_id=payer, cost="1"))


async def test_attribution_time_and_user_are_stored(reporting: Any, desk: Desk) -> None:
    user_id = await desk.user(100)
    user = User(PROVIDER, user_id, customer_email="ada@example.com")
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    attribution: dict[str, Any] = {
        "agent_id": "datum",
        "tool": "search",
        "run_id": "run-1",
        "parent_run_id": "run-0",
    }
    further: dict[str, Any] = {"request_id": "req-1", "conversation": "chat-1", "metadata": {"colour": "red"}}
    event = UsageEvent(usage=SONNET, user=user, time=at, **attribution, **further)
    assert (await reporting.report_usage(event)).time == at
    [stored] = await desk.events(user_id)
    assert (stored["occurred_at"], stored["event_id"]) == (at, event.event_id)
    assert {name: stored[name] for name in ("agent_id", "tool", "run_id")} == {
        name: attribution[name] for name in ("agent_id", "tool", "run_id")
    }
    assert (
        json.loads(stored["attribution"]).items()
        >= {
            "parent_run_id": "run-0",
            "request_id": "req-1",
            "conversation": "chat-1",
        }.items()
    )
    assert json.loads(stored["metadata"]) == {"colour": "red"}


async def test_batch_answers_for_each_event(reporting: Any, desk: Desk, payer: str) -> None:
    poor = await desk.user(0)
    first = UsageEvent(usage=SONNET, user_id=payer)
    await reporting.report_usage(first)
    unpriced = UsageEvent(usage=LlmTokens("nobody", "no-such-model", 1, 1), user_id=payer)
    events = [UsageEvent(usage=SONNET, user_id=payer), first, UsageEvent(usage=SONNET, user_id=poor), unpriced]
    results = await reporting.report_usage_batch(events)
    assert [result.event_id for result in results] == [event.event_id for event in events]
    assert [result.error for result in results] == [None, "duplicate_event", "insufficient_credits", "unknown_model"]
    assert [result.is_delivered for result in results] == [True, True, False, False]
    assert [result.cost for result in results[:2]] == [Decimal("0.0045")] * 2


async def test_lost_batch_is_charged_once(reporting: Any, between: Faulty, payer: str) -> None:
    between.reactions = [LOST]
    events = [UsageEvent(usage=SONNET, user_id=payer) for _ in range(10)]
    results = await reporting.report_usage_batch(events)
    assert {result.error for result in results} == {"duplicate_event"}
    assert (await reporting.check_usage(user_id=payer)).balance == 10 - 10 * Decimal("0.0045")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (409, {"code": "account_erased", "detail": "Erased"}, InvalidRequest),
        (409, {}, InvalidRequest),
        (500, {"code": "duplicate_event"}, ServerError),
        (200, {}, InvalidReply),
    ],
)
async def test_only_a_409_of_a_repeat_counts_as_delivered(
    reporting: Any, between: Faulty, payer: str, status: int, body: dict[str, Any], error: type[BillingError]
) -> None:
    between.reactions = [Reaction(status, json.dumps(body).encode())]
    with pytest.raises(error):
        await reporting.report_usage(UsageEvent(usage=SONNET, user_id=payer))


@pytest.mark.parametrize("ids", [[], ["b", "a"], ["a"], ["a", "b", "c"]], ids=str)
async def test_results_of_other_events_are_no_answer(
    reporting: Any, between: Faulty, payer: str, ids: list[str]
) -> None:
    results = [{"event_id": event_id, "success": True} for event_id in ids]
    body = {"results": results, "processed": len(ids), "failed": 0}
    between.reactions = [Reaction(200, json.dumps(body).encode())]
    with pytest.raises(InvalidReply):
        await reporting.report_usage_batch([UsageEvent(usage=SONNET, user_id=payer, event_id=one) for one in "ab"])


@pytest.mark.parametrize(
    ("asked", "required", "sufficient"),
    [
        ({"required_cents": 1000}, 10, True),
        ({"required_cents": 1001}, Decimal("10.01"), False),
        ({}, 0, True),
        ({"provider": "anthropic", "model": "claude-3-5-sonnet"}, Decimal("0.021"), True),
    ],
)
async def test_check_says_what_is_required_and_whether_it_is_there(
    reporting: Any, payer: str, asked: dict[str, Any], required: Decimal, sufficient: bool
) -> None:
    check = await reporting.check_usage(user_id=payer, **asked)
    assert (check.sufficient, check.required, check.balance) == (sufficient, required, 10)
    assert not check.assumed


async def test_check_creates_a_user(reporting: Any) -> None:
    check = await reporting.check_usage(User("oauth:google", f"{uuid.uuid4()}@example.com"), required_cents=1)
    assert (check.sufficient, check.balance) == (False, 0)


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
async def test_check_during_an_outage_follows_the_policy(between: Faulty, desk: Desk, payer: str, policy: Any) -> None:
    between.reactions = [Reaction(503)] * 4
    options = Options(retry=QUICK.retry, policy=policy)
    async with AsyncBillingClient(between.url, usage_key(desk), options=options) as client:
        if policy == "fail_open":
            check = await client.check_usage(user_id=payer)
            assert (check.sufficient, check.assumed) == (True, True)
        else:
            with pytest.raises(Exception, match="503"):
                await client.check_usage(user_id=payer)


async def test_quote_of_another_plan_and_of_nothing_known(reporting: Any) -> None:
    assert (await reporting.quote(SONNET, plan="pro")).cost == Decimal("0.009")
    with pytest.raises(InvalidRequest) as unknown:
        await reporting.quote(LlmTokens("nobody", "no-such-model", 1, 1))
    assert unknown.value.code == "unknown_model"


@pytest.mark.parametrize("nobody", [{}, {"user_id": "x", "user": User("oauth:google", "x")}])
async def test_event_and_check_name_one_user(reporting: Any, nobody: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="one of the two"):
        UsageEvent(usage=SONNET, **nobody)
    with pytest.raises(TypeError, match="one of the two"):
        await reporting.check_usage(nobody.get("user"), user_id=nobody.get("user_id"))


async def test_reporter_delivers_through_an_outage_and_charges_once(
    between: Faulty, desk: Desk, payer: str, tmp_path: Path
) -> None:
    poor = await desk.user(0)
    between.reactions = [Reaction(503), LOST, Reaction(None), Reaction(502, forward=True), Reaction(200, b"no")]
    options = ReporterOptions(interval_s=0.01, retry=QUICK.retry)
    async with UsageReporter(between.url, usage_key(desk), tmp_path, options=options) as reporter:
        ids = [reporter.report(UsageEvent(usage=SONNET, user_id=payer, run_id=f"r-{n}")) for n in range(50)]
        refused = reporter.report(UsageEvent(usage=SONNET, user_id=poor))
        assert await reporter.aflush(30)
        letters = reporter.refused()
        assert [(letter.event_id, letter.code) for letter in letters] == [(refused, "insufficient_credits")]
        assert "0.0045" in letters[0].message
        assert [event["event_id"] for event in await desk.events(payer)] == ids
        assert (await desk.wallet(payer))[0] == 10 * DOLLAR - 50 * DOLLAR * 45 // 10_000
        await desk.give(poor, DOLLAR)
        assert reporter.requeue() == 1
        assert await reporter.aflush(30)
        assert reporter.refused() == []
    stored = {(event["event_id"], event["status"]) for event in await desk.events(poor)}
    assert stored == {(refused, "refused"), (refused, "charged")}


async def test_reporter_follows_a_key_of_work_that_is_done(desk: Desk, tmp_path: Path) -> None:
    """Its policy is debt: usage that cannot be paid is recorded, not refused."""
    poor = await desk.user(0)
    async with UsageReporter(desk.url, usage_key(desk, "debtor"), tmp_path) as reporter:
        reporter.report(UsageEvent(usage=SONNET, user_id=poor))
        assert await reporter.aflush(30)
        assert reporter.refused() == []
    assert await desk.wallet(poor) == (0, DOLLAR * 45 // 10_000)
