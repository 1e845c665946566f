"""Gates that hold: the estimate before the block and the real cost after it, once for each interaction."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from ciris_billing import (
    AccountSuspended,
    AsyncBillingClient,
    BillingClient,
    HoldSettled,
    HoldTerms,
    IdempotencyKeyReused,
    InsufficientCredits,
    NoCredit,
    Options,
    Passage,
    Retry,
    ServiceUnavailable,
    holding,
)
from ciris_billing.keys import hold_key
from tests.metering.conftest import Desk
from tests.sdk.conftest import QUICK, Faulty, StoredHold, stored_holds
from tests.sdk.reactions import Reaction

Work = Callable[[Passage], Any]
TERMS = HoldTerms(expires_in_s=60)


class Agent:
    """Runs interactions by each client in turn, behind a server that misbehaves on demand."""

    def __init__(self, desk: Desk, between: Faulty, api_key: str, kind: str) -> None:
        self.desk = desk
        self.between = between
        self.key = api_key
        self.kind = kind

    async def interact(self, work: Work, options: Options = QUICK, **gate: Any) -> Passage:
        gate = {"interaction_id": "m", "hold": TERMS, **gate}
        if self.kind == "awaited":
            async with AsyncBillingClient(self.between.url, self.key, options=options) as client:
                async with client.gate(**gate) as passage:
                    result = work(passage)
                    if inspect.isawaitable(result):
                        await result
                return passage
        return await asyncio.to_thread(self._interact, work, options, gate)

    def _interact(self, work: Work, options: Options, gate: dict[str, Any]) -> Passage:
        with BillingClient(self.between.url, self.key, options=options) as client, client.gate(**gate) as passage:
            work(passage)
        return passage

    async def stored(self, user_id: str) -> list[StoredHold]:
        return await stored_holds(self.desk, user_id)


@pytest.fixture(params=["blocking", "awaited"])
def agent(request: pytest.FixtureRequest, desk: Desk, between: Faulty, holder: str) -> Agent:
    return Agent(desk, between, holder, request.param)


def costs(amount_minor: int) -> Work:
    def work(passage: Passage) -> None:
        passage.amount_minor = amount_minor

    return work


def nothing(passage: Passage) -> None:
    pass


def fail(passage: Passage) -> None:
    raise LookupError("the model is down")


def never(passage: Passage) -> None:
    pytest.fail("the interaction has begun")


async def test_estimate_is_held_and_the_cost_captured(agent: Agent, payer: str) -> None:
    seen: list[tuple[int | None, str, int]] = []

    def work(passage: Passage) -> None:
        assert passage.hold is not None
        with BillingClient(agent.desk.url, agent.key) as other:
            seen.append(
                (passage.hold.amount_minor, passage.hold.status, other.check_credit(user_id=payer).uses_remaining)
            )
        passage.amount_minor = 200

    about: dict[str, Any] = {"metadata": {"agent_id": "datum", "request_id": "r-1"}, "description": "Chat"}
    passage = await agent.interact(work, user_id=payer, amount_minor=300, **about)
    assert seen == [(300, "held", 0)]
    assert passage.charge is None
    assert passage.hold is not None
    assert (passage.hold.status, passage.hold.captured_minor, passage.hold.charge_id is None) == (
        "captured",
        200,
        False,
    )
    assert passage.hold.metadata == {"agent_id": "datum", "description": "Chat"}
    assert await agent.stored(payer) == [("captured", 2, 0, None)]


async def test_default_gate_holds_nothing(agent: Agent, payer: str) -> None:
    passage = await agent.interact(nothing, user_id=payer, hold=None)
    assert (passage.hold, passage.charge is None) == (None, False)
    assert await agent.stored(payer) == []


@pytest.mark.parametrize(
    ("cost", "stored"),
    [(900, ("captured", 1, 2, None)), (150, ("captured", 1, 1, None)), (0, ("released", 0, 0, None))],
)
async def test_cost_beyond_the_estimate_spends_what_there_is_and_no_cost_nothing(
    agent: Agent, payer: str, cost: int, stored: StoredHold
) -> None:
    await agent.interact(costs(cost), user_id=payer)
    assert await agent.stored(payer) == [stored]


async def test_interaction_is_paid_for_once_whatever_failed_before(agent: Agent, payer: str) -> None:
    for _ in range(2):
        with pytest.raises(LookupError):
            await agent.interact(fail, user_id=payer, amount_minor=300)
    paid = await agent.interact(costs(300), user_id=payer, amount_minor=300)
    again = await agent.interact(costs(200), user_id=payer, amount_minor=300)  # of a user without credit by now
    assert paid.hold is not None
    assert again.hold is not None
    assert (again.hold.hold_id, again.hold.captured_minor) == (paid.hold.hold_id, 300)
    assert await agent.stored(payer) == [("released", 0, 0, "provider_error")] * 2 + [("captured", 3, 0, None)]
    with pytest.raises(NoCredit):
        await agent.interact(never, user_id=payer, interaction_id="another")


async def test_interaction_that_fails_forever_ends(agent: Agent, payer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "MOST_REPEATS", 2)
    for _ in range(2):
        with pytest.raises(LookupError):
            await agent.interact(fail, user_id=payer)
    with pytest.raises(HoldSettled, match="another key"):
        await agent.interact(never, user_id=payer)


async def test_hold_of_a_killed_process_is_taken_over(agent: Agent, payer: str) -> None:
    """Also if it holds the user's last credit. Under another amount it is a mistake."""
    with BillingClient(agent.desk.url, agent.key) as killed:
        opening = {"user_id": payer, "amount_minor": 300, "expires_in_s": 60, "idempotency_key": hold_key("m")}
        opened = killed.create_hold(opening)
    with pytest.raises(IdempotencyKeyReused):
        await agent.interact(never, user_id=payer, amount_minor=200)
    passage = await agent.interact(costs(100), user_id=payer, amount_minor=300)
    assert passage.hold is not None
    assert passage.hold.hold_id == opened.hold_id
    assert await agent.stored(payer) == [("captured", 1, 0, None)]


async def test_refused_interaction_does_not_begin(agent: Agent, payer: str) -> None:
    with pytest.raises(NoCredit) as refused:
        await agent.interact(never, user_id=payer, amount_minor=301)
    assert (refused.value.balance, refused.value.required) == (300, 400)
    with BillingClient(agent.desk.url, agent.key) as other:
        other.charge(user_id=payer, interaction_id="rest", amount_minor=300)
    with pytest.raises(NoCredit) as empty:
        await agent.interact(never, user_id=payer)
    assert empty.value.credit_status.purchase_required
    await agent.desk.rows(
        "UPDATE accounts SET status = 'suspended', status_reason = 'spam' WHERE account_id = $1",
        await agent.desk.account_id(payer),
    )
    with pytest.raises(AccountSuspended):
        await agent.interact(never, user_id=payer)
    assert await agent.stored(payer) == []


async def test_credit_that_is_spent_after_the_check_refuses(desk: Desk, holder: str, payer: str) -> None:
    async with AsyncBillingClient(desk.url, holder, options=Options(check_cache_s=60)) as client:
        await client.check_credit(user_id=payer)
        with BillingClient(desk.url, holder) as other:
            other.charge(user_id=payer, interaction_id="all", amount_minor=300)
        with pytest.raises(InsufficientCredits) as refused:
            async with client.gate(user_id=payer, interaction_id="m", hold=TERMS):
                pytest.fail("the interaction has begun")
        assert not isinstance(refused.value, NoCredit)


@pytest.mark.parametrize("first_fails", [False, True])
async def test_concurrent_repeats_share_a_hold_and_pay_once(
    desk: Desk, holder: str, payer: str, first_fails: bool
) -> None:
    """If the repeat that ends first fails, the other one still pays."""
    async with AsyncBillingClient(desk.url, holder) as client:
        gate: dict[str, Any] = {"user_id": payer, "interaction_id": "m", "amount_minor": 300, "hold": TERMS}
        async with client.gate(**gate) as outer:
            try:
                async with client.gate(**gate) as inner:
                    inner.amount_minor = 100
                    if first_fails:
                        raise LookupError
            except LookupError:
                pass
            outer.amount_minor = 200
        assert outer.hold is not None
        assert outer.hold.captured_minor == (200 if first_fails else 100)
        assert (await client.check_credit(user_id=payer)).total_uses == (2 if first_fails else 1)
    released: list[StoredHold] = [("released", 0, 0, "provider_error")]
    assert await stored_holds(desk, payer) == (
        [*released, ("captured", 2, 0, None)] if first_fails else [("captured", 1, 0, None)]
    )


async def test_hold_that_expired_during_the_block_is_opened_again(agent: Agent, payer: str) -> None:
    def work(passage: Passage) -> None:
        assert passage.hold is not None
        with BillingClient(agent.desk.url, agent.key) as other:
            other.release_hold(passage.hold.hold_id)  # as the expiry does, and sooner
        passage.amount_minor = 200

    await agent.interact(work, user_id=payer)
    assert await agent.stored(payer) == [("released", 0, 0, None), ("captured", 1, 1, None)]


OUTAGE = [Reaction(503)] * 50
AT_ONCE = Retry(attempts=1)


async def test_outage_before_stops_or_goes_on_by_policy(
    agent: Agent, payer: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent.between.reactions = list(OUTAGE)
    with pytest.raises(ServiceUnavailable):
        await agent.interact(never, Options(retry=AT_ONCE), user_id=payer)

    def back(passage: Passage) -> None:
        assert (passage.status.assumed, passage.hold) == (True, None)
        agent.between.reactions = []

    opened = Options(retry=AT_ONCE, policy="fail_open")
    passage = await agent.interact(back, opened, user_id=payer, interaction_id="paid afterwards")
    assert passage.hold is not None
    assert await agent.stored(payer) == [("captured", 1, 0, None)]
    agent.between.reactions = list(OUTAGE)
    passage = await agent.interact(nothing, opened, user_id=payer, interaction_id="never paid")
    assert passage.hold is None
    assert "billing charge not delivered: service_unavailable" in caplog.text
    assert len(await agent.stored(payer)) == 1


async def test_outage_of_the_hold_alone_goes_on_by_policy(agent: Agent, payer: str) -> None:
    def back(passage: Passage) -> None:
        assert (passage.status.assumed, passage.hold) == (False, None)
        agent.between.reactions = []

    agent.between.reactions = [None, *OUTAGE]
    await agent.interact(back, Options(retry=AT_ONCE, policy="fail_open"), user_id=payer)
    assert await agent.stored(payer) == [("captured", 1, 0, None)]
    agent.between.reactions = [None, *OUTAGE]
    with pytest.raises(ServiceUnavailable):
        await agent.interact(never, Options(retry=AT_ONCE), user_id=payer, interaction_id="n")


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
async def test_unanswered_capture_leaves_the_hold_to_its_expiry(agent: Agent, payer: str, policy: Any) -> None:
    def work(passage: Passage) -> None:
        agent.between.reactions = list(OUTAGE)

    options = Options(retry=AT_ONCE, policy=policy)
    if policy == "fail_open":
        await agent.interact(work, options, user_id=payer)
    else:
        with pytest.raises(ServiceUnavailable):
            await agent.interact(work, options, user_id=payer)
    assert await agent.stored(payer) == [("held", 0, 0, None)]
    agent.between.reactions = []
    await agent.interact(nothing, user_id=payer)  # a repeat settles it
    assert await agent.stored(payer) == [("captured", 1, 0, None)]


@pytest.mark.parametrize("capturing", [False, True])
async def test_cancelled_interaction_releases_its_hold_and_a_finished_one_is_captured(
    desk: Desk, holder: str, payer: str, between: Faulty, capturing: bool
) -> None:
    begun = asyncio.Event()
    async with AsyncBillingClient(between.url, holder, options=QUICK) as client:

        async def interaction() -> None:
            async with client.gate(user_id=payer, interaction_id="m", hold=TERMS):
                between.reactions = [Reaction(503, slow_s=1)]  # so that the settlement takes a moment
                begun.set()
                await asyncio.sleep(0 if capturing else 60)

        task = asyncio.create_task(interaction())
        await begun.wait()
        while capturing and not between.requests[-1]["path"].endswith("/capture"):  # noqa: ASYNC110  # another thread's list
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    captured: StoredHold = ("captured", 1, 0, None)
    assert await stored_holds(desk, payer) == [captured if capturing else ("released", 0, 0, "client_abort")]


async def test_policy_of_expiry_and_lifetime_reach_the_service(agent: Agent, payer: str) -> None:
    terms = HoldTerms(expires_in_s=7200, on_expiry="capture_reported")
    passage = await agent.interact(nothing, user_id=payer, hold=terms)
    assert passage.hold is not None
    assert passage.hold.on_expiry == "capture_reported"
    assert 7190 < (passage.hold.expires_at - passage.hold.created_at).total_seconds() < 7210
