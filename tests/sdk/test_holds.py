"""Holds at the real service by both clients: opened, settled once, released with the block's outcome."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from operator import methodcaller
from typing import Any

import pytest

from ciris_billing import (
    AccountSuspended,
    AmountAboveHold,
    AsyncBillingClient,
    BillingClient,
    BillingError,
    FailPolicy,
    Hold,
    HoldOpening,
    HoldSettled,
    IdempotencyKeyReused,
    InsufficientCredits,
    InsufficientMoney,
    InvalidRequest,
    NotFound,
    Options,
    Retry,
    ServiceUnavailable,
    Unavailable,
    User,
)
from tests.metering.conftest import PROVIDER, Desk
from tests.sdk.conftest import QUICK, Faulty, InThreads, StoredHold, stored_holds
from tests.sdk.reactions import Reaction
from tests.sdk.test_retries import LOST
from tests.support.wallets import DOLLAR

Work = Callable[[Any], Any]


async def awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


class Caller:
    """Each client in turn, behind a server that misbehaves on demand."""

    def __init__(self, desk: Desk, between: Faulty, api_key: str, kind: str) -> None:
        self.desk = desk
        self.between = between
        self.key = api_key
        self.kind = kind

    async def hold(
        self,
        work: Work,
        policy: FailPolicy = "fail_closed",
        retry: Retry = QUICK.retry,
        deadline_s: float = 15,
        **of: Any,
    ) -> Any:
        """Run a block on a hold. Return what it was given."""
        options = Options(retry=retry, timeout_s=5, deadline_s=deadline_s, policy=policy)
        if self.kind == "awaited":
            async with AsyncBillingClient(self.between.url, self.key, options=options) as client:
                async with client.hold(**of) as hold:
                    await awaited(work(hold))
                return hold
        return await asyncio.to_thread(self._hold, BillingClient(self.between.url, self.key, options=options), work, of)

    def _hold(self, client: BillingClient, work: Work, of: dict[str, Any]) -> Any:
        with client, client.hold(**of) as hold:
            work(hold)
        return hold

    async def stored(self, user_id: str) -> list[StoredHold]:
        return await stored_holds(self.desk, user_id)


@pytest.fixture(params=["blocking", "awaited"])
def caller(request: pytest.FixtureRequest, desk: Desk, between: Faulty, holder: str) -> Caller:
    return Caller(desk, between, holder, request.param)


@pytest.fixture(params=["blocking", "awaited"])
async def raw(request: pytest.FixtureRequest, desk: Desk, holder: str) -> AsyncIterator[Any]:
    if request.param == "blocking":
        with BillingClient(desk.url, holder) as client:
            yield InThreads(client)
    else:
        async with AsyncBillingClient(desk.url, holder) as awaited_client:
            yield awaited_client


def never(hold: Any) -> None:
    pytest.fail("the work has begun")


def nothing(hold: Any) -> None:
    pass


def fail(hold: Any) -> None:
    raise LookupError("no results")


async def test_credits_are_captured_and_the_rest_returns(caller: Caller, payer: str) -> None:
    of: dict[str, Any] = {"product_type": "search", "run_id": "run-7", "metadata": {"agent_id": "datum"}}
    hold = await caller.hold(lambda hold: hold.capture(2), user_id=payer, credits=3, expires_in_s=60, **of)
    done: Hold = hold.hold
    assert (done.status, done.unit, done.amount_minor, done.captured_minor) == ("captured", "credit", 300, 200)
    assert (done.product_type, done.run_id, done.metadata) == ("search", "run-7", {"agent_id": "datum"})
    assert (done.charge_id is not None, done.transaction_id, hold.replayed) == (True, None, False)
    assert 50 < (done.expires_at - done.created_at).total_seconds() < 70
    assert await caller.stored(payer) == [("captured", 2, 0, None)]


async def test_money_of_a_user_object_is_captured(caller: Caller, payer: str) -> None:
    hold = await caller.hold(lambda hold: hold.capture(amount="1.2"), user=User(PROVIDER, payer), amount="1.50")
    done: Hold = hold.hold
    assert (done.unit, done.amount, done.captured, done.captured_minor) == ("USD", Decimal("1.5"), Decimal("1.2"), None)
    assert (done.charge_id, done.transaction_id is not None) == (None, True)
    assert (await caller.desk.wallet(payer))[0] == 88 * DOLLAR // 10


async def test_overage_is_refused_or_charged_as_far_as_it_fits(caller: Caller, payer: str) -> None:
    with pytest.raises(AmountAboveHold, match="above the held amount"):
        await caller.hold(lambda hold: hold.capture(2), user_id=payer, credits=1)
    await caller.hold(lambda hold: hold.capture(9, overage="charge_what_fits"), user_id=payer, credits=1)
    assert await caller.stored(payer) == [("released", 0, 0, "provider_error"), ("captured", 1, 2, None)]


@pytest.mark.parametrize(
    ("work", "error", "outcome"),
    [
        (nothing, None, None),
        (fail, LookupError, "provider_error"),
        (lambda hold: hold.release("refused"), None, "refused"),
    ],
)
async def test_unsettled_hold_is_released_with_its_outcome(
    caller: Caller, payer: str, work: Work, error: type[Exception] | None, outcome: str | None
) -> None:
    if error is None:
        await caller.hold(work, user_id=payer, amount_minor=250)
    else:
        with pytest.raises(error):
            await caller.hold(work, user_id=payer, amount_minor=250)
    assert await caller.stored(payer) == [("released", 0, 0, outcome)]


async def test_failed_release_is_logged_and_hides_nothing(
    caller: Caller, payer: str, caplog: pytest.LogCaptureFixture
) -> None:
    def work(hold: Any) -> None:
        caller.between.reactions = [Reaction(503)] * 9
        fail(hold)

    with pytest.raises(LookupError, match="no results"):
        await caller.hold(work, user_id=payer, credits=1)
    assert await caller.stored(payer) == [("held", 0, 0, None)]
    assert "billing hold not settled by its block: service_unavailable" in caplog.text


async def test_the_callers_word_survives_a_release_that_was_not_answered(caller: Caller, payer: str) -> None:
    def begin(hold: Any) -> Any:
        caller.between.reactions = [Reaction(503)] * QUICK.retry.attempts
        return hold.release("refused")

    with pytest.raises(ServiceUnavailable):
        await caller.hold(begin, user_id=payer, credits=1)
    assert await caller.stored(payer) == [("released", 0, 0, "refused")]


async def test_hold_whose_release_is_refused_is_released_at_the_end(caller: Caller, payer: str) -> None:
    """Without the refused word. Left to its expiry, it would be captured."""
    with pytest.raises(InvalidRequest):
        await caller.hold(lambda hold: hold.release("No results!"), user_id=payer, credits=1, on_expiry="capture_all")
    assert await caller.stored(payer) == [("released", 0, 0, "provider_error")]


@pytest.mark.parametrize("outage", [LOST, Reaction(502, forward=True), Reaction(503), Reaction(None)], ids=str)
async def test_a_lost_answer_changes_nothing(caller: Caller, payer: str, outage: Reaction) -> None:
    """Neither that of the opening nor that of the capture: a repeat gives the same hold."""
    caller.between.reactions = [outage]

    def work(hold: Any) -> Any:
        caller.between.reactions = [outage]
        return hold.capture(2)

    hold = await caller.hold(work, user_id=payer, credits=3)
    assert hold.hold.captured_minor == 200
    assert await caller.stored(payer) == [("captured", 2, 0, None)]


async def test_capture_is_retried_until_its_deadline(caller: Caller, payer: str) -> None:
    def work(hold: Any) -> Any:
        caller.between.reactions = [Reaction(503)] * 5
        return hold.capture(1)

    await caller.hold(work, user_id=payer, credits=3, retry=Retry(attempts=2, first_wait_s=0.001, longest_wait_s=0.01))
    assert await caller.stored(payer) == [("captured", 1, 0, None)]


@pytest.mark.parametrize(("retry", "deadline_s"), [(Retry(attempts=1), 15), (QUICK.retry, 2)])
async def test_capture_without_an_answer_leaves_the_hold_to_its_expiry(
    caller: Caller, payer: str, caplog: pytest.LogCaptureFixture, retry: Retry, deadline_s: float
) -> None:
    """The work is done: to release the hold would give it away. A policy without retries is followed."""

    def work(hold: Any) -> Any:
        caller.between.reactions = [Reaction(503)] * 1000
        return hold.capture(1)

    with pytest.raises(ServiceUnavailable):
        await caller.hold(work, retry=retry, deadline_s=deadline_s, user_id=payer, credits=3, on_expiry="capture_all")
    assert not any(request["path"].endswith("/release") for request in caller.between.requests)
    assert await caller.stored(payer) == [("held", 0, 0, None)]
    assert "not settled by its block: capture_unanswered" in caplog.text
    captures = sum(request["path"].endswith("/capture") for request in caller.between.requests)
    assert captures == 1 if retry.attempts == 1 else captures > retry.attempts


async def test_hold_that_is_settled_otherwise_says_how(caller: Caller, payer: str, desk: Desk) -> None:
    def twice(hold: Any) -> Any:
        with BillingClient(desk.url, caller.key) as other:
            other.capture_hold(hold.hold_id, credits=1)
        return hold.capture(2)

    with pytest.raises(HoldSettled) as settled:
        await caller.hold(twice, user_id=payer, credits=3)
    assert (settled.value.hold_status, settled.value.captured, settled.value.status) == ("captured", Decimal(100), 409)
    assert not any(request["path"].endswith("/release") for request in caller.between.requests)


async def test_repeated_key_pays_once_and_a_released_one_does_not_begin_again(caller: Caller, payer: str) -> None:
    of: dict[str, Any] = {"user_id": payer, "credits": 2, "idempotency_key": "message-1"}
    first = await caller.hold(lambda hold: hold.capture(2), **of)
    again = await caller.hold(lambda hold: hold.capture(2), **of)
    assert (again.replayed, again.hold_id) == (True, first.hold_id)
    with pytest.raises(IdempotencyKeyReused):
        await caller.hold(never, **{**of, "credits": 1})
    await caller.hold(nothing, user_id=payer, amount="1", idempotency_key="message-2")
    with pytest.raises(HoldSettled, match="another key") as settled:
        await caller.hold(never, user_id=payer, amount="1", idempotency_key="message-2")
    assert (settled.value.hold_status, settled.value.captured) == ("released", Decimal(0))
    assert await caller.stored(payer) == [("captured", 2, 0, None), ("released", 0, 0, None)]


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
async def test_refused_hold_does_not_begin(caller: Caller, payer: str, policy: FailPolicy) -> None:
    with pytest.raises(InsufficientCredits) as credits:
        await caller.hold(never, policy, user_id=payer, credits=5)
    assert (credits.value.balance, credits.value.required, credits.value.shortfall) == (300, 500, 200)
    with pytest.raises(InsufficientMoney) as money:
        await caller.hold(never, policy, user_id=payer, amount="10.01")
    assert (money.value.balance, money.value.required, money.value.currency) == (Decimal(10), Decimal("10.01"), "USD")
    caller.between.reactions = [Reaction(503)] * 9
    with pytest.raises(Unavailable):
        await caller.hold(never, policy, user_id=payer, credits=1)
    caller.between.reactions = []
    await caller.desk.rows(
        "UPDATE accounts SET status = 'suspended', status_reason = 'spam' WHERE account_id = $1",
        await caller.desk.account_id(payer),
    )
    with pytest.raises(AccountSuspended):
        await caller.hold(never, policy, user_id=payer, credits=1)


async def test_mistakes_in_an_amount_are_told_before_anything_is_sent(caller: Caller, payer: str) -> None:
    wrong: list[dict[str, Any]] = [
        {"credits": 1.5},
        {"credits": True},
        {"amount": 0.5},
        {"credits": 1, "amount": "1"},
        {},
    ]
    for amount in wrong:
        with pytest.raises(TypeError):
            await caller.hold(never, user_id=payer, **amount)
        with pytest.raises(TypeError):
            await caller.hold(methodcaller("capture", **amount), user_id=payer, credits=1)
    assert await caller.stored(payer) == [("released", 0, 0, "provider_error")] * len(wrong)
    with pytest.raises(ValueError, match="idempotency_key"):
        HoldOpening(user_id=payer, credits=1, idempotency_key="")


async def test_progress_and_extension(raw: Any, payer: str) -> None:
    hold = await raw.create_hold(HoldOpening(user_id=payer, amount="2", expires_in_s=60, on_expiry="capture_reported"))
    assert (hold.status, hold.is_settled, hold.on_expiry, hold.replayed) == ("held", False, "capture_reported", False)
    assert (await raw.report_hold(hold.hold_id, amount="0.75")).reported == Decimal("0.75")
    later = await raw.extend_hold(hold.hold_id, 600)
    assert later.expires_at > hold.expires_at
    assert await raw.get_hold(hold.hold_id) == later
    released = await raw.release_hold(hold.hold_id, "refused")
    assert (released.status, released.outcome, released.is_settled) == ("released", "refused", True)
    assert await raw.release_hold(hold.hold_id) == released


async def test_raw_routes_repeat_and_refuse(raw: Any, payer: str) -> None:
    opening = HoldOpening(user_id=payer, credits=2)
    hold = await raw.create_hold(opening)
    assert (await raw.create_hold(opening.body())).model_dump() == {**hold.model_dump(), "replayed": True}
    captured = await raw.capture_hold(hold.hold_id, amount_minor=100)
    assert await raw.capture_hold(hold.hold_id, credits=1) == captured
    refused: list[tuple[type[BillingError], Any]] = [
        (HoldSettled, raw.release_hold(hold.hold_id)),
        (HoldSettled, raw.extend_hold(hold.hold_id, 5)),
        (HoldSettled, raw.report_hold(hold.hold_id, credits=1)),
        (InvalidRequest, raw.capture_hold(hold.hold_id, amount="1")),
        (NotFound, raw.get_hold("hold_unknown")),
    ]
    for error, call in refused:
        with pytest.raises(error):
            await call


async def test_the_methods_of_the_block(caller: Caller, payer: str) -> None:
    def work(hold: Any) -> Any:
        if caller.kind == "awaited":
            return in_order(hold)
        before = hold.hold.expires_at
        assert hold.report(2).reported_minor == 200
        assert hold.extend(600).expires_at > before
        return hold.release()

    async def in_order(hold: Any) -> None:
        before = hold.hold.expires_at
        assert (await hold.report(2)).reported_minor == 200
        assert (await hold.extend(600)).expires_at > before
        await hold.release()

    hold = await caller.hold(work, user_id=payer, credits=3, expires_in_s=5)
    assert (hold.hold.reported_minor, hold.hold.status) == (200, "released")


async def test_a_hold_drops_a_cached_check(desk: Desk, holder: str, payer: str) -> None:
    async with AsyncBillingClient(desk.url, holder, options=Options(check_cache_s=60)) as client:
        assert (await client.check_credit(user_id=payer)).uses_remaining == 3
        async with client.hold(user_id=payer, credits=2):
            assert (await client.check_credit(user_id=payer)).uses_remaining == 1
        assert (await client.check_credit(user_id=payer)).uses_remaining == 3
