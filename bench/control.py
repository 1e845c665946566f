"""Measure holds with their captures, and charges with limits in a run, beside plain charges.

Rounds alternate, so that other load on the machine affects all of them; compare the ratios. A hold counts together with
its capture, as one. `shared`: all callers work for one account. `spread`: for a hundred. Afterwards the books are
verified: each account has lost exactly what the answers say, and nothing is on hold.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

import asyncpg
import httpx
import uvloop
from pydantic import SecretStr

from app.auth.api_keys.service import create_key
from app.auth.caller import Permission
from app.db import Database
from app.demo.postgres import ephemeral_cluster
from app.verification import verify_books
from bench import load
from tests.chaos.report import write
from tests.databases import ROOT, TEMPLATE, Urls, prepare, urls
from tests.servers import running_server

ACCOUNTS = 100
DEPTH = 4
WINDOWS = ("minute", "day", "lifetime")
FREE_USES = 3
"""Of a new account."""
PLENTY = 10**9
"""Credits of an account, and the amount of its limits and budgets: nothing is refused."""
CHARGES, HOLDS = "/v1/billing/charges", "/v1/billing/holds"
PAGE = ROOT / "docs" / "holds.md"

Work = Callable[["Caller", int], Awaitable[None]]


def user(group: str, number: int) -> dict[str, str]:
    return {"oauth_provider": "oauth:google", "external_id": f"{group}-{number}@example.com"}


def run_id(depth: int) -> str:
    return f"run-{depth}"


@dataclass
class Caller:
    """One connection of a client. `spent`: credits by the number of the account, as the answers say."""

    url: str
    key: str
    connection: load.Connection
    spent: Counter[str] = field(default_factory=Counter)

    async def post(self, path: str, wanted: int, body: dict[str, object]) -> dict[str, object]:
        status = await self.connection.request(load.post(self.url, path, self.key, json.dumps(body).encode()))
        if status != wanted:
            raise SystemExit(f"{path}: {status} {self.connection.body!r}")
        answer: dict[str, object] = json.loads(self.connection.body)
        return answer

    async def charge(self, group: str, number: int, **more: object) -> None:
        who = user(group, number)
        await self.post(CHARGES, 201, {**who, "amount_minor": 100, "idempotency_key": uuid.uuid4().hex, **more})
        self.spent[who["external_id"]] += 1

    async def hold_and_capture(self, group: str, number: int) -> None:
        who = user(group, number)
        hold = await self.post(HOLDS, 201, {**who, "amount_minor": 300, "idempotency_key": uuid.uuid4().hex})
        await self.post(f"{HOLDS}/{hold['hold_id']}/capture", 200, {"amount_minor": 100})
        self.spent[who["external_id"]] += 1


async def plain(caller: Caller, number: int) -> None:
    await caller.charge("plain", number)


async def controlled(caller: Caller, number: int) -> None:
    await caller.charge("controlled", number, run_id=run_id(DEPTH))


async def held(caller: Caller, number: int) -> None:
    await caller.hold_and_capture("plain", number)


async def create_caller_key(database: Urls) -> str:
    db = Database(SecretStr(database.service))
    permissions = frozenset({Permission.READ, Permission.WRITE, Permission.CREDIT, Permission.LIMITS_WRITE})
    async with db.transaction() as tx:
        key = await create_key(tx, environment="live", name="bench", permissions=permissions, now=datetime.now(UTC))
    await db.close()
    return key.secret_text


async def fill(url: str, key: str) -> None:
    """Create the accounts: plain ones, and ones with three limits and runs with budgets in each other."""
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=30) as client:

        async def send(method: str, path: str, body: dict[str, object]) -> None:
            answer = await client.request(method, path, json=body)
            answer.raise_for_status()

        for group in ("plain", "controlled"):
            for number in range(ACCOUNTS):
                who = user(group, number)
                credit = {"amount_minor": PLENTY * 100, "transaction_type": "grant"}
                await send("POST", "/v1/billing/accounts", {**who})
                await send("POST", "/v1/billing/credits", {**who, **credit})
                if group == "plain":
                    continue
                for window in WINDOWS:
                    limit = {"window": window, "unit": "credits", "amount": str(PLENTY)}
                    await send("PUT", "/v1/billing/limits", {**who, **limit})
                for depth in range(1, DEPTH + 1):
                    parent = {} if depth == 1 else {"parent_run_id": run_id(depth - 1)}
                    run = {"run_id": run_id(depth), "budget": {"amount_minor": PLENTY * 100}, **parent}
                    await send("POST", "/v1/billing/runs", {**who, **run})


@dataclass
class Round:
    per_second: float
    p50_ms: float
    p99_ms: float


async def measured(
    url: str, key: str, work: Work, clients: int, accounts: int, seconds: float
) -> tuple[Round, Counter[str]]:
    """Let clients work for some time. Return the rate and the latencies of whole pieces of work, and what was spent."""
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    latencies: list[float] = []
    spent: Counter[str] = Counter()
    end = time.perf_counter() + seconds

    async def client(first: int) -> None:
        _, connection = await loop.create_connection(load.Connection, host, port)
        caller, number = Caller(url, key, connection), first
        while (started := time.perf_counter()) < end:
            await work(caller, number % accounts)
            latencies.append(time.perf_counter() - started)
            number += clients
        spent.update(caller.spent)
        connection.close()

    begun = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    percentiles = statistics.quantiles(latencies, n=100)
    rate = len(latencies) / (time.perf_counter() - begun)
    return Round(rate, percentiles[49] * 1000, percentiles[98] * 1000), spent


def together(rounds: list[Round]) -> Round:
    """Combine rounds of equal length: mean rate, median of the medians, worst of the 99th percentiles."""
    return Round(
        statistics.fmean(one.per_second for one in rounds),
        statistics.median(one.p50_ms for one in rounds),
        max(one.p99_ms for one in rounds),
    )


def row(name: str, result: Round, *more: str) -> str:
    cells = (name, f"{result.per_second:,.0f}", f"{result.p50_ms:.0f} ms", f"{result.p99_ms:.0f} ms", *more)
    return f"| {' | '.join(cells)} |\n"


def tables(clients: int, rounds: dict[str, Round], holds: dict[str, Round], wrong: int, *, is_verified: bool) -> str:
    """Return the figures as the page has them."""
    best = next(iter(rounds.values())).per_second
    beside = "".join(row(name, one, f"{one.per_second / best:.2f}") for name, one in rounds.items())
    books = "the ledger verifies" if is_verified else "THE LEDGER DOES NOT VERIFY"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return (
        f"| {clients} clients, spread | per s | median | p99 | of charges |\n|---|---|---|---|---|\n{beside}\n"
        f"| hold + capture | per s | median | p99 |\n|---|---|---|---|\n"
        f"{''.join(row(name, one) for name, one in holds.items())}\n"
        f"Measured on {today}: {os.cpu_count()} cores for the clients, one API process and PostgreSQL. "
        f"Accounts whose balance differs from the answers: {wrong}; {books}.\n"
    )


def line(name: str, result: Round, *more: str) -> str:
    return f"{name:<34}{result.per_second:>10,.0f}{result.p50_ms:>10.1f}{result.p99_ms:>10.1f}{''.join(more)}"


async def mismatches(database: Urls, spent: Counter[str]) -> int:
    """Return the number of accounts that have lost another amount than the answers say, or have something on hold."""
    connection = await asyncpg.connect(database.superuser)
    rows = await connection.fetch(
        """
        SELECT i.external_id, $1::bigint - a.free - a.paid AS lost, a.held_credits
          FROM accounts a JOIN account_identities i USING (account_id)
        """,
        FREE_USES + PLENTY,
    )
    await connection.close()
    return sum(row["held_credits"] != 0 or row["lost"] != spent[row["external_id"]] for row in rows)


async def main(options: argparse.Namespace) -> None:
    database = urls(TEMPLATE)
    key = await create_caller_key(database)
    spent: Counter[str] = Counter()
    with running_server(database) as server:
        await fill(server.url, key)

        async def run(work: Work, clients: int, accounts: int, seconds: float = options.seconds) -> Round:
            result, lost = await measured(server.url, key, work, clients, accounts, seconds)
            spent.update(lost)
            return result

        for work in (plain, controlled, held):
            await run(work, options.connections, ACCOUNTS, 1)
        works = {"charge": plain, "charge, 3 limits, run of depth 4": controlled, "hold + capture": held}
        rounds: dict[str, list[Round]] = {name: [] for name in works}
        for _ in range(options.rounds):
            for name, work in works.items():
                rounds[name].append(await run(work, options.connections, ACCOUNTS))
        mean = {name: together(results) for name, results in rounds.items()}
        best = mean["charge"].per_second
        print(f"{options.connections} clients, {ACCOUNTS} accounts\n")
        print(f"{'':<34}{'per s':>10}{'p50 ms':>10}{'p99 ms':>10}{'of charges':>12}")
        for name, result in mean.items():
            print(line(name, result, f"{result.per_second / best:>12.2f}"))
        print(f"\nholds with their captures\n{'clients, accounts':<34}{'per s':>10}{'p50 ms':>10}{'p99 ms':>10}")
        holds: dict[str, Round] = {}
        for clients in (50, 200):
            for name, accounts in (("shared", 1), ("spread", ACCOUNTS)):
                holds[f"{clients} clients, {name}"] = result = await run(held, clients, accounts)
                print(line(f"{clients}, {name}", result))
    wrong = await mismatches(database, spent)
    db = Database(SecretStr(database.service))
    verification = await verify_books(db, datetime.now(UTC))
    await db.close()
    books = "verified" if verification.ok else verification.problem
    print(f"\n{sum(spent.values()):,} credits spent; {wrong} accounts differ from the answers; ledger: {books}")
    if options.write:
        text = tables(options.connections, mean, holds, wrong, is_verified=verification.ok)
        write("rates", text, PAGE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="control", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="length of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32, help="concurrent callers")
    parser.add_argument("--write", action="store_true", help="write the figures to docs/holds.md")
    arguments = parser.parse_args()
    with ephemeral_cluster(durable=True) as running:
        prepare(running)
        uvloop.run(main(arguments))
