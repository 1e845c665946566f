"""Streams end with their credential, their account, their time and their process, and with readers who do not read."""

import asyncio
import signal
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.accounts.erasure import BOOKS, forget_texts
from app.auth.api_keys.keys import parse_key
from app.auth.api_keys.service import update_key
from app.auth.caller import Permission
from app.auth.continuing import ContinuingChecks
from app.auth.id_tokens.revocations import revoke_tokens_before
from app.db import Database
from app.live import feeds, queries, stream
from app.main import create_app
from tests.books import connected
from tests.conftest import make_key, settings_for
from tests.databases import Urls
from tests.demo.oidc_server import SPA
from tests.live.conftest import PROVIDER, Account, new_account
from tests.live.reading import Reader, no_stream_is_open, opened, until
from tests.servers import running_server, serving
from tests.support.key_changes import CHANGES, Change

PROMISE_S = 1.0
BUSY_S = 1.0
"""Added by a busy machine."""
Clients = Callable[..., httpx.AsyncClient]


async def ends_in_time(reader: Reader, reason: str, since_s: float) -> None:
    last = (await reader.rest())[-1]
    assert (last.name, last.data, last.id) == ("end", {"reason": reason}, None)
    assert time.monotonic() - since_s < PROMISE_S + BUSY_S


@pytest.mark.parametrize("change", CHANGES)
async def test_a_stream_ends_with_its_key(
    account: Account, clients: Clients, live_db: Database, change: Change
) -> None:
    text = await make_key(live_db, "live", Permission.READ)
    parsed = parse_key(text)
    assert parsed is not None
    async with opened(clients(X_API_Key=text), account.events) as reader:
        await reader.next()
        async with live_db.transaction() as tx:
            await change(tx, parsed[1], datetime.now(UTC))
        await ends_in_time(reader, "credential", time.monotonic())


async def test_a_widened_key_keeps_its_streams(account: Account, clients: Clients, live_db: Database) -> None:
    text = await make_key(live_db, "live", Permission.READ)
    parsed = parse_key(text)
    assert parsed is not None
    async with opened(clients(X_API_Key=text), account.events) as reader:
        await reader.next()
        async with live_db.transaction() as tx:
            permissions = {Permission.READ, Permission.WRITE}
            await update_key(tx, parsed[1], permissions=permissions, now=datetime.now(UTC))
        for _ in range(3):
            await account.charge()
            assert (await reader.next()).name == "change"


async def test_a_stream_ends_when_the_token_expires(
    account: Account, clients: Clients, token_of: Callable[..., str]
) -> None:
    expires_s = int(time.time()) + 3
    user = clients(Authorization=f"Bearer {token_of(account.user_id, exp=expires_s)}")
    async with opened(user, "/v1/accounts/me/events") as reader:
        last = (await reader.rest())[-1]
    assert last.data == {"reason": "credential"}
    assert 0 <= time.time() - expires_s < PROMISE_S + BUSY_S


async def test_a_stream_ends_when_all_tokens_of_its_user_are_revoked(
    agent: httpx.AsyncClient, clients: Clients, token_of: Callable[..., str], live_db: Database
) -> None:
    accounts = [await new_account(agent) for _ in range(2)]
    users = [clients(Authorization=f"Bearer {token_of(each.user_id, iat=int(time.time()) - 5)}") for each in accounts]
    async with opened(users[0], "/v1/accounts/me/events") as mine, opened(users[1], "/v1/accounts/me/events") as other:
        await asyncio.gather(mine.next(), other.next())
        now = datetime.now(UTC)
        async with live_db.transaction() as tx:
            name = accounts[0].user_id
            await revoke_tokens_before(tx, now, environment="live", oauth_provider=PROVIDER, external_id=name, now=now)
        await ends_in_time(mine, "credential", time.monotonic())
        await accounts[1].charge()
        assert (await other.next()).name == "change"


async def test_a_stream_ends_after_its_account_was_closed(account: Account, books: Urls) -> None:
    async with opened(account.client, account.events) as reader:
        await reader.next()
        async with connected(books) as connection:
            close = "UPDATE accounts SET status = 'closed' WHERE account_id = $1"
            await connection.execute(close, uuid.UUID(account.account_id))
        closed, end = await reader.take(2)
        assert await reader.rest() == []
    assert (closed.name, closed.balance["status"]) == ("balance", "closed")
    assert end.data == {"reason": "account_closed"}
    again = await account.client.get(account.events)
    assert [line for line in again.text.splitlines() if line.startswith("event:")] == ["event: snapshot", "event: end"]
    # A browser reconnects after the end, and stops after this.
    assert (await account.client.get(account.events, headers={"Last-Event-ID": "2"})).status_code == 204


async def test_a_deleted_account_ends_its_users_stream(
    account: Account, clients: Clients, token_of: Callable[..., str]
) -> None:
    user = clients(Authorization=f"Bearer {token_of(account.user_id, aud=SPA.client_id)}")
    async with opened(user, "/v1/accounts/me/events") as reader:
        await reader.next()
        assert (await user.delete("/v1/accounts/me")).status_code == 200
        last = (await reader.rest())[-1]
    assert last.name == "end"


async def test_a_keys_stream_of_an_erased_user_ends_and_a_resumed_one_names_no_one(
    account: Account, clients: Clients, token_of: Callable[..., str], live_db: Database
) -> None:
    """Neither the user nor the run that a charge named, which may name a person."""
    await account.charge(run_id=f"of {account.user_id}")
    user = clients(Authorization=f"Bearer {token_of(account.user_id, aud=SPA.client_id)}")
    async with opened(account.client, account.events) as reader:
        await reader.next()
        assert (await user.delete("/v1/accounts/me")).status_code == 200
        events = await reader.rest()
    assert events[-1].data == {"reason": "account_closed"}
    await forget_texts(live_db, uuid.UUID(account.account_id), BOOKS)  # the worker's job
    again = await account.client.get(account.events, headers={"Last-Event-ID": "0"})
    assert again.text.count("event: change") == 3
    assert '"status":"closed"' in again.text
    assert account.user_id not in again.text + "".join(str(event.data) for event in events)


@asynccontextmanager
async def small_server(books: Urls, key: str, **env: str) -> AsyncIterator[httpx.AsyncClient]:
    with running_server(books, env=env) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}, timeout=30) as client:
            yield client


async def test_streams_of_a_process_and_of_a_caller_are_bounded(
    books: Urls,
    key: str,
    live_db: Database,
    oidc: object,
    issuer_settings: dict[str, str],
    token_of: Callable[..., str],
) -> None:
    other = await make_key(live_db, "live", Permission.READ)
    env = {
        **issuer_settings,
        "EVENT_STREAMS_PER_PROCESS": "3",
        "EVENT_STREAMS_PER_KEY": "2",
        "EVENT_STREAMS_PER_USER": "1",
    }
    async with small_server(books, key, **env) as client:
        account = await new_account(client)
        own = {"Authorization": f"Bearer {token_of(account.user_id)}", "X-API-Key": ""}
        async with opened(client, account.events) as one, opened(client, account.events) as two:
            await asyncio.gather(one.next(), two.next())
            refused = await client.get(account.events)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
            assert int(refused.headers["Retry-After"]) > 0
            async with opened(client, "/v1/accounts/me/events", headers=own) as three:
                await three.next()
                refused = await client.get("/v1/accounts/me/events", headers=own)
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
                full = await client.get(account.events, headers={"X-API-Key": other})
                assert (full.status_code, full.json()["code"]) == (503, "busy")
                assert int(full.headers["Retry-After"]) > 0
                metrics = (await client.get("/metrics")).text
                assert 'billing_event_streams{caller="key"} 2.0' in metrics
                assert 'billing_event_streams{caller="user"} 1.0' in metrics
        await until(lambda: no_stream_is_open(client))
        async with opened(client, account.events) as reader:
            await reader.next()


async def test_a_stream_ends_after_its_lifetime(books: Urls, key: str) -> None:
    async with small_server(books, key, EVENT_STREAM_LIFETIME_S="2") as client:
        account = await new_account(client)
        began_s = time.monotonic()
        async with opened(client, account.events) as reader:
            last = (await reader.rest())[-1]
    assert last.data == {"reason": "lifetime"}
    assert 1.5 < time.monotonic() - began_s < 4 + BUSY_S


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_streams_end_when_the_process_drains(books: Urls, key: str, sent: signal.Signals) -> None:
    with running_server(books, env={"DRAIN_S": "2", "LOG_LEVEL": "INFO"}) as server:
        async with httpx.AsyncClient(base_url=server.url, headers={"X-API-Key": key}, timeout=30) as client:
            account = await new_account(client)
            async with opened(client, account.events) as reader:
                await reader.next()
                server.process.send_signal(sent)
                await ends_in_time(reader, "draining", time.monotonic())
            if sent is signal.SIGTERM:
                refused = await client.get(account.events)
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert await asyncio.to_thread(server.process.wait, 10) == 0
        assert '"level": "error"' not in server.printed()


async def test_a_reader_that_does_not_read_is_disconnected(
    own_books: Urls, own_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds no memory but the connection's buffers, and delays no one."""
    monkeypatch.setattr(stream, "WRITE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(feeds, "POLL_S", 0.05)
    grow = (
        "INSERT INTO ledger_entries (account_id, entry_no, pool, delta, balance_after, kind, cause_type, cause_id,"
        " actor_type, actor_id, created_at) SELECT $1, n, 'paid', 1, n, 'grant', 'credit', gen_random_uuid(), 'system',"
        " 'tests', now() FROM generate_series($2::bigint, $3::bigint) AS n"
    )
    with serving(create_app(settings_for(own_books))) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": own_key}, timeout=30) as client:
            account = await new_account(client)
            deaf = await asyncio.to_thread(_open_and_do_not_read, url, account.events, own_key)
            async with connected(own_books) as connection:
                for begin in range(3, 30_000, 1_900):
                    end = begin + 1_899
                    await connection.execute(grow, uuid.UUID(account.account_id), begin, end)
                    await connection.execute("UPDATE accounts SET last_entry_no = $1", end)
            await until(lambda: no_stream_is_open(client))
            ended = 'billing_event_streams_ended_total{reason="slow_reader"}'
            assert [line for line in (await client.get("/metrics")).text.splitlines() if line.startswith(ended)] != [
                f"{ended} 0.0"
            ]
            with deaf:
                assert await asyncio.to_thread(_read_to_the_end, deaf)


def _open_and_do_not_read(url: str, path: str, key: str) -> socket.socket:
    address = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect((address.hostname, address.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
    return connection


def _read_to_the_end(connection: socket.socket) -> bool:
    """Return whether the server has closed the connection, with less than it had to send."""
    connection.settimeout(5)
    came = 0
    try:
        while piece := connection.recv(1 << 20):
            came += len(piece)
    except ConnectionResetError:
        pass
    return came < 20_000_000


async def test_a_credential_that_cannot_be_checked_ends_the_stream(
    own_books: Urls, own_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> frozenset[object]:
        raise ConnectionRefusedError

    with serving(create_app(settings_for(own_books))) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": own_key}, timeout=30) as client:
            account = await new_account(client)
            async with opened(client, account.events) as reader:
                await reader.next()
                monkeypatch.setattr(ContinuingChecks, "refused", refuse)
                await ends_in_time(reader, "unavailable", time.monotonic())


async def test_an_idle_stream_sends_heartbeats(own_books: Urls, own_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    with serving(create_app(settings_for(own_books))) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": own_key}, timeout=30) as client:
            account = await new_account(client)
            async with opened(client, account.events) as reader:
                await reader.next()
                waiting = asyncio.create_task(reader.next())

                async def are_heard() -> bool:
                    return len(reader.comments) > 2

                await until(are_heard)
                await account.charge()
                assert (await waiting).name == "change"


async def test_a_process_reads_all_its_accounts_at_once_and_nothing_without_readers(
    own_books: Urls, own_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    find_changes = queries.find_changes

    async def counted(db: Database, seen: Any, *arguments: Any, **options: Any) -> Any:
        read.append(len(seen))
        return await find_changes(db, seen, *arguments, **options)

    async def has_read() -> bool:
        return len(read) > 4

    monkeypatch.setattr(feeds, "POLL_S", 0.02)
    monkeypatch.setattr(queries, "find_changes", counted)
    with serving(create_app(settings_for(own_books))) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": own_key}, timeout=30) as client:
            accounts = [await new_account(client) for _ in range(3)]
            assert read == []
            async with AsyncExitStack() as stack:
                readers = [await stack.enter_async_context(opened(client, each.events)) for each in accounts]
                for reader in readers:
                    await reader.next()
                read.clear()
                await until(has_read)
                assert set(read) == {3}
            await until(lambda: no_stream_is_open(client))
            await asyncio.sleep(0.1)  # the reading under way
            read.clear()
            await asyncio.sleep(0.2)
            assert read == []


@pytest.mark.parametrize("claims", [{}, {"aud": SPA.client_id, "auth_time": 1}])
async def test_an_agent_cannot_delete_its_users_account(
    claims: dict[str, Any], account: Account, clients: Clients, token_of: Callable[..., str]
) -> None:
    """The issuer has clients that only persons use: the token is of another one, or of an old sign-in."""
    user = clients(Authorization=f"Bearer {token_of(account.user_id, **claims)}")
    refused = await user.delete("/v1/accounts/me")
    assert (refused.status_code, refused.json()["code"]) == (403, "person_required")
    assert (await account.charge())["account_id"] == account.account_id
