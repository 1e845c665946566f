"""Measure charges of unwatched accounts while event streams watch a thousand other balances.

Rounds without and with open streams alternate, so that other load on the machine affects both; compare the ratio. The
streams are idle connections of this process, which read nothing but heartbeats. The processor time that the server
needs for them alone does not depend on other load.
"""

import argparse
import asyncio
import resource
import uuid
from urllib.parse import urlsplit
from uuid import UUID

import uvloop
from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.billing.service import BillingService
from app.clock import utc_now
from app.configuration.service import Configuration
from app.db import Database
from app.demo.postgres import ephemeral_cluster
from app.settings import Mode, Settings
from bench import load
from bench.__main__ import ACTOR, EXPECTED, fill, messages
from bench.overload import processor_s
from tests.databases import TEMPLATE, prepare, urls
from tests.servers import running_server

FILES = 16_384
IDLE_S = 5


async def create_accounts(settings: Settings, count: int) -> list[UUID]:
    """Create the accounts to watch, none of which is charged."""
    db = Database(settings.database_url)
    directory = BillingService(db, Configuration(db, settings)).accounts.directory
    run = uuid.uuid4().hex
    accounts = [
        await directory.resolve(Identity("live", "oauth:google", f"{run}-{number}"), Profile(), ACTOR, utc_now())
        for number in range(count)
    ]
    await db.close()
    return accounts


class Streams:
    """Open event streams, one for each account."""

    def __init__(self, url: str, key: str, accounts: list[UUID]) -> None:
        self._address, self._key, self._accounts = urlsplit(url), key, accounts
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> None:
        for account_id in self._accounts:
            reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
            path = f"/v1/billing/accounts/{account_id}/events"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nX-API-Key: {self._key}\r\n\r\n".encode())
            head = await reader.readuntil(b"event: snapshot")
            assert head.startswith(b"HTTP/1.1 200"), head
            self._writers.append(writer)

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers))
        self._writers.clear()


def line(name: str, result: load.Result) -> str:
    return f"{name:<22}{result.per_second:>10,.0f}{result.p50_ms:>10.1f}{result.p99_ms:>10.1f}"


async def main(options: argparse.Namespace) -> None:
    database = urls(TEMPLATE)
    settings = Settings(mode=Mode.DEVELOPMENT, database_url=SecretStr(database.service))
    _, (key, *_) = await fill(settings)
    watched = await create_accounts(settings, options.streams)
    most = str(options.streams)
    bounds = {"EVENT_STREAMS_PER_PROCESS": most, "EVENT_STREAMS_PER_KEY": most}
    results: dict[bool, list[load.Result]] = {False: [], True: []}
    with running_server(database, env=bounds) as server:

        async def charge(seconds: float) -> load.Result:
            message = messages(server.url, key)["charge"]
            result = await load.run(server.url, message, connections=options.connections, seconds=seconds)
            assert set(result.statuses) <= EXPECTED["charge"], result.statuses
            return result

        await charge(1)
        async with Streams(server.url, key, watched):
            before_s = processor_s(server.process.pid)
            await asyncio.sleep(IDLE_S)
            share = (processor_s(server.process.pid) - before_s) / IDLE_S
        for _ in range(options.rounds):
            results[False].append(await charge(options.seconds))
            async with Streams(server.url, key, watched):
                results[True].append(await charge(options.seconds))
    alone, beside = load.together(results[False]), load.together(results[True])
    print(f"{'charges':<22}{'per s':>10}{'p50 ms':>10}{'p99 ms':>10}")
    print(line("without streams", alone))
    print(line(f"beside {options.streams:,} streams", beside))
    print(f"\n{options.streams:,} idle streams: {share:.1%} of a processor in the server")
    print(f"{beside.per_second / alone.per_second:.3f} of the rate without streams")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="live", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="length of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32, help="concurrent callers")
    parser.add_argument("--streams", type=int, default=1_000)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))  # the server inherits it
    with ephemeral_cluster(durable=True) as running:
        prepare(running)
        uvloop.run(main(arguments))
