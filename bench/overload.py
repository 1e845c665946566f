"""Offer a server three times its capacity: how much is done in time, beside the most that it can do.

Open-loop: requests are sent when they are due, however late the answers are, like independent callers. Good is an
answer 2xx or 409 within the callers' 5 s, counted from the due time. Rounds alternate, so that other load on the
machine affects all of them; compare the ratios.

The callers run on the server's machine, and three times as many need a considerable share of its processors. So the
best is measured twice: alone, and beside as many excess callers, which a process that does nothing else rejects. Exits
with 1 if less than 80 % of the latter is done at three times the load, or less than 80 % of a fair share of checks or
of charges.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import uvloop
from pydantic import SecretStr

from app.demo.postgres import ephemeral_cluster
from app.settings import Mode, Settings
from bench import load
from bench.__main__ import external_id, fill
from tests.chaos.report import write
from tests.databases import ROOT, TEMPLATE, prepare, urls
from tests.servers import running_server

CALLER_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 3_000
MOST_PER_SECOND = 10_000
KINDS = ("check", "charge")
GOOD = (200, 201, 409)
FACTOR, LEAST = 3.0, 0.8
GENERATOR_TIMEOUT_S = 120


@dataclass
class Round:
    """The result of one round, by kind of request. `offered` and `good` are counts."""

    seconds: float
    offered: dict[str, int] = field(default_factory=dict)
    good: dict[str, int] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)
    """Counts by reason, as seen by the caller."""
    late_send_ms: float = 0
    """The generator's greatest delay behind its schedule. If it is large, the round is not meaningful."""

    @property
    def good_per_second(self) -> float:
        return sum(self.good.values()) / self.seconds


def messages(url: str, key: str, count: int) -> list[bytes]:
    """Return alternating checks and charges. Built in advance, so that the generator leaves the CPU to the server."""
    run, made = uuid.uuid4().hex, []
    for i in range(count):
        user = {"oauth_provider": "oauth:google", "external_id": external_id(i // len(KINDS))}
        if KINDS[i % len(KINDS)] == "check":
            made.append(load.post(url, "/v1/billing/credits/check", key, json.dumps(user).encode()))
        else:
            charge = {**user, "amount_minor": 100, "currency": "USD", "idempotency_key": f"{run}-{i}"}
            made.append(load.post(url, "/v1/billing/charges", key, json.dumps(charge).encode()))
    return made


class Caller(asyncio.Protocol):
    """A connection with one request at a time."""

    def __init__(self, callers: "Callers") -> None:
        self._callers = callers
        self._buffer = b""
        self.transport: asyncio.Transport | None = None
        self.pending: tuple[str, float] | None = None
        """The kind of the request under way, and its due time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's class is not a subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._callers.lost(self)

    def send(self, message: bytes, kind: str, due_s: float) -> None:
        assert self.transport is not None
        self.pending = kind, due_s
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        status, _, self._buffer = load.taken(self._buffer)
        if status is not None and self.pending is not None:
            pending, self.pending = self.pending, None
            self._callers.answered(self, status, *pending)


class Callers:
    """Sends each request on an idle connection, or on a new one."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._clock = asyncio.get_running_loop().time
        self._idle: list[Caller] = []
        self._all: list[Caller] = []
        self._opening: set[asyncio.Task[None]] = set()
        self.statuses: Counter[int] = Counter()
        self.unanswered: Counter[str] = Counter()
        self.good: Counter[str] = Counter()

    def send(self, message: bytes, kind: str, due_s: float) -> None:
        if self._idle:
            self._idle.pop().send(message, kind, due_s)
        elif len(self._all) + len(self._opening) < MAX_CONNECTIONS:
            task = asyncio.create_task(self._open(message, kind, due_s))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self.unanswered["the generator's own bound"] += 1

    async def _open(self, message: bytes, kind: str, due_s: float) -> None:
        host, port = self._address.hostname or "127.0.0.1", self._address.port or 80
        try:
            _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(self), host, port)
        except OSError as error:
            self.unanswered[str(error)] += 1
            return
        self._all.append(caller)
        caller.send(message, kind, due_s)

    def answered(self, caller: Caller, status: int, kind: str, due_s: float) -> None:
        self._idle.append(caller)
        if self._clock() - due_s > CALLER_TIMEOUT_S:
            self.unanswered["answered too late"] += 1
            return
        self.statuses[status] += 1
        self.good[kind] += status in GOOD

    def lost(self, caller: Caller) -> None:
        if caller.pending is None:
            self._idle.remove(caller)
        else:
            self.unanswered["connection cut"] += 1
            caller.pending = None
        self._all.remove(caller)

    async def finish(self) -> None:
        """Wait for the answers that may still arrive in time, and close the connections."""
        for _ in range(100):
            if not self._opening and len(self._idle) == len(self._all):
                break
            await asyncio.sleep(CALLER_TIMEOUT_S / 100)
        for task in self._opening:
            task.cancel()
        for caller in self._all:
            self.unanswered["no answer in time"] += caller.pending is not None
            if caller.transport is not None:
                caller.transport.abort()  # the loop ends before the callback
        self.unanswered["no connection in time"] += len(self._opening)


async def send(callers: Callers, ready: list[bytes], per_second: float) -> float:
    """Send each request when it is due. Return the generator's greatest delay in seconds."""
    clock = asyncio.get_running_loop().time
    began_s, late_s = clock() + 0.1, 0.0
    for i, message in enumerate(ready):
        due_s = began_s + i / per_second
        if (ahead_s := due_s - clock()) > 0.001:
            await asyncio.sleep(ahead_s)
        elif i % 64 == 0:
            await asyncio.sleep(0)  # lets the loop read answers
        late_s = max(late_s, clock() - due_s)
        callers.send(message, KINDS[i % len(KINDS)], due_s)
    await callers.finish()
    return late_s


async def offer(url: str, key: str, per_second: float, seconds: float) -> Round:
    """Offer alternating checks and charges at this total rate, each sent when it is due."""
    ready, callers = messages(url, key, round(per_second * seconds)), Callers(url)
    late_s = await send(callers, ready, per_second)
    offered = {kind: len(ready[n :: len(KINDS)]) for n, kind in enumerate(KINDS)}
    unanswered = {reason: n for reason, n in callers.unanswered.items() if n}
    return Round(seconds, offered, dict(callers.good), dict(callers.statuses), unanswered, late_s * 1000)


class Refuser(asyncio.Protocol):
    """A server that only rejects, as cheaply as possible."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"}"):  # all messages end like this
            self._transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


async def closed(url: str, key: str, connections: int, seconds: float, elsewhere: float) -> Round:
    """Measure the capacity: so many callers, each sending again after its answer.

    `elsewhere`: requests per second to a `Refuser` at the same time. They cost the machine as much as the excess
    callers, and the server under test nothing.
    """
    ready = messages(url, key, round(MOST_PER_SECOND * seconds))
    refuser = await asyncio.get_running_loop().create_server(Refuser, "127.0.0.1", 0)
    others = Callers(f"http://127.0.0.1:{refuser.sockets[0].getsockname()[1]}")
    result, late_s = await asyncio.gather(
        load.run(url, ready.__getitem__, connections=connections, seconds=seconds, count=len(ready)),
        send(others, ready[: round(elsewhere * seconds)], elsewhere),
    )
    good = round(
        result.per_second * seconds * sum(result.statuses.get(s, 0) for s in GOOD) / sum(result.statuses.values())
    )
    half = {kind: good // len(KINDS) for kind in KINDS}
    return Round(seconds, half, half, result.statuses, late_send_ms=late_s * 1000)


def generate(arguments: list[str]) -> Round:
    """Run a round in a separate process."""
    command = [sys.executable, "-m", "bench.overload", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=GENERATOR_TIMEOUT_S, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    said = json.loads(done.stdout)
    return Round(**{**said, "statuses": {int(status): n for status, n in said["statuses"].items()}})


def processor_s(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def per_second(rounds: list[Round]) -> float:
    return sum(r.good_per_second for r in rounds) / len(rounds)


def row(name: str, rounds: list[Round]) -> str:
    """Return several rounds of a kind as a row of docs/reliability.md."""
    offered, good = (
        sum(sum(counts.values()) for counts in each)
        for each in zip(*((r.offered, r.good) for r in rounds), strict=True)
    )
    seconds = sum(r.seconds for r in rounds)
    return f"| {name} | {offered / seconds:,.0f} | {good / seconds:,.0f} | {good / offered:.0%} |\n"


def line(name: str, round_: Round, used_s: float) -> str:
    answered = sum(round_.statuses.values())
    others = {status: n for status, n in sorted(round_.statuses.items()) if status not in GOOD}
    shares = "  ".join(f"{kind} {round_.good.get(kind, 0) / max(1, round_.offered[kind]):.2f}" for kind in KINDS)
    return (
        f"{name:<14}{sum(round_.offered.values()) / round_.seconds:>10,.0f}{round_.good_per_second:>10,.0f}"
        f"{used_s / answered * 1e6:>12,.0f}   {shares}   late {round_.late_send_ms:,.0f} ms"
        f"   {others}  {round_.unanswered or ''}"
    )


def measure(options: argparse.Namespace) -> int:
    database = urls(TEMPLATE)
    settings = Settings(mode=Mode.DEVELOPMENT, database_url=SecretStr(database.service))
    _, (key, *_) = uvloop.run(fill(settings))
    best, beside, overloaded = [], [], []
    print(f"{'':<14}{'offered/s':>10}{'good/s':>10}{'µs/request':>12}   of the offered load")
    with running_server(database) as server:
        common = ["--url", server.url, "--key", key, "--seconds", str(options.seconds)]

        def run_round(name: str, *more: str) -> Round:
            before_s = processor_s(server.process.pid)
            done = generate([*common, *more])
            print(line(name, done, processor_s(server.process.pid) - before_s), flush=True)
            return done

        run_round("warm-up", "--closed", "32")
        for _ in range(options.rounds):
            best.append(run_round("at best", "--closed", "64"))
            peak = best[-1].good_per_second
            beside.append(run_round("beside callers", "--closed", "64", "--rate", str(peak * (FACTOR - 1))))
            overloaded.append(run_round(f"{FACTOR:g} x capacity", "--rate", str(peak * FACTOR)))
            time.sleep(1)
    done = {kind: sum(r.good.get(kind, 0) for r in overloaded) for kind in KINDS}
    share = min(done.values()) * len(KINDS) / sum(done.values())
    kept, kept_of_all = (per_second(overloaded) / per_second(rounds) for rounds in (beside, best))
    summary = (
        f"{kept:.0%} of the best beside so many callers was done, {kept_of_all:.0%} of the best without them; "
        f"of its share, the lesser of checks and charges got {share:.0%}.\n"
    )
    print(f"\n{summary}")
    held = kept >= LEAST and share >= LEAST
    if options.write:
        head = "| | requests/s offered | done in time, per s | of the offered load |\n|---|---|---|---|\n"
        rows = row("at best", best) + row("at best, the others' callers beside", beside)
        rows += row(f"at {FACTOR:g} x capacity", overloaded)
        write("overload", f"{head}{rows}\n{summary}")
    return 0 if held else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="length of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the figures to docs/reliability.md")
    for name in ("--url", "--key"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--closed", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url is not None:  # the generator's process
        if options.closed:
            work = closed(options.url, options.key, options.closed, options.seconds, options.rate)
        else:
            work = offer(options.url, options.key, options.rate, options.seconds)
        print(json.dumps(asdict(uvloop.run(work))))
        return 0
    with ephemeral_cluster(durable=True) as running:
        prepare(running)
        return measure(options)


if __name__ == "__main__":
    raise SystemExit(main())
