"""Runs at the real service by both clients: registered for a block, bound by their budgets, closed after it."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from ciris_billing import (
    AsyncBillingClient,
    BillingClient,
    HoldOpening,
    InvalidRequest,
    NewCharge,
    NotFound,
    PermissionDenied,
    RunOpening,
    RunRefused,
    SmallerAmount,
    User,
)
from ciris_billing._failures import error_for
from tests.conftest import make_usage_key
from tests.metering.conftest import PROVIDER, Desk
from tests.support.wallets import DOLLAR


class Clients:
    """One of the two clients, called in the same way."""

    def __init__(self, kind: str, url: str, key: str) -> None:
        self.kind = kind
        self.client: Any = AsyncBillingClient(url, key) if kind == "awaited" else BillingClient(url, key)

    async def call(self, name: str, *given: Any, **named: Any) -> Any:
        method = getattr(self.client, name)
        if self.kind == "awaited":
            return await method(*given, **named)
        return await asyncio.to_thread(method, *given, **named)

    async def in_run(self, work: Any, **opening: Any) -> Any:
        """Run `work(run)` in the block of a run."""
        if self.kind == "awaited":
            async with self.client.run(**opening) as run:
                done = work(run)
                return await done if inspect.isawaitable(done) else done

        def block() -> Any:
            with self.client.run(**opening) as run:
                return work(run)

        return await asyncio.to_thread(block)


@pytest.fixture(params=["awaited", "blocking"])
async def clients(request: pytest.FixtureRequest, desk: Desk) -> AsyncIterator[Clients]:
    key = await make_usage_key(desk.db, UsageTerms(PROVIDER, max_cost_nanos=DOLLAR), "live", *Permission)
    clients = Clients(request.param, desk.url, key)
    yield clients
    await clients.call("aclose" if clients.kind == "awaited" else "close")


@pytest.fixture
async def payer(desk: Desk, clients: Clients) -> User:
    """A user with ten credits."""
    user = User(PROVIDER, await desk.user())
    await clients.call("add_credits", user, amount_minor=1000, idempotency_key="opening")
    return user


async def test_a_run_is_open_in_its_block_and_closed_after_it(clients: Clients, payer: User) -> None:
    charged = await clients.in_run(
        lambda run: clients.client.charge(payer, interaction_id="a", amount_minor=300, run_id=run.run_id),
        user=payer,
        run_id="r",
        credits=5,
        metadata={"task": "tidy"},
    )
    assert charged.amount_minor == 300
    receipt = await clients.call("get_run", "r", payer)
    assert (receipt.status, receipt.metadata, receipt.spent.amount_minor) == ("closed", {"task": "tidy"}, 300)
    assert (receipt.remaining.amount_minor, receipt.is_complete, receipt.runs) == (200, True, [])
    assert [(calls.kind, calls.outcome, calls.calls) for calls in receipt.calls] == [("charge", "charged", 1)]


async def test_a_block_that_raises_closes_its_run(clients: Clients, payer: User) -> None:
    def fail(_: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await clients.in_run(fail, user_id=payer.external_id, run_id="r")
    assert (await clients.call("get_run", "r", user_id=payer.external_id)).status == "closed"


async def test_a_refusal_states_the_run_and_the_remedies(clients: Clients, payer: User) -> None:
    await clients.call("create_run", RunOpening(run_id="root", user=payer, amount_minor=300))
    await clients.call("create_run", RunOpening(run_id="r", user=payer, parent_run_id="root", credits=50))
    with pytest.raises(RunRefused) as refused:
        await clients.call("charge", payer, interaction_id="a", amount_minor=400, run_id="r")
    assert (refused.value.code, refused.value.run["run_id"], refused.value.run["budget"]) == (
        "run_budget_exceeded",
        "root",
        "3",
    )
    assert refused.value.remedies[0] == SmallerAmount(type="smaller_amount", amount_minor=300)
    [outcome] = await clients.call(
        "charge_batch", [NewCharge(user=payer, interaction_id="a", amount_minor=400, run_id="r")]
    )
    assert isinstance(outcome.error, RunRefused)
    assert (outcome.error.run, outcome.error.remedies) == (refused.value.run, refused.value.remedies)
    with pytest.raises(RunRefused):
        await clients.call("create_hold", HoldOpening(user=payer, credits=4, run_id="r"))
    paused = await clients.call("change_run", "root", payer, status="paused")
    assert (paused.status, paused.pause_reason) == ("paused", "requested")
    with pytest.raises(RunRefused, match="paused"):
        await clients.call("tool_charge", "web_search", payer, call_id="c", run_id="r")


async def test_a_budget_is_lowered_and_not_raised(clients: Clients, payer: User) -> None:
    opened = await clients.call("create_run", RunOpening(run_id="a/b", user=payer, amount="2.50"))
    assert (opened.budget.amount, opened.budget.amount_minor, opened.depth) == (2.5, None, 1)
    lowered = await clients.call("change_run", "a/b", payer, amount="1")
    assert (lowered.run_id, lowered.budget.amount) == ("a/b", 1)
    with pytest.raises(PermissionDenied):
        await clients.call("change_run", "a/b", payer, amount="2")
    with pytest.raises(InvalidRequest):
        await clients.call("create_run", RunOpening(run_id="a/b", user=payer, credits=1))
    with pytest.raises(NotFound):
        await clients.call("get_run", "unknown", payer)


async def test_runs_are_read_page_by_page(clients: Clients, payer: User) -> None:
    for number in range(3):
        await clients.call("create_run", RunOpening(run_id=f"r{number}", user=payer))
    first = await clients.call("run_page", payer, limit=2)
    assert ([run.run_id for run in first.runs], first.has_more) == (["r2", "r1"], True)
    last = await clients.call("run_page", payer, before="r1")
    assert ([run.run_id for run in last.runs], last.has_more) == (["r0"], False)


async def test_a_run_that_cannot_be_closed_is_logged(
    clients: Clients, payer: User, caplog: pytest.LogCaptureFixture
) -> None:
    await clients.call("create_run", RunOpening(run_id="r", user=payer))

    def lose_the_key(_: object) -> None:
        clients.client._api_key = "cbk_live_wrong"

    await clients.in_run(lose_the_key, user=payer, run_id="r")
    assert "billing run not closed by its block: invalid_api_key" in caplog.text


@pytest.mark.parametrize("code", sorted(RunRefused.codes))
@pytest.mark.parametrize("run", [{"run_id": "r"}, None, "r", 7])
def test_any_answer_makes_an_error(code: str, run: object) -> None:
    error = error_for(402, {"detail": "no", "code": code, "run": run}, retry_after=None, request_id=None)
    assert isinstance(error, RunRefused)
    assert (error.code, error.run, error.remedies) == (code, run if isinstance(run, dict) else {}, ())
