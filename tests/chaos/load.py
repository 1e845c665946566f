"""The load: agents, buyers, end users and admins, and a journal of the answers that they received."""

import asyncio
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos import control
from tests.chaos.control import ControlLoad
from tests.chaos.stack import Api, Stack, users

CALLER_TIMEOUT_S = 5.0
THINK_S = 0.04
RETRY_AFTER_S = 0.25
"""How long our callers wait before a retry: less than Retry-After, for more requests during a fault."""
AGENTS = 8
BUYERS = 2
REPORTERS = 2
READERS = 1
ADMINS = 1
DELEGATORS = 1
ASKERS = 1
RESERVERS = 1
OK = (200, 201, 409)
REFUSED = 402
METRIC = {"type": "llm_tokens", "provider": "chaos", "model": "chaos", "input_tokens": 900, "output_tokens": 120}
EVENTS_A_BATCH = 10


@dataclass(frozen=True)
class Call:
    """One request, by the monotonic clock. `status` 0: no answer; `problem`: why its caller should not have seen it."""

    kind: str
    started_s: float
    took_s: float
    status: int
    problem: str | None = None

    @property
    def ok(self) -> bool:
        return self.status in OK or (self.status == REFUSED and self.problem is None)


@dataclass
class Journal:
    calls: list[Call] = field(default_factory=list)
    sent: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By kind of charge: every idempotency key, or id of an event, that was ever sent."""
    acknowledged: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    """By kind of charge and key: every id that an answer has named."""
    paid: set[str] = field(default_factory=set)
    """Payments that Stripe has taken money for."""

    def acknowledge(self, kind: str, key: str, charge_id: str) -> None:
        self.acknowledged[kind][key].add(charge_id)

    def statuses(self) -> Counter[int]:
        return Counter(call.status for call in self.calls)


class Caller:
    """Asks one of the API processes; the next one when that one is dead, as a load balancer would."""

    def __init__(self, stack: Stack, journal: Journal, tolerated: frozenset[int]) -> None:
        self._stack, self._journal, self._tolerated = stack, journal, tolerated
        self._http = {
            api.port: httpx.AsyncClient(base_url=api.url, timeout=None, trust_env=False) for api in stack.apis
        }
        self._key = {"X-API-Key": stack.keys.agent}
        self._turn = 0

    async def close(self) -> None:
        for http in self._http.values():
            await http.aclose()

    async def call(
        self, kind: str, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, httpx.Headers]:
        """The status (0: none), body and headers of the answer."""
        async with self._stack.traffic.request():
            return await self._call(kind, method, path, json, headers)

    async def _call(
        self, kind: str, method: str, path: str, json: Any, headers: dict[str, str] | None
    ) -> tuple[int, Any, httpx.Headers]:
        for last in [False] * (len(self._stack.apis) - 1) + [True]:
            self._turn = (self._turn + 1) % len(self._stack.apis)
            api = self._stack.apis[self._turn]
            started_s = time.monotonic()
            try:
                async with asyncio.timeout(CALLER_TIMEOUT_S):
                    answer = await self._http[api.port].request(method, path, headers=headers or self._key, json=json)
            except (httpx.TransportError, TimeoutError) as error:
                self._note_silence(kind, api, started_s, error)
                if last or isinstance(error, TimeoutError):
                    return 0, None, httpx.Headers()
                continue
            took_s = time.monotonic() - started_s
            self._journal.calls.append(Call(kind, started_s, took_s, answer.status_code, self._problem(kind, answer)))
            return answer.status_code, answer.json(), answer.headers
        raise AssertionError

    def _note_silence(self, kind: str, api: Api, started_s: float, error: Exception) -> None:
        now_s = time.monotonic()
        problem = None
        if isinstance(error, TimeoutError):
            problem = f"no answer within {CALLER_TIMEOUT_S:g} s"
        elif not api.was_dead(started_s, now_s):
            problem = f"{type(error).__name__} from a process that lives"
        self._journal.calls.append(Call(kind, started_s, now_s - started_s, 0, problem))

    def _problem(self, kind: str, answer: httpx.Response) -> str | None:
        status = answer.status_code
        if status in OK or status in self._tolerated:
            return None
        if status == REFUSED and answer.json()["code"] == control.REFUSALS.get(kind):
            return None
        if status != 503:
            return f"{status}: {answer.text[:200]}"
        return None if answer.headers.get("Retry-After") else "503 without Retry-After"


class Load:
    """All callers, active until `stop`."""

    def __init__(self, stack: Stack, seed: int, tolerated: frozenset[int]) -> None:
        self.journal = Journal()
        self._stack = stack
        self._caller = Caller(stack, self.journal, tolerated)
        self._random = random.Random(seed)
        self._control = ControlLoad(self._caller, self.journal, stack.keys.admin, self._random)
        self._stripe = httpx.AsyncClient(
            base_url=stack.stripe.url, headers={"Authorization": f"Bearer {stack.stripe.secret_key}"}, trust_env=False
        )
        self._stopping = asyncio.Event()
        self._token = ""

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`, and until all callers have finished what they began."""
        self._token = await asyncio.to_thread(self._stack.oidc.mint, jti=uuid.uuid4().hex)
        try:
            async with asyncio.TaskGroup() as everybody:
                for i in range(AGENTS):
                    everybody.create_task(self._repeat(self._interact, users()[i % len(users())]))
                for i in range(BUYERS):
                    everybody.create_task(self._repeat(self._buy, users()[i]))
                for i in range(REPORTERS):
                    everybody.create_task(self._repeat(self._report, users()[i]))
                for _ in range(READERS):
                    everybody.create_task(self._repeat(self._look, {}))
                for i in range(DELEGATORS):
                    everybody.create_task(self._repeat(self._control.delegate, users()[i]))
                for i in range(ASKERS):
                    everybody.create_task(self._repeat(self._control.ask, users()[i]))
                for i in range(RESERVERS):
                    everybody.create_task(self._repeat(self._control.reserve, users()[i]))
                for _ in range(ADMINS):
                    everybody.create_task(self._repeat(self._read_reports, {}))
        finally:
            await self._caller.close()
            await self._stripe.aclose()

    async def _repeat(self, work: Any, user: dict[str, str]) -> None:
        while not self._stopping.is_set():
            await work(user)
            await asyncio.sleep(THINK_S * (0.5 + self._random.random()))

    async def _interact(self, user: dict[str, str]) -> None:
        """An agent's check; its charge, its tool's charge and its usage event, each with a replay."""
        await self._caller.call("check", "POST", "/v1/billing/credits/check", user)
        charge = {**user, "amount_minor": 100, "currency": "USD", "idempotency_key": uuid.uuid4().hex}
        if await self._charge("charge", charge):
            await self._charge("charge", charge, expected=409)
        tool = {**user, "product_type": "web_search", "idempotency_key": uuid.uuid4().hex}
        if await self._charge("tool charge", tool):
            await self._charge("tool charge", tool)
        event = {**user, "event_id": uuid.uuid4().hex, "metric": METRIC}
        if await self._charge("usage event", event):
            await self._charge("usage event", event, expected=409)

    async def _charge(self, kind: str, body: dict[str, Any], expected: int | None = None) -> bool:
        """Whether it was acknowledged. One that was not is posted again twice, or is given up by one in four."""
        path, key_name, id_name = CHARGES[kind]
        key = str(body[key_name])
        self.journal.sent[kind].add(key)
        for _ in range(1 if self._random.random() < 0.25 else 3):
            status, answer, headers = await self._caller.call(kind, "POST", path, body)
            if status in OK:
                charge_id = headers.get("X-Existing-Charge-ID") or answer[id_name]
                self.journal.acknowledge(kind, key, charge_id)
                if expected not in (None, status):
                    self.journal.calls.append(
                        Call(kind, time.monotonic(), 0, status, f"{status} instead of {expected}")
                    )
                return True
            await asyncio.sleep(RETRY_AFTER_S)
        return False

    async def _report(self, user: dict[str, str]) -> None:
        """A reporter sends a batch until each of its events was recorded, now or before; or gives up."""
        events = [{**user, "event_id": uuid.uuid4().hex, "metric": METRIC} for _ in range(EVENTS_A_BATCH)]
        self.journal.sent["batched event"].update(str(event["event_id"]) for event in events)
        for _ in range(3):
            status, answer, _ = await self._caller.call("batch", "POST", "/v1/usage/batch", {"events": events})
            results = answer["results"] if status == 200 else []
            for item in results:
                if item["success"] or item["error"] == "duplicate_event":
                    self.journal.acknowledge("batched event", item["event_id"], item["transaction_id"])
                elif item["error"] != "busy":
                    self.journal.calls.append(Call("batch", time.monotonic(), 0, status, f"an event was {item}"))
            if results and all(item["error"] != "busy" for item in results):
                return
            await asyncio.sleep(RETRY_AFTER_S)

    async def _buy(self, user: dict[str, str]) -> None:
        """A buyer clicks until there is a payment, pays it at Stripe, and looks until the credits are there."""
        purchase = {**user, "idempotency_key": uuid.uuid4().hex}
        for _ in range(20):
            status, payment, _ = await self._caller.call("purchase", "POST", "/v1/billing/purchases", purchase)
            if status == 201:
                break
            await asyncio.sleep(RETRY_AFTER_S)
        else:
            return
        payment_id = payment["payment_id"]
        if payment["status"] != "succeeded":
            fields = {"payment_method": "pm_card_visa"}
            answer = await self._stripe.post(f"/v1/payment_intents/{payment_id}/confirm", data=fields)
            answer.raise_for_status()
        self.journal.paid.add(payment_id)
        for _ in range(20):
            path = f"/v1/billing/purchases/{payment_id}/status"
            status, payment, _ = await self._caller.call("purchase status", "GET", path)
            if status == 200 and payment["status"] == "succeeded":
                return
            await asyncio.sleep(RETRY_AFTER_S)

    async def _look(self, _: dict[str, str]) -> None:
        """An end user looks at their own balances."""
        headers = {"Authorization": f"Bearer {self._token}"}
        await self._caller.call("user token", "GET", "/v1/tools/balance", headers=headers)
        await asyncio.sleep(0.1)

    async def _read_reports(self, _: dict[str, str]) -> None:
        """An admin looks at the list of users, and at the numbers."""
        headers = {"Authorization": f"Bearer {self._stack.keys.admin}"}
        for path in ("/admin/users", "/admin/analytics/overview"):
            await self._caller.call("report", "GET", path, headers=headers)
            await asyncio.sleep(0.1)


CHARGES = {
    "charge": ("/v1/billing/charges", "idempotency_key", "charge_id"),
    "tool charge": ("/v1/tools/charge", "idempotency_key", "usage_log_id"),
    "usage event": ("/v1/usage", "event_id", "transaction_id"),
}
"""By kind: path, and the names of its key in the request and of its id in the answer."""
KINDS = ("check", *CHARGES, "batch", "purchase", "purchase status", "user token", "report", *control.KINDS)


@asynccontextmanager
async def running_load(stack: Stack, seed: int, tolerated: frozenset[int] = frozenset()) -> AsyncIterator[Load]:
    """Run all callers while the block runs; on leaving it, they finish what they have begun."""
    load = Load(stack, seed, tolerated)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop()
        async with asyncio.timeout(60):
            await task
