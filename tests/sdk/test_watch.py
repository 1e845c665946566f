"""`watch` of both clients: every entry once, over any number of connections."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from decimal import Decimal

import httpx
import pytest

from app.approvals.schemas import ApprovalReply
from app.approvals.schemas import LimitOfApproval as ServiceLimitOfApproval
from app.auth.caller import Permission
from app.db import Database
from app.live.schemas import BalanceState, EntryState
from app.main import create_app
from ciris_billing import (
    Approval,
    ApprovalRequired,
    AsyncBillingClient,
    BalanceEvent,
    BillingClient,
    InvalidReply,
    LimitOfApproval,
    Metadata,
    NotFound,
    Options,
    Retry,
    ServiceUnavailable,
    Unauthorized,
    User,
)
from ciris_billing.live import Balance, LedgerEntry
from tests.books import connected
from tests.conftest import Keys, make_key, settings_for
from tests.databases import Urls
from tests.servers import free_port, serving

PATIENT = Options(retry=Retry(first_wait_s=0.05))
CLOSE = "UPDATE accounts SET status = 'closed' WHERE account_id = $1"


@pytest.fixture(scope="module")
def url(database: Urls) -> Iterator[str]:
    """A server whose streams live for a second."""
    with serving(create_app(settings_for(database, event_stream_lifetime_s=1))) as url:
        yield url


@pytest.fixture
async def client(url: str, keys: Keys) -> AsyncIterator[AsyncBillingClient]:
    async with AsyncBillingClient(url, keys.credit, options=PATIENT) as client:
        yield client


@pytest.fixture
def who() -> User:
    return User("oauth:google", f"{uuid.uuid4()}@example.com")


def test_events_have_the_fields_of_the_service() -> None:
    assert Balance.model_fields.keys() == BalanceState.model_fields.keys()
    assert LedgerEntry.model_fields.keys() == EntryState.model_fields.keys()
    assert Approval.model_fields.keys() == ApprovalReply.model_fields.keys()
    assert LimitOfApproval.model_fields.keys() == ServiceLimitOfApproval.model_fields.keys()


async def test_every_entry_comes_once_over_many_connections(client: AsyncBillingClient, who: User) -> None:
    account_id = (await client.get_or_create_account(who, initial_balance_minor=2_000)).account_id
    entries: list[int] = []
    snapshots = 0
    async with asyncio.timeout(60), aclosing(client.watch(account_id)) as events:
        async for event in events:
            if event.entry is not None:
                entries.append(event.entry.entry_no)
                assert event.balance.entry_no >= event.entry.entry_no
            snapshots += event.kind == "snapshot"
            if len(entries) == 6 and snapshots > 2:
                break
            if len(entries) < 6:
                await client.charge(who, amount_minor=100, interaction_id=uuid.uuid4().hex)
    assert entries[:6] == [3, 4, 5, 6, 7, 8]
    assert entries == list(range(3, 3 + len(entries)))


async def test_approvals_come_once_over_many_connections(db: Database, url: str, who: User) -> None:
    """The service sends the open ones on each connection again. Their balance is the last one."""
    key = await make_key(db, "live", *Permission)
    async with AsyncBillingClient(url, key, options=PATIENT) as client:
        account_id = (await client.get_or_create_account(who, initial_balance_minor=2_000)).account_id
        await client.set_limit(who, window="day", unit="credits", amount=0, action="ask")
        asked: list[str | None] = []
        approvals: list[Approval] = []
        snapshots = 0
        async with asyncio.timeout(60), aclosing(client.watch(account_id)) as events:
            async for event in events:
                assert event.balance.paid_credits == 20
                if event.approval is not None:
                    assert event.kind == "approval"
                    approvals.append(event.approval)
                snapshots += event.kind == "snapshot"
                if event.kind == "snapshot" and len(asked) < 2:
                    agent: Metadata = {"agent_id": str(snapshots)}
                    with pytest.raises(ApprovalRequired) as refused:
                        await client.charge(who, amount_minor=300, interaction_id=str(snapshots), metadata=agent)
                    asked.append(refused.value.approval_id)
                if snapshots > 3 and len(approvals) == 2:
                    break
    assert [approval.approval_id for approval in approvals] == asked
    seen = {(approval.status, approval.kind, approval.amount) for approval in approvals}
    assert seen == {("pending", "limit", Decimal(3))}
    assert all(approval.limit is not None and approval.limit.amount == 0 for approval in approvals)


async def test_blocking_client_follows_and_ends_with_the_account(
    client: AsyncBillingClient, url: str, keys: Keys, who: User, database: Urls
) -> None:
    account_id = (await client.get_or_create_account(who, initial_balance_minor=2_000)).account_id
    for _ in range(3):
        await client.charge(who, amount_minor=100, interaction_id=uuid.uuid4().hex)

    def follow() -> list[BalanceEvent]:
        with BillingClient(url, keys.reader, options=PATIENT) as blocking:
            return list(blocking.watch(account_id, after=2))

    following = asyncio.create_task(asyncio.to_thread(follow))
    async with connected(database) as connection:
        await connection.execute(CLOSE, account_id)
    events = await following
    assert [event.entry.entry_no for event in events if event.entry is not None] == [3, 4, 5]
    assert events[0].kind == "snapshot"
    assert events[-1].balance.status == "closed"
    assert events[-1].balance.free_uses_remaining == 0


@pytest.mark.parametrize(("key", "error"), [(None, NotFound), ("cbk_live_x", Unauthorized)])
async def test_what_cannot_be_followed_raises(url: str, keys: Keys, key: str | None, error: type[Exception]) -> None:
    async with AsyncBillingClient(url, key or keys.reader) as client:
        with pytest.raises(error):
            await anext(client.watch(uuid.uuid4()))


async def test_a_service_that_is_unavailable_from_the_start_raises(keys: Keys) -> None:
    options = Options(deadline_s=0.2, retry=Retry(first_wait_s=0.01))
    async with AsyncBillingClient(f"http://127.0.0.1:{free_port()}", keys.reader, options=options) as client:
        with pytest.raises(ServiceUnavailable):
            await anext(client.watch())


SNAPSHOT = {
    **dict.fromkeys(("status", "currency", "plan_name"), "USD"),
    **dict.fromkeys(("balance_minor", "paid_credits", "free_uses_remaining", "daily_free_uses_remaining"), 0),
    **dict.fromkeys(("daily_free_uses_limit", "total_uses", "held_minor"), 0),
    **dict.fromkeys(("balance", "held", "debt"), "0"),
    "account_id": str(uuid.uuid4()),
    "entry_no": 1,
}


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_another_host_is_followed_while_one_fails(status: int) -> None:
    """The body of a failing host may be anything, such as JSON that is nested too deeply."""
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "first":
            return httpx.Response(status, text="[" * 100_000)
        return httpx.Response(200, text=f"event: snapshot\ndata: {json.dumps({'balance': SNAPSHOT})}\n\n")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        options = Options(retry=Retry(first_wait_s=0.001), fallback_urls=["http://second"])
        client = AsyncBillingClient("http://first", "cbk_live_x", http_client=http, options=options)
        assert (await anext(client.watch())).kind == "snapshot"
    assert asked == ["first", "second"]


async def test_an_event_that_is_none_raises() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="event: change\ndata: {}\n\n")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        client = AsyncBillingClient("http://billing", "cbk_live_x", http_client=http)
        with pytest.raises(InvalidReply):
            await anext(client.watch())
