"""A stream shows the account as its other reads do, and then each ledger entry once, in order."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.live import feeds
from app.main import create_app
from tests.books import connected
from tests.conftest import settings_for
from tests.databases import Urls
from tests.live.conftest import Account, new_account
from tests.live.reading import opened
from tests.servers import serving

Clients = Callable[..., httpx.AsyncClient]


async def test_stream_begins_with_the_account_as_other_reads_show_it(account: Account) -> None:
    await account.post("/v1/credits/add", amount_cents=1234, reason="r")
    await account.post("/v1/billing/holds", amount_minor=200)  # of the free uses
    read = (await account.client.get(f"/v1/billing/accounts/{account.account_id}")).json()
    check = await account.post("/v1/billing/check")
    async with opened(account.client, account.events) as reader:
        headers = reader.answer.headers
        first = await reader.next()
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
    assert "Content-Length" not in headers
    assert reader.retry_ms is not None
    assert (first.name, first.id, first.data["is_complete"]) == ("snapshot", 5, True)
    balance = first.balance
    for name in ("account_id", "status", "currency", "plan_name", "balance_minor", "paid_credits", "total_uses"):
        assert balance[name] == read[name], name
    assert balance["free_uses_remaining"] == read["free_uses_remaining"] == check["free_uses_remaining"] == 1
    assert balance["daily_free_uses_remaining"] == check["daily_free_uses_remaining"]
    assert (balance["balance"], balance["held"], balance["held_minor"]) == ("12.340000", "0.000000", 200)
    assert balance["entry_no"] == 5


async def test_each_entry_is_an_event_with_its_cause(account: Account) -> None:
    async with opened(account.client, account.events) as reader:
        assert (await reader.next()).id == 2
        charged = [await account.charge() for _ in range(4)]
        added = await account.post("/v1/credits/add", amount_cents=500, reason="r")
        held = await account.post("/v1/billing/holds", amount="1.50", run_id="run-7")
        events = await reader.take(7)
    assert [event.id for event in events] == [3, 4, 5, 6, 7, 8, 9]
    assert {event.name for event in events} == {"change"}
    charges, money, moved = events[:4], events[4], events[5:]
    assert [event.entry["reference_id"] for event in charges] == [charge["charge_id"] for charge in charged]
    assert [(event.entry["pool"], event.entry["amount_minor"]) for event in charges] == [
        *[("free", -100)] * 3,
        ("paid", -100),
    ]
    assert charges[3].entry["balance_after_minor"] == 1900
    assert (charges[3].entry["kind"], charges[3].entry["reference_type"]) == ("charge", "charge")
    assert (money.entry["unit"], money.entry["amount"], money.entry["amount_minor"]) == ("USD", "5.000000", None)
    assert money.entry["reference_id"] == added["transaction_id"]
    assert [(event.entry["pool"], event.entry["amount"]) for event in moved] == [
        ("money", "-1.500000"),
        ("held", "1.500000"),
    ]
    assert {event.entry["reference_id"] for event in moved} == {held["hold_id"]}
    assert {event.entry["run_id"] for event in moved} == {"run-7"}
    last = events[-1].balance
    assert (last["balance"], last["held"], last["balance_minor"], last["entry_no"]) == ("3.500000", "1.500000", 1900, 9)


async def test_an_entry_names_the_run_of_its_cause(account: Account) -> None:
    for product, run_id in (("web_search", "of a free use"), ("image_gen", None)):
        await account.post("/v1/tools/charge", product_type=product, run_id=run_id)
    await account.charge(run_id="of a charge")
    await account.charge()
    async with opened(account.client, account.events, headers={"Last-Event-ID": "2"}) as reader:
        await reader.next()
        named: dict[str, str | None] = {}
        while len(named) < 4:
            entry = (await reader.next()).entry
            if entry["kind"] in ("charge", "tool_charge"):
                named[entry["reference_id"]] = entry["run_id"]
    assert list(named.values()) == ["of a free use", None, "of a charge", None]


async def test_a_change_arrives_within_a_second(account: Account) -> None:
    async with opened(account.client, account.events) as reader:
        await reader.next()
        for _ in range(3):
            await account.charge()
            async with asyncio.timeout(1.5):  # half a second, and what a busy machine adds
                assert (await reader.next()).name == "change"


async def test_a_status_is_an_event_without_an_id(account: Account, books: Urls) -> None:
    async with opened(account.client, account.events) as reader:
        await reader.next()
        async with connected(books) as connection:
            await connection.execute(
                "UPDATE accounts SET status = 'suspended', status_reason = 'r' WHERE account_id = $1",
                uuid.UUID(account.account_id),
            )
        event = await reader.next()
        assert (event.name, event.id, event.balance["status"]) == ("balance", None, "suspended")
        async with connected(books) as connection:
            await connection.execute(
                "UPDATE accounts SET status = 'active', status_reason = NULL WHERE account_id = $1",
                uuid.UUID(account.account_id),
            )
        assert (await reader.next()).balance["status"] == "active"
        await account.charge()
        assert (await reader.next()).id == 3


async def test_grant_that_expires_leaves_the_balance_before_its_entry_is_written(account: Account) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=2)
    await account.post("/v1/billing/grants", amount_minor=500, expires_at=expires_at.isoformat())
    async with opened(account.client, account.events) as reader:
        first = await reader.next()
        assert first.balance["balance_minor"] == 2500
        event = await reader.next()
    assert datetime.now(UTC) >= expires_at
    assert (event.name, event.balance["balance_minor"], event.balance["entry_no"]) == ("balance", 2000, first.id)


async def test_streams_of_one_account_see_the_same(account: Account) -> None:
    async with opened(account.client, account.events) as one, opened(account.client, account.events) as other:
        await asyncio.gather(one.next(), other.next())
        await asyncio.gather(*(account.charge() for _ in range(10)))
        seen = await asyncio.gather(one.take(10), other.take(10))
    assert [event.id for event in seen[0]] == list(range(3, 13))
    assert seen[0] == seen[1]


async def test_streams_of_several_accounts_see_their_own(agent: httpx.AsyncClient) -> None:
    accounts = [await new_account(agent) for _ in range(3)]
    async with (
        opened(agent, accounts[0].events) as first,
        opened(agent, accounts[1].events) as second,
        opened(agent, accounts[2].events) as third,
    ):
        readers = (first, second, third)
        for reader in readers:
            await reader.next()
        charges = [await account.charge() for account in reversed(accounts)]
        seen = [(await reader.next()).entry["reference_id"] for reader in readers]
    assert seen == [charge["charge_id"] for charge in reversed(charges)]


async def test_head_opens_no_stream(account: Account) -> None:
    answer = await account.client.head(account.events)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Type"].startswith("text/event-stream")


async def test_a_key_of_the_other_environment_finds_no_account(
    account: Account, clients: Clients, test_key: str
) -> None:
    for path in (account.events, f"/v1/billing/accounts/{uuid.uuid4()}/events"):
        answer = await clients(X_API_Key=test_key).get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "account_not_found")
        assert (await clients(X_API_Key=test_key).head(path)).status_code == 404


async def test_a_stream_needs_a_key_that_may_read(account: Account, clients: Clients, writer_key: str) -> None:
    assert (await clients().get(account.events)).status_code == 401
    refused = await clients(X_API_Key=writer_key).get(account.events)
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_permission")


async def test_a_user_follows_the_own_account(account: Account, clients: Clients, token_of: Callable[..., str]) -> None:
    user = clients(Authorization=f"Bearer {token_of(account.user_id)}")
    async with opened(user, "/v1/accounts/me/events") as reader:
        assert (await reader.next()).balance["account_id"] == account.account_id
        await account.charge()
        assert (await reader.next()).id == 3


async def test_a_user_without_an_account_gets_one(clients: Clients, token_of: Callable[..., str]) -> None:
    async with opened(
        clients(Authorization=f"Bearer {token_of(uuid.uuid4().hex)}"), "/v1/accounts/me/events"
    ) as reader:
        first = await reader.next()
    assert (first.id, first.balance["free_uses_remaining"]) == (1, 3)


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x.y.z"}])
async def test_a_user_needs_a_token(clients: Clients, header: dict[str, str]) -> None:
    answer = await clients(**header).get("/v1/accounts/me/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


async def test_a_path_of_an_identity_still_names_a_user(account: Account) -> None:
    """`…/accounts/{oauth_provider}/{external_id}` has the same shape for a user who is named events."""
    made = await account.client.post(
        "/v1/billing/accounts", json={"oauth_provider": "oauth:x", "external_id": "events"}
    )
    found = await account.client.get("/v1/billing/accounts/oauth:x/events")
    assert found.json()["account_id"] == made.json()["account_id"]


async def test_midnight_renews_the_daily_free_uses_without_an_entry(
    own_books: Urls, own_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(create_app(settings_for(own_books, daily_free_uses=2))) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": own_key}, timeout=30) as client:
            account = await new_account(client)
            await account.charge()
            async with opened(client, account.events) as reader:
                first = await reader.next()
                assert (first.balance["daily_free_uses_remaining"], first.balance["daily_free_uses_limit"]) == (1, 2)
                tomorrow = datetime.now(UTC) + timedelta(days=1)
                monkeypatch.setattr(feeds, "utc_now", lambda: tomorrow)
                event = await reader.next()
    assert (event.name, event.id, event.balance["daily_free_uses_remaining"]) == ("balance", None, 2)
    assert event.balance["entry_no"] == first.id
