"""Approvals on event streams: pending ones and decisions, without an id, and again after a resume."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.db import Database
from app.ledger import approval_queries
from app.ledger.approvals import Status
from app.live import feeds, queries
from app.live.approvals import MOST_OVER, AccountApprovals
from app.main import create_app
from tests.books import connected
from tests.conftest import settings_for
from tests.databases import Urls
from tests.demo.oidc_server import SPA
from tests.live.conftest import Account, TokenOf, new_account
from tests.live.reading import Event, Reader, opened, until
from tests.servers import serving

Clients = Callable[..., httpx.AsyncClient]
OWN = "/v1/accounts/me"


@pytest.fixture
def person(account: Account, clients: Clients, token_of: TokenOf) -> httpx.AsyncClient:
    """The user, with a token that agents do not have."""
    return clients(Authorization=f"Bearer {token_of(account.user_id, aud=SPA.client_id)}")


async def asking(account: Account, amount: str = "0", **fields: Any) -> None:
    """Set a limit that asks a person."""
    body = {**account.user, "window": "day", "unit": "credits", "amount": amount, "action": "ask", **fields}
    answer = await account.client.put("/v1/billing/limits", json=body)
    assert answer.status_code == 200, answer.text


async def ask(account: Account, credits: int = 1, **fields: Any) -> str:
    """Send a charge that waits for an approval, and return the approval's id."""
    body = {**account.user, "amount_minor": credits * 100, **fields}
    answer = await account.client.post("/v1/billing/charges", json=body)
    assert answer.status_code == 402, answer.text
    return str(answer.json()["approval_id"])


async def decide(person: httpx.AsyncClient, approval_id: str, decision: str, **body: Any) -> None:
    answer = await person.post(f"{OWN}/approvals/{approval_id}/{decision}", json=body)
    assert answer.status_code == 200, answer.text


def told(event: Event) -> tuple[str, str, str, int | None]:
    approval = event.data["approval"]
    return event.name, approval["approval_id"], approval["status"], event.id


async def statuses(reader: Reader, number: int) -> list[tuple[str, str]]:
    """The next approvals, by id and status. Ledger entries between them are passed over."""
    events = [await reader.until("approval") for _ in range(number)]
    assert {event.id for event in events} == {None}
    return [(event.data["approval"]["approval_id"], event.data["approval"]["status"]) for event in events]


async def test_an_approval_is_followed_until_it_is_used(account: Account, person: httpx.AsyncClient) -> None:
    """Also by the user's own stream. The limit is set after the streams have begun, which writes no ledger entry."""
    async with opened(account.client, account.events) as agents, opened(person, f"{OWN}/events") as own:
        for reader in (agents, own):
            assert (await reader.next()).name == "snapshot"
        await asking(account)
        approval_id = await ask(account)
        pending = [await reader.next() for reader in (agents, own)]
        assert [told(event) for event in pending] == [("approval", approval_id, "pending", None)] * 2
        listed = (await person.get(f"{OWN}/approvals")).json()["approvals"]
        assert [event.data["approval"] for event in pending] == listed * 2
        await decide(person, approval_id, "approve")
        for reader in (agents, own):
            assert told(await reader.next()) == ("approval", approval_id, "approved", None)
        await account.charge()
        for reader in (agents, own):
            events = await reader.take(2)
            assert {event.name for event in events} == {"change", "approval"}
            [used] = [event for event in events if event.name == "approval"]
            assert told(used) == ("approval", approval_id, "used", None)


async def test_a_denial_and_a_larger_request_are_events(account: Account, person: httpx.AsyncClient) -> None:
    await asking(account)
    async with opened(account.client, account.events) as reader:
        await reader.next()
        first = await ask(account, 2)
        assert (await reader.next()).data["approval"]["amount"] == "2"
        assert await ask(account, 3) == first
        assert (await reader.next()).data["approval"]["amount"] == "3"
        await decide(person, first, "deny")
        assert told(await reader.next()) == ("approval", first, "denied", None)
        second = await ask(account, 1, metadata={"agent_id": "another"})
        assert told(await reader.next()) == ("approval", second, "pending", None)


@pytest.mark.parametrize("is_resumed", [True, False])
async def test_a_stream_begins_with_what_is_open_or_was_decided(
    account: Account, person: httpx.AsyncClient, is_resumed: bool
) -> None:
    """A client that was disconnected learns of a denial, too. A used one is only in the list."""
    await asking(account)
    used, approved, denied, pending = [await ask(account, metadata={"agent_id": name}) for name in "abcd"]
    for approval_id in (used, approved):
        await decide(person, approval_id, "approve")
    await decide(person, denied, "deny")
    await account.charge(metadata={"agent_id": "a"})
    headers = {"Last-Event-ID": "2"} if is_resumed else {}
    for _ in range(2):  # the second one shares what the first has read
        async with opened(account.client, account.events, headers=headers) as reader:
            snapshot = await reader.next()
            assert (snapshot.name, snapshot.id) == ("snapshot", None if is_resumed else 3)
            seen = dict(await statuses(reader, 3))
            assert seen == {approved: "approved", denied: "denied", pending: "pending"}
            async with opened(account.client, account.events, headers=headers) as other:
                assert dict(await statuses(other, 3)) == seen


@pytest.mark.parametrize("kind", ["resume", "budget"])
async def test_approvals_of_runs_are_events(account: Account, person: httpx.AsyncClient, kind: str) -> None:
    run_id = uuid.uuid4().hex
    budget = {"budget": {"amount_minor": 0}} if kind == "budget" else {}
    await account.post("/v1/billing/runs", run_id=run_id, **budget)
    if kind == "resume":
        paused = {**account.user, "status": "paused"}
        assert (await account.client.patch(f"/v1/billing/runs/{run_id}", json=paused)).is_success
    async with opened(account.client, account.events) as reader:
        await reader.next()
        approval_id = await ask(account, run_id=run_id)
        event = await reader.next()
        assert told(event) == ("approval", approval_id, "pending", None)
        assert (event.data["approval"]["kind"], event.data["approval"]["refused_run_id"]) == (kind, run_id)
        await decide(person, approval_id, "approve")
        assert told(await reader.next()) == ("approval", approval_id, "approved", None)


async def test_an_approval_that_lapses_is_an_event(account: Account, books: Urls) -> None:
    await asking(account)
    async with opened(account.client, account.events) as reader:
        await reader.next()
        approval_id = await ask(account)
        assert told(await reader.next()) == ("approval", approval_id, "pending", None)
        async with connected(books) as connection:
            await connection.execute(
                "UPDATE approvals SET expires_at = now() WHERE account_id = $1", uuid.UUID(account.account_id)
            )
        assert told(await reader.next()) == ("approval", approval_id, "expired", None)


async def test_streams_of_others_are_told_nothing(agent: httpx.AsyncClient, account: Account) -> None:
    other = await new_account(agent)
    for each in (account, other):
        await asking(each)
    async with opened(agent, other.events) as reader, opened(agent, account.events) as asked:
        await reader.next()
        await asked.next()
        await ask(account)
        assert (await asked.next()).name == "approval"
        own = await ask(other)
        assert told(await reader.next())[1] == own


@pytest.fixture
async def counting(
    own_books: Urls, own_key: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[httpx.AsyncClient, list[int], list[int]]]:
    """A client of a process that reads often, the sizes of its readings, and those of its readings of approvals."""
    changes: list[int] = []
    approvals: list[int] = []
    find_changes, find_watched = queries.find_changes, approval_queries.find_watched

    async def counted(db: Database, seen: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        changes.append(len(seen))
        return await find_changes(db, seen, *arguments, **options)

    async def counted_approvals(db: Database, account_ids: Sequence[Any], *arguments: Any) -> Any:
        approvals.append(len(account_ids))
        return await find_watched(db, account_ids, *arguments)

    monkeypatch.setattr(feeds, "POLL_S", 0.02)
    monkeypatch.setattr(queries, "find_changes", counted)
    monkeypatch.setattr(approval_queries, "find_watched", counted_approvals)
    with serving(create_app(settings_for(own_books))) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": own_key}, timeout=30) as client:
            yield client, changes, approvals


async def test_approvals_cost_a_statement_only_when_they_change(
    counting: tuple[httpx.AsyncClient, list[int], list[int]],
) -> None:
    client, changes, approvals = counting
    accounts = [await new_account(client) for _ in range(3)]

    async def reads() -> None:
        """Wait for ten more readings."""
        target = len(changes) + 10

        async def are_done() -> bool:
            return len(changes) >= target

        await until(are_done)

    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(opened(client, each.events)) for each in accounts]
        for reader in readers:
            await reader.next()
        await asking(accounts[0])
        await accounts[1].charge()
        assert (await readers[1].next()).name == "change"
        changes.clear()
        await reads()
        assert (set(changes), approvals) == ({3}, [])
        await ask(accounts[0])
        await readers[0].until("approval")
        await reads()
        assert (set(changes), approvals) == ({3}, [1])
        await accounts[1].charge()
        await readers[1].next()
        await reads()
        assert (set(changes), approvals) == ({3}, [1])


def test_ended_approvals_of_an_account_are_bounded() -> None:
    now = datetime.now(UTC)

    def stored(number: int, status: Status) -> approval_queries.Stored:
        return approval_queries.Stored(
            account_id=uuid.UUID(int=1),
            approval_id=uuid.UUID(int=number),
            kind="resume",
            limit_id=None,
            run_uuid=uuid.UUID(int=2),
            unit="credit",
            environment="live",
            key_id=None,
            agent_id=None,
            model=None,
            tool=None,
            run_id=None,
            amount=1,
            allowed=None,
            status=status,
            expires_at=now + timedelta(days=1),
            created_at=now,
            decided_at=None,
            decided_by_type=None,
            decided_by=None,
            used_at=None,
            scope=None,
            scope_value=None,
            window=None,
            limit_amount=None,
            refused_run_id=None,
        )

    approvals = AccountApprovals()
    numbers = range(1, 3 * MOST_OVER)
    sent: dict[uuid.UUID, Any] = {}
    for number in numbers:
        approvals.accept([stored(number, "pending")], "a", now)
        assert approvals.news(sent).count(b"event: approval") == 1
        approvals.accept([stored(number, "used")], "b", now)
        assert approvals.news(sent).count(b"event: approval") == 1
        assert approvals.news(sent) == b""
    assert len(approvals.by_id) == len(sent) == MOST_OVER
    assert approvals.known == []
    assert approvals.news({}) == b""
