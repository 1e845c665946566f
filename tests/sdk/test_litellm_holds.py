"""LiteLLM calls by holds, against the service: the scenarios run in LiteLLM's environment; this module reads the
stored holds."""

import asyncio
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from ciris_billing import BillingClient, LlmTokens, Options, User, _call_holds
from ciris_billing._call_holds import CallHolds, HeldCalls
from ciris_billing._interactions import Call
from tests.metering.conftest import PROVIDER, Desk
from tests.sdk.conftest import QUICK, Faulty, make_holder, stored_holds
from tests.sdk.reactions import Reaction
from tests.sdk.test_litellm import run_in_litellm

SCENARIOS = [
    *("money", "refused", "failed", "retried", "with_fallbacks", "cached", "streamed", "cut_released", "cut_reported"),
    *("cut_all", "broken", "cancelled", "in_block", "in_proxy", "credits", "outage", "unheld", "estimates", "killed"),
]
CALL = 210_000
"""The cost of a call in nanos: 1,000 tokens of prompt at 0.15 and 100 of answer at 0.60 dollars for a million."""
ESTIMATE = 601_200
"""Of 8 tokens of prompt and 1,000 of answer. The model states more for the prompt than it had."""
CUT = 3_000
"""Of 8 tokens of prompt and 3 of answer."""
HOLDS = "SELECT * FROM holds WHERE account_id = $1 ORDER BY hold_id"
Row = tuple[str, int, int, int, str | None]
"""Status, held, captured, overage and outcome."""
DONE: Row = ("captured", ESTIMATE, CALL, 0, None)
FAILED: Row = ("released", ESTIMATE, 0, 0, "provider_error")
ABORTED: Row = ("released", ESTIMATE, 0, 0, "client_abort")
AFTERWARDS: Row = ("captured", 1, 1, CALL - 1, None)
"""A call without a hold."""
TRIES: list[Row] = [*[("released", 15_024_000, 0, 0, "provider_error")] * 2, DONE]
STORED: dict[str, list[Row]] = {
    "money": [DONE, ("captured", 7_200, 7_200, CALL - 7_200, None), DONE],
    "refused": [],
    "refused_rich": [DONE],
    "failed": [FAILED] * 2,
    "retried": TRIES * 2,
    "with_fallbacks": [DONE],
    "cached": [("captured", 601_350, CALL, 0, None), ("released", 601_350, 0, 0, "cache_hit")],
    "streamed": [DONE] * 2,
    "cut_released": [ABORTED],
    "cut_reported": [("captured", ESTIMATE, CUT, 0, None)],
    "cut_all": [("captured", ESTIMATE, ESTIMATE, 0, None)],
    "broken": [FAILED, ("captured", ESTIMATE, CUT + 600, 0, None), ("captured", ESTIMATE, ESTIMATE, 0, None)],
    "cancelled": [ABORTED] * 2,
    "in_block": [("captured", ESTIMATE, ESTIMATE, 0, None), AFTERWARDS],
    "in_proxy": [("captured", ESTIMATE, CUT, 0, None)],
    "credits": [("captured", 2, 1, 0, None), ("captured", 2, 2, 0, None)],
    "outage": [],
    "unheld": [AFTERWARDS],
    "estimates": [],
    "killed": [("held", ESTIMATE, 0, 0, None)],
}


@pytest.mark.timeout(300)
async def test_calls_hold_before_and_capture_after(usage_desk: Desk) -> None:
    """One test, because LiteLLM takes long to load."""
    users = {name: await usage_desk.user(100) for name in [*SCENARIOS, "refused_rich"] if name != "refused"}
    users["refused"] = await usage_desk.user(0)
    env = {
        "BILLING_URL": usage_desk.url,
        "BILLING_API_KEY": await make_holder(usage_desk.db),
        "USERS": json.dumps(users),
    }
    assert await run_in_litellm("with_litellm_holds.py", "", **env) == SCENARIOS
    for name, expected in STORED.items():
        rows = await usage_desk.rows(HOLDS, await usage_desk.account_id(users[name]))
        assert [(row["status"], row["amount"], row["captured"], row["overage"], row["outcome"]) for row in rows] == [
            *expected
        ], name
    await progress_and_names_are_stored(usage_desk, users)


async def progress_and_names_are_stored(desk: Desk, users: dict[str, str]) -> None:
    [killed] = await desk.rows(HOLDS, await desk.account_id(users["killed"]))
    assert (killed["reported"], killed["on_expiry"]) == (CUT, "capture_reported")
    first, second, _ = await desk.rows(HOLDS, await desk.account_id(users["money"]))
    assert [row["run_id"] for row in (first, second)] == ["i-1", "run-1"]
    about = json.loads(second["metadata"])
    assert (about["model"], about["agent_id"], len(about["call_id"])) == ("gpt-4o-mini", "datum", 36)
    events = await desk.events(users["money"])
    assert [event["cost_nanos"] for event in events] == [CALL] * 3


TOKENS = LlmTokens("openai", "gpt-4o-mini", 8, 1000)


def ended_call(call_id: str) -> Call:
    return Call({}, call_id, model="openai/gpt-4o-mini", provider="openai", prompt_tokens=1000, completion_tokens=100)


async def test_call_whose_hold_has_expired_is_charged_once(desk: Desk, holder: str, payer: str) -> None:
    def calls() -> None:
        user, call = User(PROVIDER, payer), ended_call("c-1")
        with BillingClient(desk.url, holder) as client:
            held = HeldCalls(client, CallHolds())
            hold = held.open(user, call, TOKENS, is_stream=False)
            assert hold is not None
            client.release_hold(hold.hold_id)  # as the expiry does, and sooner
            held.succeeded(user, call, held.take("c-1"))
            held.succeeded(user, call, held.take("c-1"))
            HeldCalls(client, CallHolds()).succeeded(user, call, None)  # in another process

    await asyncio.to_thread(calls)
    assert await stored_holds(desk, payer) == [("released", 0, 0, None), ("captured", 1, CALL - 1, None)]


async def test_call_costs_what_the_users_plan_makes_of_it(desk: Desk, holder: str, payer: str) -> None:
    await desk.rows("UPDATE accounts SET plan_name = 'pro' WHERE account_id = $1", await desk.account_id(payer))

    def calls() -> None:
        user, call = User(PROVIDER, payer), ended_call("c-1")
        with BillingClient(desk.url, holder) as client:
            held = HeldCalls(client, CallHolds())
            hold = held.open(user, call, TOKENS, is_stream=False)
            assert hold is not None
            assert hold.cost == {"amount": "0.001202400"}
            held.succeeded(user, call, held.take("c-1"))

    await asyncio.to_thread(calls)
    assert await stored_holds(desk, payer) == [("captured", 2 * CALL, 0, None)]


async def test_late_report_of_a_failed_try_leaves_the_next_ones_hold(desk: Desk, holder: str, payer: str) -> None:
    def calls() -> None:
        user, call = User(PROVIDER, payer), ended_call("c-1")
        with BillingClient(desk.url, holder) as client:
            held = HeldCalls(client, CallHolds())
            first, second = (held.open(user, call, TOKENS, is_stream=True) for _ in range(2))
            assert first is not None
            assert second is not None
            second.opened_at = first.opened_at + timedelta(seconds=1)
            assert held.take("c-1", first.opened_at) is first
            assert held.take("c-1", first.opened_at) is None
            assert held.find("c-1") is second
            held.cut(first, "provider_error")
            held.succeeded(user, call, held.take("c-1"))
            assert held.take("c-1") is None

    await asyncio.to_thread(calls)
    assert await stored_holds(desk, payer) == [("released", 0, 0, "provider_error"), ("captured", CALL, 0, None)]


async def test_unanswered_settlements_are_logged_and_raise_nothing(
    desk: Desk, between: Faulty, holder: str, payer: str, caplog: pytest.LogCaptureFixture
) -> None:
    def calls() -> None:
        user, call = User(PROVIDER, payer), ended_call("c-1")
        with BillingClient(between.url, holder, options=Options(deadline_s=0.3, retry=QUICK.retry)) as client:
            held = HeldCalls(client, CallHolds())
            for settle in ("capture", "release", "cut", "report"):
                between.reactions = []
                hold = held.open(user, call, TOKENS, is_stream=True)
                assert hold is not None
                between.reactions = [Reaction(503)] * 100
                match settle:
                    case "capture":
                        held.succeeded(user, call, held.take("c-1"))
                    case "release":
                        held.release(hold, "provider_error")
                    case "cut":
                        held.cut(hold, "client_abort", call.tokens())
                    case "report":
                        held.report(hold)

    await asyncio.to_thread(calls)
    assert await stored_holds(desk, payer) == [("held", 0, 0, None)] * 4
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert (
        told
        == ["billing cost of a call not captured: service_unavailable"]
        + ["billing hold of a call not settled: service_unavailable"] * 2
    )


def test_calls_that_are_paid_for_are_remembered_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_call_holds, "MAX_DECIDED", 2)
    with BillingClient("http://127.0.0.1:9", "key") as client:
        held = HeldCalls(client, CallHolds())
        assert [held.decide(name) for name in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"amount": "1", "amount_minor": 100}, TypeError),
        ({"amount": "1", "credit_price": "0.01"}, TypeError),
        ({"amount": 0.5}, TypeError),
        ({"credit_price": 0.5}, TypeError),
        ({"credit_price": 0}, ValueError),
        ({"credit_price": "-1"}, ValueError),
    ],
    ids=str,
)
def test_mistakes_in_the_terms_are_told_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        CallHolds(**options)


def test_costs_are_rounded_up() -> None:
    assert CallHolds().cost_of(Decimal("0.0000000011")) == {"amount": "0.000000002"}
    assert CallHolds(credit_price="0.01").cost_of(Decimal("0.02501")) == {"amount_minor": 251}
    assert CallHolds().cost_of(Decimal(0)) is None
