"""Cost records at the real service: opened, priced while the work runs, charged once through the reporter's queue."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ciris_billing import (
    AccountSuspended,
    AsyncBillingClient,
    BillingClient,
    BillingError,
    CostRecordSettled,
    FailPolicy,
    InsufficientMoney,
    InvalidRequest,
    Options,
    PermissionDenied,
    RateLimited,
    Recording,
    ToolCalls,
    Unavailable,
    UsageNotQueued,
    User,
)
from ciris_billing import _sender as sender_module
from ciris_billing.reporter import ReporterOptions, UsageReporter
from tests.metering.conftest import PROVIDER, Desk
from tests.sdk.conftest import QUICK, Faulty, usage_key
from tests.sdk.reactions import Reaction
from tests.sdk.test_retries import LOST
from tests.support.wallets import DOLLAR

QUEUE = ReporterOptions(interval_s=0.01, retry=QUICK.retry)
Fill = Callable[[Recording], object]


def work(record: Recording) -> None:
    """0.0045 + 0.00003 + 0.0021 dollars, in three parts."""
    record.llm("anthropic", "claude-3-5-sonnet", 1000, 100)
    record.api_calls("/search", 3)
    record.cost("0.0021")


COST = Decimal("0.00663")


def never(record: Recording) -> None:
    pytest.fail("the work has begun")


def fail(record: Recording) -> None:
    work(record)
    raise LookupError("no results for Ada Lovelace")


class Caller:
    """A client and its queue, behind a server that misbehaves on demand."""

    def __init__(self, desk: Desk, between: Faulty, reporter: UsageReporter, kind: str) -> None:
        self.desk = desk
        self.between = between
        self.reporter = reporter
        self._kind = kind

    async def record(
        self, fill: Fill, user: User | None = None, policy: FailPolicy = "fail_closed", **more: Any
    ) -> Any:
        """Run a block, and return its record."""
        options = Options(retry=QUICK.retry, timeout_s=5, deadline_s=5, policy=policy)
        url, key, asked = self.between.url, usage_key(self.desk), {"tool": "search", **more}
        if self._kind == "awaited":
            async with (
                AsyncBillingClient(url, key, options=options, usage=self.reporter) as awaited,
                awaited.record(user, **asked) as record,
            ):
                fill(record)
            return record
        return await asyncio.to_thread(
            self._record, BillingClient(url, key, options=options, usage=self.reporter), fill, user, asked
        )

    def _record(self, client: BillingClient, fill: Fill, user: User | None, asked: dict[str, Any]) -> Recording:
        with client, client.record(user, **asked) as record:
            fill(record)
        return record

    async def stored(self, user_id: str) -> list[dict[str, Any]]:
        """Return the user's records, once the queue is empty."""
        assert await self.reporter.aflush(30)
        return await self.desk.rows(
            "SELECT * FROM cost_records WHERE account_id = $1 ORDER BY record_id", await self.desk.account_id(user_id)
        )

    async def charged(self, user_id: str) -> list[Decimal]:
        """Return what each of the user's events cost."""
        assert await self.reporter.aflush(30)
        return [Decimal(event["cost_nanos"]) / DOLLAR for event in await self.desk.events(user_id)]


@pytest.fixture
async def reporter(between: Faulty, desk: Desk, folder: Path) -> AsyncIterator[UsageReporter]:
    async with UsageReporter(between.url, usage_key(desk), folder, options=QUEUE) as reporter:
        yield reporter


@pytest.fixture(params=["blocking", "awaited"])
def caller(request: pytest.FixtureRequest, desk: Desk, between: Faulty, reporter: UsageReporter) -> Caller:
    return Caller(desk, between, reporter, request.param)


async def test_work_is_charged_once_when_it_is_done(caller: Caller, payer: str) -> None:
    attribution: dict[str, Any] = {"query": "who pays?", "agent_id": "datum", "run_id": "run-7", "estimate": "0.05"}
    record = await caller.record(work, user_id=payer, request_id="r-1", **attribution)
    assert await caller.charged(payer) == [COST]
    assert await caller.desk.wallet(payer) == (10 * DOLLAR - int(COST * DOLLAR), 0)
    [stored] = await caller.stored(payer)
    assert {name: stored[name] for name in ("request_id", "tool", "query", "agent_id", "run_id")} == {
        "request_id": "r-1",
        "tool": "search",
        "query": "who pays?",
        "agent_id": "datum",
        "run_id": "run-7",
    }
    assert (stored["status"], stored["estimate_nanos"], record.replayed) == ("completed", DOLLAR // 20, False)
    assert 0 <= stored["execution_time_ms"] < 60_000
    with BillingClient(caller.desk.url, usage_key(caller.desk)) as client:
        detail = await asyncio.to_thread(client.get_cost_record, record.record_id)
    assert [(item.type, item.cost) for item in detail.items] == [
        ("llm_tokens", Decimal("0.0045")),
        ("api_calls", Decimal("0.00003")),
        (None, Decimal("0.0021")),
    ]
    assert (detail.cost, detail.charged, detail.cost_cents) == (COST, COST, 1)


async def test_work_that_raises_is_kept_and_never_charged(caller: Caller, payer: str) -> None:
    with pytest.raises(LookupError, match="no results"):
        await caller.record(fail, user_id=payer)
    [stored] = await caller.stored(payer)
    assert (stored["status"], stored["error_message"], stored["items"]) == ("failed", "LookupError", 3)
    assert (await caller.charged(payer), await caller.desk.wallet(payer)) == ([], (10 * DOLLAR, 0))


async def test_cancelled_work_is_not_charged(desk: Desk, reporter: UsageReporter, payer: str) -> None:
    begun = asyncio.Event()

    async def search(client: AsyncBillingClient) -> None:
        async with client.record(user_id=payer, tool="search") as record:
            work(record)
            begun.set()
            await asyncio.sleep(60)

    async with AsyncBillingClient(desk.url, usage_key(desk), usage=reporter) as client:
        task = asyncio.create_task(search(client))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await reporter.aflush(30)
    [stored] = await desk.rows("SELECT * FROM cost_records WHERE account_id = $1", await desk.account_id(payer))
    assert (stored["status"], stored["error_message"]) == ("failed", "CancelledError")


async def test_completed_work_is_charged_no_second_time_under_its_request_id(caller: Caller, payer: str) -> None:
    first = await caller.record(work, user_id=payer, request_id="r-1")
    assert await caller.charged(payer) == [COST]
    again = await caller.record(work, user_id=payer, request_id="r-1")
    assert (again.replayed, again.record_id) == (True, first.record_id)
    assert (await caller.charged(payer), caller.reporter.refused()) == ([COST], [])
    with pytest.raises(LookupError):
        await caller.record(fail, user_id=payer, request_id="r-1")
    assert (await caller.charged(payer), caller.reporter.refused()) == ([COST], [])


async def test_work_without_a_request_id_is_separate(caller: Caller, payer: str) -> None:
    records = [await caller.record(work, user_id=payer) for _ in range(2)]
    assert await caller.charged(payer) == [COST, COST]
    assert len({record.request_id for record in records}) == 2


async def test_request_id_of_work_that_failed_does_not_begin_again(caller: Caller, payer: str) -> None:
    """It would run for nothing: the first outcome counts."""
    with pytest.raises(LookupError):
        await caller.record(fail, user_id=payer, request_id="r-1")
    assert await caller.charged(payer) == []
    with pytest.raises(CostRecordSettled, match="another request_id") as settled:
        await caller.record(never, user_id=payer, request_id="r-1")
    assert (settled.value.outcome, settled.value.cost, settled.value.charged) == ("failed", COST, Decimal(0))


@pytest.mark.parametrize("policy", ["fail_open", "fail_closed"])
@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Reaction(402, b'{"error": {"code": "insufficient_credits"}, "required": "0.05"}'), InsufficientMoney),
        (Reaction(403, b'{"code": "account_suspended", "detail": "Account suspended: spam"}'), AccountSuspended),
        (Reaction(403, b'{"code": "missing_permission"}'), PermissionDenied),
        (Reaction(422, b'{"code": "request_id_reused"}'), InvalidRequest),
        (Reaction(429, b'{"code": "DAILY_LIMIT_EXCEEDED"}'), RateLimited),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_refused_work_does_not_begin(
    caller: Caller, payer: str, policy: FailPolicy, refusal: Reaction, error: type[BillingError]
) -> None:
    caller.between.reactions = [refusal] * QUICK.retry.attempts
    with pytest.raises(error):
        await caller.record(never, user_id=payer, policy=policy)
    assert await caller.stored(payer) == []


async def test_suspended_account_is_refused_by_the_service(caller: Caller, payer: str) -> None:
    await caller.desk.rows(
        "UPDATE accounts SET status = 'suspended', status_reason = 'spam' WHERE account_id = $1",
        await caller.desk.account_id(payer),
    )
    with pytest.raises(AccountSuspended):
        await caller.record(never, user_id=payer, policy="fail_open")


OUTAGES = [Reaction(503), Reaction(None), Reaction(429), LOST, Reaction(502, forward=True), Reaction(200, b"<html>")]


@pytest.mark.parametrize("outage", OUTAGES, ids=str)
async def test_work_during_an_outage_follows_the_policy(caller: Caller, payer: str, outage: Reaction) -> None:
    caller.between.reactions = [outage] * QUICK.retry.attempts
    if outage.status != 200:  # which is not retried
        with pytest.raises(Unavailable):
            await caller.record(never, user_id=payer)
        caller.between.reactions = [outage] * QUICK.retry.attempts
    record = await caller.record(work, user_id=payer, request_id="r-1", policy="fail_open", estimate_cents=5)
    caller.between.reactions = []
    assert record.record_id is None
    assert await caller.charged(payer) == [COST]
    assert [one["status"] for one in await caller.stored(payer) if one["request_id"] == "r-1"] == ["completed"]
    assert caller.reporter.refused() == []


@pytest.mark.parametrize("outage", [reaction for reaction in OUTAGES if reaction.status != 429], ids=str)
async def test_each_step_counts_once_whatever_becomes_of_its_answer(
    caller: Caller, payer: str, outage: Reaction
) -> None:
    def interrupted(record: Recording) -> None:
        caller.between.reactions = [outage, outage, *([outage, None] * 6)]
        work(record)

    await caller.record(interrupted, user_id=payer)
    assert await caller.charged(payer) == [COST]
    assert caller.reporter.refused() == []


async def test_item_with_an_id_counts_once(caller: Caller, payer: str) -> None:
    def repeated(record: Recording) -> None:
        for _ in range(3):
            record.api_calls("/search", 100, item_id="page-1")
        record.add(ToolCalls("search", 2))

    await caller.record(repeated, user_id=payer)
    assert await caller.charged(payer) == [Decimal("0.005")]


async def test_refused_item_is_kept_and_the_others_are_charged(caller: Caller, payer: str) -> None:
    def unpriced(record: Recording) -> None:
        record.llm("nobody", "no-such-model", 1, 1, item_id="i-1")
        work(record)

    await caller.record(unpriced, user_id=payer, request_id="r-1")
    assert await caller.charged(payer) == [COST]
    [letter] = caller.reporter.refused()
    assert (letter.event_id, letter.code) == ("r-1/i-1", "unknown_model")
    assert caller.reporter.requeue() == 1
    assert await caller.charged(payer) == [COST]
    [letter] = caller.reporter.refused()  # still kept: the record is settled
    assert (letter.event_id, letter.code) == ("r-1/i-1", "cost_record_settled")


async def test_work_of_a_user_object_and_of_no_user(caller: Caller, desk: Desk, payer: str) -> None:
    await caller.record(work, User(PROVIDER, payer))
    assert await caller.charged(payer) == [COST]
    name = f"r-{uuid.uuid4()}"
    await caller.record(work, client_key="anonymous", request_id=name, policy="fail_open")
    assert await caller.reporter.aflush(30)
    [stored] = await desk.rows("SELECT * FROM cost_records WHERE request_id = $1", name)
    assert (stored["status"], stored["cost_nanos"], stored["usage_id"]) == ("completed", int(COST * DOLLAR), None)


async def test_completion_never_fails_the_caller(caller: Caller, payer: str, caplog: pytest.LogCaptureFixture) -> None:
    """The queue is closed while the work runs: the outcome cannot be stored."""

    def close(record: Recording) -> None:
        work(record)
        assert caller.reporter.close(30)

    await caller.record(close, user_id=payer, request_id="r-1")
    assert "billing cost record not settled: queue_closed" in caplog.text
    with pytest.raises(UsageNotQueued):
        await caller.record(work, user_id=payer, request_id="r-2")
    open_, failed = await caller.desk.rows(
        "SELECT status, items FROM cost_records WHERE account_id = $1 ORDER BY record_id",
        await caller.desk.account_id(payer),
    )
    assert (open_["status"], open_["items"]) == ("open", 3)  # its expiry settles it
    assert failed["status"] == "failed"  # sent at once


async def test_full_queue_refuses_items_and_takes_the_outcome(
    desk: Desk, payer: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "SEGMENT_BYTES", 10_000)
    options = ReporterOptions(interval_s=60, max_bytes=20_000)
    with UsageReporter(desk.url, usage_key(desk), folder, options=options) as reporter:
        with BillingClient(desk.url, usage_key(desk), usage=reporter) as client:

            def fill() -> None:
                with client.record(user_id=payer, tool="search", request_id="r-1") as record:
                    usage = {"prompt_tokens": 1, "completion_tokens": 1, "note": "x" * 1_000}
                    with contextlib.suppress(UsageNotQueued):
                        for _ in range(100):
                            record.llm("openai", "gpt-4o-mini", usage=usage)
                    with pytest.raises(UsageNotQueued):
                        record.llm("openai", "gpt-4o-mini", usage=usage)

            await asyncio.to_thread(fill)
        assert await reporter.aflush(60)
        assert reporter.refused() == []
    [stored] = await desk.rows("SELECT * FROM cost_records WHERE account_id = $1", await desk.account_id(payer))
    assert stored["status"] == "completed"
    assert 10 < stored["items"] < 20


async def test_items_end_with_the_block_and_the_client_needs_a_queue(caller: Caller, desk: Desk, payer: str) -> None:
    record = await caller.record(work, user_id=payer)
    with pytest.raises(RuntimeError, match="has ended"):
        record.cost("1")
    with BillingClient(desk.url, usage_key(desk)) as client, pytest.raises(TypeError, match="UsageReporter"):
        client.record(user_id=payer, tool="search").__enter__()
    assert await caller.charged(payer) == [COST]
