"""Run every benchmark against one server process and one durable PostgreSQL, and print a table.

Absolute figures depend on the machine; compare the ratios. The database is new: the first rounds of charges run without
statistics, everything in the table with fresh ones. Runs of the bare framework alternate with each line.
"""

import argparse
import asyncio
import json
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import asyncpg
import uvloop
from pydantic import SecretStr

from app.accounts.directory import Identity, Profile
from app.auth.api_keys.service import create_key
from app.auth.caller import Actor, Permission
from app.billing.service import BillingService
from app.configuration.service import Configuration
from app.db import Database
from app.demo.postgres import Cluster, ephemeral_cluster, find_binaries
from app.ledger.entries import Cause, Kind
from app.ledger.locked_account import lock_account, write
from app.ledger.money import NANOS_PER_UNIT
from app.ledger.pools import Credits
from app.pricing.book import BookDocument
from app.pricing.editing import Author, activate, propose
from app.settings import Mode, Settings
from app.verification import verify_books
from bench import load
from bench.lone import medians_ms
from tests.databases import TEMPLATE, Urls, prepare, urls
from tests.servers import running_server

ACCOUNTS = 100
NEW_KEYS = 150
"""API keys that are new to the process: about 30 ms of Argon2 each."""
SLICES, KEYS_PER_SLICE = 5, 10**6
ROUNDS, ROUND_S, ROUND_CALLERS = 5, 1.5, 128
"""Rounds of charges on the new database, before PostgreSQL has statistics."""
ACTOR = Actor("system", "bench")
BOOK = BookDocument.model_validate(
    {
        "name": "bench",
        "currency": "USD",
        "llm": [
            {"id": "row", "provider": "bench", "model": "bench", "prices": {"input_uncached": "3", "output_text": "15"}}
        ],
    }
)
EXPECTED = {"check": {200}, "charge": {201}, "replay": {409}, "tool charge": {200}}
EXPECTED |= {"usage event": {200}, "quote": {200}}
EVENTS_A_BATCH, BATCH_CALLERS = 500, 4
METRIC = {"type": "llm_tokens", "provider": "bench", "model": "bench", "input_tokens": 900, "output_tokens": 120}

Messages = Callable[[int], bytes]


def external_id(i: int) -> str:
    return f"bench-{i % ACCOUNTS}@example.com"


async def fill(settings: Settings) -> tuple[UUID, list[str]]:
    """Create accounts with many credits and API keys for them. Return the last account's id, and the keys' texts."""
    db = Database(settings.database_url)
    billing = BillingService(db, Configuration(db, settings))
    now = datetime.now(UTC)
    for i in range(ACCOUNTS):
        identity = Identity("live", "oauth:google", external_id(i))
        account_id = await billing.accounts.directory.resolve(identity, Profile(), ACTOR, now)
        await billing.credit(
            account_id, credits=Credits(10**9), currency="USD", transaction_type="grant", actor=ACTOR, now=now
        )
        async with db.transaction() as tx:
            account = await lock_account(tx, account_id)
            cause = Cause("account", account_id)
            account.give_money(10**9 * NANOS_PER_UNIT, Kind.OPENING_GRANT, cause, ACTOR, now)
            await write(tx, [account], now)
    async with db.transaction() as tx:
        version = await propose(tx, BOOK, author := Author("bench", None, "bench", now))
        await activate(tx, version, now - timedelta(days=1), author)
        permissions = frozenset({Permission.READ, Permission.WRITE, Permission.USAGE_WRITE})
        keys = [
            await create_key(tx, environment="live", name="bench", permissions=permissions, now=now)
            for _ in range(1 + NEW_KEYS)
        ]
    await db.close()
    return account_id, [key.secret_text for key in keys]


def messages(url: str, key: str) -> dict[str, Messages]:
    run = uuid.uuid4().hex

    def body(i: int, **fields: object) -> bytes:
        return json.dumps({"oauth_provider": "oauth:google", "external_id": external_id(i), **fields}).encode()

    def charge(i: int, idempotency_key: str) -> bytes:
        metadata = {"agent_id": "datum", "request_id": f"req-{i}"}
        fields = {"amount_minor": 100, "currency": "USD", "idempotency_key": idempotency_key, "metadata": metadata}
        return load.post(url, "/v1/billing/charges", key, body(i, **fields))

    def tool(i: int) -> bytes:
        fields = {"product_type": "web_search", "idempotency_key": f"{run}-{i}"}
        return load.post(url, "/v1/tools/charge", key, body(i, **fields))

    return {
        "usage event": lambda i: load.post(url, "/v1/usage", key, json.dumps(usage_event(i, f"{run}-{i}")).encode()),
        "quote": lambda _: load.post(url, "/v1/usage/quote", key, json.dumps({"metric": METRIC}).encode()),
        "check": lambda i: load.post(url, "/v1/billing/credits/check", key, body(i, context={"agent_id": "datum"})),
        "charge": lambda i: charge(i, f"{run}-{i}"),
        "replay": lambda i: charge(i, f"{run}-{i % ACCOUNTS}"),
        "tool charge": tool,
    }


def usage_event(i: int, event_id: str) -> dict[str, object]:
    user = {"oauth_provider": "oauth:google", "external_id": external_id(i)}
    return {**user, "event_id": event_id, "metric": METRIC, "agent_id": "datum", "run_id": f"run-{i}"}


async def batched_events_per_second(url: str, key: str, database: Urls, seconds: float) -> float:
    """Return the rate of events in batches. Counts the rows, because a batch answers 200 in any case."""
    run = uuid.uuid4().hex

    def batch(i: int) -> bytes:
        events = [usage_event(number, f"{run}-{i}-{number}") for number in range(EVENTS_A_BATCH)]
        return load.post(url, "/v1/usage/batch", key, json.dumps({"events": events}).encode())

    charged = "SELECT count(*) FROM usage_events WHERE status = 'charged'"
    return await _rows_per_second(url, batch, database, charged, seconds)


async def batched_charges_per_second(url: str, key: str, database: Urls, seconds: float) -> float:
    """Return the rate of charges in batches."""
    run = uuid.uuid4().hex

    def charge(i: int, number: int) -> dict[str, object]:
        user = {"oauth_provider": "oauth:google", "external_id": external_id(number)}
        return {
            **user,
            "amount_minor": 100,
            "idempotency_key": f"{run}-{i}-{number}",
            "metadata": {"agent_id": "datum"},
        }

    def batch(i: int) -> bytes:
        charges = [charge(i, number) for number in range(EVENTS_A_BATCH)]
        return load.post(url, "/v1/billing/charges/batch", key, json.dumps({"charges": charges}).encode())

    return await _rows_per_second(url, batch, database, "SELECT count(*) FROM charges", seconds)


async def _rows_per_second(url: str, message: Messages, database: Urls, count: str, seconds: float) -> float:
    """Send messages for some time. Return the rate of rows that they add, which the query `count` counts."""
    connection = await asyncpg.connect(database.superuser)
    before, started = await connection.fetchval(count), time.perf_counter()
    await load.run(url, message, connections=BATCH_CALLERS, seconds=seconds)
    elapsed = time.perf_counter() - started
    after = await connection.fetchval(count)
    await connection.close()
    return float(after - before) / elapsed


def pgbench(cluster: Cluster, database: str, seconds: float, clients: int) -> float:
    """Return the rate of the row update at the end of a charge, by PostgreSQL's own load generator.

    pgbench reads a colon as a variable, even in quotes; therefore chr(58).
    """
    script = (
        f"\\set n random(0, {ACCOUNTS - 1})\n"
        "UPDATE accounts SET total_uses = total_uses + 1 WHERE account_id = (SELECT account_id FROM account_identities"
        " WHERE environment = 'live' AND oauth_provider = 'oauth' || chr(58) || 'google'"
        " AND external_id = 'bench-' || CAST(:n AS int) || '@example.com');\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command = [find_binaries().program("pgbench"), "-n", "-M", "prepared", "-f", file.name]
        command += ["-c", str(clients), "-T", str(round(seconds)), cluster.owner_url(database)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pgbench: {done.stderr}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps"))
    return float(line.split()[2])


async def health_amid_argon2(url: str, keys: list[str], options: argparse.Namespace) -> tuple[load.Result, load.Result]:
    """Measure `/health` alone, and during first verifications of keys. With one caller, because latency is measured."""
    waiting = iter(keys)
    body = json.dumps({"oauth_provider": "oauth:google", "external_id": external_id(0)}).encode()

    def first_use(_: int) -> bytes:
        return load.post(url, "/v1/billing/check", next(waiting), body)

    def health(_: int) -> bytes:
        return load.get(url, "/health")

    alone = await load.run(url, health, connections=1, seconds=options.seconds)
    verifying = asyncio.gather(
        *(load.run(url, first_use, connections=1, count=NEW_KEYS // 2, seconds=60) for _ in range(2))
    )
    amid = await load.run(url, health, connections=1, seconds=60, until=verifying)
    await verifying
    return alone, amid


def line(name: str, result: load.Result, ceiling: float) -> str:
    share = result.per_second / ceiling
    return f"{name:<22}{result.per_second:>10,.0f}{result.p50_ms:>10.1f}{result.p99_ms:>10.1f}{share:>12.2f}"


async def measure(
    url: str, message: Messages, name: str, bare: tuple[str, Messages], options: argparse.Namespace
) -> tuple[load.Result, load.Result]:
    """Return the results of `url` and of the bare framework, in alternating slices, so that both have the same load."""
    results, ceilings = [], []
    for number in range(SLICES):
        seconds, first = options.seconds / SLICES, number * KEYS_PER_SLICE
        ceilings.append(await load.run(*bare, connections=options.connections, seconds=seconds))
        shifted = partial(_shifted, message, first)
        results.append(await load.run(url, shifted, connections=options.connections, seconds=seconds))
    result = load.together(results)
    unexpected = {status: n for status, n in result.statuses.items() if status not in EXPECTED[name]}
    if unexpected:
        raise SystemExit(f"{name}: unexpected answers {unexpected}")
    return result, load.together(ceilings)


def _shifted(message: Messages, first: int, number: int) -> bytes:
    return message(first + number)


async def charges_per_second(url: str, key: str) -> float:
    """Return the rate of one round, with keys that no other round uses."""
    message = messages(url, key)["charge"]
    return (await load.run(url, message, connections=ROUND_CALLERS, seconds=ROUND_S)).per_second


async def analyze(database: Urls) -> None:
    """Update the statistics of PostgreSQL's planner."""
    connection = await asyncpg.connect(database.superuser)
    await connection.execute("ANALYZE")
    await connection.close()


async def main(options: argparse.Namespace, cluster: Cluster) -> None:
    database = urls(TEMPLATE)
    settings = Settings(mode=Mode.DEVELOPMENT, database_url=SecretStr(database.service))
    account_id, (key, *new_keys) = await fill(settings)
    print(f"{options.connections} connections, {options.seconds:g} s each, one server process, durable PostgreSQL\n")
    print(f"{'':<22}{'per s':>10}{'p50 ms':>10}{'p99 ms':>10}{'of bare':>12}")
    with (
        running_server(database, app="bench.bare:app", health="/openapi.json") as bare,
        running_server(database) as server,
    ):
        warm_up = messages(server.url, key)["tool charge"]  # opens connections, verifies the key
        await load.run(server.url, warm_up, connections=options.connections, seconds=1)
        rounds = [await charges_per_second(server.url, key) for _ in range(ROUNDS)]
        await analyze(database)
        after = await charges_per_second(server.url, key)
        rates: dict[str, float] = {}
        for name, message in messages(server.url, key).items():
            if name == "replay":  # creates the keys to replay
                await load.run(server.url, message, connections=1, seconds=1)
            ceiling_of = (bare.url, messages(bare.url, key)["charge"])
            result, ceiling = await measure(server.url, message, name, ceiling_of, options)
            rates[name] = result.per_second
            print(line(name, result, ceiling.per_second))
        print(line("bare POST", ceiling, ceiling.per_second))
        events = await batched_events_per_second(server.url, key, database, options.seconds)
        batched = await batched_charges_per_second(server.url, key, database, options.seconds)
        alone, amid = await health_amid_argon2(server.url, new_keys, options)
        print(line("health, one caller", alone, ceiling.per_second))
        print(line("health amid Argon2", amid, ceiling.per_second))
    update_ms, charge_ms = await medians_ms(database, settings, account_id, ACTOR)
    print(f"\na lone charge, without HTTP: {charge_ms:.2f} ms, {charge_ms / update_ms:.1f} x", end=" ")
    print(f"a durable row update by the driver ({update_ms:.2f} ms)")
    print(f"\ncharges/s in rounds of {ROUND_S:g} s, {ROUND_CALLERS} callers, on a new database:")
    print(f"  without statistics: {'  '.join(f'{rate:,.0f}' for rate in rounds)}")
    print(f"  after ANALYZE: {after:,.0f} (all of the table above)")
    db = Database(SecretStr(database.service))
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    rate = pgbench(cluster, TEMPLATE, options.seconds, clients=8)  # counts unpaid uses
    print(f"{'pgbench row update':<22}{rate:>10,.0f}{'':>20}{rate / ceiling.per_second:>12.2f}")
    print(f"\nusage events: {rates['usage event'] / rates['charge']:.2f} of the rate of charges", end="; ")
    print(f"in batches of {EVENTS_A_BATCH} {events:,.0f}/s, {events / rate:.2f} x pgbench's row updates")
    print(f"charges in batches of {EVENTS_A_BATCH}: {batched:,.0f}/s, {batched / rates['charge']:.1f} x single charges")
    print(f"\nledger before pgbench: {'verified' if verification.ok else verification.problem}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=32, help="concurrent callers")
    arguments = parser.parse_args()
    with ephemeral_cluster(durable=True) as running:
        prepare(running)
        uvloop.run(main(arguments, running))
