"""Two replicas behind the real Caddy, which tests may replace or kill, and callers who keep them busy."""

import asyncio
import contextlib
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

from tests.databases import Urls
from tests.edge.caddy import Edge
from tests.servers import Server, free_port, running_server

DRAIN_S = 2.0
TURNS_TO_A_NEW_REPLICA_IN_S = 1.5


class Replica:
    """One of the API's processes, always on the same port."""

    def __init__(self, urls: Urls) -> None:
        self._urls = urls
        self._port = free_port()
        self._stack = contextlib.ExitStack()
        self.server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Comes back when it answers."""
        env = {"DRAIN_S": str(DRAIN_S), "TRUSTED_PROXIES": '["127.0.0.1/32"]'}
        self.server = self._stack.enter_context(running_server(self._urls, port=self._port, env=env))

    def replace(self) -> int:
        """End the replica as a deployment does, and start a new one. Return the exit status of the old one."""
        self.server.process.send_signal(signal.SIGTERM)
        status = self.server.process.wait(60)
        self.start()
        return status

    def close(self) -> None:
        self._stack.close()


@dataclass
class Load:
    """Callers who charge, check and read without a pause and without retries; and the answers that they received."""

    users: list[dict[str, str]]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(operation, status) of every answer."""
    acknowledged: list[str] = field(default_factory=list)
    """Ids of charges that were answered with 201 or 409."""
    stopping: bool = False

    async def charge(self, client: httpx.AsyncClient, user: dict[str, str], **key: str) -> None:
        body = {**user, "amount_minor": 100, "currency": "USD", **key}
        answer = await client.post("/v1/billing/charges", json=body)
        self.answers["charge", answer.status_code] += 1
        if answer.status_code in (201, 409):
            self.acknowledged.append(answer.json()["charge_id"])

    async def caller(self, client: httpx.AsyncClient, user: dict[str, str]) -> None:
        while not self.stopping:
            await self.charge(client, user, idempotency_key=str(uuid.uuid4()))
            await self.charge(client, user)  # some callers have no key
            tool = await client.post("/v1/tools/charge", json={**user, "product_type": "web_search"})
            self.answers["tool charge", tool.status_code] += 1
            check = await client.post("/v1/billing/credits/check", json=user)
            self.answers["check", check.status_code] += 1
            read = await client.get("/v1/billing/transactions", params={**user, "limit": "1"})
            self.answers["read", read.status_code] += 1


@contextlib.asynccontextmanager
async def load(edge: Edge, key: str, callers: int) -> AsyncIterator[Load]:
    """Run the load while the block runs. Afterwards, raise any caller's error that is not an HTTP answer."""
    async with edge.client(key) as client:
        users = [
            {"oauth_provider": "oauth:google", "external_id": f"{uuid.uuid4()}@example.com"} for _ in range(callers)
        ]
        for user in users:
            credit = {**user, "amount_minor": 10_000_000, "currency": "USD", "description": "load"}
            await client.post("/v1/billing/accounts", json=user)
            assert (await client.post("/v1/billing/credits", json={**credit, "transaction_type": "grant"})).is_success
        load = Load(users)
        tasks = [asyncio.create_task(load.caller(client, user)) for user in users]
        try:
            yield load
        finally:
            load.stopping = True
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
