"""Webhook delivery: signed, in order, with retries until a 2xx answer; misbehaves on request."""

import asyncio
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import httpx

from app.demo.stripe.account import Account
from app.demo.stripe.objects import Object
from app.demo.stripe.versions import rendered

KEPT_DELIVERIES = 1000


@dataclass
class Faults:
    """Faults of the next deliveries. `types` limits them to some events; empty means any."""

    delay_s: float = 0
    drop: int = 0
    duplicate: int = 0
    hold: bool = False
    types: list[str] = field(default_factory=list)

    def concerns(self, event: Object) -> bool:
        return not self.types or event["type"] in self.types


@dataclass(frozen=True)
class Delivery:
    event_id: str
    type: str
    attempt: int
    outcome: str
    """A status, the name of an error, or "dropped"."""


def signature(secret: str, payload: bytes, timestamp: int) -> str:
    mac = hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={mac}"


class Deliverer:
    """One queue per account. A failed delivery is retried by the schedule, without delaying the next events."""

    def __init__(self, retry_schedule_s: Sequence[float], on_change: Callable[[], None] = lambda: None) -> None:
        """Call `on_change` whenever an event is queued or its delivery has ended."""
        self._on_change = on_change
        self.faults = Faults()
        self.deliveries: deque[Delivery] = deque(maxlen=KEPT_DELIVERIES)
        self._schedule = tuple(retry_schedule_s)
        self._queue: asyncio.Queue[tuple[Account, Object]] = asyncio.Queue()
        self._held: list[tuple[Account, Object]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._http = httpx.AsyncClient(timeout=10, trust_env=False)

    def publish(self, account: Account, event: Object) -> None:
        account.undelivered[event["id"]] = None
        self._on_change()
        if self.faults.hold:
            self._held.append((account, event))
        else:
            self._queue.put_nowait((account, event))

    def release(self, *, reverse: bool) -> int:
        """Send the held events, in the order of creation or reversed."""
        held, self._held = self._held[::-1] if reverse else self._held, []
        self.faults.hold = False
        for pair in held:
            self._queue.put_nowait(pair)
        return len(held)

    @property
    def idle(self) -> bool:
        return self._queue.empty() and len(self._tasks) == 0 and not self._busy

    _busy = False

    async def run(self) -> None:
        while True:
            account, event = await self._queue.get()
            self._busy = True
            try:
                await self._first_attempt(account, event)
            finally:
                self._busy = False

    async def _first_attempt(self, account: Account, event: Object) -> None:
        faults = self.faults
        times = 1
        if faults.concerns(event):
            if faults.drop > 0:
                faults.drop -= 1
                self.deliveries.append(Delivery(event["id"], event["type"], 1, "dropped"))
                self._end(account, event)
                return
            await asyncio.sleep(faults.delay_s)
            if faults.duplicate > 0:
                faults.duplicate -= 1
                times = 2
        for _ in range(times):
            if not await self._send(account, event, 1):
                task = asyncio.create_task(self._retry(account, event))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _retry(self, account: Account, event: Object) -> None:
        for attempt, wait_s in enumerate(self._schedule, start=2):
            await asyncio.sleep(wait_s)
            if await self._send(account, event, attempt):
                return
        self._end(account, event)

    async def _send(self, account: Account, event: Object, attempt: int) -> bool:
        if account.config.webhook_url is None:
            self._end(account, event)
            return True
        payload = json.dumps(rendered(account, event, account.config.webhook_version)).encode()
        headers = {
            "Content-Type": "application/json",
            "Stripe-Signature": signature(account.config.webhook_secret, payload, int(time.time())),
        }
        try:
            answer = await self._http.post(account.config.webhook_url, content=payload, headers=headers)
            outcome, done = str(answer.status_code), answer.is_success
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            outcome, done = type(error).__name__, False
        self.deliveries.append(Delivery(event["id"], event["type"], attempt, outcome))
        if done:
            self._end(account, event)
        return done

    def _end(self, account: Account, event: Object) -> None:
        account.undelivered.pop(event["id"], None)
        self._on_change()

    def listed(self) -> list[Object]:
        return [asdict(delivery) for delivery in self.deliveries]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._http.aclose()
