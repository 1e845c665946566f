"""A ticket opens one stream, for the page that asked for it, within a minute, and is written down nowhere."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from app.auth.id_tokens.revocations import revoke_token
from app.db import Database
from app.live.tickets import MAX_UNUSED, purge_expired_tickets
from tests.books import connected
from tests.databases import Urls
from tests.demo.oidc_server import SPA
from tests.live.conftest import ORIGIN, Account
from tests.live.reading import opened
from tests.servers import Server

EVENTS, TICKETS = "/v1/accounts/me/events", "/v1/accounts/me/tickets"
OF_A_KEY = "/v1/billing/accounts/{}/events"
TICKET_LIFE_S = 60
Clients = Callable[..., httpx.AsyncClient]
TokenOf = Callable[..., str]


@pytest.fixture
def browser(clients: Clients) -> httpx.AsyncClient:
    """A browser's `EventSource`: no header of the page's, and the page's origin."""
    return clients(Origin=ORIGIN, Accept="text/event-stream")


async def ticket_of(client: httpx.AsyncClient, token: str, **headers: str) -> str:
    answer = await client.post(TICKETS, headers={"Authorization": f"Bearer {token}", **headers})
    assert answer.status_code == 201, answer.text
    ticket: str = answer.json()["ticket"]
    return ticket


async def refusal(client: httpx.AsyncClient, ticket: str, **headers: str) -> str:
    answer = await client.get(EVENTS, params={"ticket": ticket}, headers=headers)
    assert answer.status_code == 401, answer.text
    code: str = answer.json()["code"]
    return code


async def test_a_ticket_opens_one_stream(account: Account, browser: httpx.AsyncClient, token_of: TokenOf) -> None:
    answer = await browser.post(TICKETS, headers={"Authorization": f"Bearer {token_of(account.user_id)}"})
    said = answer.json()
    assert answer.headers["Cache-Control"] == "no-store"
    assert said["expires_in_s"] == TICKET_LIFE_S
    left = datetime.fromisoformat(said["expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=TICKET_LIFE_S - 10) < left <= timedelta(seconds=TICKET_LIFE_S)
    async with opened(browser, EVENTS, params={"ticket": said["ticket"]}) as reader:
        assert reader.answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert (await reader.next()).balance["account_id"] == account.account_id
        await account.charge()
        assert (await reader.next()).id == 3
        assert await refusal(browser, said["ticket"]) == "invalid_ticket"


async def test_a_browser_resumes_with_another_ticket(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf
) -> None:
    await account.charge()
    ticket = await ticket_of(browser, token_of(account.user_id))
    async with opened(browser, EVENTS, params={"ticket": ticket, "last_event_id": "2"}) as reader:
        assert [event.id for event in await reader.take(2)] == [None, 3]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com"},
        {"Origin": f"{ORIGIN}:8443"},
        {"Origin": ""},
        {"Origin": "http://app.example.com"},
    ],
)
async def test_another_page_cannot_use_it_and_uses_it_up(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf, headers: dict[str, str]
) -> None:
    ticket = await ticket_of(browser, token_of(account.user_id))
    assert await refusal(browser, ticket, **headers) == "invalid_ticket"
    assert await refusal(browser, ticket) == "invalid_ticket"


async def test_a_program_cannot_use_a_pages_ticket_nor_a_page_a_programs(
    account: Account, browser: httpx.AsyncClient, clients: Clients, token_of: TokenOf
) -> None:
    token, program = token_of(account.user_id), clients()
    assert await refusal(program, await ticket_of(browser, token)) == "invalid_ticket"
    assert await refusal(browser, await ticket_of(program, token)) == "invalid_ticket"
    async with opened(program, EVENTS, params={"ticket": await ticket_of(program, token)}) as reader:
        assert (await reader.next()).name == "snapshot"


async def test_a_page_of_the_service_itself_needs_no_origin_to_read(
    account: Account, server: Server, clients: Clients, token_of: TokenOf
) -> None:
    """Browsers state the origin of a POST, and none of a GET to their own site."""
    client, token = clients(), token_of(account.user_id)
    own, same = {"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"}
    ticket = await ticket_of(client, token, **own)
    async with opened(client, EVENTS, params={"ticket": ticket}, headers=same) as reader:
        assert (await reader.next()).name == "snapshot"
    assert await refusal(client, await ticket_of(client, token, Origin=ORIGIN), **same) == "invalid_ticket"
    assert await refusal(client, await ticket_of(client, token, **own), **{"Sec-Fetch-Site": "cross-site"})


@pytest.mark.parametrize("origins", [["null"], [ORIGIN, ORIGIN], ["x" * 256]])
async def test_an_origin_that_names_no_page_gets_no_ticket(
    account: Account, clients: Clients, token_of: TokenOf, origins: list[str]
) -> None:
    headers = [("Authorization", f"Bearer {token_of(account.user_id)}"), *(("Origin", origin) for origin in origins)]
    answer = await clients().post(TICKETS, headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (422, "Origin")


@pytest.mark.parametrize("ticket", ["", "tkt_", "tkt_" + "x" * 64, "tkt_" + "x" * 63, "\0", "😀", "x" * 5_000])
async def test_what_is_no_ticket_is_refused(browser: httpx.AsyncClient, ticket: str) -> None:
    assert await refusal(browser, ticket) == "invalid_ticket"


async def test_two_tickets_are_none(account: Account, browser: httpx.AsyncClient, token_of: TokenOf) -> None:
    tickets = [await ticket_of(browser, token_of(account.user_id)) for _ in range(2)]
    answer = await browser.get(EVENTS, params=[("ticket", ticket) for ticket in tickets])
    assert answer.status_code == 401


async def test_of_many_who_use_it_at_once_one_succeeds(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf
) -> None:
    ticket = await ticket_of(browser, token_of(account.user_id))

    async def use() -> int:
        async with opened(browser, EVENTS, params={"ticket": ticket}) as reader:
            return reader.answer.status_code

    statuses = await asyncio.gather(*(use() for _ in range(8)))
    assert sorted(statuses) == [200, *[401] * 7]


async def test_an_expired_ticket_is_refused_and_the_worker_removes_it(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf, books: Urls, live_db: Database
) -> None:
    used, left, fresh = [await ticket_of(browser, token_of(account.user_id)) for _ in range(3)]
    count = "SELECT count(*) FROM stream_tickets WHERE account_id = $1"
    mine = uuid.UUID(account.account_id)
    async with connected(books) as connection:
        await connection.execute(
            "UPDATE stream_tickets SET expires_at = now() WHERE account_id = $1 AND digest <> sha256($2::bytea)",
            mine,
            fresh.encode(),
        )
        assert await refusal(browser, used) == "invalid_ticket"
        assert await connection.fetchval(count, mine) == 2
        async with live_db.transaction() as tx:
            assert await purge_expired_tickets(tx, now=datetime.now(UTC)) >= 1
        assert await connection.fetchval(count, mine) == 1
    assert left != fresh
    async with opened(browser, EVENTS, params={"ticket": fresh}) as reader:
        await reader.next()


async def test_a_ticket_ends_with_its_token(account: Account, browser: httpx.AsyncClient, token_of: TokenOf) -> None:
    expires_s = int(time.time()) + 3
    ticket = await ticket_of(browser, token_of(account.user_id, exp=expires_s))
    async with opened(browser, EVENTS, params={"ticket": ticket}) as reader:
        last = (await reader.rest())[-1]
    assert last.data == {"reason": "credential"}
    assert time.time() >= expires_s


async def test_a_ticket_of_a_revoked_token_is_refused_and_ends_its_stream(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf, books: Urls, live_db: Database
) -> None:
    token = token_of(account.user_id)
    used, unused = [await ticket_of(browser, token) for _ in range(2)]
    async with connected(books) as connection:
        token_id = await connection.fetchval(
            "SELECT token_id FROM stream_tickets WHERE account_id = $1 LIMIT 1", uuid.UUID(account.account_id)
        )
    async with opened(browser, EVENTS, params={"ticket": used}) as reader:
        await reader.next()
        now = datetime.now(UTC)
        async with live_db.transaction() as tx:
            await revoke_token(tx, token_id, expires_at=now + timedelta(hours=1), now=now)
        assert (await reader.rest())[-1].data == {"reason": "credential"}
    assert await refusal(browser, unused) == "invalid_ticket"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/accounts/me/statement"), ("GET", "/v1/accounts/me/approvals"), ("POST", TICKETS), ("GET", OF_A_KEY)],
)
@pytest.mark.parametrize("sent", ["query", "token", "key"])
async def test_a_ticket_is_no_credential_of_another_route(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf, method: str, path: str, sent: str
) -> None:
    ticket = await ticket_of(browser, token_of(account.user_id))
    headers = {"token": {"Authorization": f"Bearer {ticket}"}, "key": {"X-API-Key": ticket}}.get(sent, {})
    params = {"ticket": ticket} if sent == "query" else {}
    answer = await browser.request(method, path.format(account.account_id), headers=headers, params=params)
    assert answer.status_code == 401, answer.text
    if path == TICKETS:  # nor did an attempt use it up
        async with opened(browser, EVENTS, params={"ticket": ticket}) as reader:
            assert (await reader.next()).balance["account_id"] == account.account_id


async def test_an_erased_users_ticket_is_refused(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf
) -> None:
    token = token_of(account.user_id, aud=SPA.client_id)
    ticket = await ticket_of(browser, token)
    deleted = await browser.delete("/v1/accounts/me", headers={"Authorization": f"Bearer {token}"})
    assert deleted.status_code == 200, deleted.text
    assert await refusal(browser, ticket) == "invalid_ticket"


async def test_unused_tickets_of_a_user_are_bounded(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf, books: Urls
) -> None:
    token = token_of(account.user_id)
    tickets = [await ticket_of(browser, token) for _ in range(MAX_UNUSED)]
    refused = await browser.post(TICKETS, headers={"Authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 0
    async with opened(browser, EVENTS, params={"ticket": tickets[0]}) as reader:
        await reader.next()
    assert await ticket_of(browser, token)


async def test_neither_the_database_nor_the_log_has_the_ticket(
    account: Account, browser: httpx.AsyncClient, token_of: TokenOf, books: Urls, server: Server
) -> None:
    token = token_of(account.user_id)
    used, unused = [await ticket_of(browser, token) for _ in range(2)]
    async with opened(browser, EVENTS, params={"ticket": used}) as reader:
        await reader.next()
    assert await refusal(browser, used) == "invalid_ticket"
    assert (await browser.get(EVENTS, params={"ticket": unused, "last_event_id": "x"})).status_code == 422
    async with connected(books) as connection:
        rows = await connection.fetch("SELECT t::text AS row FROM stream_tickets t")
    log = server.printed()
    assert '"route": "/v1/accounts/me/events"' in log
    for ticket in (used, unused):
        assert ticket not in log
        assert not any(ticket in row["row"] for row in rows)
    assert "ticket=" not in log


async def test_a_stream_is_logged_with_the_time_to_its_first_event(
    account: Account, server: Server, token_of: TokenOf, clients: Clients
) -> None:
    """Else every stream would be a slow request, in the log and in the metric that alerts read."""
    request_id = uuid.uuid4().hex
    user = clients(Authorization=f"Bearer {token_of(account.user_id)}", X_Request_ID=request_id)
    async with opened(user, EVENTS) as reader:
        for _ in range(4):
            await reader.next()
            await account.charge()
    for _ in range(3000):
        lines = [json.loads(line) for line in server.printed().splitlines() if request_id in line]
        if logged := [line for line in lines if line["event"] == "request"]:
            break
        await asyncio.sleep(0.02)
    assert logged[0]["ms"] < 1_000  # it was open for three readings of half a second
