"""The whole service as real processes, with a proxy before everything that it depends on."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.auth.admins.admins import add_admin
from app.auth.admins.sessions import AdminSessions
from app.auth.api_keys.service import create_key
from app.auth.caller import Permission
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.db.version_mark import VersionMark
from app.demo.postgres import Cluster, ephemeral_cluster
from app.ledger.entries import Cause, Kind
from app.ledger.pools import CREDIT, Credits
from app.limits.service import LimitService, NewLimit
from app.pricing.book import BookDocument
from app.pricing.editing import Author, activate, propose
from app.settings import Mode, Settings
from tests.chaos.clock import Clock
from tests.chaos.control import CAREFUL
from tests.chaos.proxy import PostgresProxy, Proxy
from tests.chaos.traffic import Traffic
from tests.conftest import ACTOR
from tests.databases import ADMIN_URL, Urls, create_database, prepare, urls
from tests.demo.oidc_server import WEB, RunningOIDC, running_oidc
from tests.processes import Process, run_command
from tests.servers import LocalStripe, Server, environment, free_port, launch, running_server, running_stripe
from tests.support.pooler_and_replica import PoolerAndReplica, running_pooler_and_replica
from tests.support.wallets import DOLLAR, locked

DATABASE = "chaos"
API_PROCESSES = 2
USERS = 8
VOLUME_BYTES = 256 << 20
"""Size of the database's volume, if it has a separate one."""
WEBHOOK_RETRIES_S = (0.3, 0.6, 1.2, 2.4, 4.8, 9.6)
ADMIN, ADMIN_SESSION_SECRET = "chaos@ciris.ai", "only-in-tests-and-32-characters-long"
BOOK = BookDocument.model_validate(
    {
        "name": "chaos",
        "currency": "USD",
        "llm": [
            {"id": "row", "provider": "chaos", "model": "chaos", "prices": {"input_uncached": "3", "output_text": "15"}}
        ],
    }
)
CLUSTER_SETTINGS = {"max_wal_size": "64MB", "min_wal_size": "32MB"}


def users() -> list[dict[str, str]]:
    """Those whom the agents ask about."""
    return [{"oauth_provider": "oauth:google", "external_id": f"chaos-{i}@example.com"} for i in range(USERS)]


@dataclass
class Api:
    """One API process, which may be dead for a while."""

    port: int
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    server: Server | None = None
    dead: list[list[float]] = field(default_factory=list)
    """When no process listened, as pairs of start and end (infinity: not ended), by the monotonic clock."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def was_dead(self, since: float, until: float) -> bool:
        return any(start <= until and since <= end for start, end in self.dead)


@dataclass(frozen=True)
class Keys:
    """The credentials of callers."""

    agent: str
    admin: str


@dataclass
class Stack:
    cluster: Cluster
    volume: Path | None
    """The mount point of the database's own volume."""
    urls: Urls
    postgres: PostgresProxy
    stripe_way: Proxy
    oidc_way: Proxy
    stripe: LocalStripe
    oidc: RunningOIDC
    clock: Clock
    keys: "Keys"
    apis: list[Api]
    closing: contextlib.AsyncExitStack
    """Closed after our processes."""
    traffic: Traffic = field(default_factory=Traffic)
    pooler_and_replica: PoolerAndReplica | None = None
    worker: "Process | subprocess.Popen[bytes] | None" = None

    # --- processes ---

    @property
    def environment(self) -> dict[str, str]:
        """Of each process. The worker speaks to the primary itself."""
        issuer = {
            "issuer": self.oidc.issuer,
            "jwks_url": f"http://127.0.0.1:{self.oidc_way.port}/jwks",
            "audiences": [WEB.client_id],
            "provider": "oauth:local",
        }
        return {
            "DATABASE_URL": self.postgres.url_of(SecretStr(self.urls.service)).get_secret_value(),
            "STRIPE_LIVE": json.dumps(self.stripe.keys),
            "STRIPE_API_BASE": f"http://127.0.0.1:{self.stripe_way.port}",
            "ISSUERS": json.dumps([issuer]),
            "ADMIN_SESSION_SECRET": ADMIN_SESSION_SECRET,
            **self.clock.environment,
        }

    async def start_api(self, api: Api) -> None:
        """Start its process, and return as soon as it listens, be it healthy or not."""
        env = self.environment
        if self.pooler_and_replica is not None:
            env |= self.pooler_and_replica.environment(self.urls, direct=env["DATABASE_URL"])
        server = running_server(self.urls, port=api.port, env=env, health="/")
        api.server = await asyncio.to_thread(api.stack.enter_context, server)
        if api.dead:
            api.dead[-1][1] = time.monotonic()

    async def kill_api(self, api: Api) -> None:
        assert api.server is not None
        api.dead.append([time.monotonic(), float("inf")])
        await asyncio.to_thread(api.server.kill)
        api.stack.close()

    async def put_between(self) -> PoolerAndReplica:
        """Put a pooler and a replica between the API processes and the database, and restart the processes for it."""
        if self.pooler_and_replica is None:
            entering = running_pooler_and_replica(self.cluster, self.urls, self.postgres)
            self.pooler_and_replica = await self.closing.enter_async_context(entering)
            for api in self.apis:
                await asyncio.to_thread(api.stack.close)
            await asyncio.gather(*(self.start_api(api) for api in self.apis))
        return self.pooler_and_replica

    async def clocks_off_by_s(self) -> list[float]:
        """How far the clocks of the API processes are ahead of ours."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            answers = [await http.get(f"{api.url}/health") for api in self.apis]
        timestamps = [datetime.fromisoformat(answer.json()["timestamp"]) for answer in answers]
        return [(each - datetime.now(UTC)).total_seconds() for each in timestamps]

    async def read_the_replica(self) -> set[bool]:
        """Return the states of the replica (in use or not) that the API processes report."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            answers = [await http.get(f"{api.url}/v1/status") for api in self.apis]
        return {answer.json()["replica"]["in_use"] for answer in answers}

    def start_worker(self) -> None:
        env = {**os.environ, **environment(self.urls), **self.environment}
        with Path(os.devnull).open("ab") as nowhere:
            self.worker = launch(("worker",), env, nowhere)

    async def kill_worker(self) -> None:
        assert self.worker is not None
        self.worker.kill()
        await asyncio.to_thread(self.worker.wait)

    async def start_postgres(self) -> None:
        """Start PostgreSQL after it ended in any way, as a supervisor does: again until it is up."""
        await asyncio.to_thread(self.cluster.stop, "immediate")
        await asyncio.to_thread(self.cluster.start)
        os.environ[ADMIN_URL] = self.cluster.owner_url()
        self.urls = urls(DATABASE)
        self.postgres.target = (self.cluster.host, self.cluster.port)

    async def stop(self) -> None:
        """The processes only; they go politely, but may still wait for a network."""
        for proxy in (self.postgres, self.stripe_way, self.oidc_way):
            proxy.heal()
        if self.pooler_and_replica is not None:
            self.pooler_and_replica.heal()
        if self.worker is not None and self.worker.poll() is None:
            self.worker.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self.worker.wait, 30)
        await asyncio.gather(*(asyncio.to_thread(api.stack.close) for api in self.apis))

    async def ledger_verify(self) -> str:
        """Return the findings of `ciris-billing ledger verify`: "" if the books add up."""
        env = {**os.environ, **environment(self.urls)}
        done = await asyncio.to_thread(run_command, env, "ledger", "verify", "--json")
        return "" if done.status == 0 and done.json["ok"] else done.out + done.err


@contextlib.contextmanager
def small_volume() -> Iterator[Path | None]:
    """Yield a separate file system of VOLUME_BYTES for the database; None where this user may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="ciris-billing-chaos-"))
    options = ["-t", "tmpfs", "-o", f"size={VOLUME_BYTES},mode=755"]
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", *options, "tmpfs", str(folder)], stderr=subprocess.DEVNULL, check=False
        ).returncode
    )
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@contextlib.contextmanager
def _cluster(*, own_volume: bool) -> Iterator[tuple[Cluster, Path | None]]:
    with contextlib.ExitStack() as stack:
        volume = stack.enter_context(small_volume()) if own_volume else None
        if volume is None:
            yield stack.enter_context(ephemeral_cluster(settings=CLUSTER_SETTINGS)), None
            return
        cluster = Cluster(volume / "state", durable=True, settings=CLUSTER_SETTINGS)
        stack.callback(cluster.remove)
        cluster.start()
        yield cluster, volume


async def _fill(urls: Urls) -> Keys:
    """Create accounts with plenty of credits and money, a price book, a key that may charge, and an admin who
    reads and approves. A limit asks about each charge of one agent.
    """
    db = Database(SecretStr(urls.service))
    settings = Settings(
        mode=Mode.DEVELOPMENT,
        database_url=SecretStr(urls.service),
        admin_session_secret=SecretStr(ADMIN_SESSION_SECRET),
    )
    billing, now = BillingService(db, Configuration(db, settings)), datetime.now(UTC)
    for user in users():
        account_id = await billing.accounts.directory.resolve(Identity("live", **user), Profile(), ACTOR, now)
        await billing.credit(
            account_id, credits=Credits(10**9), currency="USD", transaction_type="grant", actor=ACTOR, now=now
        )
        async with locked(db, account_id, now) as account:
            account.give_money(10**6 * DOLLAR, Kind.OPENING_GRANT, Cause("account", account_id), ACTOR, now)
        asks = NewLimit("agent", CAREFUL, "lifetime", CREDIT, 0, "ask")
        await LimitService(db, billing.accounts, VersionMark(db)).put(account_id, asks, "operator", now)
    permissions = {Permission.READ, Permission.WRITE, Permission.USAGE_WRITE}
    async with db.transaction() as tx:
        version = await propose(tx, BOOK, author := Author("chaos", None, "chaos", now))
        await activate(tx, version, now - timedelta(days=30), author)
        key = await create_key(tx, environment="live", name="chaos", permissions=permissions, now=now)
        await add_admin(tx, ADMIN, "support", now=now)
        session = await AdminSessions(db, settings).open_for_script(tx, ADMIN, now=now)
    await db.close()
    return Keys(key.secret_text, session)


@contextlib.asynccontextmanager
async def running_stack(*, everything: bool) -> AsyncIterator[Stack]:
    """Start all processes, and stop them however the block ends.

    `everything`: with a small volume for the database and a clock that can jump, where this machine allows it.
    """
    async with contextlib.AsyncExitStack() as stack:
        cluster, volume = stack.enter_context(_cluster(own_volume=everything))
        await asyncio.to_thread(prepare, cluster)
        urls = await create_database(DATABASE)
        apis = [Api(free_port()) for _ in range(API_PROCESSES)]
        webhook_url = f"{apis[0].url}/v1/billing/webhooks/stripe"
        stripe = stack.enter_context(running_stripe(webhook_url, WEBHOOK_RETRIES_S))
        oidc = stack.enter_context(running_oidc())
        postgres = PostgresProxy(SecretStr(urls.service))
        stripe_way = Proxy("127.0.0.1", urlsplit(stripe.url).port or 80)
        oidc_way = Proxy("127.0.0.1", oidc.port)
        for proxy in (postgres, stripe_way, oidc_way):
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        clock = Clock(stack, may_jump=everything)
        keys = await _fill(urls)
        closing = await stack.enter_async_context(contextlib.AsyncExitStack())
        running = Stack(cluster, volume, urls, postgres, stripe_way, oidc_way, stripe, oidc, clock, keys, apis, closing)
        stack.push_async_callback(running.stop)
        started = await asyncio.gather(*(running.start_api(api) for api in apis), return_exceptions=True)
        for error in started:  # only now: what stops a process is known once it has started
            if isinstance(error, BaseException):
                raise error
        running.start_worker()
        yield running
