"""The real service with its local Stripe over real HTTP, both clients of it, and a server that misbehaves on demand."""

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.auth.api_keys.keys import UsageTerms
from app.auth.caller import Permission
from app.db import Database
from app.main import create_app
from ciris_billing import AsyncBillingClient, BillingClient, Options, Retry, User
from tests.conftest import Keys, make_usage_key, settings_for
from tests.databases import Urls, create_database, drop_database
from tests.metering.conftest import PROVIDER, Desk, running_desk
from tests.sdk.reactions import Reaction
from tests.sdk.usage_contract import UsageContract, usage_contract
from tests.servers import LocalStripe, free_port, running_stripe, serving
from tests.support.signing import SIGNING_KEY
from tests.support.wallets import DOLLAR

StoredHold = tuple[str, int, int, str | None]
"""Status, captured, overage and outcome, in credits or nanos."""


@dataclass(frozen=True)
class Service:
    """A running server, its API keys, and its local Stripe."""

    url: str
    keys: Keys
    stripe: LocalStripe

    def pay(self, payment_id: str, client_secret: str | None, card: str = "pm_card_visa") -> None:
        """Pay as Stripe.js does in the buyer's browser."""
        httpx.post(
            f"{self.stripe.url}/v1/payment_intents/{payment_id}/confirm",
            data={"client_secret": client_secret or "", "payment_method": card},
            auth=(self.stripe.publishable_key, ""),
        )


@pytest.fixture(scope="session")
def service(database: Urls, keys: Keys) -> Iterator[Service]:
    port = free_port()
    with running_stripe(f"http://127.0.0.1:{port}/v1/billing/webhooks/stripe") as local:
        settings = settings_for(
            database,
            stripe_live=local.keys,
            stripe_test={**local.keys, "webhook_secret": "whsec_of_the_test_environment"},
            stripe_api_base=local.url,
            port=port,
            signing_keys=[SIGNING_KEY],
        )
        with serving(create_app(settings), port) as url:
            yield Service(url, keys, local)


@pytest.fixture
def who() -> User:
    """A new user, with an id that is difficult in paths and log lines."""
    return User("oauth:google", f"a/b:{uuid.uuid4()}@example.com")


class InThreads:
    """A blocking client whose methods are awaited: each call runs in a thread."""

    def __init__(self, client: BillingClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return call


@pytest.fixture(params=["blocking", "awaited"])
async def billing(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Any]:
    """Each client in turn, with a key that has every permission. Separate tests cover its iterators and gates."""
    if request.param == "blocking":
        with BillingClient(service.url, service.keys.credit) as client:
            yield InThreads(client)
    else:
        async with AsyncBillingClient(service.url, service.keys.credit) as awaited:
            yield awaited


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncBillingClient]:
    async with AsyncBillingClient(service.url, service.keys.credit) as client:
        yield client


@dataclass
class Faulty:
    """A server that reacts with `reactions`, one per request, and then passes requests on to the service."""

    url: str
    upstream: str
    reactions: list[Reaction | None] = field(default_factory=list)
    """None passes one request on."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """Method, path, headers and body of what arrived."""
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=10, verify=False))

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append({**headers, "method": handler.command, "path": handler.path, "body": body.decode()})
        reaction = self.reactions.pop(0) if self.reactions else None
        if reaction is None or reaction.forward:
            passed = {n: v for n, v in headers.items() if n in ("x-api-key", "content-type", "x-request-id")}
            answer = self.client.request(handler.command, self.upstream + handler.path, headers=passed, content=body)
            if reaction is None:
                kept = {name: answer.headers[name] for name in ("content-type", "x-request-id")}
                reaction = Reaction(answer.status_code, answer.content, kept)
        time.sleep(reaction.slow_s)
        if reaction.status is None:
            handler.close_connection = True
            return
        handler.send_response(reaction.status)
        for name, value in {**reaction.headers, "Content-Length": str(len(reaction.body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that gave up has closed the connection
            if not reaction.drip_s:
                handler.wfile.write(reaction.body)
                return
            for byte in reaction.body:
                handler.wfile.write(bytes([byte]))
                time.sleep(reaction.drip_s)


def _serve_faults(upstream: str) -> tuple[ThreadingHTTPServer, Faulty]:
    port = free_port()
    faulty = Faulty(f"http://127.0.0.1:{port}", upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            faulty.handle(self)

        do_GET = do_POST  # noqa: N815  # the base class's name

        def log_message(self, *args: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler), faulty


@contextlib.contextmanager
def faults_before(upstream: str) -> Iterator[Faulty]:
    """The misbehaving server in front of a service."""
    server, faulty = _serve_faults(upstream)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield faulty
    server.shutdown()
    server.server_close()
    thread.join(5)
    faulty.client.close()


@pytest.fixture
def faulty(service: Service) -> Iterator[Faulty]:
    with faults_before(service.url) as faulty:
        yield faulty


@pytest.fixture(scope="package")
async def usage_desk() -> AsyncIterator[Desk]:
    """A service with a price book, and keys that report usage, on a separate database."""
    name = f"sdk_usage_{uuid.uuid4().hex}"
    urls = await create_database(name)
    async with running_desk(urls) as desk:
        yield desk
    await drop_database(name)


@pytest.fixture
def desk(usage_desk: Desk) -> Desk:
    return usage_desk


@pytest.fixture
def between(desk: Desk) -> Iterator[Faulty]:
    """The misbehaving server, in front of the service with a price book."""
    with faults_before(desk.url) as between:
        yield between


@pytest.fixture
async def payer(desk: Desk) -> str:
    """The `user_id` of a new user with ten dollars and 3 free uses."""
    return await desk.user(1000)


async def make_holder(db: Database) -> str:
    """Return a key that holds credits and money."""
    permissions = (Permission.READ, Permission.WRITE, Permission.USAGE_READ, Permission.USAGE_WRITE)
    terms = UsageTerms(PROVIDER, "holds", max_cost_nanos=100 * DOLLAR)
    return await make_usage_key(db, terms, "live", *permissions)


@pytest.fixture
async def holder(desk: Desk) -> str:
    return await make_holder(desk.db)


async def stored_holds(desk: Desk, user_id: str) -> list[StoredHold]:
    rows = await desk.rows(
        "SELECT status, captured, overage, outcome FROM holds WHERE account_id = $1 ORDER BY hold_id",
        await desk.account_id(user_id),
    )
    return [(row["status"], row["captured"], row["overage"], row["outcome"]) for row in rows]


@pytest.fixture
def contract() -> Iterator[UsageContract]:
    """A server that keeps the contract of the usage routes, or breaks it on demand."""
    with usage_contract() as contract:
        yield contract


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a reporter's queue, which does not exist yet."""
    return tmp_path / "usage"


def usage_key(desk: Desk, name: str = "router") -> str:
    key: str = desk.clients[name].headers["x-api-key"]
    return key


QUICK = Options(retry=Retry(attempts=4, first_wait_s=0.01), timeout_s=5, deadline_s=5)
"""Waits that tests can bear."""


@pytest.fixture(params=["blocking", "awaited"])
async def troubled(request: pytest.FixtureRequest, faulty: Faulty, service: Service) -> AsyncIterator[Any]:
    """Each client in turn, behind the misbehaving server."""
    if request.param == "blocking":
        with BillingClient(faulty.url, service.keys.agent, options=QUICK) as client:
            yield InThreads(client)
    else:
        async with AsyncBillingClient(faulty.url, service.keys.agent, options=QUICK) as awaited:
            yield awaited
