"""Answers of a replica that are lost before the real Caddy: the work is done once, and its caller learns the result."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.chaos.proxy import Proxy
from tests.conftest import Keys
from tests.edge.caddy import Edge, running_caddy

User = dict[str, str]
PAID = {"amount_minor": 100, "currency": "USD"}


@pytest.fixture
async def ways(api: str) -> AsyncIterator[list[Proxy]]:
    """Two ways to the API, which Caddy takes for two replicas."""
    address = urlsplit(api)
    async with AsyncExitStack() as stack:
        ways = [Proxy("127.0.0.1", address.port or 0) for _ in range(2)]
        for way in ways:
            await way.start()
            stack.push_async_callback(way.stop)
        yield ways


@pytest.fixture
def edge_before(ways: list[Proxy], tmp_path: Path) -> Iterator[Edge]:
    with running_caddy([f"http://127.0.0.1:{way.port}" for way in ways], tmp_path) as edge:
        yield edge


@pytest.mark.parametrize(
    ("path", "body", "replayed"),
    [
        ("/v1/billing/charges", PAID, 409),
        ("/v1/billing/credits", {**PAID, "description": "lost", "transaction_type": "grant"}, 409),
        ("/v1/tools/charge", {"product_type": "web_search"}, 200),
    ],
)
async def test_what_has_no_key_is_sent_again_with_one_of_caddys(
    path: str, body: dict[str, object], replayed: int, edge_before: Edge, ways: list[Proxy], keys: Keys, user: User
) -> None:
    """Two different requests: at least one of them goes by the way that loses what the replica says."""
    async with edge_before.client(keys.credit) as client:
        await client.post("/v1/billing/accounts", json=user)
        ways[0].cut_after(0)
        statuses = [(await client.post(path, json={**user, **body})).status_code for _ in ways]
        ways[0].heal()
        assert ways[0].cut > 0
        assert replayed in statuses
        assert set(statuses) <= {201, replayed}
        booked = (await client.get("/v1/billing/transactions", params=user)).json()["total_count"]
        uses = (await client.get("/v1/tools/balance/web_search", params=user)).json()["total_uses"]
    assert (booked, uses) == ((0, 2) if replayed == 200 else (2, 0))


async def test_a_key_of_the_callers_own_is_kept(edge_before: Edge, keys: Keys, user: User) -> None:
    async with edge_before.client(keys.agent) as client:
        answers: list[httpx.Response] = [
            await client.post("/v1/billing/charges", json={**user, **PAID}, headers={"Idempotency-Key": "mine"})
            for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [201, 409]
